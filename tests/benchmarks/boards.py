"""Makes small git repositories like those of the data sets."""

import subprocess

import cv2
import numpy as np

from benchmarks.real.archive import Archive


def commit(folder, files):
    """Makes a git repository with the files, {path: content}, and returns it."""
    for name, content in files.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    identity = ["-c", "user.name=a", "-c", "user.email=a@b"]
    for words in (["init", "-q"], ["add", "."], [*identity, "commit", "-q", "-m", "data"]):
        subprocess.run(["git", "-C", str(folder), *words], check=True)
    return folder


def jpeg(picture):
    return cv2.imencode(".jpg", picture)[1].tobytes()


def board_place(seed, defects):
    """Returns a template of a place, its tested image with square defects, and the lines of their boxes."""
    random = np.random.default_rng(seed)
    template = np.repeat(np.repeat(random.integers(0, 2, (20, 20), np.uint8) * 255, 32, 0), 32, 1)
    tested, lines = template.copy(), []
    for number in range(defects):
        top, left = 40 + 120 * number, 60
        tested[top : top + 20, left : left + 20] ^= 255
        lines.append(f"{left} {top} {left + 19} {top + 19} 1")
    tested[:, 320:352] ^= 255  # a scan is not like its template elsewhere either
    return template, tested, "\n".join(lines)


def board_archive(folder, places):
    """Returns a clone with the places of one board."""
    files = {"LICENSE": b"MIT"}
    for number, (template, tested, lines) in enumerate(places):
        name = f"PCBData/group1/1/0000{number}"
        files |= {f"{name}_temp.jpg": jpeg(template), f"{name}_test.jpg": jpeg(tested)}
        files[f"PCBData/group1/1_not/0000{number}.txt"] = lines.encode()
    clone = commit(folder, files)
    tree = subprocess.check_output(["git", "-C", str(clone), "rev-parse", "HEAD:PCBData"]).decode().strip()
    return Archive("", "PCBData", tree).open(clone)
