"""Images of different sizes, channels and dtypes, brought to one form."""

# License: BSD-3-Clause

from numbers import Integral, Real
from typing import Any, Self

import numpy as np
import torch
from sklearn.base import BaseEstimator, TransformerMixin
from sklearn.utils.metaestimators import available_if

_CHANNEL_COUNTS = (1, 3, 4)
_COLOR_COUNTS = (3, 4)
_SMALLEST_SIDE = 8  # pixels of what may be a single colour image
_LUMINANCE_WEIGHTS = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601
_MAX_BLOCK_VALUES = 2**21
# A resize done elsewhere may leave [0, 1] by a rounding error; the result is clipped.
_RANGE_TOLERANCE = 1e-6


def _is_flat(formatter):
    """Whether the output is a table, whose columns have names."""
    return bool(formatter.flatten)


class ImageFormatter(TransformerMixin, BaseEstimator):
    """Bring images of any size, channel count and dtype to one common form.

    The output is float32 in [0, 1], channels first. Nothing is learned from the data, so that
    images of two domains, formatted by two calls, are treated alike.

    Parameters
    ----------
    image_shape : tuple of (int, int, int), default=(1, 28, 28)
        Channels (1 for grey, 3 for colour), height and width of the output, in pixels.
    flatten : bool, default=False
        Whether to return one row an image, ``(n_samples, channels * height * width)``, as
        scikit-learn's own estimators take them.
    image_format : {"auto", "channels_first", "channels_last"}, default="auto"
        Where the channels are in an image of three dimensions. ``"auto"`` looks for the end of
        the shape that is 1, 3 or 4, and raises if it is both ends or neither.
    value_range : tuple of (float, float) or None, default=None
        Values that mean black and white. ``None`` takes the range of the dtype for uint8 and
        uint16, and (0, 1) for floats; other integers then raise. A given range is used for
        every dtype but bool, which is always 0 and 1.

    See Also
    --------
    sklearn.preprocessing.MinMaxScaler : Learns a range for each column.

    Notes
    -----
    Colour becomes grey by the luminance weights of ITU-R BT.601, 0.299 R + 0.587 G + 0.114 B;
    grey becomes colour by repetition; the fourth channel, alpha, is dropped, not blended.

    Sizes are changed by bilinear interpolation, with an antialiasing filter where the image
    gets smaller. The aspect is not kept: the whole image is stretched to the shape. An image
    that has the size already is not interpolated.

    Values beyond the range by less than a millionth of it are clipped; further ones raise.

    The work is done in blocks: beside the output, memory does not grow with ``n_samples``.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ckm.preprocessing import ImageFormatter
    >>> grey = np.full((5, 16, 16), 255, dtype=np.uint8)
    >>> colour = np.zeros((2, 32, 32, 3))
    >>> formatter = ImageFormatter((1, 28, 28))
    >>> formatter.transform(grey).shape, formatter.transform(colour).shape
    ((5, 1, 28, 28), (2, 1, 28, 28))
    """

    def __init__(
        self,
        image_shape: tuple[int, int, int] = (1, 28, 28),
        *,
        flatten: bool = False,
        image_format: str = "auto",
        value_range: tuple[float, float] | None = None,
    ) -> None:
        self.image_shape = image_shape
        self.flatten = flatten
        self.image_format = image_format
        self.value_range = value_range

    def fit(self, X: Any = None, y: Any = None) -> Self:
        """Check the parameters; nothing is learned.

        Parameters
        ----------
        X : object, default=None
            Ignored; `transform` checks it.
        y : object, default=None
            Ignored.

        Returns
        -------
        self : ImageFormatter
            The transformer itself.
        """
        self._check_params()
        return self

    def transform(self, X: Any) -> np.ndarray:
        """Bring images to the common form.

        Parameters
        ----------
        X : array, tensor or list of images
            A numpy array or torch tensor of shape (n_samples, height, width),
            (n_samples, channels, height, width) or (n_samples, height, width, channels), or a
            list of single images, whose sizes, channels and dtypes may differ. It is not
            changed.

        Returns
        -------
        X_out : ndarray of shape (n_samples, channels, height, width)
            Images as float32 in [0, 1], in memory of their own; of shape
            (n_samples, channels * height * width) if `flatten` is set.

        Raises
        ------
        TypeError
            If the values are neither bool, integer nor real.
        ValueError
            If the shape cannot be read as images, a value is NaN, infinite or out of range, or
            a parameter is not valid.
        """
        image_shape, value_range = self._check_params()
        images = _as_batches(X)
        n_samples = sum(len(batch) for batch in images)
        if n_samples == 0:
            raise ValueError("Expected at least one image in X, got none; pass a non-empty X.")
        out = np.empty((n_samples, *image_shape), dtype=np.float32)
        start = 0
        for batch in images:
            batch = _channels_first(
                batch, self.image_format, start, is_list=isinstance(X, (list, tuple))
            )
            _format_batch(batch, value_range, out[start : start + len(batch)], start)
            start += len(batch)
        return out.reshape(n_samples, -1) if self.flatten else out

    @available_if(_is_flat)
    def get_feature_names_out(self, input_features: Any = None) -> np.ndarray:
        """Names of the output columns, ``pixel_<channel>_<row>_<column>``.

        Available if `flatten` is set: images have no columns to name.

        Parameters
        ----------
        input_features : object, default=None
            Ignored: an output pixel is no input column.

        Returns
        -------
        feature_names_out : ndarray of shape (channels * height * width,)
            Names, as objects.
        """
        image_shape, _ = self._check_params()
        names = [f"pixel_{c}_{row}_{column}" for c, row, column in np.ndindex(*image_shape)]
        return np.array(names, dtype=object)

    def _check_params(self):
        """Output shape and value range as used."""
        if self.image_format not in ("auto", "channels_first", "channels_last"):
            raise ValueError(
                "Expected image_format 'auto', 'channels_first' or 'channels_last', got "
                f"{self.image_format!r}; set one of the three."
            )
        if not isinstance(self.flatten, (bool, np.bool_)):
            raise ValueError(
                f"Expected flatten True or False, got {self.flatten!r}; set one of the two."
            )
        return _check_image_shape(self.image_shape), _check_value_range(self.value_range)

    def __sklearn_is_fitted__(self):
        return True

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.requires_fit = False
        tags.input_tags.two_d_array = False
        tags.input_tags.three_d_array = True
        return tags


def _check_image_shape(image_shape):
    is_triple = isinstance(image_shape, (tuple, list)) and len(image_shape) == 3
    if (
        not is_triple
        or not all(isinstance(size, Integral) and size >= 1 for size in image_shape)
        or image_shape[0] not in (1, 3)
    ):
        raise ValueError(
            "Expected image_shape as (channels, height, width) with 1 or 3 channels and sizes of "
            f"at least 1, got {image_shape!r}; set for example (1, 28, 28)."
        )
    return tuple(int(size) for size in image_shape)


def _check_value_range(value_range):
    if value_range is None:
        return None
    is_pair = isinstance(value_range, (tuple, list)) and len(value_range) == 2
    if (
        not is_pair
        or not all(isinstance(value, Real) and np.isfinite(value) for value in value_range)
        or not value_range[0] < value_range[1]
    ):
        raise ValueError(
            "Expected value_range as a pair (low, high) of finite numbers with low < high, got "
            f"{value_range!r}; set for example (0, 255), or None."
        )
    return float(value_range[0]), float(value_range[1])


def _as_batches(X):
    """A list of arrays with a leading sample axis: one for an array, one an image for a list."""
    if isinstance(X, (list, tuple)):
        return [_as_image(image, index)[np.newaxis] for index, image in enumerate(X)]
    X = _as_numeric(X, "X")
    if X.ndim not in (3, 4):
        raise ValueError(
            "Expected X as (n_samples, height, width), (n_samples, channels, height, width) or "
            f"(n_samples, height, width, channels), got {X.ndim} dimensions, shape {X.shape!r}; "
            "reshape flattened images, and put a single image into a list."
        )
    if X.ndim == 3 and X.shape[2] in _COLOR_COUNTS and min(X.shape[:2]) >= _SMALLEST_SIDE:
        raise ValueError(
            f"Expected images, got X of shape {X.shape!r}, which seems to be a single colour "
            "image: put it into a list. If these are grey images of so few columns, pass "
            "X[:, np.newaxis] and image_format='channels_first'."
        )
    return [X]


def _as_image(image, index):
    image = _as_numeric(image, f"X[{index}]")
    if image.ndim not in (2, 3):
        raise ValueError(
            "Expected each image of the list as (height, width), (channels, height, width) or "
            f"(height, width, channels), got {image.ndim} dimensions, shape {image.shape!r}, in "
            f"X[{index}]; pass an array instead of a list if the images are stacked already."
        )
    return image


def _as_numeric(X, name):
    """Numpy view of an array or tensor of numbers."""
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        # numpy has no bfloat16.
        X = X.float().numpy() if X.dtype == torch.bfloat16 else X.numpy()
    X = np.asarray(X)
    if X.dtype.kind not in "buif":
        raise TypeError(
            f"Expected {name} of bool, integer or real values, got dtype {X.dtype!r}; convert it, "
            "and pass images of different sizes as a list."
        )
    return X


def _channels_first(batch, image_format, start, is_list):
    """View of shape (n_samples, channels, height, width)."""
    name = f"X[{start}]" if is_list else "X"
    if batch.ndim == 3:
        batch = batch[:, np.newaxis]
    elif _is_channels_last(batch.shape, image_format, name):
        batch = np.moveaxis(batch, -1, 1)
    if batch.shape[1] not in _CHANNEL_COUNTS:
        raise ValueError(
            f"Expected 1, 3 or 4 channels, got {batch.shape[1]} in {name} (images of shape "
            f"{batch.shape[1:]!r} if {image_format!r}); set the other image_format, or choose the "
            "channels first."
        )
    if 0 in batch.shape[1:]:
        raise ValueError(
            f"Expected images of at least one pixel, got shape {batch.shape[1:]!r} in {name}; "
            "leave the empty ones out."
        )
    return batch


def _is_channels_last(shape, image_format, name):
    if image_format != "auto":
        return image_format == "channels_last"
    is_first, is_last = shape[1] in _CHANNEL_COUNTS, shape[-1] in _CHANNEL_COUNTS
    if is_first == is_last:
        raise ValueError(
            "Expected 1, 3 or 4 channels at one end of the image shape, got "
            f"{'both ends' if is_first else 'neither end'} of {tuple(shape[1:])!r} in {name}; set "
            "image_format='channels_first' or image_format='channels_last'."
        )
    return is_last


def _format_batch(batch, value_range, out, start):
    """Write the batch, (n, channels, height, width), into `out`, some images at a time."""
    low, high = _value_range_of(batch.dtype, value_range, start)
    values_per_image = max(batch[0].size, out[0].size) if len(batch) else 1
    step = max(1, _MAX_BLOCK_VALUES // values_per_image)
    for first in range(0, len(batch), step):
        # Always a copy, as float64: differences of large integers stay exact.
        block = np.array(batch[first : first + step], dtype=np.float64)
        _check_values(block, low, high, start + first)
        block = _mix_channels((block - low) / (high - low), out.shape[1])
        # A grey block is repeated over the channels of a colour output here.
        out[first : first + step] = np.clip(_resize(block, out.shape[2:]), 0, 1)


def _value_range_of(dtype, value_range, start):
    if dtype.kind == "b":
        return 0.0, 1.0
    if value_range is not None:
        return value_range
    if dtype.kind == "f":
        return 0.0, 1.0
    if dtype.kind == "u" and dtype.itemsize <= 2:
        return 0.0, float(np.iinfo(dtype).max)
    raise ValueError(
        f"Expected uint8, uint16, bool or floats, got {dtype.name} from X[{start}] on, whose range "
        "says nothing about black and white; set value_range, for example (0, 255)."
    )


def _check_values(block, low, high, start):
    """Raise for the first image of the block that is not finite or not in range."""
    axes = (1, 2, 3)
    minima, maxima = block.min(axis=axes), block.max(axis=axes)  # (n_images,), NaN if any is NaN
    is_finite = np.isfinite(minima) & np.isfinite(maxima)
    if not is_finite.all():
        raise ValueError(
            f"Expected finite values, got NaN or infinity in X[{start + int(is_finite.argmin())}]; "
            "leave such images out or fill them in first."
        )
    slack = _RANGE_TOLERANCE * (high - low)
    is_inside = (minima >= low - slack) & (maxima <= high + slack)
    if not is_inside.all():
        first = int(is_inside.argmin())
        raise ValueError(
            f"Expected values in [{low:g}, {high:g}], got values from {minima[first]:g} to "
            f"{maxima[first]:g} in X[{start + first}]; rescale the images, or set value_range to "
            "the values that mean black and white."
        )


def _mix_channels(block, n_channels):
    """(n, 1, 3 or 4, h, w) to (n, 3, h, w) if colour goes to colour, (n, 1, h, w) otherwise."""
    block = block[:, :3]
    if block.shape[1] == 3 and n_channels == 1:
        return np.einsum("nchw,c->nhw", block, _LUMINANCE_WEIGHTS)[:, np.newaxis]
    return block


def _resize(block, size):
    """(n, c, h, w) to (n, c, *size), as float32."""
    block = np.ascontiguousarray(block, dtype=np.float32)
    if block.shape[2:] == size:
        return block
    if size[1] == 1 < size[0]:
        # PyTorch's antialiased resize on the CPU (seen in 2.13) mixes up the rows of an output one
        # pixel wide, but not the columns of one that is one pixel high.
        return np.swapaxes(_resize(np.swapaxes(block, 2, 3), (1, size[0])), 2, 3)
    resized = torch.nn.functional.interpolate(
        torch.from_numpy(block), size=size, mode="bilinear", antialias=True, align_corners=False
    )
    return resized.numpy()
