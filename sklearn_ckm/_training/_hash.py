"""A key of a fit: the data, the settings, the code of what the user wrote."""

import inspect
from functools import partial

import torch
from joblib.hashing import NumpyHasher

from .._version import __version__


def hash_fit(parts, given, *, types=(), parameter):
    """Hash all that a result depends on.

    Parameters
    ----------
    parts : dict
        Arrays and plain values.
    given : dict of str to object
        What a user may have written, such as an encoder, an optimiser or a list of callbacks: the
        source code counts too, so that a result is not taken for that of edited code.
    types : iterable of type, default=()
        Further classes of which the code counts.
    parameter : str
        Name of the parameter that asks for the hash, for the message.

    Returns
    -------
    key : str

    Raises
    ------
    ValueError
        If something given cannot be hashed.
    """
    parts = {**parts, "given": given, "versions": (torch.__version__, __version__)}
    try:
        return _Hasher("md5").hash({**parts, "source code": _source_code(given, types)})
    except Exception as error:
        names = ", ".join(given)
        values = ", ".join(f"{name}={value!r}" for name, value in given.items())
        raise ValueError(
            f"Expected parameters ({names}) that can be hashed when {parameter!r} is set, got "
            f"{values}. Define them at the top level of a module, or set {parameter}=None."
        ) from error


class _Hasher(NumpyHasher):
    """joblib's, with tensors by their values: their pickle differs from process to process."""

    def save(self, obj):
        if isinstance(obj, torch.Tensor):
            plain = obj.detach().cpu().contiguous().flatten()
            kind = (type(obj).__name__, str(obj.dtype), tuple(obj.shape), obj.requires_grad)
            obj = (*kind, plain.view(torch.uint8).numpy())
        super().save(obj)


def _source_code(given, types):
    """Source of what a user wrote."""
    parts = []
    for value in given.values():
        for part in value if isinstance(value, (list, tuple)) else [value]:
            parts.append(part[-1] if isinstance(part, tuple) else part)
    known = {"builtins", "numpy", "skorch", "torch", __name__.split(".")[0]}
    written = dict.fromkeys([*map(_definition, parts), *types])
    return [inspect.getsource(p) for p in written if p.__module__.split(".")[0] not in known]


def _definition(part):
    """Return the function or class that holds the code of an object."""
    while isinstance(part, partial):
        part = part.func
    return part if inspect.isroutine(part) or inspect.isclass(part) else type(part)
