"""Fixtures that start the program as a real process, as in tests/modes."""

from tests.modes.conftest import finished, main

__all__ = ["finished", "main"]
