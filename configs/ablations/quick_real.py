r"""Do random windows help, beside rivals that cost as much? With a tiny network from random weights, on a CPU.

    python main.py --mode=sweep --config=configs/ablations/quick_real.py:640,112 --workdir=runs/quick_real \
        --config.data.source=folder --config.data.path=IMAGES --config.data.labels=LABELS.csv

takes real images of 640x640 pixels and thumbnails of 112x112. Without these keys the images are drawn. See real.py for
the rivals, of which `filters_2` and `windows_16` are for the tiny stem of 8 filters, and quick_integration.py for the
limits of drawn images.

Cost: 33 runs like the 15 of quick_integration.py, which take 11 minutes on two cores; this sweep was not run
completely. docs/when-windows-help.md has results on drawn images, digits and circuit boards.
"""

from configs.ablations import compared_with, quick_config, real


def get_config(sizes: str = "320,64"):
    """Returns the config of the quick full split. `sizes`: see `real.sides`."""
    image, thumbnail = real.sides(sizes)
    config = quick_config()
    config.data.image_size = (image, image)
    config.data.thumbnail_size = (thumbnail, thumbnail)
    real.keep_details(config)
    config.model.batch_norm_images = 192
    config.sweep.variants = tuple(name for name in sweep(sizes) if name != "whole_image")
    return compared_with("thumbnail_equal_cost", config)


def sweep(sizes: str = "320,64"):
    """Returns the changes for each rival. `sizes`: see `real.sides`."""
    more = {"filters_2": {"model.filters_per_window": 2}, "windows_16": {"model.window_stem_filters": 16}}
    return real.rivals(*real.sides(sizes)) | more
