"""The documentation's commands and examples take minutes: `make test-docs` alone runs them."""


def pytest_ignore_collect(collection_path, config):
    """They must be asked for."""
    return True if collection_path.name == "test_commands.py" and "docs" not in config.option.markexpr else None
