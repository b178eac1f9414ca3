"""From a config to the objects that it describes, and the files of the run that it belongs to."""
