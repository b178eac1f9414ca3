"""From a config to the objects that it describes, and the run that it belongs to."""
