"""Pseudo-targets of known truth: classes of the source whose names are hidden."""

from collections.abc import Callable, Iterator
from math import comb
from numbers import Integral
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator
from sklearn.metrics._scorer import _BaseScorer
from sklearn.model_selection import train_test_split
from sklearn.utils import _safe_indexing, check_scalar

from ..datasets import keep_few_labels
from ..utils._labels import UNLABELLED, encode_labels
from ..utils._random import check_local_random_state
from ._scorers import BaseDomainScorer, TargetScorer, make_target_scorer

_FEWEST_CLASSES = 4  # two to hide, two to learn from
_TEST_SHARE = 0.25


class HiddenClassTask(NamedTuple):
    """A problem like the real one, made of source rows.

    Attributes
    ----------
    X : array-like of shape (n_rows, ...)
        Rows of both sides.
    y : ndarray of shape (n_rows,)
        Indices of classes; NaN where a source row has none, -1 where a target row hides its own.
    sample_domain : ndarray of shape (n_rows,)
        Tags, 1 and -1.
    train, test : ndarray of int
        Rows to fit on; rows of the hidden classes that are kept for the score.
    hidden : ndarray of shape (n_hidden,)
        Names of the classes that play the target.
    """

    X: np.ndarray
    y: np.ndarray
    sample_domain: np.ndarray
    train: np.ndarray
    test: np.ndarray
    hidden: np.ndarray


class HiddenClasses(BaseEstimator):
    """Criterion of a search: recover classes of the source that were hidden.

    Some of the source's classes become an unlabelled pseudo-target, the others stay the source. The
    estimator is fitted on that, with ``n_clusters`` the number of hidden classes, and rated on
    rows of the hidden classes that were kept back. No label of the real target takes part.

    Parameters
    ----------
    n_hidden : int, default=None
        Classes hidden at a time, at least two; at least two must remain. ``None`` is half of the
        source's classes, rounded down.
    scoring : str, callable or TargetScorer, default=None
        Metric of :func:`make_target_scorer`, or what that makes. ``None`` is ``"accuracy"`` for
        classifiers, else ``"clustering_accuracy"``.
    n_shots : int, default=None
        For classifiers, labels kept of each hidden class. ``None`` is the mean number of labels a
        class of the real target, at least 1 and at most half of the smallest source class.
    with_target : bool, default=False
        Whether the real target's rows join the pseudo-source, unlabelled, so that they take part
        in the reconstruction, where there is one.

    See Also
    --------
    LabelFreeSearchCV : The search.

    Notes
    -----
    The hidden classes come from the source's own domain, so whatever helps across the shift is
    undervalued, and the number of clusters of the real target cannot be found this way.

    Examples
    --------
    >>> from sklearn_ckm.model_selection import HiddenClasses
    >>> HiddenClasses(n_hidden=2)
    HiddenClasses(n_hidden=2)
    """

    def __init__(
        self,
        *,
        n_hidden: int | None = None,
        scoring: str | Callable[..., Any] | None = None,
        n_shots: int | None = None,
        with_target: bool = False,
    ) -> None:
        self.n_hidden = n_hidden
        self.scoring = scoring
        self.n_shots = n_shots
        self.with_target = with_target

    def resolve_scorer(self, metric: str) -> TargetScorer:
        """Return the scorer of the hidden classes.

        Parameters
        ----------
        metric : str
            Metric where `scoring` is None.

        Returns
        -------
        scorer : TargetScorer
            That of `scoring`.

        Raises
        ------
        TypeError
            If `scoring` is a scorer of another kind.
        """
        if isinstance(self.scoring, TargetScorer):
            return self.scoring
        if isinstance(self.scoring, (BaseDomainScorer, _BaseScorer)):
            raise TypeError(
                "Expected scoring of HiddenClasses to be a metric of true and predicted labels or "
                f"a scorer of make_target_scorer, got {self.scoring!r}."
            )
        return make_target_scorer(metric if self.scoring is None else self.scoring)

    def make_tasks(
        self,
        X: ArrayLike,
        y: np.ndarray,
        sample_domain: np.ndarray,
        *,
        n_splits: int,
        n_shots: int = 0,
        random_state: int | np.random.RandomState | None = None,
    ) -> Iterator["HiddenClassTask"]:
        """Hide other classes in each of several problems.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...)
            Stacked rows.
        y : ndarray of shape (n_samples,)
            Labels; those of target rows are not read.
        sample_domain : ndarray of shape (n_samples,)
            Domain tags.
        n_splits : int
            Number of problems.
        n_shots : int, default=0
            Labels kept of each hidden class.
        random_state : int, RandomState instance or None, default=None
            Chooses classes and rows.

        Yields
        ------
        task : HiddenClassTask

        Raises
        ------
        ValueError
            If the source has fewer than four classes, or too few for `n_hidden` or `n_splits`, or
            fewer than four rows of a class, or than `n_shots` to train on.
        """
        rng = check_local_random_state(random_state)
        source = np.flatnonzero(sample_domain >= 0)
        codes, classes = encode_labels(y[source], "the source's labels")
        n_hidden = self._check_n_hidden(codes, classes, n_splits)
        extra = np.flatnonzero(sample_domain < 0) if self.with_target else source[:0]
        for hidden in _draw_subsets(len(classes), n_hidden, n_splits, rng):
            is_hidden = np.isin(codes, hidden)
            shown = np.concatenate([source[~is_hidden], extra])
            names = np.concatenate([codes[~is_hidden], np.full(len(extra), UNLABELLED)])
            y_shown = np.where(names >= 0, names, np.nan)
            y_hidden = codes[is_hidden]
            train, test = train_test_split(
                np.arange(len(y_hidden)), test_size=_TEST_SHARE, stratify=y_hidden, random_state=rng
            )
            train.sort()
            test.sort()
            y_known = np.full(len(y_hidden), float(UNLABELLED))
            if n_shots:
                fewest = np.unique(y_hidden[train], return_counts=True)[1].min()
                if fewest < n_shots:
                    raise ValueError(
                        f"Expected at least {n_shots} rows of each hidden class to train on, for "
                        f"n_shots={n_shots}, got {fewest}. Set a smaller n_shots."
                    )
                y_known[train] = keep_few_labels(y_hidden[train], n_shots, random_state=rng)
            y_known[test] = y_hidden[test]
            yield HiddenClassTask(
                X=_safe_indexing(X, np.concatenate([shown, source[is_hidden]])),
                y=np.concatenate([y_shown, y_known]),
                sample_domain=np.repeat([1, -1], [len(shown), len(y_hidden)]),
                train=np.concatenate([np.arange(len(shown)), len(shown) + train]),
                test=len(shown) + test,
                hidden=classes[hidden],
            )

    def _check_n_hidden(self, codes, classes, n_splits):
        """Resolve the number of hidden classes."""
        n_classes = len(classes)
        if n_classes < _FEWEST_CLASSES:
            raise ValueError(
                f"Expected at least {_FEWEST_CLASSES} classes among the source's labels, two to "
                f"hide and two to learn from, got {n_classes}. Choose by another criterion, such "
                "as 'seed_stability'."
            )
        n_hidden = n_classes // 2 if self.n_hidden is None else self.n_hidden
        check_scalar(n_hidden, "n_hidden", Integral, min_val=2, max_val=n_classes - 2)
        if n_splits > comb(n_classes, n_hidden):
            raise ValueError(
                f"Expected n_splits of at most {comb(n_classes, n_hidden)}, the number of ways to "
                f"hide {n_hidden} of {n_classes} classes, got {n_splits}."
            )
        counts = np.bincount(codes[codes >= 0])
        if counts.min() < _FEWEST_CLASSES:
            raise ValueError(
                f"Expected at least {_FEWEST_CLASSES} rows of each source class, to keep some of a "
                f"hidden class back, got {counts.min()} of {classes[counts.argmin()]!r}. Leave "
                "such classes out."
            )
        return n_hidden

    def resolve_n_shots(self, y_source: np.ndarray, y_target: np.ndarray) -> int:
        """Labels kept of each hidden class for a classifier.

        Parameters
        ----------
        y_source : ndarray of shape (n_source,)
            Labels of the source's rows.
        y_target : ndarray of shape (n_target,)
            Labels of the real target's rows.

        Returns
        -------
        n_shots : int
            Labelled rows of each hidden class.
        """
        if self.n_shots is not None:
            check_scalar(self.n_shots, "n_shots", Integral, min_val=1)
            return int(self.n_shots)
        codes, names = encode_labels(y_target, "the target's labels", unlabelled=UNLABELLED)
        mean = (codes >= 0).sum() / max(1, len(names))
        codes, names = encode_labels(y_source, "the source's labels")
        most = np.bincount(codes[codes >= 0]).min() // 2 if len(names) else 1
        return max(1, min(round(mean), int(most)))


def _draw_subsets(n_classes, n_hidden, n_splits, rng):
    """Different subsets of the classes, in which each class is about equally frequent."""
    drawn, deck = [], []
    while len(drawn) < n_splits:
        subset = []
        while len(subset) < n_hidden:
            left = [code for code in deck if code not in subset]
            if not left:
                deck = rng.permutation(n_classes).tolist()
                continue
            subset.append(left[0])
            deck.remove(left[0])
        if sorted(subset) not in drawn:
            drawn.append(sorted(subset))
    return [np.array(subset) for subset in drawn]
