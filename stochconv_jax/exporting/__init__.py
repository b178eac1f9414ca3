"""A trained run as files that other programs run: StableHLO, ONNX and a model card."""
