"""Inputs: their shape, and the scale that ``fit`` learns and ``predict`` applies."""

from math import prod
from numbers import Integral

import numpy as np
import torch

from ._random import fixed_sample
from ._warnings import warn_user

ACCEPTED_DTYPES = (np.float64, np.float32, np.uint8)  # other dtypes become the first
_MOST_SPREAD = 2.0  # standard deviation of such a feature, over the median, that is not cut down
_SAME_UNIT = 10.0  # largest over median standard deviation up to which features share a scale
_SAME_RANGE = 20.0  # ratio of two ranges above which two sets of images are scaled differently
_SIMILAR_RANGE = 5.0  # ratio up to which one of two sets may simply be darker
_DARK = 100.0  # the same, where few new images may simply be dark
_ROUNDING = 1e-13  # standard deviation, over the mean, up to which a feature is constant
_FARTHEST = 1e6  # scales; what lies farther is put here, so that float32 holds its square
_SMALLEST_FLOAT32 = 1e-30  # scales below it, or above its inverse, are applied in float64
_BLOCK_BYTES = 2**21
_FEWEST_COMPARED, _COMPARED_ROWS = 10, 2000  # of either table, where units are compared
_SMALLEST_SIDE = 8  # pixels of an image whose channels may seem to come last


def as_rows(X, image_shape, name="X"):
    """View images as rows, and tell the shape of one sample.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
        Inputs: numpy, torch, pandas, polars, lists.
    image_shape : tuple of int or None
        ``(channels, height, width)`` of flattened images.
    name : str, default="X"
        What the messages call it.

    Returns
    -------
    X : array-like of shape (n_samples, n_features)
        Not validated otherwise.
    input_shape : tuple of int or None
        ``(channels, height, width)`` of images, None for a table.

    Raises
    ------
    ValueError
        If the number of dimensions is neither 2 nor 4, or `image_shape` contradicts the data.
    """
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        X = (X.float() if X.dtype == torch.bfloat16 else X).numpy()
    if isinstance(X, (list, tuple)):
        try:
            X = np.asarray(X)
        except ValueError as error:
            raise ValueError(
                f"Expected samples of one shape in {name}, got a list of different ones. "
                "sklearn_ckm.preprocessing.ImageFormatter brings images to one form."
            ) from error
    shape = np.shape(X) if hasattr(X, "shape") else ()
    if len(shape) == 4:
        if image_shape is not None and tuple(image_shape) != tuple(shape[1:]):
            raise ValueError(
                f"Expected images of image_shape={tuple(image_shape)!r}, got {name} with images of "
                f"shape {tuple(shape[1:])}."
            )
        X = np.asarray(X)
        return X.reshape(len(X), prod(shape[1:])), tuple(int(n) for n in shape[1:])
    if len(shape) > 2:
        advice = f": grey images take {name}[:, None]" if len(shape) == 3 else ""
        raise ValueError(
            f"Found array with dim {len(shape)} in {name}, of shape {tuple(shape)}: expected a "
            "table (n_samples, n_features) or images (n_samples, channels, height, width). Reshape "
            f"your data{advice}."
        )
    return X, None if image_shape is None else _as_image_shape(image_shape)


def _as_image_shape(image_shape):
    """Return three positive Python ints, or raise ``ValueError``."""
    shape = tuple(image_shape)
    if len(shape) != 3 or not all(isinstance(n, Integral) and n > 0 for n in shape):
        raise ValueError(
            f"Expected image_shape=(channels, height, width) of positive ints, got {image_shape!r}."
        )
    return tuple(int(n) for n in shape)


def check_image_shape(image_shape, n_features, name="X"):
    """Raise ``ValueError`` unless `image_shape` is three positive ints that fit the data."""
    shape = _as_image_shape(image_shape)
    if prod(shape) != n_features:
        raise ValueError(
            f"Expected {prod(shape)} features for image_shape={shape!r}, got {name} with "
            f"{n_features} features."
        )


def _blocks(X):
    n_rows = max(1, _BLOCK_BYTES // max(1, 8 * X.shape[1]))
    return (X[start : start + n_rows] for start in range(0, len(X), n_rows))


class InputScaler:
    """Affine scaling of the inputs, learned from both domains at once.

    Images: uint8 is divided by 255; floats are mapped so that the smallest and the largest value
    seen become 0 and 1. Tables: each feature is centred; all are divided by one number where
    their standard deviations are of one order (the largest at most ten times the median), as in
    pixels or embeddings, and each by its own otherwise, as in columns of different units. Of the
    former, those that spread more than twice the median are cut down to that: one such feature
    would drown many others. Constant features become 0.

    Parameters
    ----------
    input_shape : tuple of int
        ``(n_features,)`` or ``(channels, height, width)``.

    Attributes
    ----------
    is_uint8_ : bool
        Whether the images came as bytes; these stay bytes until a batch is drawn.
    range_ : tuple of float
        Smallest and largest value of float images.
    offset_, scale_ : ndarray of shape (n_features,) or float
        ``(x - offset_) / scale_`` is what the network reads.
    """

    def __init__(self, input_shape):
        self.input_shape = tuple(input_shape)

    @property
    def is_image(self):
        """Whether one sample has channels, height and width."""
        return len(self.input_shape) == 3

    def fit(self, parts, names):
        """Learn the scale.

        Parameters
        ----------
        parts : list of ndarray of shape (n_samples, n_features)
            One array per domain.
        names : list of str
            What the messages call them.

        Returns
        -------
        self : InputScaler

        Raises
        ------
        ValueError
            If the domains differ in dtype or range such that one scale cannot serve both.
        """
        if not self.is_image:
            self.is_uint8_ = False
            self.offset_, self.scale_ = _table_scale(parts)
            _warn_of_units(parts, names, self.scale_)
            return self
        kinds = [part.dtype == np.uint8 for part in parts]
        if len(set(kinds)) > 1:
            raise ValueError(
                "Expected images of one dtype, got "
                + " and ".join(f"{n} of {p.dtype}" for n, p in zip(names, parts, strict=True))
                + ". Bytes are divided by 255 and floats are not: bring both to one form, for "
                "example with sklearn_ckm.preprocessing.ImageFormatter."
            )
        self.is_uint8_ = kinds[0]
        if self.is_uint8_:
            self.range_, self.offset_, self.scale_ = (0.0, 255.0), 0.0, 255.0
            return self
        ranges = [_value_range(part) for part in parts]
        _check_same_range(ranges, names)
        _warn_of_ranges(ranges, names)
        low, high = min(r[0] for r in ranges), max(r[1] for r in ranges)
        self.range_ = (low, high)
        self.offset_, self.scale_ = low, (high - low) or 1.0
        return self

    def check(self, X, name="X"):
        """Raise ``ValueError`` where new images are of another dtype or range than in ``fit``."""
        if not self.is_image:
            return
        if (X.dtype == np.uint8) != self.is_uint8_:
            wanted = "uint8" if self.is_uint8_ else "float"
            raise ValueError(
                f"Expected {wanted} images as in fit, got {name} of dtype {X.dtype}. Convert them, "
                "so that they are scaled as in fit."
            )
        if not self.is_uint8_:
            ranges, names = [self.range_, _value_range(X)], ["the data of fit", name]
            _check_same_range(ranges, names, smallest=_DARK)

    def to_tensor(self, X):
        """Return rows as a tensor (n_samples, \\*input_shape): uint8, or scaled float32."""
        if self.is_uint8_:
            if not X.flags.writeable or not X.flags.c_contiguous:
                X = X.copy()  # torch cannot share memory that it must not write to
            return torch.from_numpy(X).reshape(len(X), *self.input_shape)
        scaled = torch.empty(X.shape, dtype=torch.float32, device="cpu")
        # one rounding of a float32 offset shifts all rows alike, so float32 stays float32
        is_single = X.dtype == np.float32 and _fits_float32(self.scale_)
        work = np.float32 if is_single else np.float64
        offset = np.asarray(self.offset_, work)
        scale = torch.from_numpy(np.asarray(self.scale_, work))
        for block, out in zip(_blocks(X), _blocks(scaled), strict=True):
            difference = out.numpy() if is_single else np.empty(block.shape)
            with np.errstate(over="ignore"):  # what overflows is clamped
                np.subtract(block, offset, out=difference)
            difference = torch.from_numpy(difference).div_(scale).clamp_(-_FARTHEST, _FARTHEST)
            if not is_single:
                out.copy_(difference)
        return scaled.reshape(len(X), *self.input_shape)


def _fits_float32(scale):
    return bool(np.all((scale > _SMALLEST_FLOAT32) & (scale < 1 / _SMALLEST_FLOAT32)))


def _table_scale(parts):
    """Offsets and scales of the columns, in float64, without squaring huge numbers."""
    blocks = [block for part in parts for block in _blocks(part)]  # views
    largest = max(float(np.abs(block).max()) for block in blocks)
    unit = largest or 1.0
    n_rows = sum(len(part) for part in parts)
    mean = sum((block.astype(np.float64) / unit).sum(0) for block in blocks) / n_rows
    squares = sum(np.square(block.astype(np.float64) / unit - mean).sum(0) for block in blocks)
    std = np.sqrt(squares / n_rows)
    std[std <= _ROUNDING * np.abs(mean)] = 0.0  # constant
    varying = np.sort(std[std > 0])
    if not len(varying):
        scale = np.ones_like(std)
    else:
        median = varying[(len(varying) - 1) // 2]
        if varying[-1] > _SAME_UNIT * median:
            scale = np.where(std > 0, std, 1.0)
        else:
            most = _MOST_SPREAD * median
            scale = np.sqrt(np.mean(np.minimum(varying, most) ** 2))
            if varying[-1] > most:
                scale = scale * np.maximum(1.0, std / most)
    return mean * unit, scale * unit


def _warn_of_units(parts, names, scale):
    """Warn where one of two tables spreads so much more that it seems to be in other units."""
    if len(parts) < 2 or min(map(len, parts)) < _FEWEST_COMPARED:
        return
    rows = [part[fixed_sample(len(part), _COMPARED_ROWS)] for part in parts]
    with np.errstate(over="ignore", invalid="ignore"):
        parts = [part / scale for part in rows]
        spreads = [float(np.sqrt(np.mean(part.std(0) ** 2))) for part in parts]
        sizes = [float(np.abs(part).max()) for part in parts]
    # constant up to rounding
    spreads = [0.0 if s <= _ROUNDING * size else s for s, size in zip(spreads, sizes, strict=True)]
    less, more = np.argsort(spreads)
    if 0 < spreads[less] * _SAME_RANGE < spreads[more]:
        warn_user(
            f"The features of {names[more]} spread {spreads[more] / spreads[less]:.3g} times as "
            f"much as those of {names[less]}, and one scale serves both. Bring them to the same "
            "units, or standardise each of them."
        )


def check_layout(image_shape, name):
    """Warn of images that seem to have their channels last.

    Parameters
    ----------
    image_shape : tuple of int
        ``(channels, height, width)``.
    name : str
        What the message calls the images.
    """
    if image_shape[2] in (1, 3, 4) and min(image_shape[:2]) >= _SMALLEST_SIDE:
        warn_user(
            f"{name} has images of shape {image_shape}, which is read as (channels, height, "
            f"width). If the channels come last, pass {name}.transpose(0, 3, 1, 2), or use "
            "sklearn_ckm.preprocessing.ImageFormatter."
        )


def _value_range(X):
    low = min(float(block.min()) for block in _blocks(X))
    high = max(float(block.max()) for block in _blocks(X))
    return low, high


def _warn_of_ranges(ranges, names):
    """Warn where one of two sets of images seems to be in other units."""
    reaches = [max(abs(low), abs(high)) for low, high in ranges]
    less, more = int(np.argmin(reaches)), int(np.argmax(reaches))
    if 0 < reaches[less] * _SIMILAR_RANGE < reaches[more]:
        warn_user(
            f"The images of {names[more]} reach {reaches[more]:g} and those of {names[less]} "
            f"{reaches[less]:g}, and one scale serves both. If their units differ, bring them to "
            "one, for example with sklearn_ckm.preprocessing.ImageFormatter."
        )


def _check_same_range(ranges, names, smallest=_SAME_RANGE):
    """Two ranges that differ by more than twenty times would be scaled differently."""
    for i, (low, high) in enumerate(ranges):
        for j, (other_low, other_high) in enumerate(ranges):
            reach, other = max(abs(low), abs(high)), max(abs(other_low), abs(other_high))
            if reach > 0 and reach * (smallest if i > j else _SAME_RANGE) < other:
                raise ValueError(
                    f"Expected images on one scale, got {names[i]} with values from {low:g} to "
                    f"{high:g} and {names[j]} with values from {other_low:g} to {other_high:g}. "
                    "Bring both to one form, for example with "
                    "sklearn_ckm.preprocessing.ImageFormatter."
                )
