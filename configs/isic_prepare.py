r"""The ISIC challenges of 2016 to 2020, from the archives' own files to 1024x1024 images: the report's preparation.

    python main.py --mode=prepare --config=configs/isic_prepare.py --workdir=isic_1024 \
        --config.prepare.raw=ARCHIVES --config.prepare.labels=ARCHIVES

See docs/isic.md. The report kept 47,557 images of about 71,000 labelled rows (project report, 2021). README says how
many images a second are prepared.
"""

from configs import default


def get_config():
    """The default config, whose `prepare` is the report's, with splits that keep patients together."""
    config = default.get_config()
    config.data.group_by = "group"
    config.data.stratify_by = "year"
    return config
