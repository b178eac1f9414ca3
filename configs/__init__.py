"""One file an experiment: the default config and a few changes."""
