import pickle
from collections import Counter
from math import comb

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.base import clone

from sklearn_ckm.model_selection import HiddenClasses

N_CLASSES, N_EACH = 6, 8
N_SOURCE, N_TARGET = N_CLASSES * N_EACH, 20
N = N_SOURCE + N_TARGET


def make_problem():
    """Rows that carry their number, in a random order; labels; tags."""
    rng = np.random.default_rng(0)
    order = rng.permutation(N)
    y = np.concatenate([np.arange(N_SOURCE) % N_CLASSES, np.full(N_TARGET, -1)])[order]
    tags = np.repeat([1, -1], [N_SOURCE, N_TARGET])[order]
    return np.arange(N, dtype=float)[:, np.newaxis] * [1.0, 10.0], y, tags


X, Y, TAGS = make_problem()
SOURCE, TARGET = np.flatnonzero(TAGS >= 0), np.flatnonzero(TAGS < 0)


def make_tasks(criterion=None, y=Y, X=X, tags=TAGS, **params):
    criterion = HiddenClasses() if criterion is None else criterion
    params = {"n_splits": 3, "random_state": 0, **params}
    return list(criterion.make_tasks(X, y, tags, **params))


def numbers(task, rows=slice(None)):
    """Places, in the data, of some rows of a task."""
    return np.asarray(task.X)[rows, 0].astype(int)


def assert_same_tasks(first, second):
    assert len(first) == len(second)
    for one, other in zip(first, second, strict=True):
        for field, other_field in zip(one, other, strict=True):
            assert_array_equal(field, other_field)


# classes ----------------------------------------------------------------------------------------


@st.composite
def class_numbers(draw):
    n_classes = draw(st.integers(4, 10))
    n_hidden = draw(st.integers(2, n_classes - 2))
    return n_classes, n_hidden, draw(st.integers(1, min(12, comb(n_classes, n_hidden))))


@settings(deadline=None, max_examples=60)
@given(class_numbers(), st.integers(0, 10**6))
def test_hidden_subsets_differ_and_have_the_size(problem, seed):
    n_classes, n_hidden, n_splits = problem
    y = np.repeat(np.arange(n_classes), 4)
    tasks = make_tasks(
        HiddenClasses(n_hidden=n_hidden),
        y,
        np.zeros((len(y), 1)),
        np.zeros(len(y), int),
        n_splits=n_splits,
        random_state=seed,
    )
    subsets = [tuple(task.hidden) for task in tasks]
    assert len(set(subsets)) == len(subsets) == n_splits
    for subset in subsets:
        assert subset == tuple(sorted(set(subset)))
        assert len(subset) == n_hidden and set(subset) <= set(range(n_classes))


def use_of_classes(subsets, n_classes):
    return np.bincount(np.concatenate(subsets), minlength=n_classes)


@pytest.mark.parametrize("n_classes", range(4, 11))
def test_three_splits_use_all_classes_alike(n_classes):
    y = np.repeat(np.arange(n_classes), 4)
    rows, tags = np.zeros((len(y), 1)), np.zeros(len(y), int)
    for seed in range(10):
        tasks = make_tasks(None, y, rows, tags, random_state=seed)
        assert np.ptp(use_of_classes([task.hidden for task in tasks], n_classes)) <= 1


@pytest.mark.parametrize("n_classes, n_hidden, n_splits", [(10, 5, 8), (7, 2, 7), (9, 6, 12)])
def test_many_splits_use_the_classes_more_alike_than_chance(n_classes, n_hidden, n_splits):
    y = np.repeat(np.arange(n_classes), 4)
    rows, tags = np.zeros((len(y), 1)), np.zeros(len(y), int)
    spreads, by_chance = [], []
    for seed in range(10):
        tasks = make_tasks(
            HiddenClasses(n_hidden=n_hidden), y, rows, tags, n_splits=n_splits, random_state=seed
        )
        spreads.append(np.ptp(use_of_classes([task.hidden for task in tasks], n_classes)))
        rng = np.random.default_rng(seed)
        drawn = [rng.choice(n_classes, n_hidden, replace=False) for _ in range(n_splits)]
        by_chance.append(np.ptp(use_of_classes(drawn, n_classes)))
    # a subset that was drawn before is skipped, which takes its classes out of step
    assert np.mean(spreads) <= 1.5 < np.mean(by_chance)


def test_half_of_the_classes_is_hidden_by_default_and_the_other_half_next():
    tasks = make_tasks(n_splits=2)
    assert [len(task.hidden) for task in tasks] == [3, 3]
    assert sorted(np.concatenate([task.hidden for task in tasks])) == list(range(6))
    odd = np.where(Y == 5, 4, Y)
    assert [len(task.hidden) for task in make_tasks(y=odd)] == [2, 2, 2]


def test_all_subsets_can_be_asked_for():
    y = np.repeat(np.arange(4), 4)
    tasks = make_tasks(None, y, np.zeros((16, 1)), np.ones(16, int), n_splits=6)
    assert len({tuple(task.hidden) for task in tasks}) == 6
    counts = Counter(code for task in tasks for code in task.hidden.tolist())
    assert set(counts.values()) == {3}


@pytest.mark.parametrize("n_hidden", [2, 3, 4, np.int64(2)])
def test_number_of_hidden_classes(n_hidden):
    for task in make_tasks(HiddenClasses(n_hidden=n_hidden)):
        assert len(task.hidden) == n_hidden
        shown = set(task.y[task.sample_domain > 0])
        assert len(shown) == N_CLASSES - n_hidden


# rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("with_target", [False, True])
@pytest.mark.parametrize("n_shots", [0, 2])
def test_every_row_has_its_place(with_target, n_shots):
    for task in make_tasks(HiddenClasses(with_target=with_target), n_shots=n_shots):
        assert len(task.X) == len(task.y) == len(task.sample_domain)
        # rows of the source, each once, and of the target, where asked for
        expected = np.arange(N) if with_target else SOURCE
        assert_array_equal(np.sort(numbers(task)), expected)
        assert_array_equal(task.X, X[numbers(task)])

        is_hidden = np.isin(Y, task.hidden)
        assert_array_equal(
            np.sort(numbers(task, task.sample_domain < 0)), np.flatnonzero(is_hidden)
        )
        source = numbers(task, task.sample_domain >= 0)
        assert not is_hidden[source].any()
        assert with_target == bool(set(source) & set(TARGET))

        # train and test are ascending, apart, and together all rows; only hidden rows are tested
        assert_array_equal(np.sort(np.append(task.train, task.test)), np.arange(len(task.X)))
        assert (np.diff(task.train) > 0).all() and (np.diff(task.test) > 0).all()
        assert (task.sample_domain[task.test] < 0).all()
        # a quarter of each hidden class
        tested = Counter(Y[numbers(task, task.test)].tolist())
        assert tested == dict.fromkeys(task.hidden.tolist(), N_EACH // 4)


@pytest.mark.parametrize("with_target", [False, True])
@pytest.mark.parametrize("n_shots", [0, 1, 3])
def test_labels_are_shown_hidden_or_few(with_target, n_shots):
    for task in make_tasks(HiddenClasses(with_target=with_target), n_shots=n_shots):
        truth = Y[numbers(task)].astype(float)
        is_source = task.sample_domain >= 0
        expected = np.where(np.isin(numbers(task), TARGET), np.nan, truth)
        assert_array_equal(task.y[is_source], expected[is_source])
        assert_array_equal(task.y[task.test], truth[task.test])
        trained = task.train[~is_source[task.train]]
        is_known = task.y[trained] >= 0
        assert_array_equal(task.y[trained][is_known], truth[trained][is_known])
        assert set(task.y[trained][~is_known]) == {-1}
        kept = Counter(task.y[trained][is_known].astype(int).tolist())
        assert kept == (dict.fromkeys(task.hidden.tolist(), n_shots) if n_shots else {})


def test_unlabelled_source_rows_stay_so():
    y = Y.astype(float)
    unlabelled = SOURCE[::5]
    y[unlabelled] = np.nan
    for task in make_tasks(y=y, n_shots=1):
        places = np.flatnonzero(np.isin(numbers(task), unlabelled))
        assert len(places) == len(unlabelled)
        assert np.isnan(task.y[places]).all()
        assert (task.sample_domain[places] >= 0).all()
        assert set(places) <= set(task.train)
        # nothing else lacks its label
        assert np.isnan(task.y).sum() == len(unlabelled)


@pytest.mark.parametrize("n_shots", [0, 2])
@pytest.mark.parametrize("with_target", [False, True])
def test_labels_of_the_target_are_not_read(n_shots, with_target):
    criterion = HiddenClasses(with_target=with_target)
    expected = make_tasks(criterion, n_shots=n_shots)
    for garbage in (0, 5, 77, 0.5, np.nan, np.inf, "a", None, object(), [1, 2]):
        y = Y.astype(object)
        for row in TARGET:
            y[row] = garbage
        assert_same_tasks(make_tasks(criterion, y, n_shots=n_shots), expected)


# names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "names",
    [
        np.array([-1, 0, 1, 2, 3, 4]),
        np.array([-3, -2, -1, 5, 6, 700]),
        np.array(list("abcdef")),
        np.array(["-1", "a", "b", "c", "d", "e"]),
        np.array(["a", "b", "c", "d", "e", "f"], dtype=object),
    ],
    ids=lambda names: str(names[0]),
)
def test_names_of_classes_change_nothing_else(names):
    expected = make_tasks(n_shots=2)
    for y_target in (names[0], names[-1]):
        y = names[np.where(TAGS < 0, 0, Y)]
        y[TARGET] = y_target
        tasks = make_tasks(y=y, n_shots=2)
        for task, other in zip(tasks, expected, strict=True):
            assert_array_equal(task.hidden, names[other.hidden])
            assert task.hidden.dtype.kind in "iU"
        assert_same_tasks([task[:-1] for task in tasks], [task[:-1] for task in expected])


def test_source_rows_of_class_minus_one_are_rows_of_a_class():
    y = np.where(TAGS < 0, 3, Y - 1)
    tasks = make_tasks(y=y, n_splits=2)
    assert sorted(np.concatenate([task.hidden for task in tasks])) == [-1, 0, 1, 2, 3, 4]
    assert not any(np.isnan(task.y).any() for task in tasks)


# rows of other kinds ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert", [pd.DataFrame, np.ndarray.tolist, lambda X: X.reshape(N, 2, 1, 1)]
)
def test_rows_of_any_kind(convert):
    converted = convert(X)
    for task, expected in zip(make_tasks(X=converted), make_tasks(), strict=True):
        assert type(task.X) is type(converted)
        assert_array_equal(np.asarray(task.X).reshape(-1, 2), expected.X)
        assert_same_tasks([task[1:]], [expected[1:]])


def test_any_sign_of_a_tag_counts():
    tags = np.where(TAGS >= 0, np.arange(N) % 3, -1 - np.arange(N) % 3)
    assert_same_tasks(make_tasks(tags=tags), make_tasks())


def test_inputs_unchanged():
    arrays = [X.copy(), Y.copy(), TAGS.copy()]
    list(HiddenClasses(with_target=True).make_tasks(*arrays, n_splits=3, n_shots=2, random_state=0))
    for array, expected in zip(arrays, (X, Y, TAGS), strict=True):
        assert_array_equal(array, expected)


# randomness -------------------------------------------------------------------------------------


def test_int_gives_the_same_tasks_at_each_call():
    assert_same_tasks(make_tasks(n_shots=2), make_tasks(n_shots=2))
    state = np.random.RandomState(0)
    assert_same_tasks(make_tasks(n_shots=2), make_tasks(n_shots=2, random_state=state))
    again = make_tasks(n_shots=2, random_state=state)  # moved on
    with pytest.raises(AssertionError):
        assert_same_tasks(again, make_tasks(n_shots=2))
    subsets = {
        tuple(tuple(task.hidden) for task in make_tasks(random_state=seed)) for seed in range(5)
    }
    assert len(subsets) > 1


@pytest.mark.parametrize("random_state", [0, None])
def test_global_state_is_left_alone(random_state):
    before = pickle.dumps(np.random.get_state())  # noqa: NPY002
    first = make_tasks(n_shots=1, random_state=random_state)
    second = make_tasks(n_shots=1, random_state=random_state)
    assert pickle.dumps(np.random.get_state()) == before  # noqa: NPY002
    if random_state is None:
        with pytest.raises(AssertionError):
            assert_same_tasks(first, second)


# numbers of labels ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y_target, n_shots",
    [
        ([0] * 3 + [1] * 5 + [-1] * 9, 4),
        ([0] * 3 + [np.nan] * 9, 3),
        (["a", "b", "b", "-1", "-1"], 2),  # 1.5, and numpy rounds to even
        ([0, 1, 2, -1], 1),
        ([0, None, None], 1),
        ([-1, -1], 1),
        ([None, None], 1),
    ],
)
def test_shots_are_the_mean_number_of_labels_a_class(y_target, n_shots):
    y_target = np.array(y_target, dtype=object)
    assert HiddenClasses().resolve_n_shots(Y[SOURCE], y_target) == n_shots
    assert HiddenClasses(n_shots=7).resolve_n_shots(Y[SOURCE], y_target) == 7


def test_shots_are_at_most_half_of_the_smallest_source_class():
    y_target = np.repeat([0, 1], 50)
    y_source = np.repeat([0.0, 1.0, np.nan], [11, 30, 5])
    assert HiddenClasses().resolve_n_shots(y_source, y_target) == 5
    assert HiddenClasses(n_shots=9).resolve_n_shots(y_source, y_target) == 9


@pytest.mark.parametrize(
    "n_shots, error, message",
    [
        (0, ValueError, "n_shots == 0, must be >= 1"),
        (1.5, TypeError, "n_shots must be an instance of int"),
        ("auto", TypeError, "n_shots must be an instance of int"),
    ],
)
def test_bad_n_shots_raises(n_shots, error, message):
    with pytest.raises(error, match=message):
        HiddenClasses(n_shots=n_shots).resolve_n_shots(Y[SOURCE], Y[TARGET])


# errors -----------------------------------------------------------------------------------------


def drop_classes(n_left):
    return np.where((TAGS >= 0) & (n_left <= Y), 0, Y)


@pytest.mark.parametrize(
    "criterion, kwargs, error, message",
    [
        ({}, {"y": drop_classes(3)}, ValueError, "at least 4 classes .* got 3. .*'seed_stability'"),
        ({}, {"y": np.full(N, np.nan)}, ValueError, "at least 4 classes .* got 0"),
        ({"n_hidden": 1}, {}, ValueError, "n_hidden == 1, must be >= 2"),
        ({"n_hidden": 5}, {}, ValueError, "n_hidden == 5, must be <= 4"),
        ({"n_hidden": 2.0}, {}, TypeError, "n_hidden must be an instance of int"),
        ({"n_hidden": "half"}, {}, TypeError, "n_hidden must be an instance of int"),
        (
            {"n_hidden": 2},
            {"n_splits": 16},
            ValueError,
            "n_splits of at most 15, the number of ways to hide 2 of 6 classes, got 16",
        ),
        (
            {},
            {"y": np.where((Y == 3) & (np.cumsum(Y == 3) > 3), 4, Y)},
            ValueError,
            "at least 4 rows of each source class, .* got 3 of .*3.* Leave such classes out",
        ),
        ({}, {"n_shots": 7}, ValueError, "at least 7 rows of each hidden class .* n_shots"),
        ({}, {"y": Y + 0.5}, ValueError, "Unknown label type|the source's labels"),
    ],
)
def test_what_cannot_be_hidden_raises(criterion, kwargs, error, message):
    with pytest.raises(error, match=message):
        make_tasks(HiddenClasses(**criterion), **kwargs)


def test_four_rows_of_four_classes_suffice():
    y = np.repeat(list("abcd"), 4)
    for task in make_tasks(None, y, np.zeros((16, 1)), np.ones(16, int), n_splits=6, n_shots=3):
        assert sorted(task.y[task.test]) == sorted(task.y[task.train[8:]])[::3]


# a parameter object -----------------------------------------------------------------------------


def test_constructor_only_assigns():
    params = {"n_hidden": object(), "scoring": object(), "n_shots": object(), "with_target": 3}
    criterion = HiddenClasses(**params)
    assert vars(criterion) == criterion.get_params() == params


def test_copies_and_representation():
    criterion = HiddenClasses(n_hidden=2, with_target=True)
    assert repr(criterion) == "HiddenClasses(n_hidden=2, with_target=True)"
    for copied in (clone(criterion), pickle.loads(pickle.dumps(criterion))):
        assert copied is not criterion
        assert_same_tasks(make_tasks(copied), make_tasks(criterion))
