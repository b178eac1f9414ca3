"""State, steps, optimisers, metrics, checkpoints and the loop."""
