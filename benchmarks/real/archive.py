"""A public data set in a git repository, read from a clone that the user has fetched."""

import dataclasses
import pathlib
import subprocess


@dataclasses.dataclass(frozen=True)
class Archive:
    """A folder of a git repository whose content is known.

    Attributes:
      url: address of the repository, for messages.
      folder: path of the folder in the repository.
      tree: git's SHA-1 of the folder, which covers the name and the bytes of every file in it.
    """

    url: str
    folder: str
    tree: str

    def open(self, clone: pathlib.Path) -> "Clone":
        """Returns the files of a clone. Raises ValueError, saying what to fetch, unless they are those expected."""
        opened = Clone(clone, self.folder)
        try:
            tree = opened.git("rev-parse", f"HEAD:{self.folder}").decode().strip()
        except (subprocess.CalledProcessError, OSError) as error:
            raise ValueError(
                f"{clone} is no git repository with a folder {self.folder!r}: git clone --bare {self.url} {clone}"
            ) from error
        if tree != self.tree:
            raise ValueError(f"{clone}: the files of {self.folder!r} have changed: {tree}, expected {self.tree}")
        return opened


@dataclasses.dataclass(frozen=True)
class Clone:
    """A clone of a repository, bare or not, and the folder in it whose files are read."""

    path: pathlib.Path
    folder: str

    def git(self, *words: str) -> bytes:
        """Returns what a git command writes."""
        return subprocess.run(["git", "-C", str(self.path), *words], check=True, capture_output=True).stdout

    def names(self) -> list[str]:
        """Returns the paths of all files within the folder."""
        return self.git("ls-tree", "-r", "-z", "--name-only", f"HEAD:{self.folder}").decode().strip("\0").split("\0")

    def read(self, name: str) -> bytes:
        """Returns the content of a file within the folder, as committed."""
        return self.git("cat-file", "blob", f"HEAD:{self.folder}/{name}")
