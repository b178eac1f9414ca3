"""What the README and the notes on performance measure, runnable by anyone: python -m benchmarks.NAME."""
