import itertools
import pickle

import numpy as np
import pytest
from sklearn.model_selection import KFold

from sklearn_ckm.datasets import keep_few_labels

Y = np.random.default_rng(0).permutation(np.repeat([3, 5, 8], [6, 9, 30]))


def global_state():
    return pickle.dumps(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize("n_per_class", [0, 1, 4, 6, np.int64(2)])
def test_exactly_so_many_rows_of_each_class_keep_their_label(n_per_class):
    y = keep_few_labels(Y, n_per_class, random_state=0)
    is_kept = y != -1
    np.testing.assert_array_equal(y[is_kept], Y[is_kept])
    assert [np.count_nonzero(y == label) for label in (3, 5, 8)] == [n_per_class] * 3
    assert y.dtype == Y.dtype and y.shape == Y.shape


@pytest.mark.parametrize("seed", range(5))
def test_draws_are_nested(seed):
    kept = [set(np.flatnonzero(keep_few_labels(Y, n, random_state=seed) != -1)) for n in range(7)]
    for fewer, more in itertools.pairwise(kept):
        assert fewer < more


def test_every_row_is_drawn_equally_often():
    y = np.array([0, 1, 0, 1, 0, 0])
    counts = sum(keep_few_labels(y, 1, random_state=seed) != -1 for seed in range(1000))
    # Standard deviations are 14 for the zeros and 16 for the ones.
    np.testing.assert_allclose(counts[y == 0], 250, atol=60)
    np.testing.assert_allclose(counts[y == 1], 500, atol=60)


def test_deterministic_in_the_random_state():
    first, same, other, instance = (
        keep_few_labels(Y, 2, random_state=random_state)
        for random_state in (0, 0, 1, np.random.RandomState(0))
    )
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(first, instance)
    assert not np.array_equal(first, other)


def test_no_random_state_draws_anew_and_leaves_the_global_state():
    before = global_state()
    draws = {keep_few_labels(Y, 3).tobytes() for _ in range(5)}
    assert len(draws) > 1
    assert global_state() == before


def test_labels_are_copied():
    before = Y.copy()
    y = keep_few_labels(Y, 6, random_state=0)
    np.testing.assert_array_equal(Y, before)
    assert not np.shares_memory(y, Y)


@pytest.mark.parametrize(
    "y",
    [["a", "b", "b", "a"], np.array(["a", "b", "b", "a"]), np.array(["a", "b", "b", "a"], object)],
    ids=["list", "string", "object"],
)
def test_string_labels_become_objects(y):
    y_few = keep_few_labels(y, 1, random_state=0)
    assert y_few.dtype == object
    assert sorted(y_few.tolist(), key=str) == [-1, -1, "a", "b"]
    assert all(few in (-1, full) for few, full in zip(y_few, y, strict=True))
    again = keep_few_labels(y, 1, random_state=0, unlabelled=None)
    assert again.tolist() == [None if label == -1 else label for label in y_few]


@pytest.mark.parametrize(
    "dtype, unlabelled, expected",
    [
        (np.uint8, -1, np.int16),
        (np.int32, -1, np.int32),
        (np.uint8, 255, np.uint8),
        (np.int64, np.nan, np.float64),
        (np.float32, -1, np.float32),
        (bool, -1, object),
        (np.int64, "?", object),
    ],
)
def test_dtype_holds_labels_and_unlabelled(dtype, unlabelled, expected):
    y = np.array([0, 1, 1, 0]).astype(dtype)
    y_few = keep_few_labels(y, 1, random_state=0, unlabelled=unlabelled)
    assert y_few.dtype == expected
    hidden = y_few[~np.isin(y_few, [0, 1])]
    np.testing.assert_array_equal(hidden, np.array([unlabelled, unlabelled], dtype=expected))


@pytest.mark.parametrize("hidden", [-1, np.nan])
def test_rows_without_label_are_no_class(hidden):
    y = np.array([0, 0, hidden, 1, 1])
    y_few = keep_few_labels(y, 2, random_state=0)
    assert y_few.tolist() == [0, 0, -1, 1, 1]


def test_rows_without_label_among_strings():
    y = ["a", -1, "b", "a", "b"]
    assert keep_few_labels(y, 2).tolist() == y
    few = keep_few_labels(y, 1, random_state=0)
    assert keep_few_labels(few, 1).tolist() == few.tolist()


def test_pandas_labels():
    pandas = pytest.importorskip("pandas")
    for labels in (Y, Y.astype(str)):
        expected = keep_few_labels(labels, 2, random_state=0)
        series = pandas.Series(labels, index=np.arange(len(labels))[::-1])
        np.testing.assert_array_equal(keep_few_labels(series, 2, random_state=0), expected)


@pytest.mark.parametrize("dtype", ["string", "category", "object", "str"])
def test_missing_labels_of_pandas(dtype):
    pandas = pytest.importorskip("pandas")
    y = pandas.Series(["a", "b", None, "a"], dtype=dtype)
    few = keep_few_labels(y, 1, random_state=0)
    assert few[2] == -1 and few[1] == "b" and few.tolist().count("a") == 1


@pytest.mark.parametrize("dtype", ["U2", "O", np.dtypes.StringDType()])
def test_text_of_the_mark_is_no_class(dtype):
    y = np.array(["a", "-1", "a", "b"], dtype=dtype)
    few = keep_few_labels(y, 1, random_state=0)
    assert few[1] == -1 and few[3] == "b" and few.tolist().count("a") == 1
    few = keep_few_labels(np.array(["a", "none", "b"]), 1, unlabelled="none")
    assert few.tolist() == ["a", "none", "b"]


@pytest.mark.parametrize("n_per_class", [-1, 1.0, True, None, "2"])
def test_invalid_number_raises(n_per_class):
    message = f"Expected n_per_class as an integer from 0 on, got {n_per_class!r}; pass how many"
    with pytest.raises(ValueError, match=message):
        keep_few_labels(Y, n_per_class)


def test_classes_with_too_few_rows_raise():
    message = r"at least 10 rows of each class, got \{3: 6, 5: 9\}; pass n_per_class up to 6, or"
    with pytest.raises(ValueError, match=message):
        keep_few_labels(Y, 10)
    with pytest.raises(ValueError, match=r"at least 2 rows of each class, got \{'b': 1\}; pass"):
        keep_few_labels(["a", "a", "b"], 2)


@pytest.mark.parametrize("y", [Y[:, np.newaxis], 3])
def test_labels_of_another_shape_raise(y):
    with pytest.raises(ValueError, match=r"Expected y of shape \(n_samples,\), got \(.*\); pass"):
        keep_few_labels(y, 1)


def test_labels_that_cannot_be_sorted_raise():
    with pytest.raises(
        TypeError, match=r"Expected labels y that can be sorted, got types .* 'str'"
    ):
        keep_few_labels(np.array([0, "a"], dtype=object), 1)


def test_none_is_no_class():
    assert keep_few_labels(["a", None, "b"], 1).tolist() == ["a", -1, "b"]


@pytest.mark.parametrize("seed", range(5))
def test_labels_are_spread_over_the_folds_of_the_same_seed(seed):
    y = np.arange(200) % 4
    is_labelled = keep_few_labels(y, 8, random_state=seed) >= 0
    folds = KFold(4, shuffle=True, random_state=seed).split(y)
    counts = [is_labelled[test].sum() for _, test in folds]
    assert max(counts) < 20  # 8 of 32 are expected


def test_few_rows_of_the_mark_do_not_count_as_a_class():
    y = np.array(["a", "a", "none", "b", "b"])
    few = keep_few_labels(y, 2, unlabelled="none")
    assert few.tolist() == y.tolist()
