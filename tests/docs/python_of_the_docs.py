"""Runs Python as `python` of the documentation's commands does, with settings so small that a command takes seconds.

The last of repeated settings counts, so small ones are added at the end.
"""

import os
import sys

TRAINING = [
    *("model.variant=tiny", "data.image_size=128", "data.thumbnail_size=32", "num_epochs=1", "batch_size=16"),
    *("eval.batch_size=16", "data.num_workers=0", "data.num_train=32", "data.num_validation=16"),
    "checkpoint.grace_seconds=1000",  # a busy machine takes longer to save
]
BY_MODE = {
    "train": TRAINING,
    "sweep": [*TRAINING, "sweep.seeds=0", "sweep.passes=0"],
    "show": ["show.passes=8", "show.count=2"],
    "prepare": ["prepare.num_workers=1"],
}
SIZES = ("data.image_size", "data.thumbnail_size")
# ImageNet weights fit no tiny network: a command with one of these words gets weights that do.
PRETRAINED = ("imagenet.py", "init.weights")
WEIGHTS = "init.weights=WEIGHTS/model.safetensors"
BENCHMARKS = {
    "benchmarks.stem": ["--size", "256", "--rounds", "2", "--batch", "1"],
    "benchmarks.train_step": ["--configs", "quickstart", "--batch_size", "2", "--rounds", "2"],
    "benchmarks.eval_passes": ["--config", "quickstart", "--batch_size", "2", "--rounds", "2"],
    "benchmarks.growth": [
        *("--variant", "tiny", "--size", "240", "--sides", "240", "--batches", "--passes", "1", "--filters"),
        *("--rounds", "2"),
    ],
    "benchmarks.input": ["--size", "256", "--rounds", "2"],
    "benchmarks.input_parts": ["--count", "2", "--rounds", "2"],
    "benchmarks.prepare": ["--size", "128", "--copies", "1", "--rounds", "1", "--workers", "1"],
}


def small(words: list[str]) -> list[str]:
    """Returns the words of a command line with small settings for the mode or benchmark that it names."""
    if words[:1] == ["main.py"] or words[:2] == ["-m", "stochconv_jax"]:
        mode = next((word.partition("=")[2] for word in words if word.startswith("--mode=")), "train")
        settings = BY_MODE.get(mode, [])
        if any("ablations/quick_real.py" in word for word in words):  # its rivals differ in these
            settings = [setting for setting in settings if not setting.startswith(SIZES)]
        if any(part in word for part in PRETRAINED for word in words):
            settings = [*settings, WEIGHTS]
        return [*words, *(f"--config.{setting}" for setting in settings)]
    if words[:1] == ["-m"]:
        return [*words, *BENCHMARKS.get(words[1], [])]
    return words


if __name__ == "__main__":
    os.execv(sys.executable, [sys.executable, *small(sys.argv[1:])])
