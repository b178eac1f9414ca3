"""The plain EfficientNet of a variant in PyTorch, in channels_last format, with training and evaluation steps.

It is a reference for speed, with the layers, loss and optimiser of `models/efficientnet.py` and `training/steps.py`.
One difference favours PyTorch: padding is symmetric, as in its own convolutions, while TensorFlow's 'SAME' would need
copies. On a GPU it is compiled by torch.compile and runs in mixed precision, bfloat16, as the networks of this project.
"""

from collections.abc import Callable

import torch
from torch import nn
from torch.nn import functional

from stochconv_jax.models.variants import StageSpec, Variant


def conv_norm(filters_in: int, filters: int, kernel: int = 1, stride: int = 1, groups: int = 1) -> nn.Sequential:
    """Returns a convolution without bias followed by batch norm."""
    conv = nn.Conv2d(filters_in, filters, kernel, stride, kernel // 2, groups=groups, bias=False)
    return nn.Sequential(conv, nn.BatchNorm2d(filters, eps=1e-3, momentum=0.01))


class MBConv(nn.Module):
    """The block of `models/efficientnet.py:MBConv`."""

    def __init__(self, filters_in: int, spec: StageSpec, stride: int, drop: float):
        super().__init__()
        wide, squeezed = filters_in * spec.expansion, max(1, int(0.25 * filters_in))
        self.expand = nn.Sequential(conv_norm(filters_in, wide), nn.SiLU()) if spec.expansion != 1 else nn.Identity()
        self.depthwise = nn.Sequential(conv_norm(wide, wide, spec.kernel, stride, groups=wide), nn.SiLU())
        self.gate = nn.Sequential(nn.Conv2d(wide, squeezed, 1), nn.SiLU(), nn.Conv2d(squeezed, wide, 1), nn.Sigmoid())
        self.project = conv_norm(wide, spec.filters)
        self.adds, self.drop = stride == 1 and filters_in == spec.filters, drop

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        y = self.depthwise(self.expand(x))
        y = self.project(y * self.gate(y.mean((2, 3), keepdim=True)))
        if not self.adds:
            return y
        if self.training and self.drop:
            y = y * ((torch.rand(len(y), 1, 1, 1, device=y.device) >= self.drop) / (1 - self.drop))
        return x + y


class EfficientNet(nn.Module):
    """Maps pixels, uint8 [B, 3, H, W], to one logit per image, [B]."""

    def __init__(self, variant: Variant, *, dropout: float, stochastic_depth: float):
        super().__init__()
        self.register_buffer("mean", 255 * torch.tensor(variant.mean)[:, None, None])
        self.register_buffer("std", 255 * torch.tensor(variant.std)[:, None, None])
        layers = [conv_norm(3, variant.stem_filters, 3, 2), nn.SiLU()]
        filters, blocks = variant.stem_filters, 0
        for spec in variant.stages:
            for repeat in range(spec.repeats):
                drop = stochastic_depth * blocks / variant.num_blocks()
                layers.append(MBConv(filters, spec, spec.stride if repeat == 0 else 1, drop))
                filters, blocks = spec.filters, blocks + 1
        self.layers = nn.Sequential(*layers, conv_norm(filters, variant.head_filters), nn.SiLU())
        self.classifier = nn.Sequential(nn.Dropout(dropout), nn.Linear(variant.head_filters, 1))

    def forward(self, pixels: torch.Tensor) -> torch.Tensor:
        x = ((pixels - self.mean) / self.std).contiguous(memory_format=torch.channels_last)
        return self.classifier(self.layers(x).mean((2, 3)))[:, 0]


def steps(
    variant: Variant, size: tuple[int, int], batch_size: int, threads: int, device: str, **rates: float
) -> tuple[Callable[[], torch.Tensor], Callable[[], torch.Tensor], Callable[[], None]]:
    """Returns a training step and an evaluation step on a batch of random thumbnails of `size`, and a wait for both.

    On a GPU the steps may return before they have ended. `device` is 'cpu' or 'cuda'; `rates` are those of dropout and
    stochastic_depth. The optimiser is RMSProp with the default config's settings.
    """
    torch.set_num_threads(threads)
    torch.backends.cudnn.benchmark = True
    network = EfficientNet(variant, **rates).to(device, memory_format=torch.channels_last)
    optimizer = torch.optim.RMSprop(network.parameters(), lr=1e-3, alpha=0.99, eps=1e-8)
    pixels = torch.randint(256, (batch_size, *size, 3), dtype=torch.uint8, device=device).permute(0, 3, 1, 2)
    labels = torch.randint(2, (batch_size,), device=device).float()
    compiled = torch.compile(network) if device == "cuda" else network

    def logits() -> torch.Tensor:
        with torch.autocast(device, torch.bfloat16, enabled=device == "cuda"):
            return compiled(pixels).float()

    def train() -> torch.Tensor:
        network.train()
        optimizer.zero_grad()
        loss = functional.binary_cross_entropy_with_logits(logits(), labels)
        loss.backward()
        optimizer.step()
        return loss

    def evaluate() -> torch.Tensor:
        network.eval()
        with torch.inference_mode():
            return logits()

    def wait() -> None:
        if device == "cuda":
            torch.cuda.synchronize()

    return train, evaluate, wait
