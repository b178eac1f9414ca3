"""The TFDS builder `isic_melanoma`, with a config for each size. --mode=prepare writes its shards.

    tfds.data_source('isic_melanoma/1024', data_dir='WORKDIR/tfds', split='train')

reads them without TensorFlow, and without this file too. `train` has all labelled images in the order of labels.csv;
splits.csv says which of them validate. `test` has the images without labels.
"""

import numpy as np
import tensorflow_datasets as tfds

from stochconv_jax.data.isic.records import METADATA

SPLITS = ("train", "test")
TEXTS = ("year", "diagnosis", "category", *METADATA)
NO_TARGET = -1  # the target of an image without a label


class IsicMelanoma(tfds.core.DatasetBuilder):
    """ISIC 2016 to 2020, each picture once."""

    VERSION = tfds.core.Version("1.0.0")
    RELEASE_NOTES = {"1.0.0": "First version."}  # noqa: RUF012 - TFDS's form
    BUILDER_CONFIGS = [  # noqa: RUF012
        tfds.core.BuilderConfig(name=str(size), description=f"{size}x{size} pixels") for size in (512, 1024, 2048)
    ]

    def _info(self) -> tfds.core.DatasetInfo:
        texts = {name: tfds.features.Text() for name in TEXTS}
        image = tfds.features.Image(shape=(None, None, 3), encoding_format="jpeg")
        return tfds.core.DatasetInfo(
            builder=self,
            description="Dermoscopy images of the ISIC challenges 2016 to 2020 with their diagnoses.",
            homepage="https://challenge.isic-archive.com/data/",
            features=tfds.features.FeaturesDict(
                {"image": image, "image_id": tfds.features.Text(), "target": np.int64, **texts}
            ),
        )

    def _download_and_prepare(self, dl_manager, download_config) -> None:
        raise RuntimeError("prepare isic_melanoma with: python main.py --mode=prepare, see docs/isic.md")

    def _as_dataset(self, *args, **kwargs):
        raise RuntimeError("isic_melanoma has random access: use tfds.data_source")


def builder(data_dir: str, size: int) -> IsicMelanoma:
    """Returns the builder for images of `size` x `size` pixels under `data_dir`."""
    if str(size) in IsicMelanoma.builder_configs:
        return IsicMelanoma(config=str(size), data_dir=data_dir)
    config = tfds.core.BuilderConfig(name=str(size), description=f"{size}x{size} pixels")
    return IsicMelanoma(config=config, data_dir=data_dir)
