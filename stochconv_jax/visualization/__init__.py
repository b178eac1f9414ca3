"""Shows what a model sees: windows, coverage, features and attribution, as arrays and as figures."""
