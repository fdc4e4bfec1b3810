import pickle
from itertools import permutations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group
from sklearn.datasets import make_blobs
from sklearn.metrics import silhouette_score

from sklearn_ckm.metrics import neighborhood_agreement_score


def global_state():
    return pickle.dumps(np.random.get_state())  # noqa: NPY002


def brute_force_score(X, labels, n_neighbors, weight):
    """Row by row, from all distances."""
    distances = cdist(X, X)
    np.fill_diagonal(distances, np.inf)
    n_samples = len(X)
    agreement, chance = np.empty(n_samples), np.empty(n_samples)
    for i in range(n_samples):
        neighbors = np.argsort(distances[i])[:n_neighbors]
        agreement[i] = np.mean([labels[j] == labels[i] for j in neighbors])
        chance[i] = np.mean([labels[j] == labels[i] for j in range(n_samples) if j != i])
    observed, expected = np.average(agreement, weights=weight), np.average(chance, weights=weight)
    return (observed - expected) / (1 - expected)


@pytest.mark.parametrize("n_neighbors", [1, 4, 12])
@pytest.mark.parametrize("is_weighted", [False, True])
def test_equals_brute_force(n_neighbors, is_weighted):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(40, 3))
    labels = (X[:, 0] > 0) + (X[:, 1] > 1).astype(int)
    weight = rng.uniform(0.1, 5, size=40) if is_weighted else None
    score = neighborhood_agreement_score(X, labels, n_neighbors=n_neighbors, sample_weight=weight)
    assert score == pytest.approx(brute_force_score(X, labels, n_neighbors, weight), abs=1e-12)


def test_by_hand():
    # Nearest neighbours: 0 -> 1, 1 -> 0, 2 -> 1 and 3 -> 2. Rows 0, 1 and 3 agree: A = 3/4.
    # One of the three other rows shares the label of any row: E = 1/3.
    X = [[0.0], [1.0], [2.5], [4.5]]
    score = neighborhood_agreement_score(X, ["a", "a", "b", "b"], n_neighbors=1)
    assert score == pytest.approx((3 / 4 - 1 / 3) / (1 - 1 / 3))


def test_by_hand_with_weights():
    # As above, the disagreeing row with weight 3 of 6: A = 1/2, E = 1/3.
    X = [[0.0], [1.0], [2.5], [4.5]]
    score = neighborhood_agreement_score(
        X, ["a", "a", "b", "b"], n_neighbors=1, sample_weight=[1, 1, 3, 1]
    )
    assert score == pytest.approx((1 / 2 - 1 / 3) / (1 - 1 / 3))


def test_unweighted_mean_over_all_permutations_is_zero():
    X = np.random.default_rng(0).normal(size=(7, 2))
    scores = [
        neighborhood_agreement_score(X, labels, n_neighbors=2)
        for labels in set(permutations([0, 0, 0, 1, 1, 2, 3]))
    ]
    assert np.ptp(scores) > 0.5
    assert np.mean(scores) == pytest.approx(0, abs=1e-12)


@pytest.mark.parametrize("shares", [[0.5, 0.5], [0.9, 0.1], [0.2] * 5])
def test_random_labels_score_about_zero(shares):
    rng = np.random.default_rng(0)
    X = rng.normal(size=(1500, 4))
    labels = rng.choice(len(shares), size=1500, p=shares)
    weight = rng.uniform(0, 2, size=1500)
    assert abs(neighborhood_agreement_score(X, labels)) < 0.03
    assert abs(neighborhood_agreement_score(X, labels, sample_weight=weight)) < 0.03


def test_separated_blobs_score_one_and_each_wrong_merge_or_split_less():
    X, y = make_blobs(300, centers=[[0, 0], [50, 0], [0, 50]], random_state=0)
    split = np.where(y == 2, 2 + (np.arange(300) % 2), y)
    assert neighborhood_agreement_score(X, y) == 1.0
    assert neighborhood_agreement_score(X, split) < 0.8
    # Merging whole blobs leaves every neighbourhood pure: the score cannot count clusters.
    assert neighborhood_agreement_score(X, np.minimum(y, 1)) == 1.0


def test_wrong_rows_lower_the_score():
    X, y = make_blobs(300, centers=[[0, 0], [50, 0], [0, 50]], random_state=0)
    scores = []
    for n_wrong in (0, 30, 90, 180):
        labels = y.copy()
        labels[:n_wrong] = (labels[:n_wrong] + 1) % 3
        scores.append(neighborhood_agreement_score(X, labels))
    assert scores == sorted(scores, reverse=True) and len(set(scores)) == 4


def test_collapsing_an_embedding_raises_the_silhouette_in_it_but_not_this_score():
    rng = np.random.default_rng(0)
    X = rng.normal(size=(300, 5))
    labels = rng.integers(3, size=300)
    collapsed = np.eye(3)[labels] + 1e-3 * rng.normal(size=(300, 3))
    assert silhouette_score(collapsed, labels) > 0.99
    assert abs(neighborhood_agreement_score(X, labels)) < 0.05


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.floats(-12, 12), st.floats(-1e7, 1e7))
def test_invariant_to_scale_rotation_and_translation(seed, log_scale, shift):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(30, 20))
    labels = rng.integers(3, size=30)
    rotation = ortho_group.rvs(20, random_state=seed)
    moved = 10.0**log_scale * (X @ rotation + shift)
    expected = neighborhood_agreement_score(X, labels, n_neighbors=4)
    assert neighborhood_agreement_score(moved, labels, n_neighbors=4) == pytest.approx(expected)


@pytest.mark.parametrize("scale", [1e-200, 1e200])
def test_extreme_scales_neither_vanish_nor_overflow(scale):
    X, y = make_blobs(60, centers=[[0, 0], [50, 0]], random_state=0)
    assert neighborhood_agreement_score(X * scale, y) == 1.0


@settings(deadline=None, max_examples=30)
@given(st.integers(0, 10**6), st.integers(1, 40), st.integers(1, 6))
def test_at_most_one_and_invariant_to_names(seed, n_neighbors, n_clusters):
    rng = np.random.default_rng(seed)
    X = rng.normal(size=(25, 2))
    labels = rng.integers(n_clusters, size=25)
    score = neighborhood_agreement_score(X, labels, n_neighbors=n_neighbors)
    named = np.array([f"cluster {-label}" for label in labels])
    assert score <= 1
    assert neighborhood_agreement_score(X, named, n_neighbors=n_neighbors) == score


def test_rows_of_weight_zero_are_as_if_absent():
    rng = np.random.default_rng(0)
    X, labels = rng.normal(size=(50, 2)), rng.integers(2, size=50)
    weight = (np.arange(50) % 3 > 0).astype(float)
    kept = weight > 0
    score = neighborhood_agreement_score(X, labels, n_neighbors=3, sample_weight=weight)
    assert score == neighborhood_agreement_score(X[kept], labels[kept], n_neighbors=3)
    assert score != neighborhood_agreement_score(X, labels, n_neighbors=3)


def test_one_cluster_scores_zero():
    X = np.random.default_rng(0).normal(size=(20, 2))
    assert neighborhood_agreement_score(X, np.full(20, "a")) == 0.0
    assert neighborhood_agreement_score(X, np.arange(20)) == 0.0


def test_few_rows_reduce_the_neighbours_and_score_zero():
    X, labels = [[0.0], [1.0], [5.0]], [0, 0, 1]
    assert neighborhood_agreement_score(X, labels) == pytest.approx(0, abs=1e-12)
    reduced = neighborhood_agreement_score(X, labels, n_neighbors=2)
    assert neighborhood_agreement_score(X, labels, n_neighbors=50) == reduced
    assert neighborhood_agreement_score(X, labels, n_neighbors=1) > reduced


def test_identical_rows_are_not_their_own_neighbours():
    # Each row has one twin of the other cluster at distance zero.
    X = np.repeat(np.arange(10.0), 2)[:, np.newaxis]
    labels = np.tile([0, 1], 10)
    expected = (0 - 9 / 19) / (1 - 9 / 19)
    score = neighborhood_agreement_score(X, labels, n_neighbors=1)
    assert score == pytest.approx(expected)


def test_constant_rows_have_a_finite_score():
    score = neighborhood_agreement_score(np.ones((30, 2)), np.arange(30) % 2, n_neighbors=5)
    assert np.isfinite(score)


def test_sampling_is_seeded_and_close_to_all_rows():
    X, y = make_blobs(1500, centers=5, cluster_std=2.5, random_state=0)
    sampled = [
        neighborhood_agreement_score(X, y, sample_size=700, random_state=seed)
        for seed in (0, 0, 1, np.random.RandomState(0))
    ]
    assert sampled[0] == sampled[1] == sampled[3] != sampled[2]
    everything = neighborhood_agreement_score(X, y, sample_size=None)
    assert neighborhood_agreement_score(X, y, sample_size=1500) == everything
    assert sampled[0] == pytest.approx(everything, abs=0.06)


def test_no_random_state_draws_anew_and_leaves_the_global_state():
    X, y = make_blobs(200, centers=3, cluster_std=4, random_state=0)
    before = global_state()
    scores = {
        neighborhood_agreement_score(X, y, sample_size=50, random_state=random_state)
        for random_state in (None, None, None, None, 0)
    }
    assert len(scores) > 1
    assert global_state() == before


def test_leaves_its_inputs():
    X, y = make_blobs(50, random_state=0)
    X_before, y_before = X.copy(), y.copy()
    neighborhood_agreement_score(X, y)
    np.testing.assert_array_equal(X, X_before)
    np.testing.assert_array_equal(y, y_before)


X_VALID, LABELS_VALID = np.arange(8.0).reshape(4, 2), [0, 0, 1, 1]


@pytest.mark.parametrize(
    "X, labels, params, error, message",
    [
        (X_VALID[:2], [0, 1], {}, ValueError, "at least 3 rows of positive weight, got 2"),
        (X_VALID, LABELS_VALID, {"sample_weight": [1, 1, 0, 0]}, ValueError, "weight, got 2"),
        (X_VALID, [0, 1, 1], {}, ValueError, "inconsistent numbers of samples"),
        (X_VALID, [], {}, ValueError, "Expected at least one label in labels, got none"),
        (X_VALID, [0, 1, np.nan, 1], {}, ValueError, "every row of labels, got 1 missing"),
        (X_VALID.reshape(4, 1, 1, 2), LABELS_VALID, {}, ValueError, "array with dim 4"),
        (X_VALID[:, 0], LABELS_VALID, {}, ValueError, "Expected 2D array"),
        (X_VALID * np.nan, LABELS_VALID, {}, ValueError, "Input X contains NaN"),
        (X_VALID, LABELS_VALID, {"n_neighbors": 0}, ValueError, "n_neighbors == 0, must be >= 1"),
        (X_VALID, LABELS_VALID, {"n_neighbors": 1.5}, TypeError, "n_neighbors must be"),
        (X_VALID, LABELS_VALID, {"sample_size": 2}, ValueError, "sample_size == 2, must be >= 3"),
        (X_VALID, LABELS_VALID, {"sample_size": "a"}, TypeError, "sample_size must be"),
        (X_VALID, LABELS_VALID, {"sample_weight": [1, 1]}, ValueError, r"\(4,\), got \(2,\)"),
        (X_VALID, LABELS_VALID, {"sample_weight": [1, 1, 1, -1]}, ValueError, "non-negative"),
    ],
)
def test_invalid_input_raises(X, labels, params, error, message):
    with pytest.raises(error, match=message):
        neighborhood_agreement_score(X, labels, **params)
