"""Cross-validation over the domains of a target."""

# License: BSD-3-Clause

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import LeaveOneGroupOut
from sklearn.utils.validation import _num_samples

from ._domain_splitter import BaseDomainSplitter


class LeaveOneTargetDomainOut(BaseDomainSplitter):
    """Test on one target domain after another, train on the source and the other target domains.

    Every distinct negative tag is a target domain; folds come in ascending order of the tags.

    Parameters
    ----------
    sample_domain : array-like of shape (n_samples,), default=None
        Domain tags: integers, ``>= 0`` for source rows, ``< 0`` for target rows. ``None`` leaves
        them to the calls, see Notes.

    See Also
    --------
    TargetSplit : Splits the target rows whatever their domain.
    sklearn.model_selection.LeaveOneGroupOut : Tests on the source too.

    Notes
    -----
    Tags come in one of three ways:

    - with metadata routing enabled, ``search.fit(X, y, sample_domain=d)``;
    - without it, ``search.fit(X, y, groups=d, sample_domain=d)``, the one for the splitter and
      the other for the estimator;
    - ``LeaveOneTargetDomainOut(sample_domain=d)``, for data of exactly these rows. In a
      call that hands tags on as well, both must be of the same target rows, and those that tell
      more target domains apart count.

    For a search inside another one they are ``params={"sample_domain": d}`` of the outer one with
    metadata routing enabled, and ``groups=d, params={"groups": d, "sample_domain": d}`` without
    it: `groups` splits the outer rows, and its copy in `params` is cut for the inner search.

    Examples
    --------
    >>> import numpy as np
    >>> from sklearn_ckm.model_selection import LeaveOneTargetDomainOut
    >>> X, sample_domain = np.zeros((5, 2)), [0, -1, -1, -2, 1]
    >>> for train, test in LeaveOneTargetDomainOut().split(X, sample_domain=sample_domain):
    ...     print(train, test)
    [0 1 2 4] [3]
    [0 3 4] [1 2]
    """

    def __init__(self, *, sample_domain: ArrayLike | None = None) -> None:
        self.sample_domain = sample_domain

    def get_n_splits(
        self,
        X: ArrayLike | None = None,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
    ) -> int:
        """Number of target domains.

        Parameters
        ----------
        X : array-like of shape (n_samples, ...), default=None
            Rows, to check the number of tags by.
        y : object, default=None
            Ignored.
        groups : array-like of shape (n_samples,), default=None
            Domain tags, as in :meth:`split`.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain tags.

        Returns
        -------
        n_splits : int
            Number of folds.

        Raises
        ------
        ValueError
            If there are fewer than two target domains, or the tags are not valid.
        """
        n_samples = None if X is None else _num_samples(X)
        tags = self._check_tags(n_samples, groups, sample_domain)
        return len(self._target_domains(tags))

    def _split_target(self, X, y, tags, target):
        self._target_domains(tags)
        return LeaveOneGroupOut().split(target, groups=tags[target])

    def _target_domains(self, tags):
        """Distinct negative tags, at least two."""
        domains = np.unique(tags[tags < 0])
        if len(domains) < 2:
            raise ValueError(
                f"Expected at least two target domains (different tags < 0), got the target tags "
                f"{domains.tolist()}. Split a single target domain with TargetSplit."
            )
        return domains
