"""Compiles steps for TPUs and GPUs that need not be present, and reports memory, costs and collectives."""
