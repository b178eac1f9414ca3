"""Processes and hosts: distributed start, preemption, watchdog, goodput, compiler flags, memory. Knows no model."""
