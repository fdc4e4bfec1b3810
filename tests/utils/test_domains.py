import numpy as np
import pandas as pd
import polars as pl
import pytest

from sklearn_ckm.utils._domains import check_sample_domain, check_target_rows, split_domains

TAGS = [1, 0, -1, -2]


@pytest.mark.parametrize(
    "tags",
    [
        TAGS,
        tuple(TAGS),
        np.array(TAGS, dtype=np.int8),
        np.array(TAGS, dtype=np.float64),
        np.array(TAGS)[:, None],
        pd.Series(TAGS, index=list("abcd")),
        pd.Series(TAGS, dtype="Int64"),
        pl.Series(TAGS),
    ],
    ids=lambda tags: f"{type(tags).__module__}-{getattr(tags, 'dtype', '')}-{np.ndim(tags)}",
)
def test_tags_of_any_kind(tags):
    checked = check_sample_domain(tags, 4)
    assert checked.dtype == np.int64
    assert checked.tolist() == TAGS
    is_source, is_target = split_domains(4, tags)
    assert is_source.tolist() == [True, True, False, False]
    assert is_target.tolist() == [False, False, True, True]


def test_zero_is_source():
    assert split_domains(2, [0, -1])[0].tolist() == [True, False]


@pytest.mark.parametrize("n_samples", [3, 5])
def test_wrong_length_raises(n_samples):
    with pytest.raises(ValueError, match=f"got 4 tags in sample_domain for {n_samples} rows"):
        check_sample_domain(TAGS, n_samples)


@pytest.mark.parametrize(
    "tags", [["s", "t"], [True, False], [None, 1], np.array([0, "a"], dtype=object)]
)
def test_wrong_dtype_raises(tags):
    with pytest.raises(ValueError, match=r"Expected integers in sample_domain.*got the dtype"):
        check_sample_domain(tags, 2)


@pytest.mark.parametrize("bad", [0.5, np.nan, np.inf])
def test_value_that_is_no_integer_raises(bad):
    with pytest.raises(ValueError, match=f"Expected integers in sample_domain.*{bad}"):
        check_sample_domain([1.0, bad, -1.0], 3)


def test_table_of_tags_raises():
    with pytest.raises(
        ValueError, match=r"Expected sample_domain of shape \(n_samples,\), got the shape \(2, 2\)"
    ):
        check_sample_domain(np.zeros((2, 2)), 2)


def test_without_target_rows_raises():
    with pytest.raises(ValueError, match=r"Expected target rows .*got only the tags \[0, 3\]"):
        check_target_rows([0, 3, 0], 3)
    with pytest.raises(ValueError, match="Expected target rows"):
        split_domains(3, [0, 3, 0])


def test_without_source_rows_raises():
    with pytest.raises(ValueError, match=r"Expected source rows .*got only the tags \[-2, -1\]"):
        split_domains(3, [-1, -2, -1])
    assert check_target_rows([-1, -2, -1], 3).all()


def test_does_not_change_the_tags():
    tags = np.array(TAGS, dtype=np.int64)
    check_sample_domain(tags, 4)
    assert tags.tolist() == TAGS


def test_huge_tags_keep_their_sign():
    assert check_sample_domain(np.array([2**64 - 1, 1], dtype=np.uint64), 2).min() > 0
    assert check_sample_domain([1e300, -1e300], 2).tolist() == [2**31 - 1, 1 - 2**31]
