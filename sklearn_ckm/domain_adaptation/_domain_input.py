"""The two ways of giving ``fit`` its domains, read into one."""

from typing import NamedTuple

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.utils.validation import _get_feature_names, check_is_fitted

from ..utils._domains import check_calling_style, split_domains
from ..utils._labels import UNLABELLED, check_labels, encode_labels

_NAMED = 5  # of the features that only one domain has


class Domains(NamedTuple):
    """Checked rows of both domains, labels as class indices.

    Attributes
    ----------
    X_source : ndarray of shape (n_source, n_features) or None
        Rows of the source.
    y_source : ndarray of shape (n_source,) or None
        Indices into `source_classes`, -1 where unlabelled; None where no row is labelled.
    source_classes : ndarray of shape (n_classes,)
        Sorted names.
    X_target : ndarray of shape (n_target, n_features)
        Rows of the target.
    y_target : ndarray of shape (n_target,) or None
        Indices into `target_classes`, -1 where unlabelled; None where no label is read.
    target_classes : ndarray of shape (n_target_classes,)
        Sorted names.
    """

    X_source: np.ndarray | None
    y_source: np.ndarray | None
    source_classes: np.ndarray
    X_target: np.ndarray
    y_target: np.ndarray | None = None
    target_classes: np.ndarray | None = None


def _check_same_features(X_src, X_tgt):
    """Say in terms of the domains what scikit-learn would say of ``fit`` and "input"."""
    shapes = [getattr(X, "shape", ()) for X in (X_src, X_tgt)]
    if all(len(shape) == 2 for shape in shapes) and shapes[0][1] != shapes[1][1]:
        raise ValueError(
            f"Expected domains of one width, got X_src with {shapes[0][1]} features and X_tgt with "
            f"{shapes[1][1]} features."
        )
    names = [_get_feature_names(X) for X in (X_src, X_tgt)]
    if any(n is None for n in names) or np.array_equal(*names):
        return
    alone = [[str(n) for n in names[i] if n not in names[1 - i]][:_NAMED] for i in (0, 1)]
    differ = f"{alone[0]} in X_src alone and {alone[1]} in X_tgt alone (at most {_NAMED} each)"
    raise ValueError(
        "Expected the same feature names in the same order in X_src and X_tgt, got "
        f"{differ if any(alone) else 'another order'}. Select the columns by name in both."
    )


class DomainInputMixin:
    """Reads the domains of a call of ``fit``, for estimators that adapt."""

    _reads_target_labels = False

    def _read_domains(self, X, y, X_tgt=None, y_tgt=None, sample_domain=None):
        """Validate ``fit(X_src, y_src, X_tgt=X)``, ``fit(X, y, sample_domain=d)``, ``fit(X, y)``.

        Returns
        -------
        domains : Domains
        """
        check_calling_style(X_tgt, y_tgt, sample_domain)
        if X_tgt is not None:
            _check_same_features(X, X_tgt)
            X_target = self._check_rows(X_tgt, reset=True, name="X_tgt")
            X_source = self._check_rows(X, reset=False, name="X_src")
            y_source = None if y is None else check_labels(y, len(X_source), "y_src")
            y_target = None if y_tgt is None else check_labels(y_tgt, len(X_target), "y_tgt")
            return self._encode(X_source, y_source, X_target, y_target, is_marked=True)
        X = self._check_rows(X, reset=True)
        y = None if y is None else check_labels(y, len(X))
        if sample_domain is not None:
            is_source, is_target = split_domains(len(X), sample_domain)
            y_source, y_target = (None, None) if y is None else (y[is_source], y[is_target])
            return self._encode(X[is_source], y_source, X[is_target], y_target, is_marked=True)
        is_labelled = np.zeros(len(X), dtype=bool) if y is None else encode_labels(y)[0] >= 0
        if not is_labelled.any():
            return self._encode(None, None, X, y)
        if is_labelled.all():
            return self._encode(X, y, X, y)
        return self._encode(X[is_labelled], y[is_labelled], X, y)

    def _encode(self, X_source, y_source, X_target, y_target, *, is_marked=False):
        """Turn the labels to indices; `is_marked` target labels of -1 mean "unlabelled"."""
        no_classes = np.empty(0, dtype=np.int64)
        codes, classes = None, no_classes
        if y_source is not None:
            codes, classes = encode_labels(y_source, "the source's labels")
        domains = Domains(X_source, codes if len(classes) else None, classes, X_target)
        if not self._reads_target_labels or y_target is None:
            return domains
        unlabelled = UNLABELLED if is_marked else None
        codes, names = encode_labels(y_target, "the target's labels", unlabelled=unlabelled)
        return domains._replace(y_target=codes, target_classes=names)

    def _check_same_classes(self, classes, attribute="source_classes_", kind="source"):
        """A warm start goes on with a classifier or named centres, and so with their classes."""
        before = getattr(self, attribute, None)
        if self.warm_start and before is not None and not np.array_equal(before, classes):
            raise ValueError(
                f"Expected the {kind} classes {before.tolist()} of the fit that warm_start "
                f"continues, got {classes.tolist()}. Set warm_start=False."
            )

    def _check_pretraining(self, source_classes):
        """Raise ``ValueError`` where the source cannot be what the network learns from."""
        if self.pretraining != "classification":
            return
        is_started = self.warm_start and hasattr(self, "_net")  # nothing is pretrained then
        is_pretrained_on = is_started or self.source_in_pretraining
        if not (is_pretrained_on and getattr(self, "source_in_finetuning", True)):
            got = [
                f"{name}={getattr(self, name)!r}"
                for name in ("source_in_pretraining", "source_in_finetuning")
                if hasattr(self, name)
            ]
            raise ValueError(
                "Expected the source in both phases for pretraining='classification', got "
                f"{' and '.join(got)}."
            )
        if len(source_classes) < 2:
            raise ValueError(
                "Expected a source with at least two labelled classes for "
                f"pretraining='classification', got {len(source_classes)}. Label its rows, or set "
                "pretraining='reconstruction'."
            )

    def predict_source(self, X: ArrayLike) -> np.ndarray:
        """Classify rows with the source's classifier.

        One that was not trained, for want of epochs or with a ``lambda_classification`` of 0,
        answers as it was drawn.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of either domain.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Elements of ``source_classes_``.

        Raises
        ------
        ValueError
            If no source row was labelled in ``fit``, or the source took no part in fine-tuning.
        """
        check_is_fitted(self)
        classifier = self._net.module_.classifier
        if classifier is None:
            is_tuned = getattr(self, "source_in_finetuning", True)
            advice = "Pass y_src." if is_tuned else "Set source_in_finetuning=True."
            raise ValueError(
                "Expected a fit that trained a classifier on labelled source rows for "
                f"predict_source, got none. {advice}"
            )
        z = self._embed(self._check_X(X))
        with torch.no_grad(), torch.autocast(z.device.type, enabled=False):
            codes = classifier(z).argmax(1)
        return self.source_classes_[codes.cpu().numpy()]
