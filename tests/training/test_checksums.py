"""Checksums find every kind of damage to a file of a checkpoint, and name the file."""

import pytest

from stochconv_jax.training import checksums

pytestmark = pytest.mark.smoke
CONTENT = bytes(range(256)) * 5000  # more than one chunk


@pytest.fixture
def checkpoint(tmp_path):
    for name in ("state/arrays/one", "state/two", "beside"):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        (tmp_path / name).write_bytes(CONTENT)
    checksums.write(tmp_path)
    return tmp_path


def test_an_unchanged_checkpoint_has_no_fault(checkpoint):
    assert checksums.exist(checkpoint) and checksums.fault(checkpoint) is None
    (checkpoint / "beside").write_bytes(b"another")  # files beside the folders contain no arrays
    assert checksums.fault(checkpoint) is None


@pytest.mark.parametrize(
    "damage, fault",
    [
        (lambda file: file.write_bytes(CONTENT[:-1]), "state/two has 1,279,999 bytes instead of 1,280,000"),
        (lambda file: file.write_bytes(CONTENT[:-1] + b"x"), "state/two is not what was written: its checksum differs"),
        (lambda file: file.unlink(), "state/two is gone"),
    ],
    ids=["short", "flipped", "gone"],
)
def test_damage_is_named(checkpoint, damage, fault):
    damage(checkpoint / "state" / "two")
    assert checksums.fault(checkpoint) == fault


def test_unreadable_checksums_are_a_fault_and_missing_ones_are_not(checkpoint):
    (checkpoint / checksums.FILE).write_text("[]")
    assert checksums.fault(checkpoint).startswith("checksums.json cannot be read")
    (checkpoint / checksums.FILE).unlink()
    assert not checksums.exist(checkpoint) and checksums.fault(checkpoint) is None
