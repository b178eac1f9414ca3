"""What a model sees of an image: arrays worked out here, and pictures of them. No config, no model."""
