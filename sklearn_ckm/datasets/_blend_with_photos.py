"""MNIST-M's recipe: digits as differences from patches of photos."""

# License: BSD-3-Clause

import numpy as np
from numpy.typing import ArrayLike
from sklearn.datasets import load_sample_images

from ..utils._random import check_local_random_state

_LUMINANCE_WEIGHTS = np.array([0.299, 0.587, 0.114])  # ITU-R BT.601


def blend_with_photos(
    X: ArrayLike, *, color: bool = True, random_state: int | np.random.RandomState | None = 0
) -> np.ndarray:
    """Draw grey digits over random patches of photos, as MNIST-M does.

    The photos are the two of scikit-learn's ``load_sample_images``. Nothing is downloaded. Reading
    them needs pillow.

    Parameters
    ----------
    X : array-like of shape (n_samples, 1, height, width) or (n_samples, height, width)
        Grey images, as uint8 or as floats in [0, 1], with 0 for the paper. The photos are
        427 x 640 pixels, which images may not exceed.
    color : bool, default=True
        Whether the patches keep their colours. If not, they are grey.
    random_state : int, RandomState instance or None, default=0
        Draws the patches, independently of each other and of `X`. ``None`` draws anew at each call
        and leaves the global numpy state alone.

    Returns
    -------
    X_blended : ndarray of shape (n_samples, channels, height, width)
        Images as float32 in [0, 1]; 3 channels with `color`, else 1. Beside `X` and these, no
        memory is needed that grows with the rows: 30,000 images of 28 x 28 pixels in colour are
        269 MiB.

    Raises
    ------
    ImportError
        If pillow is not installed.
    ValueError
        If `X` has another shape, dtype or range.

    See Also
    --------
    load_digits_on_photos : Two small domains made in this way.

    Notes
    -----
    An image is :math:`|p - d|` with a photo patch :math:`p` and a digit :math:`d`, both in
    [0, 1] [1]_: full ink inverts the photo.

    *Differences from the paper.* MNIST-M takes its patches from the 500 photos of BSDS500; here
    they come from two.

    :func:`load_digits_on_photos` averages patches of 64 x 64 pixels down to 8 x 8 and reduces
    their contrast. Neither is done here: patches are cropped at the size of the images and keep
    full contrast, which needs about 28 x 28 pixels for the digits to be read.

    References
    ----------
    .. [1] Y. Ganin and V. Lempitsky, "Unsupervised domain adaptation by backpropagation", ICML
       2015, section 4.1.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ckm.datasets import blend_with_photos
    >>> X = np.zeros((5, 1, 28, 28), dtype=np.uint8)
    >>> X_blended = blend_with_photos(X)
    >>> X_blended.shape, X_blended.dtype
    ((5, 3, 28, 28), dtype('float32'))
    """
    photos = load_sample_images().images  # (height, width, 3) each
    images = _check_grey_images(X, photos)  # (n_samples, height, width)
    random_state = check_local_random_state(random_state)
    scale = 255 if images.dtype == np.uint8 else 1
    patches = _draw_patches(photos, len(images), images.shape[1:], random_state)
    X_blended = np.empty((len(images), 3 if color else 1, *images.shape[1:]), dtype=np.float32)
    for out, image, patch in zip(X_blended, images, patches, strict=True):
        patch = patch if color else _to_grey(patch)  # (height, width, channels)
        out[:] = np.abs(np.moveaxis(patch, -1, 0) - image / scale)
    return X_blended


def _check_grey_images(X, photos):
    """Images of shape (n_samples, height, width) as uint8 or floats in [0, 1]."""
    X = np.asarray(X)
    images = X[:, 0] if X.ndim == 4 and X.shape[1] == 1 else X
    if images.ndim != 3 or 0 in images.shape[1:]:
        raise ValueError(
            "Expected X as grey images of shape (n_samples, 1, height, width) or (n_samples, "
            f"height, width), got shape {X.shape!r}; reshape the rows to images of one channel."
        )
    largest = tuple(np.min([photo.shape[:2] for photo in photos], axis=0).tolist())
    if any(size > limit for size, limit in zip(images.shape[1:], largest, strict=True)):
        raise ValueError(
            f"Expected images of at most {largest!r} pixels, the size of the photos, got "
            f"{images.shape[1:]!r}; pass smaller images."
        )
    if images.dtype != np.uint8 and images.dtype.kind != "f":
        raise ValueError(
            f"Expected X as uint8 or as floats from 0 to 1, got {images.dtype.name}; convert it "
            "with X.astype."
        )
    # NaN is not in the range either.
    if images.dtype.kind == "f" and not np.all((images >= 0) & (images <= 1)):
        raise ValueError(
            f"Expected X as floats from 0 to 1, got {images.min():g} to {images.max():g}; divide "
            "by the largest value, and fill in missing ones."
        )
    return images


def _draw_patches(photos, n_patches, shape, random_state):
    """Yield patches of the photos, (height, width, 3) each, in [0, 1]."""
    for _ in range(n_patches):
        photo = photos[random_state.randint(len(photos))]
        top, left = (
            random_state.randint(limit - size + 1)
            for limit, size in zip(photo.shape[:2], shape, strict=True)
        )
        yield photo[top : top + shape[0], left : left + shape[1]] / 255


def _to_grey(patches):
    """(..., height, width, 3) to (..., height, width, 1)."""
    return patches @ _LUMINANCE_WEIGHTS[:, np.newaxis]
