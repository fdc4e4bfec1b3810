"""From the parameter ``augmentation`` to an augmentation."""

import copy

import torch
from sklearn.base import BaseEstimator, clone

from ._image_augmentation import ImageAugmentation
from ._table_augmentation import TableAugmentation

AUGMENTATIONS = ("auto", "affine", "affine-color", "noise")
_SMALLEST_IMAGE = 8  # pixels a side: smaller images are tables
_COLOR = {"brightness": 0.2, "contrast": 0.3, "blur": 0.5}


def resolve_augmentation(augmentation, input_shape):
    """Return an augmentation of the fit's own.

    Parameters
    ----------
    augmentation : {"auto", "affine", "affine-color", "noise"}, callable or None
        The parameter of an estimator.
    input_shape : tuple of int
        ``(n_features,)`` or ``(channels, height, width)``.

    Returns
    -------
    augmentation : callable or None
        Called as ``augmentation(x, generator)``.

    Raises
    ------
    ValueError
        If the name is unknown, images are asked for where there is a table, or a setting makes no
        sense.
    TypeError
        If it is a class.
    """
    is_image = len(input_shape) == 3
    if augmentation == "auto":
        if not is_image or min(input_shape[1:]) < _SMALLEST_IMAGE:
            augmentation = "noise"
        else:
            augmentation = "affine" if input_shape[0] == 1 else "affine-color"
    if isinstance(augmentation, str):
        if augmentation not in AUGMENTATIONS:
            raise ValueError(
                f"Expected 'augmentation' among {AUGMENTATIONS}, None or a callable, got "
                f"{augmentation!r}."
            )
        if augmentation != "noise" and not is_image:
            raise ValueError(
                f"Expected images for augmentation={augmentation!r}, got a table of "
                f"{input_shape[0]} features. Pass images (n_samples, channels, height, width) or "
                "image_shape, or use augmentation='noise'."
            )
        if augmentation == "noise":
            return TableAugmentation()
        return ImageAugmentation(**(_COLOR if augmentation == "affine-color" else {}))
    if isinstance(augmentation, type):
        raise TypeError(
            f"Expected an instance for 'augmentation', got the class {augmentation.__name__}. Pass "
            f"{augmentation.__name__}()."
        )
    is_ours = isinstance(augmentation, BaseEstimator)
    augmentation = clone(augmentation) if is_ours else copy.deepcopy(augmentation)
    if hasattr(augmentation, "check_settings"):
        augmentation.check_settings()
    if isinstance(augmentation, ImageAugmentation) and not is_image:
        raise ValueError(
            f"Expected images for {augmentation!r}, got a table of {input_shape[0]} features. Pass "
            "images (n_samples, channels, height, width) or image_shape, or use "
            "TableAugmentation."
        )
    return augmentation


def are_of_images(augmentation, input_shape):
    """Whether views are of images, and not noise on numbers.

    Parameters
    ----------
    augmentation : callable or None
        As :func:`resolve_augmentation` returns it.
    input_shape : tuple of int
        ``(n_features,)`` or ``(channels, height, width)``.

    Returns
    -------
    are_of_images : bool
    """
    is_image = len(input_shape) == 3
    return is_image and augmentation is not None and not isinstance(augmentation, TableAugmentation)


def check_views(augmentation, x, generator):
    """Try an augmentation on a few rows, before anything is trained.

    Parameters
    ----------
    augmentation : callable
        Called as ``augmentation(x, generator)``.
    x : Tensor of shape (n_samples, *input_shape)
        float32 rows; not changed.
    generator : torch.Generator
        On the device of `x`.

    Raises
    ------
    TypeError
        If the answer is no float32 tensor.
    ValueError
        If it has another shape, or is not finite.
    """
    with torch.no_grad():
        view = augmentation(x.clone(), generator)
    if not torch.is_tensor(view) or view.dtype != x.dtype:
        got = view.dtype if torch.is_tensor(view) else type(view).__name__
        raise TypeError(f"Expected the augmentation to return a {x.dtype} tensor, got {got}.")
    if view.shape != x.shape:
        raise ValueError(
            f"Expected the augmentation to return a tensor of shape {tuple(x.shape)}, got "
            f"{tuple(view.shape)}."
        )
    if not view.isfinite().all():
        raise ValueError(
            f"Expected finite views, got NaN or infinity from augmentation={augmentation!r}."
        )
