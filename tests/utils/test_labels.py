import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_ckm.utils._labels import check_labels, encode_labels


def encode(y, **kwargs):
    return encode_labels(check_labels(y, len(y)), **kwargs)


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
        (np.array(["b", "a"], dtype=np.dtypes.StringDType()), [1, 0], ["a", "b"]),
        (pl.Series([7, 3, 7]), [1, 0, 1], [3, 7]),
        (pl.Series(["b", "a"], dtype=pl.Categorical), [1, 0], ["a", "b"]),
        ([True, np.True_, False], [1, 1, 0], [False, True]),
        (np.array([np.int8(7), np.int64(3), 7], dtype=object), [1, 0, 1], [3, 7]),
        (np.array([np.str_("b"), "a"], dtype=object), [1, 0], ["a", "b"]),
        ([2**63, -1, 2**63 + 1], [1, 0, 2], [-1, 2**63, 2**63 + 1]),
        ([2**70 + 1, 2**70], [1, 0], [2**70, 2**70 + 1]),
        (np.array([2**64 - 1, 5], dtype=np.uint64), [1, 0], [5, 2**64 - 1]),
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


DAYS = ["2020-03-01", "NaT", "2019-03-01"]


@pytest.mark.parametrize("unit", ["D", "s", "ns"])
@pytest.mark.parametrize("unlabelled", [None, -1])
def test_dates_are_labels(unit, unlabelled):
    codes, classes = encode(np.array(DAYS, dtype=f"M8[{unit}]"), unlabelled=unlabelled)
    assert codes.tolist() == [1, -1, 0]
    assert classes.dtype == f"M8[{unit}]"
    assert (classes == np.array(["2019-03-01", "2020-03-01"], dtype="M8[D]")).all()


def test_whole_numbers_beside_nan_are_integers():
    assert encode(np.array([7.0, np.nan, 3.0]))[1].dtype == np.int64


@pytest.mark.parametrize("missing", [None, np.nan, pd.NA])
@pytest.mark.parametrize("unlabelled", [None, -1])
def test_all_missing_gives_no_class(missing, unlabelled):
    codes, classes = encode([missing, missing], unlabelled=unlabelled)
    assert codes.tolist() == [-1, -1]
    assert len(classes) == 0


# labels, their codes and classes where -1 is no class, and the same where it is
MARKED = {
    "list": ([7, -1, 3], [1, -1, 0], [3, 7], [-1, 3, 7]),
    "int8": (np.array([7, -1, 3], dtype=np.int8), [1, -1, 0], [3, 7], [-1, 3, 7]),
    "float": (np.array([7.0, -1.0, 3.0]), [1, -1, 0], [3, 7], [-1, 3, 7]),
    "float and NaN": (np.array([np.nan, -1.0, 3.0]), [-1, -1, 0], [3], [-1, 3]),
    "None": ([7, -1, None], [0, -1, -1], [7], [-1, 7]),
    "numpy text": (np.array(["b", "-1", "a"]), [1, -1, 0], ["a", "b"], ["-1", "a", "b"]),
    "wide text": (np.array(["bbbbb", "-1"]), [0, -1], ["bbbbb"], ["-1", "bbbbb"]),
    "bytes": (np.array([b"b", b"-1", b"a"]), [1, -1, 0], [b"a", b"b"], [b"-1", b"a", b"b"]),
    "text": (["b", "-1", None, "a"], [1, -1, -1, 0], ["a", "b"], ["-1", "a", "b"]),
    "object text": (np.array(["b", "-1"], dtype=object), [0, -1], ["b"], ["-1", "b"]),
    "pandas ints": (pd.Series([7, pd.NA, -1], dtype="Int64"), [0, -1, -1], [7], [-1, 7]),
    "pandas text": (pd.Series(["b", pd.NA, "-1"], dtype="string"), [0, -1, -1], ["b"], ["-1", "b"]),
    "pandas category": (pd.Series(["b", "-1"], dtype="category"), [0, -1], ["b"], ["-1", "b"]),
    "polars": (pl.Series([7, None, -1]), [0, -1, -1], [7], [-1, 7]),
    "numpy ints": (np.array([np.int8(7), np.int64(-1)], object), [0, -1], [7], [-1, 7]),
    "numpy floats": (np.array([np.float32(7), np.float64(-1)], object), [0, -1], [7], [-1, 7]),
    "numpy strings": (
        np.array([np.str_("b"), np.str_("-1")], object),
        [0, -1],
        ["b"],
        ["-1", "b"],
    ),
    "huge ints": (
        [2**63, -1, 2**63 + 1],
        [0, -1, 1],
        [2**63, 2**63 + 1],
        [-1, 2**63, 2**63 + 1],
    ),
    "huger ints": ([2**70, -1], [0, -1], [2**70], [-1, 2**70]),
    "nothing else": ([-1, -1], [-1, -1], [], [-1]),
}


@pytest.mark.parametrize(("y", "codes", "classes", "with_marker"), MARKED.values(), ids=MARKED)
def test_marker_means_unlabelled_where_it_is_asked_for(y, codes, classes, with_marker):
    got_codes, got_classes = encode(y, unlabelled=-1)
    assert got_codes.tolist() == codes
    assert got_classes.tolist() == classes
    assert encode(y)[1].tolist() == with_marker


@pytest.mark.parametrize(
    ("y", "codes", "classes"),
    [
        (np.array([True, False]), [1, 0], [False, True]),
        ([True, -1, False], [1, -1, 0], [False, True]),
        ([True, None, False, -1], [1, -1, 0, -1], [False, True]),
        (np.array([np.True_, -1, np.False_], dtype=object), [1, -1, 0], [False, True]),
        (pd.Series([True, pd.NA], dtype="boolean"), [0, -1], [True]),
        (np.array([255, 1], dtype=np.uint8), [1, 0], [1, 255]),  # 255 is -1 in eight bits
        (np.array([2**64 - 1, 1], dtype=np.uint64), [1, 0], [1, 2**64 - 1]),
        ([" -1", "-01", "-1.0"], [0, 1, 2], [" -1", "-01", "-1.0"]),
    ],
    ids=["bool", "bool list", "bool None", "numpy bool", "pandas", "uint8", "uint64", "text"],
)
def test_what_is_not_the_marker_is_a_class(y, codes, classes):
    got_codes, got_classes = encode(y, unlabelled=-1)
    assert got_codes.tolist() == codes
    assert got_classes.tolist() == classes
    assert (got_classes.dtype == bool) == isinstance(classes[0], bool)


def test_durations_are_never_the_marker():
    codes, classes = encode(np.array([-1, 5, "NaT"], dtype="m8[s]"), unlabelled=-1)
    assert codes.tolist() == [0, 1, -1]
    assert classes.astype(int).tolist() == [-1, 5]


@pytest.mark.parametrize("y", [np.array([True, False]), [True, False], [np.True_, np.False_]])
@pytest.mark.parametrize("marker", [0, 1])
def test_truth_values_are_never_the_marker(y, marker):
    codes, classes = encode(y, unlabelled=marker)
    assert codes.tolist() == [1, 0]
    assert classes.tolist() == [False, True]


@pytest.mark.parametrize("marker", [-1, 0, 99])
def test_marker_may_be_another_number(marker):
    codes, classes = encode([5, marker, 7], unlabelled=marker)
    assert codes.tolist() == [0, -1, 1]
    assert classes.tolist() == [5, 7]


@pytest.mark.parametrize("y", [np.array([1.0, np.inf]), [1, -np.inf], np.full(3, np.inf)], ids=str)
@pytest.mark.parametrize("unlabelled", [None, -1])
def test_infinity_is_no_class(y, unlabelled):
    with pytest.raises(ValueError, match="Expected class names in y, got infinity"):
        encode(y, unlabelled=unlabelled)


@pytest.mark.parametrize("y", [[1, "a"], ["a", 1.0, None], np.array([1, "a"], dtype=object)])
def test_mixed_types_raise(y):
    with pytest.raises(TypeError, match=r"labels in y_src to be of one type, got \[.*'str'\]"):
        encode_labels(check_labels(y, len(y)), "y_src")
    with pytest.raises(TypeError, match=r"labels in y to be of one type"):
        encode([*y, -1], unlabelled=-1)


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
    with pytest.raises(ValueError, match="continuous"):
        encode([*y, -1], unlabelled=-1)


def test_tables_of_labels_raise():
    with pytest.raises(ValueError, match=r"Expected y to have shape \(n_samples,\), got \(2, 2\)"):
        check_labels(np.zeros((2, 2)), 2)
    with pytest.raises(ValueError, match=r"got \(\)"):
        check_labels(np.array(3), 1)


@pytest.mark.parametrize("n_samples", [1, 3])
def test_wrong_length_raises(n_samples):
    with pytest.raises(ValueError, match=f"in y_src, got 2 labels for {n_samples} rows"):
        check_labels([0, 1], n_samples, "y_src")


@pytest.mark.parametrize("unlabelled", [None, -1])
@pytest.mark.parametrize("dtype", [float, object])
def test_does_not_change_the_labels(unlabelled, dtype):
    y = np.array([7.0, np.nan, -1.0], dtype=dtype)
    y.flags.writeable = False
    encode(y, unlabelled=unlabelled)
    np.testing.assert_array_equal(y.astype(float), [7.0, np.nan, -1.0])
