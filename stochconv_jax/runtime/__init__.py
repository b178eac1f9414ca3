"""Processes and hosts: distributed start, preemption, watchdog, compiler flags, host memory. Knows no model."""
