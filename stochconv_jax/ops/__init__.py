"""Pure functions of arrays: windows, window convolution, depthwise convolution."""
