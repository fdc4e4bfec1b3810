"""Download of the official digit files."""

# License: BSD-3-Clause

import hashlib
import shutil
from collections.abc import Sequence
from functools import partial
from http.client import HTTPException
from os import PathLike
from pathlib import Path
from tempfile import TemporaryDirectory
from urllib.request import Request, urlopen

from ._digit_files import _URLS

# MD5 checksums as torchvision publishes them. Tests put small files here.
_CHECKSUMS = {
    "mnist": {
        "train-images-idx3-ubyte.gz": "f68b3c2dcbeaaa9fbdd348bbdeb94873",
        "train-labels-idx1-ubyte.gz": "d53e105ee54ea40749a09fcbcd1e9432",
        "t10k-images-idx3-ubyte.gz": "9fb629c4189551a2d022fa330f9573f3",
        "t10k-labels-idx1-ubyte.gz": "ec29112dd5afa0611ce80d1b7f02629c",
    },
    "svhn": {
        "train_32x32.mat": "e26dedcc434d2e4c54c9b2d4a06d8373",
        "test_32x32.mat": "eb5a983be6a315427106f1b164d9cef3",
    },
    "usps": {
        "usps.bz2": "ec16c51db3855ca6c91edd34d0e9b197",
        "usps.t.bz2": "8ea070ee2aca1ac39742fdd1ef5ed118",
    },
}
_TIMEOUT = 60  # seconds without an answer


def fetch_digits(name: str | Sequence[str], folder: str | PathLike[str]) -> list[Path]:
    """Download the official files of digit data sets into a folder.

    A file that is in the folder already is not downloaded again, but its checksum is verified as
    well. The loaders (:func:`load_mnist`, :func:`load_svhn`, :func:`load_usps`) read the files
    from there. Downloads are about 11 MiB for MNIST, 235 MiB for SVHN (without its extra training
    set) and 8 MiB for USPS.

    Parameters
    ----------
    name : {"mnist", "svhn", "usps"} or sequence of these
        Data sets to download.
    folder : str or path-like
        Where to put the files; made if there is none.

    Returns
    -------
    paths : list of pathlib.Path
        The files, in the order of the names.

    Raises
    ------
    OSError
        If a file cannot be downloaded or written, or its checksum is wrong. Files that were
        complete before stay; none is left in part.
    ValueError
        If a name is none of the three.

    Notes
    -----
    The checksums are the MD5 sums published with torchvision. They find files that are damaged or
    other than expected; MD5 is no protection against forgery, and SVHN is published without
    encryption. The loaders do not run code from these files.

    Examples
    --------
    >>> from sklearn_ckm.datasets import fetch_digits, load_usps
    >>> paths = fetch_digits("usps", "my_data")  # doctest: +SKIP
    >>> X, y = load_usps("my_data")  # doctest: +SKIP
    """
    names = _check_names(name)
    folder = Path(folder)
    folder.mkdir(parents=True, exist_ok=True)
    return [
        _fetch_file(_URLS[data_set] + file_name, folder / file_name, checksum)
        for data_set in names
        for file_name, checksum in _CHECKSUMS[data_set].items()
    ]


def _check_names(name):
    names = [name] if isinstance(name, str) else list(name) if hasattr(name, "__iter__") else []
    if not names or not all(isinstance(one, str) and one in _CHECKSUMS for one in names):
        raise ValueError(
            f"Expected name as 'mnist', 'svhn' or 'usps', or several of them, got {name!r}; pass "
            "for example ('mnist', 'usps')."
        )
    return list(dict.fromkeys(names))


def _fetch_file(url, path, checksum):
    """The path, after a download if it is not there yet."""
    if path.is_file():
        if _md5(path) != checksum:
            raise OSError(
                f"Expected the MD5 checksum {checksum} of {path.name} in the folder "
                f"{str(path.parent)!r}, got {_md5(path)}; delete the file, and it is downloaded "
                f"anew from {url}."
            )
        return path
    # In the folder itself, so that the rename is within one file system.
    with TemporaryDirectory(prefix=".fetch_digits-", dir=path.parent) as scratch:
        partial_path = Path(scratch, path.name)
        _download(url, partial_path, path.parent)
        found = _md5(partial_path)
        if found != checksum:
            raise OSError(
                f"Expected the MD5 checksum {checksum} of {url}, got {found}; nothing was written "
                f"to the folder {str(path.parent)!r}: try again, or put the file there yourself."
            )
        partial_path.replace(path)
    return path


def _download(url, path, folder):
    request = Request(url, headers={"User-Agent": "sklearn-ckm"})
    try:
        with urlopen(request, timeout=_TIMEOUT) as response, open(path, "xb") as file:
            shutil.copyfileobj(response, file)
    except (OSError, HTTPException) as error:
        raise OSError(
            f"Expected to download {url} to the folder {str(folder)!r}, got {error!r}; try again, "
            "or put the file there yourself."
        ) from error


def _md5(path):
    with open(path, "rb") as file:
        return hashlib.file_digest(file, partial(hashlib.md5, usedforsecurity=False)).hexdigest()
