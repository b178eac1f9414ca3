"""The process and its neighbours: joining, preemption, watchdog, determinism, memory of the host. Knows no model."""
