"""How the command line reads keys and config files, from any folder, without starting a mode."""

import json
import os
import subprocess
import sys

import pytest

from tests.conftest import ROOT

PARSE = """
import sys
sys.path.insert(0, {root!r})
from stochconv_jax import __main__ as program
program.parse(sys.argv)
settings = program._CONFIG.value
print(__import__("json").dumps([settings.to_dict(), sorted(name for name in ("jax", "flax") if name in sys.modules)]))
"""


def parsed(folder, *arguments, root=ROOT):
    """Returns the config and the names of imported JAX packages, or the line that refuses the arguments."""
    words = [sys.executable, "-c", PARSE.format(root=str(root)), f"--workdir={folder}", *arguments]
    environ = {name: value for name, value in os.environ.items() if name != "PYTHONPATH"}
    done = subprocess.run(words, cwd=folder, capture_output=True, text=True, env=environ)
    if done.returncode:
        assert len(done.stderr.splitlines()) == 1, done.stderr
        return done.stderr
    return json.loads(done.stdout)


def test_of_a_key_given_twice_the_last_counts_and_values_come_as_people_write_them(tmp_path):
    settings, imported = parsed(
        tmp_path,
        *("--config.model.branches=thumbnail", "--config.model.branches=thumbnail,windows"),
        *("--config.data.image_size=(64,64)", "--config.data.image_size=512x768"),
        *("--config.sweep.seeds=1", "--config.sweep.seeds=(2, 3)", "--config.seed=1", "--config.seed", "2"),
        *("--config.data.thumbnail_size=96", "--config.augment.area=[0.5,1]", "--noconfig.augment.flip"),
        *("--config.loss.class_weights=()", "--config.show.topics=('windows',)", "--config.optimizer.clip_norm=1e-1"),
    )
    assert settings["model"]["branches"] == ["thumbnail", "windows"] and settings["sweep"]["seeds"] == [2, 3]
    assert settings["seed"] == 2 and settings["augment"]["flip"] is False and settings["augment"]["area"] == [0.5, 1]
    assert settings["data"]["image_size"] == ["512x768"] and settings["data"]["thumbnail_size"] == [96]
    assert settings["loss"]["class_weights"] == [] and settings["show"]["topics"] == ["windows"]
    assert settings["optimizer"]["clip_norm"] == 0.1
    assert not imported  # modes without JAX start faster, and several processes join before JAX looks for devices


def test_a_config_is_found_beside_main_py_from_any_folder(tmp_path):
    settings, _ = parsed(tmp_path, "--config=configs/quickstart.py:control", "--config.seed=3")
    assert settings["model"]["branches"] == ["thumbnail"] and settings["seed"] == 3
    (tmp_path / "configs").mkdir()
    (tmp_path / "configs" / "quickstart.py").write_text(
        "from stochconv_jax.default_config import get_config as defaults\n\n\n"
        "def get_config():\n    config = defaults()\n    config.data.image_size = 640\n    return config\n"
    )
    settings, _ = parsed(tmp_path, "--config", "configs/quickstart.py", "--config.data.image_size=(320, 480)")
    assert settings["data"]["image_size"] == [320, 480] and settings["data"]["source"] == "folder"  # here comes first


@pytest.mark.parametrize(
    ("content", "words"),
    [
        ("c.num_epochs = -1", "config.num_epochs=-1: expected a whole number, 1 or more"),
        ("c.data.pth = 'a'", 'unknown config key data.pth. Did you mean "data.path"?'),
        ("c = 3", "its get_config() returns 3, not a config"),
        ("c.modle.seed = 1", "AttributeError: "),
        ("import nowhere", "ModuleNotFoundError: No module named 'nowhere' ("),
        ("c = = 1", "SyntaxError: invalid syntax ("),
    ],
)
def test_what_a_config_file_may_not_set_is_refused_in_a_line_with_its_name(tmp_path, content, words):
    (tmp_path / "own.py").write_text(
        "from stochconv_jax import default_config\n\n\n"
        f"def get_config():\n    c = default_config.get_config()\n    {content}\n    return c\n"
    )
    said = parsed(tmp_path, "--config=own.py")
    assert said.startswith(f"stochconv_jax: flag --config={tmp_path}/own.py: {words}")
    assert len(said.splitlines()) == 1 or "did you mean" in said.lower()


@pytest.mark.parametrize(
    ("file", "words"),
    [
        ("configs/quickstart.py:all", "configs/quickstart.py:all: the only choice after the colon is 'control' ("),
        ("configs/efficientnet.py:b9", "config.model.variant='b9' is unknown; choose one of b0, b1, "),
        ("configs/b0.py:b1", "get_config() takes 0 positional arguments but 1 was given ("),
    ],
)
def test_what_may_not_stand_after_the_colon_is_refused_in_a_line(tmp_path, file, words):
    assert parsed(tmp_path, f"--config={file}").startswith(f"stochconv_jax: flag --config={ROOT}/{file}: {words}")


def test_a_config_json_is_read_and_a_value_that_it_may_not_have_is_refused_in_a_line(tmp_path):
    settings, _ = parsed(tmp_path, "--config=configs/quickstart.py")
    file = tmp_path / "config.json"
    file.write_text(json.dumps({"config": settings}))
    again, _ = parsed(tmp_path, "--config=config.json", "--config.seed=7")
    assert again == settings | {"seed": 7}
    file.write_text(json.dumps({"config": settings | {"num_epochs": -1}}))
    said = parsed(tmp_path, "--config", "config.json")
    assert said.endswith(f"{file}: config.num_epochs=-1: expected a whole number, 1 or more\n")


def test_a_file_that_is_nowhere_is_told_with_all_places(tmp_path):
    said = parsed(tmp_path, "--config=configs/quikstart.py")
    places = f"looked for {tmp_path}/configs/quikstart.py and {ROOT}/configs/quikstart.py"
    assert said.endswith(f'no such file; {places}. Did you mean "{ROOT}/configs/quickstart.py"?\n')
