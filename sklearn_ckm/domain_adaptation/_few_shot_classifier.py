"""What the compared methods share that classify the target by a head trained on few labels."""

import copy
from typing import Self

import numpy as np
import torch
from numpy.typing import ArrayLike

from ..utils._validation import fit_context
from ._source_pretrained import BaseSourcePretrained
from ._target_classifier import TargetClassifierMixin


class BaseFewShotClassifier(TargetClassifierMixin, BaseSourcePretrained):
    """Base of the classifiers: logits of the target classes from the embedding."""

    _needs_no_source_label = "CKMSemiSupervisedAdapter, whose source may be unlabelled"

    @fit_context(prefer_skip_nested_validation=True)
    def fit(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        *,
        X_tgt: ArrayLike | None = None,
        y_tgt: ArrayLike | None = None,
        sample_domain: ArrayLike | None = None,
    ) -> Self:
        """Learn the target's classes from few labels and the source.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            The source's rows where `X_tgt` is given; else both domains stacked, told apart by
            `sample_domain`; without either, every row is target, and source too if labelled.
        y : array-like of shape (n_samples,)
            Classes of the rows of `X`, of any dtype; ``NaN`` and ``None`` mean unlabelled, and so
            does ``-1`` in rows that are tagged target; in a source row ``-1`` is a class.
        X_tgt : array-like of shape (n_target, n_features) or (n_target, channels, height, width)
            The target's rows, labelled and unlabelled, in direct calls. In a Pipeline, which would
            not transform them, or a search, which would cut them, stack both domains
            (:func:`~sklearn_ckm.utils.stack_domains`) and use `sample_domain`.
        y_tgt : array-like of shape (n_target,), default=None
            Classes of the rows of `X_tgt`; ``-1``, ``NaN`` and ``None`` mean unlabelled.
        sample_domain : array-like of shape (n_samples,), default=None
            Integers: ``>= 0`` for source rows, ``< 0`` for target rows.

        Returns
        -------
        self : object
            The fitted estimator.

        Raises
        ------
        ValueError
            If no target row or no source row is labelled, a domain is empty, the domains' images
            differ in shape, dtype or range, or training diverges.
        """
        with self._as_before_on_error():
            domains = self._read_labelled_domains(X, y, X_tgt, y_tgt, sample_domain)
            self.classes_ = domains.target_classes
            return self._fit(domains)

    def predict(self, X: ArrayLike) -> np.ndarray:
        """Name the class of each row.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of the target.

        Returns
        -------
        y : ndarray of shape (n_samples,)
            Elements of ``classes_``.
        """
        return self._predict(self._embed(self._check_X(X)))

    def predict_proba(self, X: ArrayLike) -> np.ndarray:
        """Probability of each class: the softmax of the target's classifier.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of the target.

        Returns
        -------
        probabilities : ndarray of shape (n_samples, n_classes)
            Columns in the order of ``classes_``. Rows sum to one.
        """
        logits = self._target_logits(self._embed(self._check_X(X)))
        return logits.softmax(1).cpu().numpy()

    @torch.no_grad()
    def _target_logits(self, z):
        # float64: narrow float32 products round by the place of a row among the others
        head = copy.deepcopy(self._net.module_.target_classifier).double()
        return head(z.double())

    def _predict(self, z):
        return self.classes_[self._target_logits(z).argmax(1).cpu().numpy()]

    def _add_heads(self, model, run):
        n_classes = len(run.domains.target_classes)
        model.target_classifier = torch.nn.Linear(int(self.n_components), n_classes)
