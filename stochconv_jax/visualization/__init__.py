"""Pictures of what a model sees: windows, coverage, features and attribution."""
