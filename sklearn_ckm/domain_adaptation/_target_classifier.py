"""What classifiers of the target share: how they read labels, and their score."""

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import ClassifierMixin
from sklearn.exceptions import DataConversionWarning
from sklearn.utils import metadata_routing
from sklearn.utils.validation import _check_sample_weight, check_is_fitted

from ..utils._domains import check_target_rows
from ..utils._labels import (
    UNLABELLED,
    check_labels,
    check_same_kind,
    encode_labels,
    find_marked,
    unlabelled_beside,
)
from ..utils._warnings import warn_user
from ._domain_input import DomainInputMixin


def _warn_of_column(y):
    """Say what scikit-learn's classifiers say of labels that come as a column."""
    if len(getattr(y, "shape", ())) == 2 and y.shape[1] == 1:
        warn_user(
            "A column-vector y was passed when a 1d array was expected. Change the shape of y to "
            "(n_samples,), for example with y.ravel().",
            DataConversionWarning,
        )


def _warn_of_marks(classes):
    """Say that -1 is a class of a plain ``fit``, where it looks like the mark of "unlabelled".

    As a number beside one other it is how many write two classes.
    """
    marked = find_marked(classes, UNLABELLED)
    if marked.any() and (len(classes) > 2 or isinstance(classes[marked][0], str)):
        warn_user(
            "y has -1, which is taken for a class where neither X_tgt nor sample_domain is given. "
            "Give one of them, or None in place of -1, if such rows are unlabelled."
        )


class TargetClassifierMixin(DomainInputMixin, ClassifierMixin):
    """Face of the semi-supervised estimators: few labelled target rows, named predictions."""

    _reads_target_labels = True

    # the one request of these classes; X_tgt and y_tgt are for direct calls
    __metadata_request__fit = {
        "sample_domain": True,
        "X_tgt": metadata_routing.UNUSED,
        "y_tgt": metadata_routing.UNUSED,
    }
    __metadata_request__score = {"sample_domain": True}

    def _read_labelled_domains(self, X, y, X_tgt, y_tgt, sample_domain):
        """Validate a call of ``fit`` that must hold a labelled target row."""
        if y is None and y_tgt is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None. Label "
                "some target rows in y_tgt, or in y where the domains are stacked; "
                "CKMDomainAdapter needs no target label."
            )
        _warn_of_column(y)
        _warn_of_column(y_tgt)
        domains = self._read_domains(X, y, X_tgt, y_tgt, sample_domain)
        if X_tgt is None and sample_domain is None:
            _warn_of_marks(domains.target_classes)
        if domains.y_target is None or not len(domains.target_classes):
            raise ValueError(
                f"Expected at least one labelled target row for {type(self).__name__}, got none "
                f"among {len(domains.X_target)}. Pass y_tgt with the names that are known and -1 "
                "elsewhere, or use CKMDomainAdapter, which needs no target label."
            )
        return domains

    def score(
        self,
        X: ArrayLike,
        y: ArrayLike | None,
        sample_weight: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
    ) -> float:
        """Accuracy of the predicted names on labelled rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows, by default all of the target.
        y : array-like of shape (n_samples,)
            Their classes; ``NaN``, ``None`` and ``-1`` mean unlabelled, and such rows do not count.
            Where -1 is one of ``classes_``, as the `unknown_label`, it is a class.
        sample_weight : array-like of shape (n_samples,), default=None
            Weights of the rows.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain tags; where given, only target rows count, and ``-1`` in `y` is no class.
            Searches hand it on only when metadata routing is enabled; without it they rate the
            source's rows too.

        Returns
        -------
        score : float
            Between 0 and 1.

        Raises
        ------
        ValueError
            If no row is labelled.
        """
        check_is_fitted(self)
        if y is None:
            raise ValueError(
                f"{type(self).__name__} requires y to be passed, but the target y is None."
            )
        X = self._check_X(X)
        y = check_labels(y, len(X))
        if sample_weight is not None:
            sample_weight = _check_sample_weight(sample_weight, X)
        unlabelled = unlabelled_beside(self.classes_)
        counts = slice(None)
        if sample_domain is not None:
            counts = check_target_rows(sample_domain, len(X))
            unlabelled = UNLABELLED
        X, y = X[counts], y[counts]
        codes, classes = encode_labels(y, unlabelled=unlabelled)
        is_labelled = codes >= 0
        if not is_labelled.any():
            raise ValueError(
                f"Expected at least one labelled row to score, got none among {len(X)}. Pass the "
                "true classes in y."
            )
        predicted = self._predict(self._embed(X[is_labelled]))
        if sample_weight is not None:
            sample_weight = sample_weight[counts][is_labelled]
        truth = classes[codes[is_labelled]]
        check_same_kind(truth, self.classes_)
        if truth.dtype.kind != predicted.dtype.kind:  # names of different types: compared as such
            truth, predicted = truth.astype(object), predicted.astype(object)
        return float(np.average(truth == predicted, weights=sample_weight))
