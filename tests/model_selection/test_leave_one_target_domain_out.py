import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.datasets import make_blobs
from sklearn.model_selection import (
    BaseCrossValidator,
    GridSearchCV,
    cross_val_score,
    cross_validate,
)

from sklearn_ckm import CKMDomainAdapter
from sklearn_ckm.model_selection import LeaveOneTargetDomainOut

TAGS = np.array([0, -1, -2, 3, -3, -1, -2, -1, 0, -3, -3, -2])
X = np.arange(len(TAGS), dtype=float)[:, None]  # the row's number
Y = np.arange(len(TAGS)) % 2


class Recorder(BaseEstimator):
    """Keeps the rows and tags that it is fitted on."""

    __metadata_request__fit = {"sample_domain": True}
    fits = []

    def __init__(self, shift=0):
        self.shift = shift

    def fit(self, X, y=None, sample_domain=None):
        self.fits.append((X[:, 0].astype(int), sample_domain))
        return self

    def score(self, X, y=None):
        return float(X.sum() + self.shift)


@pytest.fixture
def recorder():
    Recorder.fits = []
    return Recorder()


def folds(tags, splitter=None):
    splitter = splitter or LeaveOneTargetDomainOut()
    return list(splitter.split(np.zeros((len(tags), 1)), sample_domain=tags))


@settings(deadline=None, max_examples=50)
@given(st.lists(st.integers(-4, 2), min_size=2, max_size=15))
def test_each_fold_tests_all_rows_of_one_target_domain(tags):
    tags = np.array([*tags, -1, -2])
    parts = folds(tags)
    domains = np.unique(tags[tags < 0])
    assert LeaveOneTargetDomainOut().get_n_splits(groups=tags) == len(parts) == len(domains)
    for domain, (train, test) in zip(domains, parts, strict=True):
        assert_array_equal(test, np.flatnonzero(tags == domain))
        assert_array_equal(train, np.flatnonzero(tags != domain))
        assert train.dtype == test.dtype == np.int64


@pytest.mark.parametrize(
    "rows",
    [
        X.tolist(),
        X.reshape(-1, 1, 1, 1),
        pd.DataFrame(X, index=range(12)[::-1]),
        pl.DataFrame(X),
    ],
    ids=["list", "images", "pandas", "polars"],
)
def test_rows_and_tags_of_any_kind(rows):
    expected = folds(TAGS)
    for tags in (TAGS.tolist(), pd.Series(TAGS), pl.Series(TAGS), TAGS.astype(float)):
        splitter = LeaveOneTargetDomainOut(sample_domain=tags)
        for parts in (
            splitter.split(rows),
            LeaveOneTargetDomainOut().split(rows, Y, tags),
            LeaveOneTargetDomainOut().split(rows, sample_domain=tags),
        ):
            for (train, test), (wanted_train, wanted_test) in zip(parts, expected, strict=True):
                assert_array_equal(train, wanted_train)
                assert_array_equal(test, wanted_test)
        assert splitter.get_n_splits(rows) == splitter.get_n_splits() == 3
        assert type(splitter.get_n_splits()) is int


@pytest.mark.parametrize(
    "params, call, message",
    [
        ({}, {}, r"got none. Construct LeaveOneTargetDomainOut\(sample_domain=\.\.\.\), or hand"),
        ({}, {"groups": [0] * 6 + [-1] * 6}, r"at least two target domains.*\[-1\].*TargetSplit"),
        ({}, {"groups": np.abs(TAGS)}, "Expected target rows .* in groups, got only the tags"),
        ({}, {"groups": TAGS[1:]}, "got 11 tags in sample_domain for 12 rows. .* from groups"),
        ({"sample_domain": TAGS[1:]}, {}, "got 11 tags .* from LeaveOneTargetDomainOut"),
        ({}, {"groups": TAGS, "sample_domain": TAGS - 1}, "same tags in groups and sample_domain"),
    ],
)
def test_invalid_tags_raise(params, call, message):
    splitter = LeaveOneTargetDomainOut(**params)
    with pytest.raises(ValueError, match=message):
        list(splitter.split(X, **call))
    with pytest.raises(ValueError, match=message):
        splitter.get_n_splits(X, **call)


def test_constructor_only_assigns():
    tags = object()
    splitter = LeaveOneTargetDomainOut(sample_domain=tags)
    assert vars(splitter) == {"sample_domain": tags}
    assert isinstance(splitter, BaseCrossValidator)
    assert repr(LeaveOneTargetDomainOut()) == "LeaveOneTargetDomainOut(sample_domain=None)"


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda cv: pickle.loads(pickle.dumps(cv))])
def test_copies_give_the_same_folds_and_requests(copied):
    splitter = LeaveOneTargetDomainOut(sample_domain=TAGS)
    assert copied(splitter).get_metadata_routing().split.requests == {
        "groups": True,
        "sample_domain": True,
    }
    with config_context(enable_metadata_routing=True):
        splitter.set_split_request(groups=False)
    assert copied(splitter).get_metadata_routing().split.requests["groups"] is False
    for got, expected in zip(copied(splitter).split(X), folds(TAGS), strict=True):
        assert_array_equal(got[1], expected[1])


def assert_recorded(expected):
    assert len(Recorder.fits) == len(expected)
    for (rows, tags), train in zip(Recorder.fits, expected, strict=True):
        assert_array_equal(rows, train)
        assert_array_equal(tags, TAGS[train])


@pytest.mark.parametrize(
    "own, params, routing",
    [
        (None, {"groups": TAGS, "sample_domain": TAGS}, False),
        (TAGS, {"sample_domain": TAGS}, False),
        (None, {"sample_domain": TAGS}, True),
        (None, {"groups": TAGS, "sample_domain": TAGS}, True),
    ],
)
def test_search_leaves_one_target_domain_out(recorder, own, params, routing):
    cv = LeaveOneTargetDomainOut(sample_domain=own)
    with config_context(enable_metadata_routing=routing):
        search = GridSearchCV(recorder, {"shift": [0, 1]}, cv=cv, error_score="raise")
        search.fit(X, Y, **params)
    assert search.n_splits_ == 3
    assert_recorded(2 * [train for train, _ in folds(TAGS)] + [np.arange(len(TAGS))])


@pytest.mark.parametrize("routing", [False, True])
def test_search_in_a_search_leaves_two_target_domains_out(recorder, routing):
    cv = LeaveOneTargetDomainOut()
    kwargs = {"params": {"sample_domain": TAGS}}
    if not routing:
        kwargs = {"params": {"sample_domain": TAGS, "groups": TAGS}, "groups": TAGS}
    with config_context(enable_metadata_routing=routing):
        search = GridSearchCV(recorder, {"shift": [0]}, cv=cv, error_score="raise")
        cross_val_score(search, X, Y, cv=cv, error_score="raise", **kwargs)
    expected = []
    for outer, _ in folds(TAGS):
        expected += [outer[train] for train, _ in folds(TAGS[outer])] + [outer]
    assert_recorded(expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_cross_validation_of_an_adapter():
    X, y = make_blobs(n_samples=100, centers=8 * np.eye(5), random_state=0)
    tags = np.where(y < 3, 0, -1 - np.arange(100) % 2)
    model = CKMDomainAdapter(
        2, n_components=3, encoder="mlp-small", pretrain_epochs=1, max_epochs=1, random_state=0
    )
    with config_context(enable_metadata_routing=True):
        result = cross_validate(
            model,
            X,
            y,
            cv=LeaveOneTargetDomainOut(),
            params={"sample_domain": tags},
            error_score="raise",
        )
    train, test = tags != -2, tags == -2
    model.fit(X[train], y[train], sample_domain=tags[train])
    assert result["test_score"].shape == (2,)
    assert result["test_score"][0] == model.score(X[test])


def test_tags_that_tell_more_domains_apart_count(recorder):
    splitter = LeaveOneTargetDomainOut(sample_domain=TAGS)
    coarse = np.where(TAGS < 0, -1, 1)
    assert len(list(splitter.split(X, sample_domain=coarse))) == 3
    assert len(list(LeaveOneTargetDomainOut(sample_domain=coarse).split(X, groups=TAGS))) == 3
    with config_context(enable_metadata_routing=True):
        results = cross_validate(recorder, X, Y, cv=splitter, params={"sample_domain": coarse})
    assert len(results["test_score"]) == 3
