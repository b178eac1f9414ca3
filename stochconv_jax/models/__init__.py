"""EfficientNet, the stochastic convolution layer, and the classifier that joins them."""
