"""A model with its variables, and what it sees of an image: windows, feature maps and predictions."""

import dataclasses
import functools
from typing import Any

import jax
import jax.numpy as jnp
import numpy as np

from stochconv_jax.models.classifier import Classifier
from stochconv_jax.training import rngs, steps

Batch = dict[str, np.ndarray]


@dataclasses.dataclass(frozen=True)
class ShownModel:
    """A model and its variables. The windows of a pass are those that evaluation draws with the same seed.

    Attributes:
      model: the network.
      variables: {'params', 'batch_stats'}.
      seed: of the run, from which windows are drawn.
    """

    model: Classifier
    variables: Any
    seed: int

    def windows(self, batch: Batch, passes: int) -> np.ndarray:
        """Returns the windows of the first passes, int32 `[passes, B or 1, F or 1, 2]`.

        The network behind the windows is not computed.
        """
        return np.asarray(self._windows(self.variables, batch, jnp.arange(passes)))

    def passes(self, batch: Batch, passes: int) -> tuple[np.ndarray, np.ndarray]:
        """Returns logits `[passes, B, K]` and windows, see `windows`, of the first passes."""
        logits, windows = self._passes(self.variables, batch, jnp.arange(passes))
        return np.asarray(logits), np.asarray(windows)

    def first_layers(self, batch: Batch) -> dict[str, tuple[np.ndarray, np.ndarray]]:
        """Returns by branch the first layer's filters `[kh, kw, 3, F]`, and its maps `[B, h, w, F]` in pass 0."""
        maps, params = self._stems(self.variables, batch), self.variables["params"]
        return {
            branch: (np.asarray(self.model.stem_kernel(params, branch)), np.asarray(found))
            for branch, found in maps.items()
        }

    def with_sampling(self, sampling: str) -> "ShownModel":
        """Returns the same with another way of sharing windows, see `ops.sample_windows`."""
        return dataclasses.replace(self, model=self.model.clone(sampling=sampling))

    @functools.cached_property
    def _passes(self) -> rngs.Seeded:
        return rngs.Seeded(jax.jit(functools.partial(steps.predict_passes, model=self.model)), self.seed)

    @functools.cached_property
    def _windows(self) -> rngs.Seeded:
        def windows(variables, batch, numbers, seed):
            return steps.predict_passes(variables, batch, numbers, model=self.model, seed=seed)[1]

        return rngs.Seeded(jax.jit(windows), self.seed)

    @functools.cached_property
    def _stems(self) -> rngs.Seeded:
        model = self.model

        def stem(variables, batch, branch, seed):
            if branch == "thumbnail":
                return model.apply(variables, branch, batch, method="stem")
            return steps.apply_window_branch(variables, batch, 0, model=model, seed=seed, method="stem")[0]

        def stems(variables, batch, seed):
            return {branch: stem(variables, batch, branch, seed) for branch in model.branches}

        return rngs.Seeded(jax.jit(stems), self.seed)
