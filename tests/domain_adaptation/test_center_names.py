import numpy as np
import pytest
from numpy.testing import assert_array_equal

from sklearn_ckm.domain_adaptation._center_names import name_centers


@pytest.mark.parametrize("named", [[3, 5], ["a", "b"], [True, False], [0.5, 1.5]])
def test_classes_stay_as_they_are_where_each_centre_has_one(named):
    named = np.array(named)
    assert name_centers(named, 2, "auto") is named
    assert name_centers(named, 2, named[0]) is named  # there is no other centre to be named


@pytest.mark.parametrize("n_clusters", [3, 9])
@pytest.mark.parametrize(
    "named, unknown_label, classes, kind",
    [
        ([3, 5], "auto", [3, 5, -1], "i"),
        ([0.5, 1.5], "auto", [0.5, 1.5, -1], "O"),
        (["a", "b"], "auto", ["a", "b", "unknown"], "U"),
        (["a", "b"], "a much longer name", ["a", "b", "a much longer name"], "U"),
        ([3, 5], "other", [3, 5, "other"], "O"),
        (["a", "b"], 0, ["a", "b", 0], "O"),
        ([3, 5], (1, 2), [3, 5, (1, 2)], "O"),
    ],
)
def test_one_class_more_in_the_dtype_of_the_others(named, unknown_label, classes, kind, n_clusters):
    answer = name_centers(np.array(named), n_clusters, unknown_label)
    assert answer.tolist() == classes
    assert answer.dtype.kind == kind


def test_small_integers_are_not_cut():
    assert_array_equal(name_centers(np.array([3, 5], dtype=np.uint8), 3, "auto"), [3, 5, -1])
    assert_array_equal(name_centers(np.array([3, 5], dtype=np.int8), 3, 1000), [3, 5, 1000])


@pytest.mark.parametrize(
    "named, unknown_label", [([3, -1], "auto"), (["unknown"], "auto"), ([7], 7)]
)
def test_name_of_a_labelled_class_raises(named, unknown_label):
    with pytest.raises(ValueError, match=r"unknown_label that is no target class, got .*Choose"):
        name_centers(np.array(named), 4, unknown_label)


@pytest.mark.parametrize("unit", ["D", "ns"])
def test_times_stay_times(unit):
    named = np.array(["2020-01-04", "2020-01-05"], dtype=f"M8[{unit}]")
    assert list(name_centers(named, 3, "auto")) == [*named, "unknown"]
    with pytest.raises(ValueError, match="no target class"):
        name_centers(named, 3, named[1])
