"""The documentation's commands, examples and notebooks take minutes: `make test-docs` alone runs them."""

SLOW_FILES = ("test_commands.py", "test_notebooks.py")


def pytest_ignore_collect(collection_path, config):
    """They must be asked for."""
    return True if collection_path.name in SLOW_FILES and "docs" not in config.option.markexpr else None
