"""The sizes of the EfficientNets: one baseline and its compound scaling (Tan & Le, 2019, table 1 and section 3.3).

`VARIANTS` is the only table of networks. B0 to B7 are `BASELINE` with other widths and depths; Lite0 to Lite4 are the
official variants for mobile devices, with simpler blocks. `tiny` has the structure of the baseline and is small enough
for tests and for the quickstart on a laptop.
"""

import dataclasses
import math

IMAGENET_MEAN = (0.485, 0.456, 0.406)
IMAGENET_STD = (0.229, 0.224, 0.225)
# Lite networks were trained on (pixels - 127) / 128.
LITE_MEAN = (127 / 255,) * 3
LITE_STD = (128 / 255,) * 3


@dataclasses.dataclass(frozen=True)
class StageSpec:
    """A stage of `repeats` MBConv blocks, of which the first has the stage's `stride` and changes the channels.

    Attributes:
      expansion: ratio of the channels in the depthwise convolutions to those at the blocks' inputs.
      filters: number of output channels.
      repeats: number of blocks.
      kernel: side of the depthwise filters, in pixels.
      stride: stride of the first block's depthwise convolution, in pixels.
    """

    expansion: int
    filters: int
    repeats: int
    kernel: int
    stride: int


@dataclasses.dataclass(frozen=True)
class Variant:
    """A network after scaling.

    Attributes:
      name: the key in `VARIANTS`.
      resolution: side of the images the network was designed for, here of the thumbnails, in pixels.
      dropout: official dropout rate before the dense layer.
      stem_filters: output channels of the stem.
      stages: the stages, in order.
      head_filters: output channels of the head.
      lite: whether blocks have no squeeze-and-excite, and ReLU6 in place of swish.
      mean: mean of RGB pixels in 0..1, which is subtracted from them.
      std: standard deviation of RGB pixels in 0..1, by which they are divided.
    """

    name: str
    resolution: int
    dropout: float
    stem_filters: int
    stages: tuple[StageSpec, ...]
    head_filters: int
    lite: bool = False
    mean: tuple[float, float, float] = IMAGENET_MEAN
    std: tuple[float, float, float] = IMAGENET_STD

    def filters_after(self, stage: int) -> int:
        """Returns the number of channels after stage `stage`, numbered from 1, or after the stem for 0."""
        return self.stages[stage - 1].filters if stage else self.stem_filters

    def num_blocks(self) -> int:
        """Returns the number of MBConv blocks in all stages together."""
        return sum(stage.repeats for stage in self.stages)


BASELINE = (
    StageSpec(expansion=1, filters=16, repeats=1, kernel=3, stride=1),
    StageSpec(expansion=6, filters=24, repeats=2, kernel=3, stride=2),
    StageSpec(expansion=6, filters=40, repeats=2, kernel=5, stride=2),
    StageSpec(expansion=6, filters=80, repeats=3, kernel=3, stride=2),
    StageSpec(expansion=6, filters=112, repeats=3, kernel=5, stride=1),
    StageSpec(expansion=6, filters=192, repeats=4, kernel=5, stride=2),
    StageSpec(expansion=6, filters=320, repeats=1, kernel=3, stride=1),
)
BASELINE_STEM_FILTERS = 32
BASELINE_HEAD_FILTERS = 1280


def round_filters(filters: float, divisor: int = 8) -> int:
    """Returns the multiple of `divisor` nearest to `filters`, or the next one if that is more than 10 % too small.

    Source: the official implementation's rule for scaled widths.
    """
    rounded = max(divisor, int(filters + divisor / 2) // divisor * divisor)
    return rounded + divisor if rounded < 0.9 * filters else rounded


def scaled(name: str, *, width: float, depth: float, resolution: int, dropout: float) -> Variant:
    """Returns the baseline with filters times `width`, see `round_filters`, and repeats times `depth`, rounded up."""
    return Variant(
        name=name,
        resolution=resolution,
        dropout=dropout,
        stem_filters=round_filters(BASELINE_STEM_FILTERS * width),
        stages=tuple(
            dataclasses.replace(
                stage, filters=round_filters(stage.filters * width), repeats=math.ceil(stage.repeats * depth)
            )
            for stage in BASELINE
        ),
        head_filters=round_filters(BASELINE_HEAD_FILTERS * width),
    )


def scaled_lite(name: str, *, width: float, depth: float, resolution: int, dropout: float) -> Variant:
    """Returns a Lite variant: the stem, the head, and the repeats of the first and last stage are not scaled.

    Source: the official implementation, which sets `fix_head_stem` for them.
    """
    whole = scaled(name, width=width, depth=depth, resolution=resolution, dropout=dropout)
    first, *middle, last = whole.stages
    return dataclasses.replace(
        whole,
        stem_filters=BASELINE_STEM_FILTERS,
        stages=(
            dataclasses.replace(first, repeats=BASELINE[0].repeats),
            *middle,
            dataclasses.replace(last, repeats=BASELINE[-1].repeats),
        ),
        head_filters=BASELINE_HEAD_FILTERS,
        lite=True,
        mean=LITE_MEAN,
        std=LITE_STD,
    )


B0 = scaled("b0", width=1.0, depth=1.0, resolution=224, dropout=0.2)

VARIANTS = {
    variant.name: variant
    for variant in (
        B0,
        scaled("b1", width=1.0, depth=1.1, resolution=240, dropout=0.2),
        scaled("b2", width=1.1, depth=1.2, resolution=260, dropout=0.3),
        scaled("b3", width=1.2, depth=1.4, resolution=300, dropout=0.3),
        scaled("b4", width=1.4, depth=1.8, resolution=380, dropout=0.4),
        scaled("b5", width=1.6, depth=2.2, resolution=456, dropout=0.4),
        scaled("b6", width=1.8, depth=2.6, resolution=528, dropout=0.5),
        scaled("b7", width=2.0, depth=3.1, resolution=600, dropout=0.5),
        scaled_lite("lite0", width=1.0, depth=1.0, resolution=224, dropout=0.2),
        scaled_lite("lite1", width=1.0, depth=1.1, resolution=240, dropout=0.2),
        scaled_lite("lite2", width=1.1, depth=1.2, resolution=260, dropout=0.3),
        scaled_lite("lite3", width=1.2, depth=1.4, resolution=280, dropout=0.3),
        scaled_lite("lite4", width=1.4, depth=1.8, resolution=300, dropout=0.3),
        # The report's control with a stem of equal cost: 64 ordinary filters instead of 32 ordinary and 32 stochastic.
        dataclasses.replace(B0, name="b0_wide_stem", stem_filters=64),
        Variant(
            name="tiny",
            resolution=112,
            dropout=0.2,
            stem_filters=8,
            stages=(
                StageSpec(expansion=1, filters=8, repeats=1, kernel=3, stride=1),
                StageSpec(expansion=4, filters=16, repeats=1, kernel=3, stride=2),
                StageSpec(expansion=4, filters=24, repeats=1, kernel=5, stride=2),
                StageSpec(expansion=4, filters=40, repeats=1, kernel=3, stride=2),
            ),
            head_filters=128,
        ),
    )
}


def get(name: str) -> Variant:
    """Returns the variant called `name`. Raises ValueError with the known names if there is none."""
    if name not in VARIANTS:
        raise ValueError(f"`variant`={name!r} is unknown; choose one of {', '.join(VARIANTS)}")
    return VARIANTS[name]
