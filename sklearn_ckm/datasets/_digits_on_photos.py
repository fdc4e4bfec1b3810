"""Two digit domains from what scikit-learn itself brings."""

# License: BSD-3-Clause

from collections.abc import Sequence

import numpy as np
from sklearn.datasets import load_digits, load_sample_images
from sklearn.utils import Bunch

from ..utils._random import check_local_random_state
from ._blend_with_photos import _draw_patches, _to_grey
from ._digit_files import _check_classes

_SIZE = 8
_SHRINK = 8  # photo pixels behind a digit pixel, by side
_CONTRAST = 0.4
_BRIGHT = 0.4
_DESCR = """\
Digits on photos
----------------
Two domains with different classes, made from scikit-learn's bundled data.

Source: the 8x8 handwritten digits of `load_digits` with the source classes, each drawn over a
random patch of one of the photos of `load_sample_images` (china.jpg and flower.jpg) as the
absolute difference of patch and digit.

Target: the plain digits with the target classes, white on black.

Images are float32 in [0, 1] of shape (n_samples, channels, 8, 8). No image is in both domains.
"""


def load_digits_on_photos(
    *,
    source_classes: Sequence[int] = (0, 1, 2, 3, 4),
    target_classes: Sequence[int] = (5, 6, 7, 8, 9),
    color: bool = False,
    random_state: int | np.random.RandomState | None = 0,
) -> Bunch:
    """Load plain digits as target, and other digits drawn over photos as source.

    A small domain adaptation problem whose classes differ as well, from scikit-learn's bundled
    ``load_digits`` (1,797 rows, 8 x 8 pixels) and ``load_sample_images``. Nothing is
    downloaded. Reading the photos needs pillow.

    Parameters
    ----------
    source_classes : sequence of int, default=(0, 1, 2, 3, 4)
        Digits of the source domain.
    target_classes : sequence of int, default=(5, 6, 7, 8, 9)
        Digits of the target domain; none of the source classes.
    color : bool, default=False
        Whether to return three channels, with the photos in colour. The target digits are
        grey in either case.
    random_state : int, RandomState instance or None, default=0
        Draws the patches. ``None`` draws anew at each call and leaves the global numpy state
        alone.

    Returns
    -------
    data : :class:`~sklearn.utils.Bunch`
        With the attributes

        X_src : ndarray of shape (n_source, channels, 8, 8)
            Source images as float32 in [0, 1]; 1 or 3 channels.
        y_src : ndarray of shape (n_source,)
            Source digits as int64.
        X_tgt : ndarray of shape (n_target, channels, 8, 8)
            Target images as float32 in [0, 1].
        y_tgt : ndarray of shape (n_target,)
            Target digits as int64, for scoring.
        DESCR : str
            What the data are.

    Raises
    ------
    ImportError
        If pillow is not installed.
    ValueError
        If the classes are not digits, or a class is in both domains.

    See Also
    --------
    blend_with_photos : The recipe at full size and contrast, for images of one's own.

    Notes
    -----
    As in MNIST-M [1]_, a source image is :math:`|p - d|` with a photo patch :math:`p` and a digit
    :math:`d`, so that the digit is light on dark or dark on light.

    *Differences from the paper.* The patches (64 x 64 pixels) are averaged down to 8 x 8, where a
    crop of that size would have no texture. Over a patch of middle grey a difference hides the
    digit, and at 8 x 8 pixels nothing else shows it; therefore the contrast of the patch is
    reduced to 40 %, towards black for dark patches and towards white for bright ones.

    References
    ----------
    .. [1] Y. Ganin and V. Lempitsky, "Unsupervised domain adaptation by backpropagation", ICML
       2015, section 4.1.

    Examples
    --------
    >>> from sklearn_ckm.datasets import load_digits_on_photos
    >>> data = load_digits_on_photos()
    >>> data.X_src.shape, data.X_tgt.shape
    ((901, 1, 8, 8), (896, 1, 8, 8))
    """
    source_classes = _check_classes(source_classes, "source_classes")
    target_classes = _check_classes(target_classes, "target_classes")
    shared = sorted(set(source_classes) & set(target_classes))
    if shared:
        raise ValueError(
            f"Expected source_classes and target_classes without a common digit, got {shared!r} "
            "in both; leave each digit to one domain."
        )
    random_state = check_local_random_state(random_state)

    digits = load_digits()
    images = digits.images[..., np.newaxis] / 16  # (n_samples, 8, 8, 1)
    y = digits.target.astype(np.int64)
    is_source, is_target = np.isin(y, source_classes), np.isin(y, target_classes)
    patches = _draw_small_patches(np.count_nonzero(is_source), random_state)
    if not color:
        patches = _to_grey(patches)  # (n_source, 8, 8, 1)
    X_src = np.abs(_away_from_grey(patches) - images[is_source])
    X_tgt = np.repeat(images[is_target], 3 if color else 1, axis=-1)
    return Bunch(
        X_src=_channels_first(X_src),
        y_src=y[is_source],
        X_tgt=_channels_first(X_tgt),
        y_tgt=y[is_target],
        DESCR=_DESCR,
    )


def _draw_small_patches(n_patches, random_state):
    """Patches of the photos averaged down to (n_patches, 8, 8, 3), in [0, 1]."""
    photos = load_sample_images().images  # (height, width, 3) each
    side = _SIZE * _SHRINK
    small = np.empty((n_patches, _SIZE, _SIZE, 3))
    patches = _draw_patches(photos, n_patches, (side, side), random_state)
    for out, patch in zip(small, patches, strict=True):
        out[:] = patch.reshape(_SIZE, _SHRINK, _SIZE, _SHRINK, 3).mean(axis=(1, 3))
    return small


def _away_from_grey(patches):
    """Patches with less contrast, dark ones near black and bright ones near white."""
    is_bright = patches.mean(axis=(1, 2, 3), keepdims=True) > _BRIGHT
    return _CONTRAST * patches + (1 - _CONTRAST) * is_bright


def _channels_first(images):
    """(n, h, w, c) to contiguous float32 (n, c, h, w); rounding may not leave [0, 1]."""
    images = np.ascontiguousarray(np.moveaxis(images, -1, 1), dtype=np.float32)
    return np.clip(images, 0, 1)
