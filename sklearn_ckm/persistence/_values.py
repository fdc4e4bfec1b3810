"""Plain values as JSON and arrays: exact types, nothing that could be executed."""

import math

import numpy as np
import torch
from sklearn.base import BaseEstimator

from .. import augmentation, objectives
from ..modules import ConvEncoder, DenseEncoder
from ..utils._input import InputScaler

_TAG = "$"  # the key that marks an object with a type of its own
_PLAIN = (bool, int, str)
_LARGEST_NUMBER = 8  # bytes of a number that safetensors can hold


def _estimators_of(module):
    public = (getattr(module, name) for name in module.__all__)
    return [cls for cls in public if issubclass(cls, BaseEstimator)]


# Of what a file names, these alone are ever looked up.
SETTINGS = {cls.__name__: cls for m in (objectives, augmentation) for cls in _estimators_of(m)}
ENCODERS = {cls.__name__: cls for cls in (ConvEncoder, DenseEncoder)}


class UnstorableError(TypeError):
    """A value that neither JSON nor arrays can hold, as code cannot.

    Parameters
    ----------
    value : object
        The value.
    """

    def __init__(self, value):
        self.type_name = getattr(value, "__qualname__", type(value).__qualname__)
        super().__init__(f"Expected plain values, got {value!r}.")


class Encoder:
    """Turns values to what JSON can hold; arrays of numbers go beside it.

    Attributes
    ----------
    tensors : dict of str to Tensor
        The arrays by the place where they were met.
    left_out : list of str
        Parameters of objectives and augmentations that could not be stored.
    """

    def __init__(self):
        self.tensors = {}
        self.left_out = []

    def encode(self, value, path):
        """Return `value` for JSON.

        Parameters
        ----------
        value : object
            What is to be stored.
        path : str
            Where it stands: the name of its arrays.

        Returns
        -------
        encoded : object
            Of dicts, lists, strings, numbers and None.

        Raises
        ------
        UnstorableError
            If it holds anything but plain values, arrays, and settings of the package.
        """
        if value is None or type(value) in _PLAIN:
            return value
        if type(value) is float:
            return value if math.isfinite(value) else {_TAG: "float", "value": repr(value)}
        if isinstance(value, np.ndarray):
            return self._encode_array(value, path)
        if isinstance(value, np.generic):
            return {_TAG: "scalar", "array": self._encode_array(np.asarray(value), path, "JSON")}
        if type(value) is list:
            return self._encode_items(value, path)
        if type(value) is tuple:
            return {_TAG: "tuple", "items": self._encode_items(value, path)}
        if type(value) is dict:
            return self._encode_dict(value, path)
        if isinstance(value, torch.device):
            return {_TAG: "device", "value": str(value)}
        if type(value) is InputScaler:
            return {_TAG: "InputScaler", "attributes": self._encode_dict(vars(value), path)}
        if SETTINGS.get(type(value).__name__) is type(value):
            return self._encode_settings(value, path)
        if isinstance(value, type) and ENCODERS.get(value.__name__) is value:
            return {_TAG: "encoder", "class": value.__name__}
        raise UnstorableError(value)

    def _encode_items(self, values, path):
        return [self.encode(value, f"{path}.{i}") for i, value in enumerate(values)]

    def _encode_dict(self, values, path):
        if all(type(key) is str for key in values) and _TAG not in values:
            return {key: self.encode(value, f"{path}.{key}") for key, value in values.items()}
        return {_TAG: "dict", "items": self._encode_items(list(values.items()), path)}

    def _encode_settings(self, value, path):
        params, left_out = {}, []
        for name, param in value.get_params(deep=False).items():
            try:
                params[name] = self.encode(param, f"{path}.{name}")
            except UnstorableError:
                left_out.append(f"{path}__{name}")
        self.left_out += left_out
        return {_TAG: "settings", "class": type(value).__name__, "params": params}

    def _encode_array(self, array, path, place="tensor"):
        kind, native = array.dtype.kind, array.dtype.newbyteorder("=")
        encoded = {_TAG: "array", "dtype": array.dtype.str, "shape": list(array.shape)}
        if kind in "biuf" and array.dtype.itemsize <= _LARGEST_NUMBER:
            if place == "tensor":
                while path in self.tensors:  # a key may hold a dot
                    path += "_"
                self.tensors[path] = torch.from_numpy(np.array(array, dtype=native, order="C"))
                return {**encoded, "tensor": path}
            items = array.ravel().tolist()
        elif kind in "Mm":
            items = array.astype(native).view(np.int64).ravel().tolist()
        elif kind in "UO":
            items = array.ravel().tolist()
        elif kind == "S":
            items = [item.decode("latin-1") for item in array.ravel().tolist()]
        else:
            raise UnstorableError(array)
        return {**encoded, "items": self._encode_items(items, path)}


def decode(encoded, tensors):
    """Return what :meth:`Encoder.encode` was given.

    Parameters
    ----------
    encoded : object
        As read from JSON.
    tensors : dict of str to Tensor
        The arrays.

    Returns
    -------
    value : object

    Raises
    ------
    ValueError
        If a type or a class is unknown, or an array has another dtype or shape.
    """
    if isinstance(encoded, list):
        return [decode(item, tensors) for item in encoded]
    if not isinstance(encoded, dict):
        return encoded
    if _TAG not in encoded:
        return {key: decode(item, tensors) for key, item in encoded.items()}
    kind = encoded[_TAG]
    if kind == "float":
        return float(encoded["value"])
    if kind == "array":
        return _decode_array(encoded, tensors)
    if kind == "scalar":
        return _decode_array(encoded["array"], tensors)[()]
    if kind == "tuple":
        return tuple(decode(encoded["items"], tensors))
    if kind == "dict":
        return dict(map(tuple, decode(encoded["items"], tensors)))
    if kind == "device":
        return torch.device(encoded["value"])
    if kind == "InputScaler":
        attributes = decode(encoded["attributes"], tensors)
        scaler = InputScaler(attributes["input_shape"])
        vars(scaler).update(attributes)
        return scaler
    if kind == "settings":
        cls = _look_up(encoded["class"], SETTINGS)
        return cls(**decode(encoded["params"], tensors))
    if kind == "encoder":
        return _look_up(encoded["class"], ENCODERS)
    raise ValueError(f"Expected a known type of value, got {kind!r}.")


def _look_up(name, known):
    if name not in known:
        raise ValueError(f"Expected a class among {sorted(known)}, got {name!r}.")
    return known[name]


def _decode_array(encoded, tensors):
    dtype, shape = np.dtype(encoded["dtype"]), tuple(encoded["shape"])
    if dtype.kind not in "biufMmUOS":
        raise ValueError(f"Expected an array of numbers, times, text or objects, got {dtype}.")
    if "tensor" in encoded:
        array = tensors[encoded["tensor"]].numpy()
        if array.shape != shape or array.dtype != dtype.newbyteorder("="):
            raise ValueError(
                f"Expected {encoded['tensor']!r} to have the shape {shape} and the dtype {dtype}, "
                f"got {array.shape} and {array.dtype}."
            )
        return array.astype(dtype)
    items = decode(encoded["items"], tensors)
    if dtype.kind == "O":
        array = np.empty(len(items), dtype=object)
        array[:] = items
    elif dtype.kind in "Mm":
        array = np.array(items, dtype=np.int64).view(dtype.newbyteorder("=")).astype(dtype)
    elif dtype.kind == "S":
        array = np.array([item.encode("latin-1") for item in items], dtype=dtype)
    else:
        array = np.array(items, dtype=dtype)
    return array.reshape(shape)
