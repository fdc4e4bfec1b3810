import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_ckm.utils._labels import check_labels, encode_labels


def encode(y, n_samples=None):
    return encode_labels(check_labels(y, len(y) if n_samples is None else n_samples))


@pytest.mark.parametrize(
    ("y", "codes", "classes"),
    [
        ([7, 3, 7], [1, 0, 1], [3, 7]),
        (np.array([7, 3, 7], dtype=np.uint8), [1, 0, 1], [3, 7]),
        (np.array([-1, 3, 0]), [0, 2, 1], [-1, 0, 3]),
        ([-1, -1, -1], [0, 0, 0], [-1]),
        (np.array([2.0, 1.0, 2.0]), [1, 0, 1], [1, 2]),
        (["b", "a", "b"], [1, 0, 1], ["a", "b"]),
        (np.array(["b", "a", "bb"]), [1, 0, 2], ["a", "b", "bb"]),
        (np.array(["b", "a", "b"], dtype=object), [1, 0, 1], ["a", "b"]),
        (np.array([b"b", b"a"]), [1, 0], [b"a", b"b"]),
        ([True, False, True], [1, 0, 1], [False, True]),
        (np.array([True, False]), [1, 0], [False, True]),
        (np.array([[7], [3]]), [1, 0], [3, 7]),
        (pd.Series(["b", "a", "b"], index=[9, 8, 7]), [1, 0, 1], ["a", "b"]),
        (pd.Series(["b", "a", "b"], dtype="category"), [1, 0, 1], ["a", "b"]),
        (pd.Series([7, 3, 7], dtype="Int64"), [1, 0, 1], [3, 7]),
        (pl.Series(["b", "a", "b"]), [1, 0, 1], ["a", "b"]),
        (pl.Series([7, 3, 7]), [1, 0, 1], [3, 7]),
        (pl.Series(["b", "a"], dtype=pl.Categorical), [1, 0], ["a", "b"]),
    ],
)
def test_labels_of_any_kind(y, codes, classes):
    got_codes, got_classes = encode(y)
    assert got_codes.dtype == np.int64
    assert got_codes.tolist() == codes
    assert got_classes.tolist() == classes


@pytest.mark.parametrize(
    ("y", "codes", "classes"),
    [
        ([7, None, 3], [1, -1, 0], [3, 7]),
        ([7, np.nan, 3], [1, -1, 0], [3, 7]),
        (np.array([7.0, np.nan, 3.0], dtype=np.float32), [1, -1, 0], [3, 7]),
        (np.array([7.0, np.nan, -1.0]), [1, -1, 0], [-1, 7]),
        (["b", None, "a"], [1, -1, 0], ["a", "b"]),
        (["b", float("nan"), "a"], [1, -1, 0], ["a", "b"]),
        (np.array(["b", np.float32("nan"), "a"], dtype=object), [1, -1, 0], ["a", "b"]),
        (pd.Series([7, pd.NA, 3], dtype="Int64"), [1, -1, 0], [3, 7]),
        (pd.Series(["b", pd.NA, "a"], dtype="string"), [1, -1, 0], ["a", "b"]),
        (pd.Series(["b", None, "a"], dtype="category"), [1, -1, 0], ["a", "b"]),
        (pd.Series([True, pd.NA, False], dtype="boolean"), [1, -1, 0], [False, True]),
        (pl.Series([7, None, 3]), [1, -1, 0], [3, 7]),
        (pl.Series(["b", None, "a"]), [1, -1, 0], ["a", "b"]),
        (pl.Series([True, None, False]), [1, -1, 0], [False, True]),
    ],
)
def test_missing_labels(y, codes, classes):
    got_codes, got_classes = encode(y)
    assert got_codes.tolist() == codes
    assert got_classes.tolist() == classes


def test_whole_numbers_beside_nan_are_integers():
    assert encode(np.array([7.0, np.nan, 3.0]))[1].dtype == np.int64


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
def test_all_missing_gives_no_class(missing):
    codes, classes = encode([missing, missing])
    assert codes.tolist() == [-1, -1]
    assert len(classes) == 0


@pytest.mark.parametrize("y", [[1, "a"], ["a", 1.0, None], np.array([1, "a"], dtype=object)])
def test_mixed_types_raise(y):
    with pytest.raises(TypeError, match=r"labels in y_src to be of one type, got \[.*'str'\]"):
        encode_labels(check_labels(y, len(y)), "y_src")


@pytest.mark.parametrize(
    "y",
    [
        np.array([0.5, 1.2, 3.0]),
        [0.5, 1.2, 3.0],
        [0.5, None, 1.0],
        np.array([0.5, np.nan]),
        [0, 1, 0.5],
        pl.Series([0.5, None]),
    ],
    ids=str,
)
def test_continuous_labels_raise(y):
    with pytest.raises(ValueError, match="continuous"):
        encode(y)


def test_tables_of_labels_raise():
    with pytest.raises(ValueError, match=r"Expected y to have shape \(n_samples,\), got \(2, 2\)"):
        check_labels(np.zeros((2, 2)), 2)
    with pytest.raises(ValueError, match=r"got \(\)"):
        check_labels(np.array(3), 1)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_wrong_length_raises(n_samples):
    with pytest.raises(ValueError, match=f"in y_src, got 2 labels for {n_samples} rows"):
        check_labels([0, 1], n_samples, "y_src")


def test_does_not_change_the_labels():
    y = np.array([7.0, np.nan, 3.0])
    encode(y)
    np.testing.assert_array_equal(y, [7.0, np.nan, 3.0])
