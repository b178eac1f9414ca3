"""Tells which image formats can be read here, and which package reads a format that cannot."""

import ctypes
import functools
import importlib.util
import pathlib

import PIL.Image

# Pillow's names of the formats that are read, if it was built with them. Others run programs, or hold no pixels.
_FORMATS = ("JPEG", "PNG", "BMP", "DIB", "GIF", "TIFF", "WEBP", "AVIF", "JPEG2000", "PPM", "TGA", "PCX", "SGI", "HEIF")
HEIF = "its format, HEIC, is not read: pip install pillow-heif (the extra `heif`), or save it as JPEG or PNG"
DICOM = "its format, DICOM, is not read: pip install pydicom (the extra `dicom`), or save it as PNG"
DICOM_ENDINGS = (".dcm", ".dicom")
# The message for endings that need a package.
_NEEDS: dict[str, str] = {
    **dict.fromkeys((".heic", ".heics", ".heif", ".heifs", ".hif"), HEIF),
    **dict.fromkeys(DICOM_ENDINGS, DICOM),
}


@functools.cache
def of_pillow() -> list[str]:
    """Returns Pillow's names of the formats that it reads here; loads Pillow's plugins at the first call."""
    if importlib.util.find_spec("pillow_heif"):
        importlib.import_module("pillow_heif").register_heif_opener()
    PIL.Image.init()
    _silence_libtiff()
    return [kind for kind in _FORMATS if kind in PIL.Image.OPEN]


def _silence_libtiff() -> None:
    """Keeps Pillow's libtiff from printing about damaged files to stderr, without the name that our errors have."""
    maps = pathlib.Path("/proc/self/maps")
    lines = maps.read_text().splitlines() if maps.exists() else []
    for path in {line.split(maxsplit=5)[-1] for line in lines if "libtiff" in line}:
        library = ctypes.CDLL(path)
        for name in ("TIFFSetErrorHandler", "TIFFSetWarningHandler"):
            setter = getattr(library, name)
            setter.argtypes, setter.restype = [ctypes.c_void_p], ctypes.c_void_p
            setter(None)


@functools.cache
def reads_dicom() -> bool:
    """Returns whether the package that reads DICOM is installed."""
    return importlib.util.find_spec("pydicom") is not None


@functools.cache
def endings() -> frozenset[str]:
    """Returns the endings of picture files that are read, in lower case and with their dot."""
    kinds = {*of_pillow(), "MPO"}  # MPO: a JPEG with more than one picture
    pillows = {ending for ending, kind in PIL.Image.registered_extensions().items() if kind in kinds}
    return frozenset(pillows.union(DICOM_ENDINGS if reads_dicom() else ()))


def supported() -> str:
    """Returns the names of all formats that are read here, for messages."""
    return ", ".join([*of_pillow(), *(["DICOM"] if reads_dicom() else [])])


def missing_package(ending: str) -> str:
    """Returns what to install so that files of this ending are read; '' if no package would read them."""
    return "" if ending.lower() in endings() else _NEEDS.get(ending.lower(), "")
