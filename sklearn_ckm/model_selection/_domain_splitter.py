"""What the splitters share: where the tags come from, and which rows train and test."""

# License: BSD-3-Clause

from abc import abstractmethod
from collections.abc import Iterator

import numpy as np
from numpy.typing import ArrayLike
from sklearn.model_selection import BaseCrossValidator
from sklearn.utils import indexable
from sklearn.utils.validation import _num_samples

from ..utils._domains import check_sample_domain

_HOW_TO_TAG = (
    "hand them to the search as groups= (metadata routing off) or sample_domain= (metadata routing "
    "enabled); for a search inside another one, with metadata routing off, hand "
    "params={'groups': ..., 'sample_domain': ...} to the outer one as well"
)


class BaseDomainSplitter(BaseCrossValidator):
    """Base of the splitters that test on target rows only and always train on the source.

    A subclass yields the splits of the target rows among themselves in ``_split_target``. Think
    twice before adding to it.
    """

    # scikit-learn's searches hand on both where metadata routing is enabled
    __metadata_request__split = {"sample_domain": True, "groups": True}

    def split(
        self,
        X: ArrayLike,
        y: ArrayLike | None = None,
        groups: ArrayLike | None = None,
        *,
        sample_domain: ArrayLike | None = None,
    ) -> Iterator[tuple[np.ndarray, np.ndarray]]:
        """Yield the rows to train on and the target rows to test on.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Stacked rows of all domains.
        y : array-like of shape (n_samples,), default=None
            Labels of any dtype.
        groups : array-like of shape (n_samples,), default=None
            Domain tags, by the name under which a search hands them on without metadata routing.
        sample_domain : array-like of shape (n_samples,), default=None
            Domain tags: integers, ``>= 0`` for source rows, ``< 0`` for target rows. Where the
            constructor has tags of as many rows, both must have the same rows as target, and those
            that tell more target domains apart count, in doubt its own; where it has tags of more
            rows, as in a search inside another one, these count.

        Yields
        ------
        train : ndarray of shape (n_train,), int
            Ascending indices of all source rows and some target rows.
        test : ndarray of shape (n_test,), int
            Ascending indices of target rows.

        Raises
        ------
        ValueError
            If there are no tags, they are not one a row, two arrays of tags differ (where one is of
            the constructor, in which rows are target), no row is target, or a parameter is not
            valid.
        """
        X, y = indexable(X, y)
        tags = self._check_tags(_num_samples(X), groups, sample_domain)
        source, target = np.flatnonzero(tags >= 0), np.flatnonzero(tags < 0)
        for train, test in self._split_target(X, y, tags, target):
            yield np.sort(np.concatenate([source, target[train]])), np.sort(target[test])

    @abstractmethod
    def _split_target(self, X, y, tags, target):
        """Yield train and test as positions in `target`, the indices of the target rows."""

    def _check_tags(self, n_samples, groups, sample_domain):
        """Validated tags with target rows among them; `n_samples` None takes any length.

        Returns
        -------
        tags : ndarray of shape (n_samples,), int64
        """
        given = {"sample_domain": sample_domain, "groups": groups}
        given = {name: tags for name, tags in given.items() if tags is not None}
        own = f"{type(self).__name__}(sample_domain=...)"
        if not given and self.sample_domain is None:
            raise ValueError(
                "Expected domain tags to find the target rows by, got none. Construct "
                f"{own}, or {_HOW_TO_TAG}."
            )
        checked = [self._check_given(tags, n_samples, name) for name, tags in given.items()]
        if len(checked) == 2 and not np.array_equal(*checked):
            raise ValueError(
                "Expected the same tags in groups and sample_domain, got different ones. Pass one "
                "of them: a group of rows that is no domain has no use here."
            )
        if self.sample_domain is not None:
            tags = self._check_given(self.sample_domain, None, own)
            if checked and len(tags) > len(checked[0]):  # of rows of which these are some
                tags = checked[0]
            tags = self._check_given(tags, n_samples, own)
            if checked and not np.array_equal(tags < 0, checked[0] < 0):
                raise ValueError(
                    f"Expected the same target rows in {own} and in {next(iter(given))}, got "
                    "different ones. Pass one of them."
                )
            if checked:  # the finer ones, such as of several target domains
                tags = max(tags, checked[0], key=lambda t: len(np.unique(t[t < 0])))
            checked, given = [tags], {own: tags, **given}
        tags, name = checked[0], next(iter(given))
        if not (tags < 0).any():
            raise ValueError(
                f"Expected target rows (tags < 0) in {name}, got only the tags "
                f"{np.unique(tags).tolist()}. Tag the rows to test on with -1."
            )
        return tags

    def _check_given(self, tags, n_samples, name):
        """Validate tags, naming in the message where they were given."""
        try:
            return check_sample_domain(tags, _num_samples(tags) if n_samples is None else n_samples)
        except ValueError as error:
            hint = ""
            if name not in ("groups", "sample_domain"):
                hint = f" Where the splitter is given other rows than these, {_HOW_TO_TAG}."
            raise ValueError(f"{error} These tags came from {name}.{hint}") from error
