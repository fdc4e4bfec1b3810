import datetime

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_array_equal
from sklearn.datasets import make_blobs

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter
from sklearn_ckm.utils import stack_domains, unstack_domains
from sklearn_ckm.utils._stack_domains import plain_labels

SMALL = {
    "n_clusters": 2,
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 1,
    "max_epochs": 1,
    "random_state": 0,
}
X_SRC = np.arange(6.0).reshape(3, 2)
X_TGT = 10 + np.arange(4.0).reshape(2, 2)
BIG = 2**53 + 1  # no float64


def assert_same_labels(y, expected):
    """Equal values, NaN included."""
    for value, wanted in zip(y.tolist(), expected, strict=True):
        assert value == wanted or (value != value and wanted != wanted)


def assert_same_types(y, expected):
    """Equal values of the same Python types, NaN included."""
    assert list(map(type, y.tolist())) == list(map(type, expected))
    assert_same_labels(y, expected)


# rows -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "convert",
    [
        np.asarray,
        np.ndarray.tolist,
        lambda X: tuple(map(tuple, X)),
        torch.from_numpy,
        lambda X: torch.from_numpy(X).requires_grad_(),
    ],
    ids=["numpy", "list", "tuple", "torch", "gradient"],
)
def test_rows_of_any_kind_become_an_array(convert):
    X, y, sample_domain = stack_domains(convert(X_SRC), [0, 1, 1], convert(X_TGT))
    assert type(X) is np.ndarray
    assert_array_equal(X, np.vstack([X_SRC, X_TGT]))
    assert y.tolist() == [0, 1, 1, -1, -1]
    assert sample_domain.tolist() == [1, 1, 1, -1, -1]
    assert sample_domain.dtype == np.int64


@pytest.mark.parametrize("dtype", ["uint8", "int16", "float16", "float32", "float64", "bool", "O"])
@pytest.mark.parametrize("shape", [(2,), (3, 4, 5)])
def test_dtype_that_both_domains_have_is_kept(dtype, shape):
    X, _, _ = stack_domains(np.ones((3, *shape), dtype), None, np.zeros((2, *shape), dtype))
    assert X.dtype == dtype
    assert X.shape == (5, *shape)


def test_bfloat16_becomes_float32():
    X, _, _ = stack_domains(torch.ones(2, 3, dtype=torch.bfloat16), None, torch.ones(2, 3))
    assert X.dtype == np.float32


def test_two_pandas_frames_give_a_frame_with_a_new_index():
    source = pd.DataFrame(X_SRC, columns=["a", "b"], index=list("xyz"))
    target = pd.DataFrame({"a": [1, 2], "b": [0.5, 0.5]}, index=list("xy"))
    X, _, _ = stack_domains(source, None, target)
    expected = pd.DataFrame(
        {"a": [*X_SRC[:, 0], 1.0, 2.0], "b": [*X_SRC[:, 1], 0.5, 0.5]}, index=range(5)
    )
    pd.testing.assert_frame_equal(X, expected)


def test_two_polars_frames_give_a_frame():
    source = pl.DataFrame(X_SRC, schema=["a", "b"])
    target = pl.DataFrame({"a": [1, 2], "b": [0.5, 0.5]})
    X, _, _ = stack_domains(source, None, target)
    assert isinstance(X, pl.DataFrame)
    assert X.columns == ["a", "b"]
    assert_array_equal(X.to_numpy(), np.vstack([X_SRC, [[1, 0.5], [2, 0.5]]]))


@pytest.mark.parametrize(
    "convert",
    [
        (pd.DataFrame, np.asarray),
        (np.asarray, pl.DataFrame),
        (pd.DataFrame, lambda X: pl.DataFrame(X, schema=["a", "b"])),
        (torch.from_numpy, pd.DataFrame),
    ],
    ids=["pandas-numpy", "numpy-polars", "pandas-polars", "torch-pandas"],
)
def test_frame_beside_something_else_gives_an_array(convert):
    X, _, _ = stack_domains(convert[0](X_SRC), None, convert[1](X_TGT))
    assert type(X) is np.ndarray
    assert_array_equal(X, np.vstack([X_SRC, X_TGT]))


@pytest.mark.parametrize("kinds", [(sp.csr_array, sp.csr_array), (sp.coo_matrix, sp.csc_array)])
def test_sparse_rows_stay_sparse(kinds):
    X, y, sample_domain = stack_domains(kinds[0](X_SRC), [0, 1, 1], kinds[1](X_TGT))
    assert X.format == "csr"
    assert_array_equal(X.toarray(), np.vstack([X_SRC, X_TGT]))
    X_src, y_src, X_tgt, _ = unstack_domains(X, y, sample_domain)
    assert_array_equal(X_src.toarray(), X_SRC)
    assert_array_equal(X_tgt.toarray(), X_TGT)
    assert y_src.tolist() == [0, 1, 1]
    with pytest.raises(ValueError, match="got one of each"):
        stack_domains(X_src, None, X_TGT)
    with pytest.raises(ValueError, match="got 2 in X_src and 1 in X_tgt"):
        stack_domains(X_src, None, X_tgt[:, :1])
    with pytest.raises(ValueError, match="Expected rows in X_tgt, got none"):
        stack_domains(X_src, None, X_tgt[:0])


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_inputs_are_left_as_they_were(frame):
    source, target = frame({"a": [0.0, 1.0]}), frame({"a": [2, 3]})
    y = np.array([0, 1])
    X, stacked, _ = stack_domains(source, y, target)
    stacked[:] = 7
    assert y.tolist() == [0, 1]
    X_arr, _, _ = stack_domains(X_SRC, None, X_TGT)
    X_arr[:] = 7
    assert X_SRC.max() == 5
    assert source.shape == target.shape == (2, 1)
    assert_array_equal(target["a"].to_numpy(), [2, 3])
    assert len(X) == 4


def images(n, *shape, dtype=np.float32):
    return np.zeros((n, *shape), dtype)


@pytest.mark.parametrize(
    "source, target, message",
    [
        (X_SRC[:, 0], X_TGT, r"Expected rows .* in X_src, got the shape \(3,\)\. A single column"),
        (X_SRC, 5, r"in X_tgt, got the shape \(\)"),
        (X_SRC[:0], X_TGT, "Expected rows in X_src, got none"),
        (X_SRC, X_TGT[:0], "Expected rows in X_tgt, got none"),
        (
            pd.DataFrame({"a": [1.0]}),
            pd.DataFrame({"a": []}, dtype=float),
            "Expected rows in X_tgt, got none",
        ),
        (
            X_SRC,
            X_TGT[:, :1],
            "same number of features in both domains, got 2 in X_src and 1 in X_tgt",
        ),
        (
            images(2, 1, 28, 28),
            images(2, 1, 16, 16),
            r"samples of one shape.*got \(1, 28, 28\) in X_src and \(1, 16, 16\) in X_tgt\. "
            "sklearn_ckm.preprocessing.ImageFormatter",
        ),
        (
            images(2, 1, 4, 4),
            images(2, 16),
            r"got \(1, 4, 4\) in X_src and \(16,\) in X_tgt\. .*ImageFormatter",
        ),
        (
            pd.DataFrame(X_SRC, columns=["a", "b"]),
            pd.DataFrame(X_TGT, columns=["b", "a"]),
            r"Expected the same columns.*got \['a', 'b'\] in X_src and \['b', 'a'\] in X_tgt",
        ),
        (
            pl.DataFrame({"a": [1]}),
            pl.DataFrame({"b": [1]}),
            r"Expected the same columns.*got \['a'\] in X_src and \['b'\] in X_tgt",
        ),
    ],
)
def test_rows_that_do_not_fit_raise(source, target, message):
    with pytest.raises(ValueError, match=message):
        stack_domains(source, None, target)


@pytest.mark.parametrize("swap", [False, True], ids=["source", "target"])
@pytest.mark.parametrize(
    "of_bytes, other",
    [
        (images(2, 1, 4, 4, dtype=np.uint8), images(2, 1, 4, 4)),
        (images(2, 1, 4, 4, dtype=np.uint8), images(2, 1, 4, 4, dtype=np.int64)),
        (images(2, 4, dtype=np.uint8), images(2, 4, dtype=np.float64)),
        (torch.zeros(2, 4, dtype=torch.uint8), torch.zeros(2, 4)),
        (pd.DataFrame(images(2, 4, dtype=np.uint8)), pd.DataFrame(images(2, 4))),
        (pl.DataFrame(images(2, 4, dtype=np.uint8)), pl.DataFrame(images(2, 4))),
        (pd.DataFrame(images(2, 4), dtype="UInt8"), images(2, 4, dtype=np.float64)),
    ],
    ids=["images", "int-images", "table", "torch", "pandas", "polars", "nullable"],
)
def test_bytes_beside_floats_raise(of_bytes, other, swap):
    pair = (other, of_bytes) if swap else (of_bytes, other)
    if isinstance(of_bytes, pd.DataFrame) and isinstance(other, np.ndarray):
        pair = tuple(pd.DataFrame(X) for X in pair)
    name = "X_tgt" if swap else "X_src"
    with pytest.raises(ValueError, match=rf"Expected one dtype.*uint8 in {name}.*ImageFormatter"):
        stack_domains(pair[0], None, pair[1])


def test_small_integers_in_tables_are_no_bytes_of_an_image():
    X, _, _ = stack_domains(images(2, 3, dtype=np.uint8), None, images(2, 3, dtype=np.int64))
    assert X.dtype == np.int64
    ages = pd.DataFrame({"age": np.array([3, 4], np.uint8), "size": [0.5, 1.5]})
    X, _, _ = stack_domains(ages, None, ages.astype(float))
    assert len(X) == 4


# labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "y_src, y_tgt, expected, kind",
    [
        # nothing known of the target: the marker is of the source's kind
        ([0, 1, 2], None, [0, 1, 2, -1, -1], "i"),
        (np.array([0, 1, 255], np.uint8), None, [0, 1, 255, -1, -1], "i"),
        (torch.tensor([0, 1, 2]), None, [0, 1, 2, -1, -1], "i"),
        (pl.Series([0, 1, 2]), None, [0, 1, 2, -1, -1], "i"),
        (pd.Series([0, 1, 2], dtype="category"), None, [0, 1, 2, -1, -1], "i"),
        (np.array([[0], [1], [2]]), None, [0, 1, 2, -1, -1], "i"),
        ([BIG, 1, 2], None, [BIG, 1, 2, -1, -1], "i"),
        (np.array([2**64 - 1, 1, 2], np.uint64), None, [2**64 - 1, 1, 2, -1, -1], "O"),
        ([0.0, np.nan, 1.0], None, [0.0, np.nan, 1.0, -1.0, -1.0], "f"),
        ([0, np.nan, 1], None, [0.0, np.nan, 1.0, -1.0, -1.0], "f"),
        (["cat", "a", "b"], None, ["cat", "a", "b", "-1", "-1"], "U"),
        (np.array(["a", "b", "c"]), None, ["a", "b", "c", "-1", "-1"], "U"),
        (np.array([b"a", b"b", b"c"]), None, [b"a", b"b", b"c", b"-1", b"-1"], "S"),
        (pd.Series(["a", "b", "c"]), None, ["a", "b", "c", "-1", "-1"], "U"),
        ([True, False, True], None, [True, False, True, -1, -1], "O"),
        (["a", 1, None], None, ["a", 1, None, -1, -1], "O"),
        (["a", None, "b"], None, ["a", None, "b", -1, -1], "O"),
        # nothing known of the source: no marker, since -1 would name a class
        (None, [5, -1], [np.nan, np.nan, np.nan, 5.0, -1.0], "f"),
        (None, [5.0, np.nan], [np.nan, np.nan, np.nan, 5.0, np.nan], "f"),
        (None, ["a", "-1"], [None, None, None, "a", "-1"], "O"),
        (None, [True, False], [None, None, None, True, False], "O"),
        (None, [None, "a"], [None, None, None, None, "a"], "O"),
        (None, [BIG, -1], [np.nan, np.nan, np.nan, BIG, -1], "O"),
        # both known
        ([-1, 0, 1], [7, -1], [-1, 0, 1, 7, -1], "i"),
        ([0, 1, 2], [np.nan, 3.0], [0.0, 1.0, 2.0, np.nan, 3.0], "f"),
        ([BIG, 1, 2], [np.nan, 3.0], [BIG, 1, 2, np.nan, 3.0], "O"),
        (["a", "b", "c"], ["bird", "-1"], ["a", "b", "c", "bird", "-1"], "U"),
        ([0, 1, 2], ["bird", "-1"], [0, 1, 2, "bird", "-1"], "O"),
        (["a", "b", "c"], [5, -1], ["a", "b", "c", 5, -1], "O"),
        (["a", "b", "c"], np.array([5, -1]), ["a", "b", "c", 5, -1], "O"),
        ([True, False, True], [5, -1], [True, False, True, 5, -1], "O"),
        ([0, 1, 2], [None, "a"], [0, 1, 2, None, "a"], "O"),
    ],
)
def test_labels_by_hand(y_src, y_tgt, expected, kind):
    _, y, _ = stack_domains(X_SRC, y_src, X_TGT, y_tgt)
    assert y.shape == (5,)
    assert y.dtype.kind == kind
    assert_same_types(y, expected)


def test_no_labels_stay_none():
    assert stack_domains(X_SRC, None, X_TGT)[1] is None
    X_src, y_src, X_tgt, y_tgt = unstack_domains(np.vstack([X_SRC, X_TGT]), None, [0, 0, 0, -1, -1])
    assert y_src is y_tgt is None
    assert_array_equal(X_src, X_SRC)
    assert_array_equal(X_tgt, X_TGT)


def test_dates_stay_dates():
    days = np.array(["2020-01-01", "2020-01-02", "2020-01-01"], dtype="datetime64[ns]")
    _, y, _ = stack_domains(X_SRC, days, X_TGT, days[:2])
    assert y.dtype == days.dtype
    _, y, _ = stack_domains(X_SRC, days, X_TGT)
    assert y.tolist() == [*days, -1, -1]
    _, y, _ = stack_domains(X_SRC, [datetime.date(2020, 1, 1)] * 3, X_TGT)
    assert y.tolist() == [datetime.date(2020, 1, 1)] * 3 + [-1, -1]


@pytest.mark.parametrize(
    "labels",
    [
        ["a\0", "b"],  # numpy's strings end before a trailing NUL
        [2**64, 1],
        [1, "a"],
        [None, "a"],
        [],
        [np.datetime64("2020-01-01T00", "ns")],
    ],
)
def test_objects_stay_objects_where_a_dtype_would_change_them(labels):
    y = np.fromiter(labels, object, len(labels))
    assert_same_types(plain_labels(y), labels)
    assert plain_labels(y).dtype == object


@pytest.mark.parametrize(
    "y_src, y_tgt, message",
    [
        ([0, 1], None, "one label per row in y_src, got 2 labels for 3 rows"),
        ([0, 1, 2], [0], "one label per row in y_tgt, got 1 labels for 2 rows"),
        (None, [0, 1, 2], "one label per row in y_tgt, got 3 labels for 2 rows"),
        (np.zeros((3, 2)), None, r"Expected y_src to have shape \(n_samples,\), got \(3, 2\)"),
    ],
)
def test_labels_that_do_not_fit_raise(y_src, y_tgt, message):
    with pytest.raises(ValueError, match=message):
        stack_domains(X_SRC, y_src, X_TGT, y_tgt)


# apart again ------------------------------------------------------------------------------------


@pytest.mark.parametrize("convert", [np.asarray, np.ndarray.tolist, torch.from_numpy])
def test_rows_come_apart_in_their_order_whatever_the_tags(convert):
    X = np.arange(10.0).reshape(5, 2)
    tags = [-3, 0, -1, 7, -1]
    X_src, y_src, X_tgt, y_tgt = unstack_domains(convert(X), list("abcde"), tags)
    assert_array_equal(X_src, X[[1, 3]])
    assert_array_equal(X_tgt, X[[0, 2, 4]])
    assert y_src.tolist() == ["b", "d"]
    assert y_tgt.tolist() == ["a", "c", "e"]


def test_frames_come_apart_as_frames():
    X = pd.DataFrame({"a": [1, 2, 3], "b": list("xyz")}, index=list("pqr"))
    X_src, _, X_tgt, _ = unstack_domains(X, None, [-1, 0, -2])
    pd.testing.assert_frame_equal(X_src, X.iloc[[1]])
    pd.testing.assert_frame_equal(X_tgt, X.iloc[[0, 2]])
    X = pl.DataFrame({"a": [1, 2, 3], "b": list("xyz")})
    X_src, _, X_tgt, _ = unstack_domains(X, None, [-1, 0, -2])
    assert X_src.equals(X[[1]])
    assert X_tgt.equals(X[[0, 2]])


def test_labels_come_apart_in_their_own_dtypes():
    X, y, tags = stack_domains(X_SRC, [0, 1, 1], X_TGT, ["a", "b"])
    _, y_src, _, y_tgt = unstack_domains(X, y, tags)
    assert y_src.dtype.kind == "i"
    assert y_tgt.dtype.kind == "U"


@pytest.mark.parametrize(
    "y, tags, message",
    [
        ([0, 1], [0, 0, -1], "one label per row in y, got 2 labels for 3 rows"),
        (None, [0, -1], "got 2 tags in sample_domain for 3 rows"),
        (None, [0, 0, 1], r"Expected target rows .* got only the tags \[0, 1\]"),
        (None, [-1, -1, -2], r"Expected source rows .* got only the tags \[-2, -1\]"),
        (None, ["s", "t", "t"], "Expected integers in sample_domain"),
    ],
)
def test_stacked_data_that_does_not_fit_raises(y, tags, message):
    with pytest.raises(ValueError, match=message):
        unstack_domains(X_SRC, y, tags)


names = st.one_of(
    st.sampled_from([st.integers(-5, 5), st.text("ab-1", max_size=3), st.booleans()]),
    st.just(st.one_of(st.integers(0, 3), st.sampled_from(["a", "b"]), st.none())),
    st.just(st.sampled_from([0.0, 2.0, float("nan")])),
)


@st.composite
def domains(draw):
    """Rows and labels of two domains, the labels of kinds of their own."""
    sizes = draw(st.tuples(st.integers(1, 5), st.integers(1, 5)))
    shape = draw(st.sampled_from([(2,), (1, 2, 3)]))
    X_src, X_tgt = (
        shift + np.arange(n * np.prod(shape), dtype=np.float32).reshape(n, *shape)
        for n, shift in zip(sizes, (0, 100), strict=True)
    )
    y_src, y_tgt = (draw(st.lists(draw(names), min_size=n, max_size=n)) for n in sizes)
    return X_src, y_src, X_tgt, y_tgt


@settings(deadline=None, max_examples=50)
@given(domains(), st.randoms(use_true_random=False))
def test_unstacking_inverts_stacking(data, random):
    X_src, y_src, X_tgt, y_tgt = data
    X, y, tags = stack_domains(*data)
    back = unstack_domains(X, y, tags)
    assert_array_equal(back[0], X_src)
    assert_array_equal(back[2], X_tgt)
    assert_same_labels(back[1], y_src)
    assert_same_labels(back[3], y_tgt)
    # the order of the rows of one domain is kept in any mixture with the other's
    rows = list(range(len(X)))
    random.shuffle(rows)
    mixed = unstack_domains(X[rows], y[rows], tags[rows])
    assert_array_equal(mixed[0], X[[i for i in rows if i < len(X_src)]])
    assert_array_equal(mixed[2], X[[i for i in rows if i >= len(X_src)]])
    again = stack_domains(*back)
    assert_array_equal(again[0], X)
    assert_array_equal(again[2], tags)
    assert_same_labels(again[1], y.tolist())


# what it is for ---------------------------------------------------------------------------------


def make_domains():
    X, y = make_blobs(n_samples=60, centers=8 * np.eye(5), random_state=0)
    return X[y < 3], y[y < 3], X[y >= 3], y[y >= 3]


X_SOURCE, Y_SOURCE, X_TARGET, Y_TARGET = make_domains()
FEW = np.where(np.arange(len(Y_TARGET)) < 12, Y_TARGET, -1)
NAMES = np.array(["bird", "cat", "dog", "eel", "fox"])


def assert_same_model(model, expected):
    for name in ("labels_", "cluster_centers_", "source_classes_"):
        assert_array_equal(getattr(model, name), getattr(expected, name))
    assert model.history_ == expected.history_
    X = np.vstack([X_SOURCE, X_TARGET])
    assert_array_equal(model.transform(X), expected.transform(X))
    assert_array_equal(model.predict_proba(X), expected.predict_proba(X))
    if hasattr(expected, "classes_"):
        assert_array_equal(model.classes_, expected.classes_)


def as_text(y):
    return np.where(y >= 0, NAMES[y], "-1")


SOURCE_LABELS = {
    "int": Y_SOURCE,
    "with -1 as a class": Y_SOURCE - 1,
    "list": Y_SOURCE.tolist(),
    "float with NaN": np.where(np.arange(len(Y_SOURCE)) % 4 == 0, np.nan, Y_SOURCE),
    "text": as_text(Y_SOURCE),
    "text with '-1' as a class": as_text(Y_SOURCE - 1),
    "objects with None": [None if i % 4 == 0 else NAMES[y] for i, y in enumerate(Y_SOURCE)],
    "bool": Y_SOURCE > 0,
    "large": Y_SOURCE + BIG,
    "none": None,
}
TARGET_LABELS = {
    "int": FEW,
    "float with NaN": np.where(FEW < 0, np.nan, FEW),
    "text": as_text(FEW),
    "text with None": [None if y < 0 else str(NAMES[y]) for y in FEW],
    "large": np.where(FEW < 0, -1, FEW + BIG),
}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("y_tgt", TARGET_LABELS)
@pytest.mark.parametrize("y_src", SOURCE_LABELS)
def test_semi_supervised_fit_of_stacked_rows_is_that_of_two_arrays(y_src, y_tgt):
    y_src, y_tgt = SOURCE_LABELS[y_src], TARGET_LABELS[y_tgt]
    expected = CKMSemiSupervisedAdapter(**SMALL).fit(X_SOURCE, y_src, X_tgt=X_TARGET, y_tgt=y_tgt)
    X, y, tags = stack_domains(X_SOURCE, y_src, X_TARGET, y_tgt)
    model = CKMSemiSupervisedAdapter(**SMALL).fit(X, y, sample_domain=tags)
    assert_same_model(model, expected)
    # and so it is after a way back
    X_src, y_src, X_tgt, y_tgt = unstack_domains(X, y, tags)
    model = CKMSemiSupervisedAdapter(**SMALL).fit(X_src, y_src, X_tgt=X_tgt, y_tgt=y_tgt)
    assert_same_model(model, expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("y_src", SOURCE_LABELS)
def test_fit_of_stacked_rows_is_that_of_two_arrays(y_src):
    y_src = SOURCE_LABELS[y_src]
    expected = CKMDomainAdapter(**SMALL).fit(X_SOURCE, y_src, X_tgt=X_TARGET)
    X, y, tags = stack_domains(X_SOURCE, y_src, X_TARGET)
    assert_same_model(CKMDomainAdapter(**SMALL).fit(X, y, sample_domain=tags), expected)
    X, y, tags = stack_domains(X_SOURCE, y_src, X_TARGET, as_text(Y_TARGET))
    assert_same_model(CKMDomainAdapter(**SMALL).fit(X, y, sample_domain=tags), expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("convert", [pd.DataFrame, pl.DataFrame, torch.from_numpy], ids=str)
def test_fit_of_stacked_frames_is_that_of_two(convert):
    if convert is torch.from_numpy:
        source, target = convert(X_SOURCE), convert(X_TARGET)
    else:
        source, target = (
            convert(dict(zip("abcde", X.T, strict=True))) for X in (X_SOURCE, X_TARGET)
        )
    expected = CKMDomainAdapter(**SMALL).fit(source, Y_SOURCE, X_tgt=target)
    X, y, tags = stack_domains(source, Y_SOURCE, target)
    model = CKMDomainAdapter(**SMALL).fit(X, y, sample_domain=tags)
    assert_array_equal(model.labels_, expected.labels_)
    assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
    names = getattr(expected, "feature_names_in_", None)
    assert_array_equal(getattr(model, "feature_names_in_", None), names)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_fit_of_stacked_images_is_that_of_two_arrays(dtype):
    rng = np.random.default_rng(0)
    source, target = rng.integers(0, 255, (2, 20, 1, 4, 4)).astype(dtype)
    expected = CKMDomainAdapter(**SMALL).fit(source, [0, 1] * 10, X_tgt=target)
    X, y, tags = stack_domains(source, [0, 1] * 10, target)
    model = CKMDomainAdapter(**SMALL).fit(X, y, sample_domain=tags)
    assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
    assert_array_equal(model.labels_, expected.labels_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_fit_of_floats_of_two_widths_is_that_of_two_arrays_up_to_rounding():
    source = X_SOURCE.astype(np.float32)
    expected = CKMDomainAdapter(**SMALL).fit(source, Y_SOURCE, X_tgt=X_TARGET)
    X, y, tags = stack_domains(source, Y_SOURCE, X_TARGET)
    model = CKMDomainAdapter(**SMALL).fit(X, y, sample_domain=tags)
    np.testing.assert_allclose(model.cluster_centers_, expected.cluster_centers_, atol=1e-5)
