"""The two files of a saved estimator: checked, and replaced in one step."""

import hashlib
import json
import os
import re
import uuid
from contextlib import contextmanager
from pathlib import Path

import safetensors.torch

FORMAT = "sklearn-ckm estimator"
FORMAT_VERSION = 1
DOCUMENT = "estimator.json"
_OWN_FILE = re.compile(r"(estimator\.json|weights-[0-9a-f]{16}\.safetensors)(\.[0-9a-f]{32}\.tmp)?")
_DIGEST = re.compile(r"[0-9a-f]{64}")


@contextmanager
def as_described(part, document):
    """Turn whatever a description of unknown form leads to into a ``ValueError``."""
    try:
        yield
    except (AttributeError, KeyError, OverflowError, RuntimeError, TypeError, ValueError) as error:
        raise ValueError(
            f"Expected a description of the {part} that this version of the package knows, "
            f"written by {document.get('versions')}; got {type(error).__name__}: {error}"
        ) from error


def write_files(folder, content, tensors):
    """Write an estimator into a folder, in place of one that is there.

    The weights have the name of their digest, and the document, which is replaced in one step,
    tells the digest: whenever the writing breaks off, the folder holds the estimator before or
    the new one, and none of both.

    Parameters
    ----------
    folder : str or os.PathLike
        New, empty, or one that was written by this function.
    content : dict
        For JSON.
    tensors : dict of str to Tensor
        Contiguous, on the CPU.

    Raises
    ------
    FileExistsError
        If the folder holds other files and no estimator, or is a file.
    """
    folder = Path(folder)
    _check_folder(folder)
    weights = safetensors.torch.save(tensors)
    digest = hashlib.sha256(weights).hexdigest()
    document = {
        "format": FORMAT,
        "format_version": FORMAT_VERSION,
        **content,
        "weights": {"sha256": digest, "n_bytes": len(weights)},
    }
    document["sha256"] = _content_digest(document)
    text = json.dumps(document, indent=1, allow_nan=False)
    folder.mkdir(parents=True, exist_ok=True)
    kept = _weights_name(digest), DOCUMENT
    for name, data in zip(kept, (weights, text.encode("ascii")), strict=True):
        _replace(folder / name, data)
    for path in folder.iterdir():
        if _OWN_FILE.fullmatch(path.name) and path.name not in kept:
            path.unlink()


def read_files(folder):
    """Read what :func:`write_files` wrote, and check it.

    Parameters
    ----------
    folder : str or os.PathLike
        Of one estimator.

    Returns
    -------
    content : dict
        From JSON.
    tensors : dict of str to Tensor
        On the CPU.

    Raises
    ------
    FileNotFoundError
        If a file is missing.
    ValueError
        If the format is newer, or a file was changed or cut off.
    """
    folder = Path(folder)
    document = _read_document(folder / DOCUMENT)
    digest = document["weights"]["sha256"]
    path = folder / _weights_name(digest)
    weights = _read_bytes(path, "weights")
    if hashlib.sha256(weights).hexdigest() != digest:
        raise ValueError(_damaged(path, "its content is not what was saved"))
    try:
        return document, safetensors.torch.load(weights)
    except (safetensors.SafetensorError, ValueError) as error:
        raise ValueError(_damaged(path, "it holds no arrays")) from error


def _read_document(path):
    data = _read_bytes(path, "description")
    try:
        document = json.loads(data)
    except (ValueError, RecursionError) as error:
        raise ValueError(_damaged(path, "it is not valid JSON")) from error
    if not isinstance(document, dict) or document.get("format") != FORMAT:
        raise ValueError(f"Expected an estimator that save() of this package wrote, got {path}.")
    version = document.get("format_version")
    if type(version) is not int or version < 1:
        raise ValueError(_damaged(path, f"its format_version is {version!r}"))
    if version > FORMAT_VERSION:
        raise ValueError(
            f"Expected an estimator in the format {FORMAT_VERSION} or older, got {path} in the "
            f"format {version}. Update sklearn-ckm to load it."
        )
    try:
        is_whole = document.get("sha256") == _content_digest(document)
        digest = document["weights"]["sha256"]
        is_whole = is_whole and _DIGEST.fullmatch(digest) is not None
    except (ValueError, TypeError, KeyError, RecursionError):
        is_whole = False
    if not is_whole:
        raise ValueError(_damaged(path, "its content is not what was saved"))
    return document


def _read_bytes(path, kind):
    try:
        return path.read_bytes()
    except (FileNotFoundError, NotADirectoryError) as error:
        raise FileNotFoundError(
            f"Expected the {kind} of a saved estimator in {path}, got no such file. Pass the "
            "folder that save() wrote, with all its files."
        ) from error


def _damaged(path, reason):
    return (
        f"Expected {path} as save() wrote it, but {reason}: it was changed or cut off. Copy the "
        "folder again, or save the estimator again."
    )


def _content_digest(document):
    content = {key: value for key, value in document.items() if key != "sha256"}
    text = json.dumps(content, sort_keys=True, separators=(",", ":"), allow_nan=False)
    return hashlib.sha256(text.encode("ascii")).hexdigest()


def _weights_name(digest):
    return f"weights-{digest[:16]}.safetensors"


def _check_folder(folder):
    if folder.exists() and not folder.is_dir():
        raise FileExistsError(f"Expected a folder to save to, got the file {folder}.")
    names = {path.name for path in folder.iterdir()} if folder.exists() else set()
    if DOCUMENT in names:
        is_ours = _is_document(folder / DOCUMENT)
    else:  # leftovers of a first save that broke off are ours
        is_ours = all(map(_OWN_FILE.fullmatch, names))
    if not is_ours:
        raise FileExistsError(
            f"Expected a folder that is new, empty or holds a saved estimator, got {folder} with "
            f"{sorted(names)[:3]}. Choose another one."
        )


def _is_document(path):
    """Whether a file is ours, whole or not: its first line tells."""
    with path.open("rb") as file:
        return f'"format": "{FORMAT}"'.encode() in file.read(200)


def _replace(path, data):
    """Write a file under another name, and give it its name once it is on the disk."""
    temporary = path.with_name(f"{path.name}.{uuid.uuid4().hex}.tmp")
    try:
        with temporary.open("xb") as file:
            file.write(data)
            file.flush()
            os.fsync(file.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
