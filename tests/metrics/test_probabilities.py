from math import exp, log

import numpy as np
import pandas as pd
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.special import softmax
from sklearn.metrics import mutual_info_score

from sklearn_ckm.metrics import (
    _probabilities,
    information_maximization_score,
    nuclear_norm_score,
    soft_neighborhood_density_score,
)

SCORES = [
    information_maximization_score,
    nuclear_norm_score,
    soft_neighborhood_density_score,
]
TINY = 1e-9  # rounding


def draw_probabilities(seed, n_samples, n_clusters, sharpness=1.0):
    rng = np.random.default_rng(seed)
    return softmax(sharpness * rng.normal(size=(n_samples, n_clusters)), axis=1)


@st.composite
def probabilities(draw, min_rows=2):
    return draw_probabilities(
        draw(st.integers(0, 10**6)),
        draw(st.integers(min_rows, 12)),
        draw(st.integers(1, 6)),
        draw(st.sampled_from([0.0, 0.1, 1.0, 10.0, 300.0])),
    )


# oracles ----------------------------------------------------------------------------------------


def brute_force_entropy(distribution):
    return -sum(p * log(p) for p in distribution if p > 0)


def brute_force_density(p, temperature):
    """Row by row and pair by pair."""
    n_samples, total = len(p), 0.0
    f = [row / np.sqrt(sum(v**2 for v in row)) for row in p]
    for i in range(n_samples):
        others = [j for j in range(n_samples) if j != i]
        similarity = {
            j: exp(sum(a * b for a, b in zip(f[i], f[j], strict=True)) / temperature)
            for j in others
        }
        normaliser = sum(similarity.values())
        total += brute_force_entropy([similarity[j] / normaliser for j in others])
    return total / n_samples


@pytest.mark.parametrize("temperature", [0.01, 0.05, 0.5, 10.0])
@pytest.mark.parametrize("n_samples, n_clusters", [(2, 3), (3, 1), (23, 4)])
def test_density_equals_brute_force(n_samples, n_clusters, temperature):
    p = draw_probabilities(0, n_samples, n_clusters)
    score = soft_neighborhood_density_score(p, temperature=temperature)
    assert score == pytest.approx(brute_force_density(p, temperature), abs=1e-10)


@pytest.mark.parametrize("block_rows", [1, 2, 7, 22, 23, 24])
def test_density_is_the_same_in_blocks_of_any_size(monkeypatch, block_rows):
    p = draw_probabilities(1, 23, 4)
    expected = soft_neighborhood_density_score(p)
    assert expected == pytest.approx(brute_force_density(p, 0.05), abs=1e-10)
    monkeypatch.setattr(_probabilities, "_BLOCK_ROWS", block_rows)
    assert soft_neighborhood_density_score(p) == pytest.approx(expected, abs=1e-12)


def test_density_of_more_rows_than_a_block():
    p = draw_probabilities(2, _probabilities._BLOCK_ROWS + 3, 3)
    f = p / np.linalg.norm(p, axis=1, keepdims=True)
    similarity = np.exp((f @ f.T - 1) / 0.05)
    np.fill_diagonal(similarity, 0)
    density = similarity / similarity.sum(axis=1, keepdims=True)
    with np.errstate(divide="ignore", invalid="ignore"):
        expected = -np.nansum(density * np.log(density)) / len(p)
    assert soft_neighborhood_density_score(p) == pytest.approx(expected, abs=1e-10)


@pytest.mark.parametrize("shape", [(5, 5), (40, 3), (3, 8), (1, 4), (4, 1)])
def test_nuclear_norm_equals_the_sum_of_singular_values(shape):
    p = draw_probabilities(0, *shape)
    norm = np.sqrt(np.maximum(np.linalg.eigvalsh(p @ p.T), 0)).sum()
    assert norm == pytest.approx(np.linalg.svd(p, compute_uv=False).sum(), abs=1e-6)
    n_samples, n_clusters = shape
    expected = norm / np.sqrt(n_samples * min(n_samples, n_clusters))
    assert nuclear_norm_score(p) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("seed", range(3))
def test_information_equals_that_of_a_table_of_rows_and_clusters(seed):
    # sklearn counts pairs (row, cluster); probabilities of twelfths become counts.
    counts = np.random.default_rng(seed).multinomial(12, [0.5, 0.3, 0.1, 0.1], size=15)
    expected = mutual_info_score(None, None, contingency=counts)
    assert information_maximization_score(counts / 12) == pytest.approx(expected, abs=1e-12)


@pytest.mark.parametrize("shares", [[1.0], [0.5, 0.5], [0.7, 0.2, 0.1]])
def test_information_of_one_hot_rows_is_that_of_labels_with_themselves(shares):
    labels = np.random.default_rng(0).choice(len(shares), size=60, p=shares)
    p = np.eye(len(shares))[labels]
    # each row is a symbol of its own: H(cluster), which is also I(labels; labels)
    for partner in (labels, np.arange(60)):
        expected = mutual_info_score(partner, labels)
        assert information_maximization_score(p) == pytest.approx(expected, abs=1e-12)


# by hand ----------------------------------------------------------------------------------------


def test_information_by_hand():
    # mean (3/4, 1/4); entropies 0 and ln 2
    p = [[1.0, 0.0], [0.5, 0.5]]
    marginal = -0.75 * log(0.75) - 0.25 * log(0.25)
    assert information_maximization_score(p) == pytest.approx(marginal - log(2) / 2)


def test_nuclear_norm_by_hand():
    # symmetric, with eigenvalues 1 and 1/2
    assert nuclear_norm_score([[0.75, 0.25], [0.25, 0.75]]) == pytest.approx(1.5 / 2)
    # rank one: the Frobenius norm sqrt(3 * 1/2), over sqrt(3 * 2)
    assert nuclear_norm_score([[0.5, 0.5]] * 3) == pytest.approx(0.5)


def test_density_by_hand():
    # The first two rows are alike and at right angles to the third, at temperature 1/ln 2:
    # weights 2 and 1 in the rows of the pair, 1 and 1 in the third row.
    p = [[1.0, 0.0], [1.0, 0.0], [0.0, 1.0]]
    pair = -2 / 3 * log(2 / 3) - 1 / 3 * log(1 / 3)
    score = soft_neighborhood_density_score(p, temperature=1 / log(2))
    assert score == pytest.approx((2 * pair + log(2)) / 3)


def test_two_rows_have_one_neighbour_each():
    assert soft_neighborhood_density_score([[0.9, 0.1], [0.2, 0.8]]) == pytest.approx(0, abs=1e-12)


def test_one_cluster_is_valid():
    p = np.ones((6, 1))
    assert information_maximization_score(p) == 0.0
    assert nuclear_norm_score(p) == pytest.approx(1)
    assert soft_neighborhood_density_score(p) == pytest.approx(log(5))


def test_one_row_has_no_information():
    assert information_maximization_score([[0.3, 0.7]]) == pytest.approx(0, abs=1e-12)
    assert nuclear_norm_score([[0.0, 1.0]]) == 1.0


# what they reward -------------------------------------------------------------------------------


def test_collapsed_rows_score_lowest_but_for_the_density():
    balanced = np.eye(3)[np.arange(30) % 3]
    collapsed = np.eye(3)[np.zeros(30, int)]
    unsure = np.full((30, 3), 1 / 3)
    for score in (information_maximization_score, nuclear_norm_score):
        assert score(balanced) > score(collapsed) + 0.1
        assert score(balanced) > score(unsure) + 0.1
    density = soft_neighborhood_density_score
    assert density(collapsed) == density(unsure) == pytest.approx(log(29))
    assert density(balanced) == pytest.approx(log(9), abs=1e-3)


def test_balance_is_rewarded_as_the_docstrings_admit():
    rare = np.eye(2)[[0] * 27 + [1] * 3]
    wrong_but_balanced = np.eye(2)[[0] * 15 + [1] * 15]
    for score in (information_maximization_score, nuclear_norm_score):
        assert score(rare) < score(wrong_but_balanced)


def test_larger_logits_raise_the_information():
    logits = np.random.default_rng(0).normal(size=(200, 4))
    scores = []
    for scale in (0.5, 1.0, 2.0, 8.0):
        scores.append(information_maximization_score(softmax(scale * logits, axis=1)))
    assert scores == sorted(scores) and scores[-1] > 3 * scores[0]


def test_smaller_temperature_looks_at_fewer_neighbours():
    p = draw_probabilities(0, 40, 4)
    scores = [soft_neighborhood_density_score(p, temperature=t) for t in (1e-4, 0.01, 0.05, 1, 1e4)]
    assert scores == sorted(scores) and scores[0] < 1
    assert scores[-1] == pytest.approx(log(39), abs=1e-3)
    default = soft_neighborhood_density_score(p)
    assert default == scores[2]


# properties -------------------------------------------------------------------------------------


@settings(deadline=None, max_examples=60)
@given(probabilities())
def test_bounds(p):
    n_samples, n_clusters = p.shape
    information = information_maximization_score(p)
    assert 0 <= information <= log(min(n_samples, n_clusters)) + TINY
    assert 1 / np.sqrt(n_samples * n_clusters) - TINY <= nuclear_norm_score(p) <= 1
    assert -TINY <= soft_neighborhood_density_score(p) <= log(n_samples - 1) + TINY
    assert {type(score(p)) for score in SCORES} == {float}


@settings(deadline=None, max_examples=60)
@given(probabilities(), st.integers(0, 10**6))
@pytest.mark.parametrize("score", SCORES)
def test_invariant_to_the_order_of_rows_and_clusters(score, p, seed):
    rng = np.random.default_rng(seed)
    expected = score(p)
    assert score(p[:, rng.permutation(p.shape[1])]) == pytest.approx(expected, abs=1e-7)
    assert score(p[rng.permutation(len(p))]) == pytest.approx(expected, abs=1e-7)


@settings(deadline=None, max_examples=60)
@given(probabilities())
@pytest.mark.parametrize("score", [information_maximization_score, soft_neighborhood_density_score])
def test_an_empty_cluster_changes_nothing(score, p):
    padded = np.hstack([p, np.zeros((len(p), 1))])
    assert score(padded) == pytest.approx(score(p), abs=1e-9)


@settings(deadline=None, max_examples=60)
@given(probabilities(), st.integers(2, 4))
def test_copies_of_all_rows_change_no_mean(p, n_copies):
    copies = np.tile(p, (n_copies, 1))
    expected = information_maximization_score(p)
    assert information_maximization_score(copies) == pytest.approx(expected, abs=1e-9)
    if len(p) >= p.shape[1]:
        assert nuclear_norm_score(copies) == pytest.approx(nuclear_norm_score(p), abs=1e-7)


# inputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("score", SCORES)
def test_leaves_its_input(score):
    p = draw_probabilities(0, 10, 3)
    p[0] *= 1 + 5e-5  # within the tolerance, and brought to a sum of one in a copy
    before = p.copy()
    p.flags.writeable = False
    score(p)
    np.testing.assert_array_equal(p, before)


@pytest.mark.parametrize("score", SCORES)
def test_inputs_of_any_kind(score):
    p = draw_probabilities(0, 10, 3)
    expected = score(p)
    assert score(p.tolist()) == score(pd.DataFrame(p)) == score(np.asfortranarray(p)) == expected
    assert score(p.astype(np.float32)) == pytest.approx(expected, abs=1e-6)


@pytest.mark.parametrize("score", SCORES)
def test_rows_that_sum_to_one_but_for_rounding_are_brought_to_one(score):
    p = draw_probabilities(0, 10, 3)
    assert score(p * (1 + 5e-5)) == pytest.approx(score(p), abs=1e-12)


@pytest.mark.parametrize(
    "p, message",
    [
        ([[0.5, 0.6], [0.5, 0.5]], "non-negative and sum to one, got values from 0.5 to 0.6"),
        ([[0.5, 0.6], [0.5, 0.5]], "and sums from 1 to 1.1"),
        ([[1.5, -0.5], [0.5, 0.5]], "got values from -0.5 to 1.5 and sums from 1 to 1"),
        ([[0.0, 0.0], [0.5, 0.5]], "and sums from 0 to 1"),
        ([[2.0, -1.0], [3.0, -1.0]], "Expected rows of probabilities that are non-negative"),
        ([[np.nan, 1.0], [0.5, 0.5]], "Input probabilities contains NaN"),
        ([[np.inf, 1.0], [0.5, 0.5]], "Input probabilities contains infinity"),
        ([0.5, 0.5], "Expected 2D array, got 1D array"),
        (np.empty((0, 2)), r"Found array with 0 sample\(s\)"),
        ([["a", "b"]], "could not convert string"),
    ],
)
@pytest.mark.parametrize("score", SCORES)
def test_what_is_no_distribution_raises(score, p, message):
    with pytest.raises(ValueError, match=message):
        score(p)


def test_density_of_one_row_raises():
    with pytest.raises(ValueError, match=r"Expected at least 2 rows of probabilities, got 1\."):
        soft_neighborhood_density_score([[0.5, 0.5]])


@pytest.mark.parametrize(
    "temperature, error, message",
    [
        (0, ValueError, "temperature == 0, must be > 0"),
        (-0.1, ValueError, "temperature == -0.1, must be > 0"),
        (np.nan, ValueError, "temperature"),
        ("auto", TypeError, "temperature must be an instance of"),
        (None, TypeError, "temperature must be an instance of"),
    ],
)
def test_bad_temperature_raises(temperature, error, message):
    with pytest.raises(error, match=message):
        soft_neighborhood_density_score([[0.5, 0.5]] * 3, temperature=temperature)


def test_temperature_goes_by_name_only():
    with pytest.raises(TypeError, match="positional"):
        soft_neighborhood_density_score([[0.5, 0.5]] * 3, 0.1)


def test_normalized_information_compares_numbers_of_clusters():
    for n_clusters in (2, 5, 20):
        assert information_maximization_score(np.eye(n_clusters), normalize=True) == 1
    p = np.random.default_rng(0).dirichlet(np.ones(4), 50)
    expected = information_maximization_score(p) / np.log(4)
    assert information_maximization_score(p, normalize=True) == pytest.approx(expected)
    assert information_maximization_score(np.ones((3, 1)), normalize=True) == 0


def test_normalized_information_of_fewer_rows_than_clusters():
    p = np.eye(5)[:2]
    expected = log(2) / log(5)
    assert information_maximization_score(p, normalize=True) == pytest.approx(expected)
