"""--mode=plan refuses the real training step where images cross devices, by the collective that moves them."""
import functools

import jax
import pytest

from stochconv_jax.modes import plan
from stochconv_jax.run_folder import RunFolder
from stochconv_jax.training import compiled, steps
from stochconv_jax.training import mesh as meshes
from tests.training.test_compiled import tiny_full_split


def with_every_image_on_every_device(monkeypatch):
    """Images are asked for whole."""
    own, everywhere = steps.train_step, meshes.replicated(meshes.create())

    @functools.wraps(own)
    def gathered(state, batch, **settings):
        image = jax.lax.with_sharding_constraint(batch["image"], everywhere)
        return own(state, batch | {"image": image}, **settings)

    monkeypatch.setattr(steps, "train_step", gathered)


def test_a_step_that_gathers_images_is_refused_by_its_collective_and_bytes(monkeypatch, tmp_path):
    config = tiny_full_split()
    config.plan.topology = "devices"
    with_every_image_on_every_device(monkeypatch)
    # All 16 images of 96x80 in three colours, flat or not.
    with pytest.raises(compiled.ImagesCrossDevices, match=r"all-gather of u8\[16, 96, .*\], 368,640 bytes.*train_step"):
        plan.run(config, {}, tmp_path)
    train = RunFolder(tmp_path).read_json("plan.json")["steps"]["train"]
    assert compiled.IMAGES in {row["purpose"] for row in train["moved"]}
