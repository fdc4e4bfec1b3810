import copy
import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator
from sklearn.datasets import make_blobs
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.model_selection import (
    BaseCrossValidator,
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    LeaveOneOut,
    PredefinedSplit,
    RepeatedKFold,
    ShuffleSplit,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
)
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ckm import CKMDomainAdapter
from sklearn_ckm.model_selection import TargetSplit
from sklearn_ckm.utils import stack_domains

N = 24
X = np.arange(N, dtype=float)[:, None] * [1.0, 10.0]  # the first column is the row's number
TAGS = np.where(np.arange(N) % 3 == 0, 1, -1)
SOURCE, TARGET = np.flatnonzero(TAGS >= 0), np.flatnonzero(TAGS < 0)
Y = np.arange(N) % 2


class Recorder(BaseEstimator):
    """Keeps the rows and tags that it is fitted and scored on."""

    __metadata_request__fit = {"sample_domain": True}
    fits, scores = [], []

    def __init__(self, shift=0):
        self.shift = shift

    def fit(self, X, y=None, sample_domain=None):
        self.fits.append((X[:, 0].astype(int), sample_domain))
        return self

    def predict(self, X):
        return np.zeros(len(X))

    def score(self, X, y=None):
        self.scores.append(X[:, 0].astype(int))
        return float(X[:, 0].sum() + self.shift)


@pytest.fixture
def recorder():
    Recorder.fits, Recorder.scores = [], []
    return Recorder()


def make_search(cv, model=None):
    model = Recorder() if model is None else model
    return GridSearchCV(model, {"shift": [0, 1]}, cv=cv, error_score="raise")


def folds(splitter, X=X, y=None, tags=TAGS):
    return list(splitter.split(X, y, sample_domain=tags))


def assert_same_folds(first, second):
    for (train, test), (other_train, other_test) in zip(first, second, strict=True):
        assert_array_equal(train, other_train)
        assert_array_equal(test, other_test)


# folds ------------------------------------------------------------------------------------------


@st.composite
def tagged_rows(draw):
    n_folds = draw(st.integers(2, 4))
    n_target = draw(st.integers(n_folds, 12))
    tags = draw(st.lists(st.integers(0, 2), max_size=8))
    tags += draw(st.lists(st.integers(-3, -1), min_size=n_target, max_size=n_target))
    return n_folds, np.array(draw(st.permutations(tags)))


@settings(deadline=None, max_examples=50)
@given(tagged_rows())
def test_source_always_trains_and_each_target_row_is_tested_once(problem):
    n_folds, tags = problem
    splitter = TargetSplit(n_folds, random_state=0)
    parts = folds(splitter, np.zeros((len(tags), 1)), tags=tags)
    assert len(parts) == splitter.get_n_splits() == n_folds
    for train, test in parts:
        assert train.dtype == test.dtype == np.int64
        assert set(np.flatnonzero(tags >= 0)) <= set(train)
        assert (tags[test] < 0).all() and len(test)
        # together all rows, each once; ascending
        assert_array_equal(np.sort(np.concatenate([train, test])), np.arange(len(tags)))
        assert (np.diff(train) > 0).all() and (np.diff(test) > 0).all()
    tested = np.concatenate([test for _, test in parts])
    assert_array_equal(np.sort(tested), np.flatnonzero(tags < 0))


@pytest.mark.parametrize(
    "cv, inner",
    [
        (3, KFold(3, shuffle=True, random_state=7)),
        (np.int64(3), KFold(3, shuffle=True, random_state=7)),
        (KFold(4), None),
        (StratifiedKFold(4, shuffle=True, random_state=1), None),
        (ShuffleSplit(3, train_size=0.4, test_size=0.3, random_state=1), None),
        (RepeatedKFold(n_splits=2, n_repeats=2, random_state=1), None),
        (PredefinedSplit(np.arange(16) % 2 - 1), None),
        (LeaveOneOut(), None),
    ],
    ids=str,
)
def test_folds_are_those_of_the_splitter_on_target_rows(cv, inner):
    splitter = TargetSplit(cv, random_state=None if inner is None else 7)
    inner = inner or cv
    expected = [
        (np.sort(np.concatenate([SOURCE, TARGET[train]])), np.sort(TARGET[test]))
        for train, test in inner.split(X[TARGET], Y[TARGET])
    ]
    assert_same_folds(folds(splitter, y=Y), expected)
    assert splitter.get_n_splits(X, Y, sample_domain=TAGS) == len(expected)
    assert type(splitter.get_n_splits(X, Y, sample_domain=TAGS)) is int


def test_splitter_is_given_the_target_rows_only():
    class Spy(KFold):
        def split(self, X, y=None, groups=None):
            seen.append((X, y, groups))
            return super().split(X, y, groups)

    seen = []
    folds(TargetSplit(Spy(2)), y=Y)
    ((rows, labels, groups),) = seen
    assert_array_equal(rows, X[TARGET])
    assert_array_equal(labels, Y[TARGET])
    assert groups is None


def test_unlabelled_target_rows_are_a_stratum():
    y = np.where(np.arange(N) < 12, Y, -1)
    for _, test in folds(TargetSplit(StratifiedKFold(4)), y=y):
        values, counts = np.unique(y[test], return_counts=True)
        assert values.tolist() == [-1, 0, 1]
        assert counts.tolist() == [2, 1, 1]


@pytest.mark.parametrize("y_tgt", [[5, 6, -1] * 4, ["a", "b", "-1"] * 4])
@pytest.mark.parametrize("y_src", [["x", "y"], [0, 1], [True, False], None])
def test_stacked_labels_of_any_kind_are_stratified(y_src, y_tgt):
    X, y, tags = stack_domains(np.zeros((2, 1)), y_src, np.zeros((12, 1)), y_tgt)
    for _, test in folds(TargetSplit(StratifiedKFold(4)), X, y, tags):
        assert sorted(y[test], key=str) == sorted(y_tgt[:3], key=str)


@pytest.mark.parametrize(
    "convert",
    [
        np.ndarray.tolist,
        lambda X: X.reshape(N, 2, 1, 1),
        lambda X: pd.DataFrame(X, index=np.arange(N)[::-1]),
        lambda X: pl.DataFrame(X),
        torch.from_numpy,
    ],
    ids=["list", "images", "pandas", "polars", "torch"],
)
@pytest.mark.parametrize("cv", [3, StratifiedKFold(3)], ids=str)
def test_rows_of_any_kind(cv, convert):
    splitter = TargetSplit(cv, random_state=0 if cv == 3 else None)
    expected = folds(splitter, X, Y)
    assert_same_folds(folds(splitter, convert(X), Y), expected)
    for labels in (Y.tolist(), pd.Series(Y, index=np.arange(N)[::-1]), pl.Series(Y)):
        assert_same_folds(folds(splitter, convert(X), labels), expected)
    for tags in (TAGS.tolist(), pd.Series(TAGS, index=np.arange(N)[::-1]), TAGS[:, None]):
        assert_same_folds(folds(splitter, convert(X), Y, tags), expected)


# randomness -------------------------------------------------------------------------------------


def test_int_gives_the_same_folds_at_each_call():
    splitter = TargetSplit(3, random_state=0)
    assert_same_folds(folds(splitter), folds(splitter))
    assert_same_folds(folds(splitter), folds(TargetSplit(3, random_state=0)))
    tests = [tuple(folds(TargetSplit(3, random_state=seed))[0][1]) for seed in range(5)]
    assert len(set(tests)) > 1


def test_none_shuffles_anew_and_leaves_the_global_state():
    before = pickle.dumps(np.random.get_state())  # noqa: NPY002
    splitter = TargetSplit(4)
    tests = {tuple(folds(splitter)[0][1]) for _ in range(5)}
    assert len(tests) > 1
    assert pickle.dumps(np.random.get_state()) == before  # noqa: NPY002


def test_random_state_instance_moves_on():
    splitter = TargetSplit(4, random_state=np.random.RandomState(0))
    state = np.random.RandomState(0)
    inner = KFold(4, shuffle=True, random_state=state)
    for _ in range(2):
        expected = [TARGET[test] for _, test in inner.split(TARGET)]
        for (_, test), wanted in zip(folds(splitter), expected, strict=True):
            assert_array_equal(test, wanted)
    tests = {tuple(folds(splitter)[0][1]) for _ in range(5)}
    assert len(tests) > 1


# where tags come from ---------------------------------------------------------------------------


def test_tags_of_the_constructor_must_agree_with_those_of_the_call():
    expected = folds(TargetSplit(3, random_state=0))
    own = TargetSplit(3, sample_domain=TAGS, random_state=0)
    assert_same_folds(own.split(X), expected)
    assert_same_folds(own.split(X, sample_domain=np.sign(TAGS)), expected)
    other = np.where(np.arange(N) < 4, 0, -1)
    wrong = TargetSplit(3, sample_domain=other, random_state=0)
    for kwargs in ({"sample_domain": TAGS}, {"groups": TAGS}):
        (name,) = kwargs
        message = rf"same target rows in TargetSplit\(sample_domain=\.\.\.\) and in {name}, got"
        with pytest.raises(ValueError, match=message):
            next(wrong.split(X, **kwargs))


def test_tags_of_the_constructor_are_checked_beside_those_of_the_call():
    short = TargetSplit(3, sample_domain=TAGS[:-1])
    with pytest.raises(ValueError, match=r"one domain tag per row.*came from TargetSplit"):
        next(short.split(X, sample_domain=TAGS))
    texts = TargetSplit(3, sample_domain=TAGS.astype(str))
    with pytest.raises(ValueError, match="came from TargetSplit"):
        next(texts.split(X, sample_domain=TAGS))
    # a search inside another one: those of the call are of the rows at hand
    whole = TargetSplit(3, sample_domain=TAGS, random_state=0)
    few = np.flatnonzero(np.arange(N) % 4)
    expected = list(TargetSplit(3, random_state=0).split(X[few], sample_domain=TAGS[few]))
    assert_same_folds(whole.split(X[few], sample_domain=TAGS[few]), expected)


def test_get_n_splits_needs_tags_only_where_the_rows_decide():
    assert TargetSplit(3).get_n_splits() == TargetSplit(3).get_n_splits(X, Y) == 3
    assert TargetSplit(ShuffleSplit(4)).get_n_splits() == 4
    for kwargs in ({"groups": TAGS}, {"sample_domain": TAGS}):
        assert TargetSplit(LeaveOneOut()).get_n_splits(X, **kwargs) == len(TARGET)
    assert TargetSplit(LeaveOneOut(), sample_domain=TAGS).get_n_splits(X) == len(TARGET)
    with pytest.raises(ValueError, match="Expected domain tags to find the target rows by"):
        TargetSplit(LeaveOneOut()).get_n_splits(X)


@pytest.mark.parametrize(
    "params, call, message",
    [
        (
            {},
            {},
            r"Expected domain tags.*got none.*TargetSplit\(sample_domain=.*groups=.*sample_domain=",
        ),
        ({}, {"groups": TAGS, "sample_domain": -TAGS}, "same tags in groups and sample_domain"),
        ({}, {"groups": TAGS[1:]}, "got 23 tags .* for 24 rows.*These tags came from groups.$"),
        ({}, {"sample_domain": TAGS[1:]}, "got 23 tags .* came from sample_domain.$"),
        (
            {"sample_domain": TAGS[1:]},
            {},
            r"got 23 tags .* came from TargetSplit\(sample_domain=\.\.\.\).*other rows.*params=",
        ),
        ({}, {"groups": ["a"] * N}, "Expected integers in sample_domain.*came from groups"),
        ({}, {"sample_domain": [0.5] * N}, "Expected integers in sample_domain.*got .*0.5"),
        ({}, {"groups": [0] * N}, r"Expected target rows .* in groups, got only the tags \[0\]"),
        ({"sample_domain": [1] * N}, {}, r"in TargetSplit\(sample_domain=\.\.\.\), got only"),
        ({"cv": 17}, {"groups": TAGS}, "at least 17 target rows for cv=17, .*got 16.*smaller cv"),
        ({"cv": 1}, {"groups": TAGS}, "Expected cv as an int from 2 on or .*got 1"),
        ({"cv": True}, {"groups": TAGS}, "Expected cv as an int .*got True"),
        ({"cv": 2.0}, {"groups": TAGS}, "Expected cv as an int .*got 2.0"),
        ({"cv": None}, {"groups": TAGS}, "Expected cv as an int .*got None"),
        ({"cv": "kfold"}, {"groups": TAGS}, "Expected cv as an int .*got 'kfold'"),
        ({"cv": KFold}, {"groups": TAGS}, "Expected cv as an int .*got <class"),
        ({"cv": [([0], [1])]}, {"groups": TAGS}, "A list of splits goes to the search itself"),
        (
            {"cv": KFold(3), "random_state": 0},
            {"groups": TAGS},
            r"Expected random_state=None beside a splitter, got 0 and cv=KFold\(",
        ),
    ],
)
def test_invalid_input_raises(params, call, message):
    splitter = TargetSplit(**params)  # never here
    with pytest.raises(ValueError, match=message):
        list(splitter.split(X, **call))


def test_bad_parameters_are_told_by_the_number_of_folds_too():
    for params in ({"cv": 1}, {"cv": KFold(2), "random_state": 0}):
        with pytest.raises(ValueError, match="Expected"):
            TargetSplit(**params).get_n_splits()


def test_labels_of_another_length_raise():
    with pytest.raises(ValueError, match="inconsistent numbers of samples"):
        folds(TargetSplit(2), y=Y[1:])


# a splitter among scikit-learn's ----------------------------------------------------------------


def test_constructor_only_assigns():
    cv, tags, state = object(), object(), object()
    splitter = TargetSplit(cv, sample_domain=tags, random_state=state)
    assert vars(splitter) == {"cv": cv, "sample_domain": tags, "random_state": state}
    assert isinstance(splitter, BaseCrossValidator)


def test_representation():
    assert repr(TargetSplit(3)) == "TargetSplit(cv=3, random_state=None, sample_domain=None)"
    assert "StratifiedKFold(n_splits=3" in repr(TargetSplit(StratifiedKFold(3)))


@pytest.mark.parametrize("copied", [copy.deepcopy, lambda cv: pickle.loads(pickle.dumps(cv))])
def test_copies_give_the_same_folds_and_requests(copied):
    for cv, seed in ((3, 0), (ShuffleSplit(2, random_state=3), None)):
        splitter = TargetSplit(cv, sample_domain=TAGS, random_state=seed)
        with config_context(enable_metadata_routing=True):
            splitter.set_split_request(sample_domain="domain")
        assert_same_folds(copied(splitter).split(X), splitter.split(X))
        requests = copied(splitter).get_metadata_routing().split.requests
        assert requests == {"groups": True, "sample_domain": "domain"}


def test_tags_and_groups_are_requested_from_the_start():
    requests = TargetSplit().get_metadata_routing().split.requests
    assert requests == {"groups": True, "sample_domain": True}


# searches ---------------------------------------------------------------------------------------


def assert_recorded(parts, n_candidates=2, refit=True):
    """Fits and scores of a search were those of the folds, with the tags of their rows."""
    expected = [part for _ in range(n_candidates) for part in parts]
    if refit:
        expected.append((np.arange(N), None))
    assert len(Recorder.fits) == len(expected)
    for (rows, tags), (train, _) in zip(Recorder.fits, expected, strict=True):
        assert_array_equal(rows, train)
        assert_array_equal(tags, TAGS[train])
    for rows, (_, test) in zip(Recorder.scores, expected[: n_candidates * len(parts)], strict=True):
        assert_array_equal(rows, test)


SPLITTER = TargetSplit(3, random_state=0)
FOLDS = folds(SPLITTER)
WITH_TAGS = TargetSplit(3, sample_domain=TAGS, random_state=0)


@pytest.mark.parametrize(
    "cv, params, routing",
    [
        (SPLITTER, {"groups": TAGS, "sample_domain": TAGS}, False),
        (SPLITTER, {"groups": TAGS, "sample_domain": TAGS}, True),
        (SPLITTER, {"sample_domain": TAGS}, True),
        (WITH_TAGS, {"sample_domain": TAGS}, False),
        (WITH_TAGS, {"sample_domain": TAGS}, True),
    ],
)
def test_search_splits_the_target_rows(recorder, cv, params, routing):
    with config_context(enable_metadata_routing=routing):
        search = make_search(cv).fit(X, Y, **params)
    assert search.n_splits_ == 3
    assert search.best_params_ == {"shift": 1}
    assert_recorded(FOLDS)


def test_search_without_routing_says_how_to_hand_on_tags(recorder):
    with pytest.raises(
        ValueError, match=r"Expected domain tags.*as groups= \(metadata routing off"
    ):
        make_search(SPLITTER).fit(X, Y, sample_domain=TAGS)


@pytest.mark.parametrize(
    "cv, kwargs, routing",
    [
        (SPLITTER, {"groups": TAGS, "params": {"sample_domain": TAGS}}, False),
        (WITH_TAGS, {"params": {"sample_domain": TAGS}}, False),
        (SPLITTER, {"params": {"sample_domain": TAGS}}, True),
        (SPLITTER, {"params": {"sample_domain": TAGS, "groups": TAGS}}, True),
    ],
)
def test_cross_validate_splits_the_target_rows(recorder, cv, kwargs, routing):
    with config_context(enable_metadata_routing=routing):
        result = cross_validate(recorder, X, Y, cv=cv, error_score="raise", **kwargs)
    assert_recorded(FOLDS, n_candidates=1, refit=False)
    assert result["test_score"].tolist() == [X[test, 0].sum() for _, test in FOLDS]


OUTER = TargetSplit(2, random_state=0)
OUTER_WITH_TAGS = TargetSplit(2, sample_domain=TAGS, random_state=0)
BOTH = {"sample_domain": TAGS, "groups": TAGS}


@pytest.mark.parametrize(
    "outer, kwargs, routing",
    [
        (OUTER, {"groups": TAGS, "params": BOTH}, False),
        (OUTER_WITH_TAGS, {"params": BOTH}, False),
        (OUTER, {"params": {"sample_domain": TAGS}}, True),
        (OUTER, {"params": BOTH}, True),
        (OUTER_WITH_TAGS, {"params": {"sample_domain": TAGS}}, True),
    ],
)
@pytest.mark.parametrize("inner", [SPLITTER, WITH_TAGS], ids=["bare", "tagged"])
def test_search_in_a_search_cuts_the_tags(recorder, inner, outer, kwargs, routing):
    with config_context(enable_metadata_routing=routing):
        cross_val_score(make_search(inner), X, Y, cv=outer, error_score="raise", **kwargs)
    expected = []
    for train, _ in folds(OUTER):
        inside = folds(SPLITTER, X[train], tags=TAGS[train])
        expected += 2 * [train[rows] for rows, _ in inside] + [train]
    assert len(Recorder.fits) == len(expected) == 14
    for (rows, tags), train in zip(Recorder.fits, expected, strict=True):
        assert_array_equal(rows, train)
        assert_array_equal(tags, TAGS[train])


@pytest.mark.parametrize(
    "inner, kwargs, message",
    [
        (SPLITTER, {"groups": TAGS}, r"got none.*inside another one.*params=\{'groups': "),
        (WITH_TAGS, {"groups": TAGS}, r"got 24 tags .* for 16 rows.*params=\{'groups': "),
    ],
)
def test_search_in_a_search_without_tags_for_the_inner_one_raises(recorder, inner, kwargs, message):
    params = {"sample_domain": TAGS}
    with pytest.raises(ValueError, match=message):
        cross_val_score(
            make_search(inner), X, Y, cv=OUTER, error_score="raise", params=params, **kwargs
        )


def test_request_can_be_withdrawn_or_renamed(recorder):
    with config_context(enable_metadata_routing=True):
        deaf = TargetSplit(3, random_state=0).set_split_request(sample_domain=False)
        with pytest.raises(ValueError, match="Expected domain tags"):
            make_search(deaf).fit(X, Y, sample_domain=TAGS)
        renamed = TargetSplit(3, random_state=0).set_split_request(sample_domain="domain")
        make_search(renamed).fit(X, Y, sample_domain=TAGS, domain=TAGS)
    assert_recorded(FOLDS)


def test_halving_search_wants_a_seed(recorder):
    search = HalvingGridSearchCV(
        Recorder(), {"shift": [0, 1]}, cv=SPLITTER, min_resources=12, error_score="raise"
    )
    search.fit(X, Y, groups=TAGS, sample_domain=TAGS)
    assert search.best_params_ == {"shift": 1}
    with pytest.raises(ValueError, match="must yield consistent folds"):
        search.set_params(cv=TargetSplit(3)).fit(X, Y, groups=TAGS, sample_domain=TAGS)


def test_predictions_for_all_rows_are_refused_since_the_source_is_not_tested(recorder):
    with pytest.raises(ValueError, match="only works for partitions"):
        cross_val_predict(recorder, X, Y, cv=SPLITTER, groups=TAGS)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("routing", [False, True])
def test_search_over_an_adapter_in_a_pipeline(routing):
    X, y = make_blobs(n_samples=100, centers=8 * np.eye(5), random_state=0)
    tags = np.where(y < 3, 0, -1)
    adapter = CKMDomainAdapter(
        n_components=3, encoder="mlp-small", pretrain_epochs=1, max_epochs=1, random_state=0
    )
    pipeline = make_pipeline(StandardScaler(), adapter)
    cv = TargetSplit(2, random_state=0)
    grid = {"ckmdomainadapter__n_clusters": [2, 3]}
    params = {"sample_domain": tags}
    if not routing:
        params = {"ckmdomainadapter__sample_domain": tags, "groups": tags}
    with config_context(enable_metadata_routing=routing):
        search = GridSearchCV(pipeline, grid, cv=cv, error_score="raise").fit(X, y, **params)
    # one fold by hand
    train, test = folds(cv, X, tags=tags)[0]
    scaler = StandardScaler().fit(X[train])
    adapter.set_params(n_clusters=2)
    adapter.fit(scaler.transform(X[train]), y[train], sample_domain=tags[train])
    expected = adapter.score(scaler.transform(X[test]))
    assert search.cv_results_["split0_test_score"][0] == expected
    assert len(search.best_estimator_[-1].labels_) == (tags < 0).sum()


@pytest.mark.parametrize(
    "labels", [["a", "b", None], [1, 2, np.nan], [True, False, None], ["a", "b", "-1"], [1, 2, -1]]
)
def test_rows_without_a_label_are_a_stratum_in_every_notation(labels):
    y = np.array(labels * 4, dtype=object)
    splitter = TargetSplit(StratifiedKFold(4), sample_domain=-np.ones(12))
    for _, test in splitter.split(np.zeros((12, 2)), y):
        assert len(test) == 3
        assert sorted(test % 3) == [0, 1, 2]
