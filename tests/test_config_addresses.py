"""Which paths of the config may be addresses of buckets and web servers."""

import pytest

from stochconv_jax import config_conflicts, config_rules
from tests.config_checks import DEFAULTS, FREE_TEXT, check, refused

PATHS = sorted(key for key in FREE_TEXT if key.endswith(("path", "labels", "images", "output", "weights", "raw")))
READ = (
    "data.path",
    "data.labels",
    "data.validation_labels",
    "eval.path",
    "eval.labels",
    "predict.images",
    "show.images",
)


@pytest.mark.parametrize("key", sorted({*PATHS, "export.output", "predict.output", "show.output"}.difference(READ)))
@pytest.mark.parametrize("address", ["gs://bucket/data", "s3://bucket/labels.csv", "here,s3://bucket"])
def test_a_path_into_a_bucket_is_refused(key, address):
    assert "expected a path in a file system" in refused(key, address) or key.endswith("output")
    check(**{key.replace(".", "__"): "runs/a:b"})


@pytest.mark.parametrize("key", READ)
def test_images_and_tables_may_be_in_a_bucket(key):
    check(**{key.replace(".", "__"): "gs://bucket/data"})


def test_shards_are_not_read_from_a_bucket():
    with pytest.raises(config_rules.BadValue, match=r"data\.path='gs://b': expected a path in a file system"):
        config_conflicts.check_together(DEFAULTS | {"data.path": "gs://b", "data.source": "tfds"})
