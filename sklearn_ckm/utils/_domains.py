"""Which rows are source and which are target."""

import numpy as np
import torch

_LARGEST_TAG = 2**31 - 1  # only the sign matters


def check_sample_domain(sample_domain, n_samples):
    """Validate domain tags.

    Parameters
    ----------
    sample_domain : array-like of shape (n_samples,)
        Integers: ``>= 0`` for rows of a source domain, ``< 0`` for rows of a target domain.
    n_samples : int
        Number of rows they belong to.

    Returns
    -------
    sample_domain : ndarray of shape (n_samples,), int64

    Raises
    ------
    ValueError
        If the length, the dtype or a value is wrong.
    """
    if isinstance(sample_domain, torch.Tensor):
        sample_domain = sample_domain.detach().cpu()
    tags = np.asarray(sample_domain)
    if tags.ndim == 2 and tags.shape[1] == 1:
        tags = tags[:, 0]
    if tags.ndim != 1:
        raise ValueError(
            f"Expected sample_domain of shape (n_samples,), got the shape {tags.shape}."
        )
    if tags.dtype.kind == "O":
        tags = np.asarray(tags.tolist())
    if len(tags) != n_samples:
        raise ValueError(
            f"Expected one domain tag per row, got {len(tags)} tags in sample_domain for "
            f"{n_samples} rows."
        )
    if tags.dtype.kind == "b" or tags.dtype.kind not in "iuf":
        raise ValueError(
            f"Expected integers in sample_domain (source >= 0, target < 0), got the dtype "
            f"{tags.dtype}."
        )
    if tags.dtype.kind == "f" and not (np.isfinite(tags) & (tags == np.round(tags))).all():
        bad = tags[~np.isfinite(tags) | (tags != np.round(tags))][0]
        raise ValueError(
            f"Expected integers in sample_domain (source >= 0, target < 0), got {bad!r}."
        )
    if tags.dtype.kind != "i":
        tags = tags.astype(np.float64).clip(-_LARGEST_TAG, _LARGEST_TAG)
    return tags.astype(np.int64)


def check_target_rows(sample_domain, n_samples):
    """Row mask of the target, which must have rows.

    Parameters
    ----------
    sample_domain : array-like of shape (n_samples,)
        Domain tags.
    n_samples : int
        Number of rows they belong to.

    Returns
    -------
    is_target : ndarray of shape (n_samples,), bool

    Raises
    ------
    ValueError
        If no row is target, or a tag is wrong.
    """
    tags = check_sample_domain(sample_domain, n_samples)
    if not (tags < 0).any():
        raise ValueError(
            f"Expected target rows (tags < 0) in sample_domain, got only the tags "
            f"{np.unique(tags).tolist()}. Leave sample_domain out to treat every row as target."
        )
    return tags < 0


def check_calling_style(X_tgt, y_tgt, sample_domain):
    """Raise ``ValueError`` where two arrays and stacked rows are mixed in one call.

    Parameters
    ----------
    X_tgt, y_tgt, sample_domain : array-like or None
        As they were given.

    Raises
    ------
    ValueError
        If both `X_tgt` and `sample_domain` are given, or `y_tgt` without `X_tgt`.
    """
    if X_tgt is not None and sample_domain is not None:
        raise ValueError(
            "Expected either X_tgt or sample_domain, got both. Use X_tgt with the source alone in "
            "X, or stack both domains in X and tag them with sample_domain, as "
            "sklearn_ckm.utils.stack_domains does."
        )
    if X_tgt is None and y_tgt is not None:
        raise ValueError(
            "Expected y_tgt together with X_tgt, got y_tgt alone. In stacked data the labels of "
            "the target rows stand in y; sklearn_ckm.utils.stack_domains puts them there."
        )


def split_domains(n_samples, sample_domain):
    """Row masks of the two domains of stacked data.

    Parameters
    ----------
    n_samples : int
        Number of stacked rows.
    sample_domain : array-like of shape (n_samples,)
        Domain tags.

    Returns
    -------
    is_source, is_target : ndarray of shape (n_samples,), bool

    Raises
    ------
    ValueError
        If one of the domains has no row, or a tag is wrong.
    """
    is_target = check_target_rows(sample_domain, n_samples)
    if is_target.all():
        raise ValueError(
            f"Expected source rows (tags >= 0) in sample_domain, got only the tags "
            f"{np.unique(sample_domain).tolist()}. To cluster a single domain, leave sample_domain "
            "out."
        )
    return ~is_target, is_target
