"""The objects that a config describes, the files of its run, and sweeps of runs."""
