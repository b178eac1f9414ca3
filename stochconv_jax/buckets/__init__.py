"""Runs in buckets: a local copy in which a mode works, and which is uploaded while it works."""
