"""Cross-validation that splits the target rows alone."""

# License: BSD-3-Clause

from numbers import Integral
from typing import Any

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import KFold
from sklearn.utils import _safe_indexing
from sklearn.utils.validation import _num_samples

from ..utils._labels import UNLABELLED, check_labels, encode_labels
from ..utils._random import check_seed
from ._domain_splitter import BaseDomainSplitter


class TargetSplit(BaseDomainSplitter):
    """Split the target rows, train on the source in every fold, test on target rows only.

    A plain ``KFold`` on stacked data tests on source rows too, and may leave a fold without a
    domain.

    Parameters
    ----------
    cv : int or cross-validation splitter, default=5
        How the target rows are split. An int is the number of folds of a shuffled
        :class:`~sklearn.model_selection.KFold`. A splitter, such as ``StratifiedKFold`` or
        ``ShuffleSplit``, is given `X` and `y` of the target rows only; it may not ask for groups.
    sample_domain : array-like of shape (n_samples,), default=None
        Domain tags: integers, ``>= 0`` for source rows, ``< 0`` for target rows. ``None`` leaves
        them to the calls, see Notes.
    random_state : int, RandomState instance or None, default=None
        Shuffles the rows where `cv` is an int. An int gives the same folds at each call. ``None``
        shuffles anew and leaves the global numpy state alone. Beside a splitter, which has a
        random state of its own, it must be None.

    See Also
    --------
    LeaveOneTargetDomainOut : Tests on one target domain at a time.

    Notes
    -----
    Tags come in one of three ways:

    - with metadata routing enabled, ``search.fit(X, y, sample_domain=d)``;
    - without it, ``search.fit(X, y, groups=d, sample_domain=d)``, the one for the splitter and
      the other for the estimator;
    - ``TargetSplit(sample_domain=d)``, for data of exactly these rows. In a
      call that hands tags on as well, both must be of the same target rows, and those that tell
      more target domains apart count.

    For a search inside another one they are ``params={"sample_domain": d}`` of the outer one with
    metadata routing enabled, and ``groups=d, params={"groups": d, "sample_domain": d}`` without
    it: `groups` splits the outer rows, and its copy in `params` is cut for the inner search.

    The labels of the test rows are in `y`, and an unsupervised adapter never reads them. To a
    stratified splitter the target rows without a label are one more class.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ckm.model_selection import TargetSplit
    >>> X, sample_domain = np.zeros((6, 2)), [1, 1, -1, -1, -1, -1]
    >>> splitter = TargetSplit(2, random_state=0)
    >>> for train, test in splitter.split(X, sample_domain=sample_domain):
    ...     print(train, test)
    [0 1 2 3] [4 5]
    [0 1 4 5] [2 3]
    """

    def __init__(
        self,
        cv: Any = 5,
        *,
        sample_domain: ArrayLike | None = None,
        random_state: int | np.random.RandomState | None = None,
    ) -> None:
        self.cv = cv
        self.sample_domain = sample_domain
        self.random_state = random_state

    def get_n_splits(
        self,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
    ) -> int:
        """Number of folds.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), default=None
            Rows; needed only where the number of folds of `cv` depends on them.
        y : array-like of shape (n_samples,), default=None
            Labels of any dtype.
        groups : array-like of shape (n_samples,), default=None
            Domain tags, as in :meth:`split`; not needed where `cv` is an int.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain tags.

        Returns
        -------
        n_splits : int
            Number of folds.

        Raises
        ------
        ValueError
            If a parameter or the tags are not valid.
        """
        cv = self._check_cv()
        if isinstance(cv, KFold) or X is None:
            return int(cv.get_n_splits())
        tags = self._check_tags(_num_samples(X), groups, sample_domain)
        return int(cv.get_n_splits(*_take(X, y, np.flatnonzero(tags < 0))))

    def _split_target(self, X, y, tags, target):
        cv = self._check_cv()
        if not isinstance(self.cv, Integral):
            return cv.split(*_take(X, y, target))
        if len(target) < cv.n_splits:
            raise ValueError(
                f"Expected at least {cv.n_splits} target rows for cv={self.cv!r}, one for each "
                f"fold, got {len(target)}. Set a smaller cv."
            )
        return cv.split(target)

    def _check_cv(self):
        """The splitter of the target rows."""
        if isinstance(self.cv, Integral) and not isinstance(self.cv, bool) and self.cv >= 2:
            seed = check_seed(None) if self.random_state is None else self.random_state
            return KFold(int(self.cv), shuffle=True, random_state=seed)
        is_splitter = hasattr(self.cv, "split") and hasattr(self.cv, "get_n_splits")
        if not is_splitter or isinstance(self.cv, type):
            raise ValueError(
                "Expected cv as an int from 2 on or a scikit-learn splitter such as "
                f"StratifiedKFold(5), got {self.cv!r}. A list of splits goes to the search itself."
            )
        if self.random_state is not None:
            raise ValueError(
                f"Expected random_state=None beside a splitter, got {self.random_state!r} and "
                f"cv={self.cv!r}. Set the random_state of that splitter."
            )
        return self.cv


def _take(X, y, rows):
    """Some rows, and their labels as codes: a stratified splitter takes no None beside names."""
    if y is not None:
        y, _ = encode_labels(check_labels(y, _num_samples(X))[rows], unlabelled=UNLABELLED)
    return _safe_indexing(X, rows), y
