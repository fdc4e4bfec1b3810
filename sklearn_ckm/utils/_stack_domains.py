"""Two arrays of two domains as one tagged array, and back."""

# License: BSD-3-Clause

import sys
from typing import Any

import numpy as np
import scipy.sparse as sp
import torch
from numpy.typing import ArrayLike
from sklearn.utils import _safe_indexing

from ._domains import split_domains
from ._labels import UNLABELLED, _is_homogeneous, check_labels

_LARGEST_EXACT_FLOAT = 2**53  # ints up to it survive as float64


def stack_domains(
    X_src: ArrayLike, y_src: ArrayLike | None, X_tgt: ArrayLike, y_tgt: ArrayLike | None = None
) -> tuple[Any, np.ndarray | None, np.ndarray]:
    """Stack the rows of two domains and tag them, for a Pipeline or a search.

    ``fit(X, y, sample_domain=sample_domain)`` of the result gives the model that
    ``fit(X_src, y_src, X_tgt=X_tgt)`` gives, or with ``y_tgt=y_tgt`` where an estimator takes it.

    Parameters
    ----------
    X_src : array-like of shape (n_source, n_features) or (n_source, channels, height, width)
        Rows of the source: numpy, torch, pandas, polars, lists; or sparse, of scipy, for a
        pipeline whose first step makes them dense.
    y_src : array-like of shape (n_source,) or None
        Labels of the source, of any dtype.
    X_tgt : array-like of shape (n_target, n_features) or (n_target, channels, height, width)
        Rows of the target.
    y_tgt : array-like of shape (n_target,), default=None
        Labels of the target, of any dtype; -1, NaN and None mean unlabelled.

    Returns
    -------
    X : ndarray or frame of shape (n_source + n_target, ...)
        The source's rows, then the target's. Two pandas frames or two polars frames give a frame
        of that library, a pandas one with a new index, two sparse arrays one in CSR format; all
        else gives an array.
    y : ndarray of shape (n_source + n_target,) or None
        None where neither domain has labels. Without `y_tgt` the target's entries are -1, or
        ``"-1"`` among strings. Without `y_src` the source's entries are NaN, or None where labels
        are no numbers, because -1 in a source row is the name of a class. Labels of different
        kinds, such as ints and strings, keep their own types in an array of objects.
    sample_domain : ndarray of shape (n_source + n_target,), int64
        1 for the source's rows, -1 for the target's.

    Raises
    ------
    ValueError
        If a domain has no rows, samples differ in shape or columns, bytes meet floats, sparse
        rows dense ones, or labels are not one a row.

    See Also
    --------
    unstack_domains : The inverse.
    sklearn_ckm.preprocessing.ImageFormatter : Brings images to one shape and dtype.

    Notes
    -----
    An array has one dtype: where the domains have two, the stacked rows take the wider one. A
    model of float32 rows beside float64 rows may thus differ, by rounding, from that of the two
    arrays. Bytes (uint8) beside floats raise, and images of bytes beside any other dtype, because
    an estimator divides the former by 255.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ckm.utils import stack_domains
    >>> X, y, sample_domain = stack_domains(np.zeros((3, 2)), [0, 1, 1], np.ones((2, 2)))
    >>> X.shape, y, sample_domain
    ((5, 2), array([ 0,  1,  1, -1, -1]), array([ 1,  1,  1, -1, -1]))
    """
    library = _common_library(X_src, X_tgt)
    if library is None:
        X_src, X_tgt = _as_array(X_src, "X_src"), _as_array(X_tgt, "X_tgt")
        if sp.issparse(X_src) != sp.issparse(X_tgt):
            raise ValueError(
                "Expected two dense arrays or two sparse ones, got one of each. Use '.toarray()'."
            )
        _check_same_shape(X_src, X_tgt)
    else:
        _check_same_columns(X_src, X_tgt)
    _check_has_rows(X_src, "X_src")
    _check_has_rows(X_tgt, "X_tgt")
    _check_same_form(X_src, X_tgt)
    n_source, n_target = X_src.shape[0], X_tgt.shape[0]
    y = _stack_labels(y_src, y_tgt, n_source, n_target)
    sample_domain = np.repeat(np.array([1, -1], dtype=np.int64), [n_source, n_target])
    return _concatenate(X_src, X_tgt, library), y, sample_domain


def unstack_domains(
    X: ArrayLike, y: ArrayLike | None, sample_domain: ArrayLike
) -> tuple[Any, np.ndarray | None, Any, np.ndarray | None]:
    """Take stacked rows of two domains apart.

    The inverse of :func:`stack_domains`, for rows in any order and any number of domains: all
    source domains come together, and so do all target domains.

    Parameters
    ----------
    X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
        Stacked rows: numpy, torch, pandas, polars, lists.
    y : array-like of shape (n_samples,) or None
        Labels of any dtype.
    sample_domain : array-like of shape (n_samples,)
        Integers: ``>= 0`` for source rows, ``< 0`` for target rows.

    Returns
    -------
    X_src : ndarray or frame of shape (n_source, ...)
        The source's rows in their order; a frame where `X` is one, with its index.
    y_src : ndarray of shape (n_source,) or None
        The source's labels, None where `y` is. Labels that are all of one type have its dtype.
    X_tgt : ndarray or frame of shape (n_target, ...)
        The target's rows in their order.
    y_tgt : ndarray of shape (n_target,) or None
        The target's labels, None where `y` is; entries that mean "unlabelled" are kept.

    Raises
    ------
    ValueError
        If a domain has no rows, the lengths differ, or a tag is no integer.

    See Also
    --------
    stack_domains : The inverse.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ckm.utils import unstack_domains
    >>> X = np.array([[0.0], [1.0], [2.0]])
    >>> X_src, y_src, X_tgt, y_tgt = unstack_domains(X, [5, -1, 7], [0, -1, 0])
    >>> X_src.tolist(), y_src, X_tgt.tolist(), y_tgt
    ([[0.0], [2.0]], array([5, 7]), [[1.0]], array([-1]))
    """
    if _frame_library(X) is None:
        X = _as_array(X, "X")
    n_samples = X.shape[0]
    y = None if y is None else check_labels(y, n_samples)
    masks = split_domains(n_samples, sample_domain)
    X_src, X_tgt = (_safe_indexing(X, mask) for mask in masks)
    y_src, y_tgt = (None if y is None else plain_labels(y[mask]) for mask in masks)
    return X_src, y_src, X_tgt, y_tgt


def plain_labels(y):
    """Labels in the dtype that they share, where an array of objects holds them.

    Parameters
    ----------
    y : ndarray of shape (n_samples,)
        Labels of any dtype.

    Returns
    -------
    y : ndarray of shape (n_samples,)
        As given where types are mixed, a label is missing, or the dtype would change a value.
    """
    if y.dtype.kind != "O":
        return y
    labels = y.tolist()
    if not labels or not _is_homogeneous(labels):
        return y
    plain = np.array(labels)
    is_same = (a == b or (a != a and b != b) for a, b in zip(plain.tolist(), labels, strict=True))
    return plain if plain.ndim == 1 and all(is_same) else y


def _frame_library(X):
    """Name of the library that a frame comes from, None for anything else."""
    for name in ("pandas", "polars"):
        # a library that nobody imported has made no frame
        if name in sys.modules and isinstance(X, sys.modules[name].DataFrame):
            return name
    return None


def _common_library(X_src, X_tgt):
    library = _frame_library(X_src)
    return library if library == _frame_library(X_tgt) else None


def _as_array(X, name):
    """Return rows as an array of two or more dimensions, sparse ones in CSR format."""
    if sp.issparse(X):
        return X.tocsr()
    if isinstance(X, torch.Tensor):
        X = X.detach().cpu()
        X = X.float() if X.dtype == torch.bfloat16 else X  # numpy has no bfloat16
    X = np.asarray(X)
    if X.ndim < 2:
        raise ValueError(
            f"Expected rows (n_samples, n_features) or images (n_samples, channels, height, width) "
            f"in {name}, got the shape {X.shape}. A single column takes shape (n_samples, 1)."
        )
    return X


def _check_has_rows(X, name):
    if not X.shape[0]:
        raise ValueError(
            f"Expected rows in {name}, got none. To cluster a single domain, fit on its rows alone."
        )


def _check_same_shape(X_src, X_tgt):
    """Raise ``ValueError`` unless samples of both domains have one shape."""
    source, target = X_src.shape[1:], X_tgt.shape[1:]
    if source == target:
        return
    if len(source) == len(target) == 1:
        raise ValueError(
            f"Expected the same number of features in both domains, got {source[0]} in X_src and "
            f"{target[0]} in X_tgt. Keep the features that both have, in one order."
        )
    raise ValueError(
        f"Expected samples of one shape in both domains, got {source} in X_src and {target} in "
        "X_tgt. sklearn_ckm.preprocessing.ImageFormatter brings images to one form."
    )


def _check_same_columns(X_src, X_tgt):
    source, target = list(X_src.columns), list(X_tgt.columns)
    if source != target:
        raise ValueError(
            f"Expected the same columns in the same order in both domains, got {source!r} in X_src "
            f"and {target!r} in X_tgt. Select them: X_tgt[list(X_src.columns)]."
        )


def _check_same_form(X_src, X_tgt):
    """Raise ``ValueError`` where bytes would silently become floats that are not divided by 255."""
    source, target = _dtype_names(X_src), _dtype_names(X_tgt)
    for one, other in ((source, target), (target, source)):
        is_scaled = len(X_src.shape) > 2 or any(name.startswith("float") for name in other)
        if one == {"uint8"} != other and is_scaled:
            raise ValueError(
                f"Expected one dtype in both domains, got {'/'.join(sorted(source))} in X_src and "
                f"{'/'.join(sorted(target))} in X_tgt. Images of bytes are divided by 255 and "
                "others are not: bring both to one form, for example with "
                "sklearn_ckm.preprocessing.ImageFormatter, or tables with X.astype(float)."
            )


def _dtype_names(X):
    dtypes = X.dtypes if hasattr(X, "dtypes") else [X.dtype]
    return {str(dtype).lower() for dtype in dtypes}  # polars and nullable pandas write UInt8


def _concatenate(X_src, X_tgt, library):
    if sp.issparse(X_src):
        return sp.vstack([X_src, X_tgt], format="csr")
    if library is None:
        return np.concatenate([X_src, X_tgt])
    concat = sys.modules[library].concat
    if library == "pandas":
        return concat([X_src, X_tgt], ignore_index=True)
    return concat([X_src, X_tgt], how="vertical_relaxed")  # dtypes may differ, as in pandas


def _stack_labels(y_src, y_tgt, n_source, n_target):
    """Labels of both domains, those that are missing filled in."""
    y_src = None if y_src is None else plain_labels(check_labels(y_src, n_source, "y_src"))
    y_tgt = None if y_tgt is None else plain_labels(check_labels(y_tgt, n_target, "y_tgt"))
    if y_src is None and y_tgt is None:
        return None
    if y_tgt is None:
        marker = str(UNLABELLED) if y_src.dtype.kind in "US" else UNLABELLED
        dtype = f"{y_src.dtype.kind}2" if y_src.dtype.kind in "US" else np.int8
        y_tgt = np.full(n_target, marker, dtype=dtype)
    if y_src is None:
        y_src = np.full(n_source, np.nan if y_tgt.dtype.kind in "iuf" else None)
    return _join(y_src, y_tgt)


def _join(y_src, y_tgt):
    """Concatenate labels such that each keeps its type, or its value among numbers."""
    kinds = {y_src.dtype.kind, y_tgt.dtype.kind}
    if len(kinds) == 1 or (kinds <= set("iuf") and _fit_float(y_src) and _fit_float(y_tgt)):
        return np.concatenate([y_src, y_tgt])
    labels = [*_as_objects(y_src), *_as_objects(y_tgt)]
    return np.fromiter(labels, object, len(labels))


def _fit_float(y):
    """Whether float64 holds the labels without rounding."""
    if y.dtype.kind == "f":
        return True
    return max(-int(y.min()), int(y.max())) <= _LARGEST_EXACT_FLOAT


def _as_objects(y):
    # numpy makes ints of dates in nanoseconds
    return list(y) if y.dtype.kind in "mM" else y.tolist()
