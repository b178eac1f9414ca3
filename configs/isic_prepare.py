r"""Prepares the images of the ISIC challenges of 2016 to 2020 as the report did, at 1024x1024 pixels.

    python main.py --mode=prepare --config=configs/isic_prepare.py --workdir=isic_1024 \
        --config.prepare.raw=ARCHIVES --config.prepare.labels=ARCHIVES

See docs/isic.md. The report kept 47,557 images of about 71,000 labelled rows (project report, 2021). The speed of
the preparation is in docs/speed.md.
"""

from configs import default


def get_config():
    """Returns the default config, which prepares images as the report did, with splits that keep patients together."""
    config = default.get_config()
    config.data.group_by = "group"
    config.data.stratify_by = "year"
    return config
