"""--mode=prepare of ISIC 2024's table and HDF5 file, and of a zip of images."""

import zipfile

import h5py
import numpy as np
import simplejpeg

from stochconv_jax.data.sources import FolderSource
from tests.data.isic.files import picture
from tests.modes.isic_archive import SHARDS, run, table, times, tree

COUNT = 24
IDS = [f"ISIC_{number:07d}" for number in range(COUNT)]
HEADER = "isic_id,target,patient_id,age_approx,sex,attribution,copyright_license,iddx_full"


def images():
    """Returns JPEGs by isic_id. The first is too small; the last has no row in the table."""
    sizes = [(48, 80), *[(64 + number, 80) for number in range(COUNT)]]
    jpegs = [simplejpeg.encode_jpeg(picture(*size, seed)) for seed, size in enumerate(sizes)]
    return dict(zip([*IDS, "ISIC_9999999"], jpegs))


def write_2024(folder):
    """Writes train-image.hdf5 and train-metadata.csv, two images a patient, and returns the folder."""
    (folder / "test").mkdir()
    for name, content in {"train-image.hdf5": images(), "test/test-image.hdf5": {"ISIC_1": b"x"}}.items():
        with h5py.File(folder / name, "w") as file:
            for isic_id, jpeg in content.items():
                file[isic_id] = np.bytes_(jpeg)
    rows = [f"{isic_id},{n % 4 // 2},IP_{n // 2},40,male,x,CC-0,Benign" for n, isic_id in enumerate(IDS)]
    (folder / "train-metadata.csv").write_text("\n".join([HEADER, *rows]))
    return folder


def prepare(folder, workdir, raw):
    return run(workdir, raw=raw, labels=folder / "train-metadata.csv")


def test_the_images_of_an_hdf5_file_become_the_data_set(tmp_path):
    folder = write_2024(tmp_path)
    raw = folder / "train-image.hdf5"
    workdir = prepare(folder, tmp_path / "run", raw)
    reasons = {row["image"]: row["reason"] for row in table(workdir / "report.csv") if row["status"] == "dropped"}
    assert reasons == {
        IDS[0]: "80x48 pixels (width x height), smaller than 64 on a side",
        "ISIC_9999999": "no label file names it",
    }
    rows = table(workdir / "labels.csv")
    assert [row["image"] for row in rows] == [f"{isic_id}.jpg" for isic_id in IDS[1:]]
    assert [int(row["target"]) for row in rows] == [n % 4 // 2 for n in range(1, COUNT)]
    assert [row["group"] for row in rows] == [f"IP_{n // 2}" for n in range(1, COUNT)] and rows[0]["year"] == "2024"
    sides = {row["group"]: set() for row in table(workdir / "splits.csv")}
    for row in table(workdir / "splits.csv"):
        sides[row["group"]].add(row["split"])
    assert {len(side) for side in sides.values()} == {1}
    before = times(workdir)
    prepare(folder, workdir, raw)  # makes nothing anew
    assert {name: time for name, time in times(workdir).items() if name.startswith(("images/", "units/", SHARDS))} == {
        name: time for name, time in before.items() if name.startswith(("images/", "units/", SHARDS))
    }


def test_a_zip_of_the_images_gives_the_same_bytes(tmp_path):
    folder = write_2024(tmp_path)
    with zipfile.ZipFile(tmp_path / "train.zip", "w", zipfile.ZIP_DEFLATED) as archive:
        for isic_id, jpeg in images().items():
            archive.writestr(f"image/{isic_id}.jpg", jpeg)
    made = [
        tree(prepare(folder, tmp_path / f"run{n}", raw) / "images")
        for n, raw in enumerate([folder / "train-image.hdf5", tmp_path / "train.zip"])
    ]
    assert made[0] == made[1] and len(made[0]) == COUNT - 1


def test_training_reads_the_hdf5_file_as_it_is(tmp_path):
    folder = write_2024(tmp_path)
    source = FolderSource.from_csv(str(folder / "train-image.hdf5"), str(folder / "train-metadata.csv"), num_classes=2)
    assert source.names == [f"{isic_id}.jpg" for isic_id in IDS] and source.column("patient_id")[3] == "IP_1"
    assert source.read(5).shape == (68, 80, 3)
