r"""Do random windows help on real images, beside rivals that cost as much?

    python main.py --mode=sweep --config=configs/ablations/real.py --workdir=runs/real \
        --config.data.path=IMAGES --config.data.labels=LABELS.csv --config.init.weights=lite0.safetensors
    python main.py --mode=report --workdir=runs/real

The rivals start from the same weights and have the same augmentation, schedule and epochs:

    thumbnail              one network on the thumbnail
    thumbnail_equal_cost   one on a larger thumbnail, at the multiply-adds of `per_image`: 320 pixels for 224
    thumbnail_large        one on a thumbnail of 512 pixels for 224: 5 times the cost of `thumbnail`
    whole_image            one on the whole image: 21 times the cost for 1024 pixels; only if sweep.variants names it
    windows_only           one on windows
    per_image              thumbnail and a window for each filter of each image: the report's full split
    per_batch              thumbnail and a window for each filter, the same in all images of a batch
    filters_8              thumbnail and windows that 8 filters share
    shared_crop            thumbnail and one random crop for all filters
    windows_64             thumbnail and 64 windows, whose stem and first stage start from random weights
    after_0, after_3       `per_image` with branches that meet after the stem and after stage 3

`sweep.variants` chooses among them, and `real.py:2048,224` sets the sides of images and thumbnails. The settings are
for some hundred images and for weights such as those of benchmarks/real/lite_weights.py. Each evaluation.json has the
ROC AUC after 1, 2, ... 16 draws of windows.

Cost: 30 epochs for each of 11 variants, 5 folds and 3 seeds, where all folds come before the next seed. The sweep was
not run completely. docs/when-windows-help.md has the results of a part of it.
"""

from typing import Any

from ml_collections import ConfigDict

from configs import default
from configs.ablations import compared_with

SIZES = "1024,224"


def sides(sizes: str) -> tuple[int, int]:
    """Returns the sides of images and of thumbnails in pixels, of a text such as '1024,224'."""
    image, thumbnail = map(int, sizes.split(","))
    return image, thumbnail


def _multiple_of_16(side: float) -> int:
    return 16 * round(side / 16)


def get_config(sizes: str = SIZES):
    """Returns the config of the full split on Lite0, to be fine-tuned on some hundred images. `sizes`: see `sides`."""
    image, thumbnail = sides(sizes)
    config = default.get_config()
    config.num_epochs = 30
    config.batch_size = 16
    config.eval.batch_size = 16
    config.model.variant = "lite0"
    # In a run of some hundred steps the statistics of batch norm must converge faster than by default.
    config.model.batch_norm_momentum = 0.9
    config.model.batch_norm_images = 192
    config.model.stochastic_depth = 0.1
    config.data.image_size = (image, image)
    config.data.thumbnail_size = (thumbnail, thumbnail)
    keep_details(config)
    config.augment.brightness = 0.1
    config.augment.contrast = 0.1
    config.optimizer.name = "adamw"
    config.optimizer.learning_rate = 3e-4
    config.optimizer.schedule = "cosine"
    config.optimizer.warmup_epochs = 1.0
    config.optimizer.factors = ("classifier=10",)  # the only layer without pretrained weights
    config.optimizer.weight_decay = 0.01
    config.optimizer.clip_norm = 1.0
    config.optimizer.ema_decay = 0.98  # over about two epochs of 400 images
    config.sweep.variants = tuple(name for name in sweep(sizes) if name != "whole_image")
    config.sweep.seeds = (0, 1, 2)
    config.sweep.folds = 5
    config.sweep.passes = 16
    return compared_with("thumbnail_equal_cost", config)


def keep_details(config: ConfigDict) -> None:
    """Makes the augmentation mild, so that a crop loses no detail that decides."""
    config.augment.update({"area": (0.9, 1.0), "aspect": (0.95, 1.05), "rotation": 15.0})


def sweep(sizes: str = SIZES):
    """Returns the changes for each rival. `sizes`: see `sides`."""
    more = {"filters_8": {"model.filters_per_window": 8}, "windows_64": {"model.window_stem_filters": 64}}
    return rivals(*sides(sizes)) | more


def rivals(image: int, thumbnail: int) -> dict[str, dict[str, Any]]:
    """Returns the changes for the rivals that any network can have, with sides in pixels."""

    def alone(side: int) -> dict[str, Any]:
        return {"model.branches": ("thumbnail",), "data.thumbnail_size": (side, side)}

    return {
        "thumbnail": alone(thumbnail),
        "thumbnail_equal_cost": alone(_multiple_of_16(thumbnail * 2**0.5)),
        "thumbnail_large": alone(_multiple_of_16(thumbnail * 16 / 7)),
        "whole_image": alone(image),
        "windows_only": {"model.branches": ("windows",)},
        "per_image": {},
        "per_batch": {"model.sampling": "per_batch"},
        "shared_crop": {"model.sampling": "shared"},
        "after_0": {"model.merge_after": "0"},
        "after_3": {"model.merge_after": "3"},
    }
