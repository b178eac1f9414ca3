"""The same images in every place that a path can name: a folder, archives, and addresses."""

import contextlib
import functools
import http.server
import pathlib
import threading
import zipfile

import fsspec
import h5py
import numpy as np

from tests.data.drawn import encoded

RANDOM = np.random.default_rng(0)
IMAGES = {
    name: encoded(RANDOM.integers(0, 256, (40, 50, 3), np.uint8), pathlib.Path(name).suffix)
    for name in ("cat/1.png", "cat/two words.jpg", "cat/deep/3.png", "dog/4.png", "dog/naïve.png", "dog/6.jpg")
}
LABELS = "image,target\ncat/1,0\ndog/4.png,1\ntwo words,0\nnaïve,1\n".encode()
FILES = IMAGES | {"labels.csv": LABELS, "cat/notes.txt": b"nothing"}


def write_folder(folder):
    """Writes FILES into a folder and returns it."""
    for name, content in FILES.items():
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(content)
    return folder


def write_zip(file, files=FILES):
    """Writes files into a zip, every other one compressed, and returns its path."""
    with zipfile.ZipFile(file, "w") as archive:
        for number, (name, content) in enumerate(files.items()):
            archive.writestr(name, content, zipfile.ZIP_DEFLATED if number % 2 else zipfile.ZIP_STORED)
    return file


def write_hdf5(file):
    """Writes FILES into an HDF5 file, as strings, opaque values and arrays in turn, and returns its path."""
    forms = (np.bytes_, np.void, lambda content: np.frombuffer(content, np.uint8))
    with h5py.File(file, "w") as archive:
        for number, (name, content) in enumerate(FILES.items()):
            archive[name] = forms[number % len(forms)](content)
    return file


def write_memory(name, files=FILES):
    """Writes files into fsspec's memory and returns their address."""
    for path, content in files.items():
        fsspec.filesystem("memory").pipe_file(f"/{name}/{path}", content)
    return f"memory://{name}"


class _Handler(http.server.SimpleHTTPRequestHandler):
    def log_message(self, *_):
        """Prints nothing."""


@contextlib.contextmanager
def served(folder):
    """Serves a folder by HTTP, without ranges, and yields its address."""
    handler = functools.partial(_Handler, directory=str(folder))
    with http.server.ThreadingHTTPServer(("127.0.0.1", 0), handler) as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield f"http://127.0.0.1:{server.server_port}"
        server.shutdown()
