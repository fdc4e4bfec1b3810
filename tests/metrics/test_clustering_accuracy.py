from itertools import permutations

import numpy as np
import pandas as pd
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn.metrics.cluster import contingency_matrix

from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.metrics._clustering_accuracy import _weighted_contingency

label_pairs = st.integers(1, 30).flatmap(
    lambda n: st.tuples(
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
        st.lists(st.integers(0, 4), min_size=n, max_size=n),
    )
)


def brute_force_accuracy(y_true, y_pred, sample_weight):
    """The best over every naming of the clusters, spare names standing for no class."""
    clusters = np.unique(y_pred)
    names = [*np.unique(y_true), *(f"spare {i}" for i in range(len(clusters)))]
    return max(
        sum(
            weight
            for true, cluster, weight in zip(y_true, y_pred, sample_weight, strict=True)
            if naming[list(clusters).index(cluster)] == true
        )
        for naming in permutations(names, len(clusters))
    ) / sum(sample_weight)


def purity(y_true, y_pred):
    return contingency_matrix(y_true, y_pred).max(axis=0).sum() / len(y_true)


@pytest.mark.parametrize("n_classes, n_clusters", [(3, 3), (2, 4), (4, 2), (1, 3), (3, 1)])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_equals_brute_force_over_all_namings(n_classes, n_clusters, is_weighted):
    rng = np.random.default_rng(n_classes * 10 + n_clusters)
    y_true, y_pred = rng.integers(n_classes, size=25), rng.integers(n_clusters, size=25)
    weight = rng.uniform(0, 3, size=25) if is_weighted else np.ones(25)
    score = clustering_accuracy(y_true, y_pred, sample_weight=weight if is_weighted else None)
    assert score == pytest.approx(brute_force_accuracy(y_true, y_pred, weight), abs=1e-12)


def test_by_hand_matching_beats_the_greedy_choice():
    # Rows are classes, columns clusters: [[3, 2], [2, 0]]. Greedy takes 3 + 0, the best is 2 + 2.
    y_true = [0, 0, 0, 0, 0, 1, 1]
    y_pred = [0, 0, 0, 1, 1, 0, 0]
    assert clustering_accuracy(y_true, y_pred) == pytest.approx(4 / 7)


def test_by_hand_weights_decide_the_matching():
    assert clustering_accuracy([0, 1, 1], [5, 5, 5], sample_weight=[3, 1, 1]) == pytest.approx(0.6)
    assert clustering_accuracy([0, 1, 1], [5, 5, 5]) == pytest.approx(2 / 3)


def test_spare_clusters_count_as_errors():
    assert clustering_accuracy([0, 0, 0, 0], [0, 1, 2, 3]) == 0.25
    assert clustering_accuracy([0, 1, 2, 3], [7, 7, 7, 7]) == 0.25


def test_contingency_with_unit_weights_equals_scikit_learn():
    rng = np.random.default_rng(0)
    y_true, y_pred = rng.integers(5, size=50), rng.integers(3, size=50)
    np.testing.assert_array_equal(
        _weighted_contingency(y_true, y_pred, np.ones(50)), contingency_matrix(y_true, y_pred)
    )


@settings(deadline=None)
@given(label_pairs)
def test_bounded_by_one_over_k_and_by_purity(labels):
    y_true, y_pred = labels
    score = clustering_accuracy(y_true, y_pred)
    n_names = max(len(set(y_true)), len(set(y_pred)))
    assert 1 / n_names - 1e-12 <= score <= purity(y_true, y_pred) + 1e-12
    assert score == pytest.approx(clustering_accuracy(y_pred, y_true), abs=1e-12)


@settings(deadline=None)
@given(label_pairs, st.permutations(range(5)), st.randoms(use_true_random=False))
def test_invariant_to_names_and_row_order(labels, names, random):
    y_true, y_pred = labels
    score = clustering_accuracy(y_true, y_pred)
    assert clustering_accuracy(y_true, [names[label] for label in y_pred]) == score
    assert clustering_accuracy([f"class {label}" for label in y_true], y_pred) == score
    rows = list(range(len(y_true)))
    random.shuffle(rows)
    shuffled = clustering_accuracy([y_true[i] for i in rows], [y_pred[i] for i in rows])
    assert shuffled == pytest.approx(score, abs=1e-12)


@settings(deadline=None)
@given(st.lists(st.integers(0, 4), min_size=1, max_size=40), st.permutations("abcde"), st.data())
def test_permuted_truth_scores_exactly_one(y_true, names, data):
    weight = st.floats(0.001, 1000)
    sample_weight = data.draw(st.lists(weight, min_size=len(y_true), max_size=len(y_true)))
    y_pred = [names[label] for label in y_true]
    assert clustering_accuracy(y_true, y_pred) == 1.0
    weighted = clustering_accuracy(y_true, y_pred, sample_weight=sample_weight)
    assert weighted == pytest.approx(1.0, abs=1e-12) and weighted <= 1.0


@settings(deadline=None)
@given(label_pairs, st.data())
def test_integer_weights_equal_repeated_rows(labels, data):
    y_true, y_pred = labels
    counts = data.draw(st.lists(st.integers(0, 3), min_size=len(y_true), max_size=len(y_true)))
    if not any(counts):
        counts[0] = 1
    repeated = clustering_accuracy(np.repeat(y_true, counts), np.repeat(y_pred, counts))
    weighted = clustering_accuracy(y_true, y_pred, sample_weight=counts)
    assert weighted == pytest.approx(repeated, abs=1e-12)


@pytest.mark.parametrize(
    "y_true",
    [
        ["b", "a", "b"],
        np.array(["b", "a", "b"], dtype=object),
        np.array(["b", 1, "b"], dtype=object),
        [True, False, True],
        [2.5, -1.0, 2.5],
        torch.tensor([4, -1, 4]),
        np.array([[1], [0], [1]]),
    ],
)
def test_labels_of_any_dtype(y_true):
    assert clustering_accuracy(y_true, [0, 9, 0]) == 1.0
    assert clustering_accuracy([0, 9, 0], y_true) == 1.0
    assert clustering_accuracy(y_true, [0, 0, 9]) == pytest.approx(2 / 3)


def test_returns_a_float_and_leaves_its_inputs():
    y_true, y_pred, weight = np.array([0, 1, 1]), np.array([1, 0, 0]), np.array([1.0, 2.0, 3.0])
    copies = y_true.copy(), y_pred.copy(), weight.copy()
    assert type(clustering_accuracy(y_true, y_pred, sample_weight=weight)) is float
    for array, copy in zip((y_true, y_pred, weight), copies, strict=True):
        np.testing.assert_array_equal(array, copy)


@pytest.mark.parametrize(
    "y_true, y_pred, sample_weight, message",
    [
        ([], [], None, "Expected at least one label in y_true, got none"),
        ([0], [], None, "Expected at least one label in y_pred, got none"),
        ([0, 1], [0], None, "inconsistent numbers of samples"),
        ([[0, 1], [1, 0]], [0, 1], None, "y should be a 1d array"),
        ([0.0, np.nan], [0, 1], None, r"every row of y_true, got 1 missing .* first in row 1"),
        ([0, 1], np.array([None, 1], dtype=object), None, r"every row of y_pred, got 1 missing"),
        (["a", "b", np.nan], [0, 1, 1], None, r"every row of y_true, got 1 missing .* in row 2"),
        (["a", None, "b"], [0, 1, 1], None, "got 1 missing"),
        (pd.Series(["a", None], dtype="string"), [0, 1], None, "got 1 missing"),
        (pd.Series(pd.to_datetime(["2020", None])), [0, 1], None, "got 1 missing"),
        (np.array([1, "NaT"], dtype="m8[ns]"), [0, 1], None, "got 1 missing"),
        ([0, 1], [0, 1], [1.0], r"sample_weight of shape \(2,\), got \(1,\)"),
        ([0, 1], [0, 1], [1.0, -1.0], "Expected non-negative weights .* from -1 to 1"),
        ([0, 1], [0, 1], [0.0, 0.0], "at least one of them positive, got values from 0 to 0"),
        ([0, 1], [0, 1], [0.0, np.inf], "sample_weight contains infinity"),
    ],
)
def test_invalid_input_raises(y_true, y_pred, sample_weight, message):
    with pytest.raises(ValueError, match=message):
        clustering_accuracy(y_true, y_pred, sample_weight=sample_weight)


def test_missing_strings_of_any_length_raise():
    labels = np.array(["a", np.nan, "b"], dtype=np.dtypes.StringDType(na_object=np.nan))
    with pytest.raises(ValueError, match="1 missing"):
        clustering_accuracy(labels, [0, 1, 2])
