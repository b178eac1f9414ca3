"""What compiled steps cost on TPUs and GPUs that are not there: memory, operations, launches and collectives."""
