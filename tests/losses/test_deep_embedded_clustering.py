import numpy as np
import pytest
import torch
from _oracles import leaves, loop_softmax, loop_squared_distances, random_clusters, to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from torch.nn.functional import kl_div

from sklearn_ckm.losses import (
    deep_embedded_clustering_loss,
    squared_distances,
    student_t_log_probabilities,
    target_distribution,
)


def loop_student_t(distances, alpha):
    rows = []
    for row in distances:
        kernel = [(1 + d / alpha) ** (-(alpha + 1) / 2) for d in row]
        rows.append([value / sum(kernel) for value in kernel])
    return np.array(rows)


def loop_target_distribution(q):
    masses = [sum(row[j] for row in q) for j in range(q.shape[1])]
    rows = []
    for row in q:
        weights = [value**2 / mass for value, mass in zip(row, masses, strict=True)]
        rows.append([weight / sum(weights) for weight in weights])
    return np.array(rows)


def loop_divergence(p, q):
    """Mean over rows of KL(p | q)."""
    total = 0.0
    for p_row, q_row in zip(p, q, strict=True):
        total += sum(a * np.log(a / b) if a > 0 else 0.0 for a, b in zip(p_row, q_row, strict=True))
    return total / len(p)


def random_assignments(n_samples=12, n_clusters=4, *, scale=1.0, seed=0):
    logits = np.random.default_rng(seed).normal(scale=scale, size=(n_samples, n_clusters))
    return loop_softmax(logits)


def entropies(p):
    return -(p * np.log(p)).sum(1)


def target_of(q):
    return target_distribution(torch.tensor(q).log()).numpy()


seeds = st.integers(0, 10_000)


# Student's t assignments --------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_assignments_equal_loop(device, alpha):
    distances = loop_squared_distances(*random_clusters())
    log_q = student_t_log_probabilities(torch.tensor(distances, device=device), alpha=alpha)
    np.testing.assert_allclose(
        np.exp(to_numpy(log_q)), loop_student_t(distances, alpha), rtol=1e-12
    )


def test_closed_form_of_one_degree_of_freedom(device):
    distances = loop_squared_distances(*random_clusters())
    kernel = 1 / (1 + distances)
    log_q = student_t_log_probabilities(torch.tensor(distances, device=device))
    expected = kernel / kernel.sum(1, keepdims=True)
    np.testing.assert_allclose(np.exp(to_numpy(log_q)), expected, rtol=1e-12)


def test_many_degrees_of_freedom_are_a_gaussian():
    distances = loop_squared_distances(*random_clusters())
    expected = loop_softmax(-distances / 2)
    few, many = (
        student_t_log_probabilities(torch.tensor(distances), alpha=alpha).exp().numpy()
        for alpha in (1.0, 1e9)
    )
    assert np.abs(few - expected).max() > 0.1
    assert np.abs(many - expected).max() < 1e-7


@settings(max_examples=30, deadline=None)
@given(seed=seeds, scale=st.floats(1e-6, 1e6), alpha=st.floats(1e-2, 1e3))
def test_rows_of_assignments_sum_to_one_and_favour_the_nearest(seed, scale, alpha):
    distances = torch.tensor(loop_squared_distances(*random_clusters(seed=seed, scale=scale)))
    q = student_t_log_probabilities(distances, alpha=alpha).exp()
    torch.testing.assert_close(q.sum(1), torch.ones(12).double(), rtol=0, atol=1e-12)
    nearest, others = distances.min(1).indices, torch.arange(12)
    assert (q[others, nearest] >= q.amax(1) * (1 - 1e-12)).all()


def test_row_on_a_centre_far_from_the_others_belongs_to_it():
    distances = torch.tensor([[0.0, 1e8], [0.0, 3.0]], dtype=torch.float64)
    q = student_t_log_probabilities(distances).exp()
    assert q[0, 0].item() == pytest.approx(1, abs=2e-8)
    assert q[1].tolist() == pytest.approx([0.8, 0.2], rel=1e-14)  # kernels 1 and 1/4


def test_assignments_are_finite_where_the_kernel_leaves_single_precision(device):
    # The broken variant, powers before logarithms, loses every row.
    distances = torch.tensor([[1e30, 2e30], [3e30, 1e30]], device=device)
    log_q = student_t_log_probabilities(distances, alpha=3.0)
    assert log_q.exp().flatten().tolist() == pytest.approx([0.8, 0.2, 0.1, 0.9], rel=1e-4)
    kernel = (1 + distances / 3) ** -2
    assert (kernel / kernel.sum(1, keepdim=True)).isnan().all()


# the target distribution --------------------------------------------------------------------------


def test_target_by_hand(device):
    q = torch.tensor([[0.8, 0.2], [0.4, 0.6]], dtype=torch.float64, device=device)
    # masses 1.2 and 0.8
    first, second = np.array([0.64 / 1.2, 0.04 / 0.8]), np.array([0.16 / 1.2, 0.36 / 0.8])
    expected = [first / first.sum(), second / second.sum()]
    np.testing.assert_allclose(to_numpy(target_distribution(q.log())), expected, rtol=1e-13)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, scale=st.floats(0.1, 10))
def test_target_equals_loop_and_rows_sum_to_one(seed, scale):
    q = random_assignments(scale=scale, seed=seed)
    p = target_of(q)
    np.testing.assert_allclose(p, loop_target_distribution(q), rtol=1e-9, atol=1e-300)
    np.testing.assert_allclose(p.sum(1), 1, rtol=1e-12)


@pytest.mark.parametrize("n_clusters", [1, 2, 7])
def test_target_of_even_assignments_is_even(n_clusters):
    q = np.full((9, n_clusters), 1 / n_clusters)
    np.testing.assert_allclose(target_of(q), q, rtol=1e-13)


@settings(max_examples=30, deadline=None)
@given(seed=seeds, scale=st.floats(0.1, 3))
def test_target_is_sharper_where_the_clusters_are_balanced(seed, scale):
    q = random_assignments(scale=scale, seed=seed)
    balanced = np.vstack([np.roll(q, shift, axis=1) for shift in range(4)])  # equal masses
    assert (entropies(target_of(balanced)) < entropies(balanced)).all()


def test_target_favours_the_smaller_cluster():
    q = np.array([[0.9, 0.1]] * 9 + [[0.5, 0.5]])
    assert target_of(q)[-1, 1] > 0.8
    assert target_of(np.array([[0.9, 0.1], [0.1, 0.9], [0.5, 0.5]]))[-1, 1] == pytest.approx(0.5)


def test_target_of_the_original_code_is_the_same():
    """The original layer scales the weights 1/f to a mean of one, which cancels in the rows."""
    q = random_assignments()
    weight = 1 / q.sum(0)
    weight *= len(weight) / weight.sum()
    expected = q**2 * weight
    expected /= expected.sum(1, keepdims=True)
    np.testing.assert_allclose(target_of(q), expected, rtol=1e-12)


def test_target_of_a_batch_is_not_that_of_the_whole():
    q = random_assignments(200)
    rows = np.arange(16)
    assert np.abs(target_of(q)[rows] - target_of(q[rows])).max() > 0.01


def test_target_does_not_depend_on_the_order_of_rows_and_follows_that_of_clusters():
    rng = np.random.default_rng(1)
    q = random_assignments()
    rows, clusters = rng.permutation(12), rng.permutation(4)
    np.testing.assert_allclose(
        target_of(q[rows][:, clusters]), target_of(q)[rows][:, clusters], rtol=1e-12
    )


def test_target_is_finite_in_single_precision_where_a_cluster_holds_next_to_nothing(device):
    log_q = torch.tensor([[0.0, -80.0], [-1e-6, -200.0]], device=device)
    p = target_distribution(log_q)
    assert torch.isfinite(p).all()
    assert p.sum(1).tolist() == pytest.approx([1, 1])


# the loss -----------------------------------------------------------------------------------------


def test_loss_equals_loop_and_the_divergence_of_torch(device):
    q, p = random_assignments(), random_assignments(seed=1)
    log_q, target = torch.tensor(q, device=device).log(), torch.tensor(p, device=device)
    loss = deep_embedded_clustering_loss(log_q, target).item()
    assert loss == pytest.approx(loop_divergence(p, q), rel=1e-12)
    assert loss == pytest.approx(kl_div(log_q, target, reduction="batchmean").item(), rel=1e-12)


@pytest.mark.parametrize("n_clusters", [2, 4, 9])
def test_default_reduction_of_torch_is_too_small_by_the_number_of_clusters(n_clusters):
    q, p = random_assignments(12, n_clusters), random_assignments(12, n_clusters, seed=1)
    log_q, p = torch.tensor(q).log(), torch.tensor(p)
    with pytest.warns(UserWarning, match="batchmean"):
        default = kl_div(log_q, p, reduction="mean").item()
    loss = deep_embedded_clustering_loss(log_q, p).item()
    assert loss == pytest.approx(n_clusters * default, rel=1e-12)
    assert loss > 0.1


@settings(max_examples=30, deadline=None)
@given(seed=seeds, scale=st.floats(0.01, 5))
def test_loss_is_positive_unless_the_distributions_are_equal(seed, scale):
    q, p = (
        random_assignments(scale=scale, seed=seed),
        random_assignments(scale=scale, seed=seed + 1),
    )
    q, p = torch.tensor(q), torch.tensor(p)
    assert deep_embedded_clustering_loss(q.log(), q).item() == pytest.approx(0, abs=1e-14)
    assert deep_embedded_clustering_loss(q.log(), p) > 0
    # one row apart is enough
    assert deep_embedded_clustering_loss(q.log(), torch.cat([p[:1], q[1:]])) > 0


def test_loss_by_hand_with_zeros_in_the_target():
    q = torch.tensor([[0.25, 0.75], [0.5, 0.5]]).log().requires_grad_()
    loss = deep_embedded_clustering_loss(q, torch.tensor([[1.0, 0.0], [0.5, 0.5]]))
    (gradient,) = torch.autograd.grad(loss, q)
    assert loss.item() == pytest.approx(np.log(4) / 2, rel=1e-6)
    assert gradient.tolist() == [[-0.5, 0.0], [-0.25, -0.25]]


def test_loss_of_repeated_rows_is_the_same():
    q, p = torch.tensor(random_assignments()), torch.tensor(random_assignments(seed=1))
    once = deep_embedded_clustering_loss(q.log(), p)
    twice = deep_embedded_clustering_loss(q.repeat(2, 1).log(), p.repeat(2, 1))
    assert twice.item() == pytest.approx(once.item(), rel=1e-13)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.5])
def test_gradients_are_the_published_ones(device, alpha):
    """Eqs. 4 and 5 of the paper, over the number of samples, with the factor of any alpha."""
    z, centers = random_clusters()
    q = loop_student_t(loop_squared_distances(z, centers), alpha)
    p = loop_target_distribution(q)
    expected_z, expected_centers = np.zeros_like(z), np.zeros_like(centers)
    for i in range(len(z)):
        for j in range(len(centers)):
            difference = z[i] - centers[j]
            pull = (alpha + 1) / alpha * (p[i, j] - q[i, j]) / (1 + difference @ difference / alpha)
            expected_z[i] += pull * difference / len(z)
            expected_centers[j] -= pull * difference / len(z)

    inputs = leaves(device, z, centers)
    log_q = student_t_log_probabilities(squared_distances(*inputs), alpha=alpha)
    loss = deep_embedded_clustering_loss(log_q, torch.tensor(p, device=device))
    got = torch.autograd.grad(loss, inputs)
    np.testing.assert_allclose(to_numpy(got[0]), expected_z, rtol=1e-10, atol=1e-14)
    np.testing.assert_allclose(to_numpy(got[1]), expected_centers, rtol=1e-10, atol=1e-14)


@pytest.mark.parametrize("alpha", [0.5, 1.0, 2.5])
def test_gradcheck(alpha):
    inputs = leaves("cpu", *random_clusters(5, 3, 2))
    p = torch.tensor(random_assignments(5, 3))

    def loss(z, centers):
        log_q = student_t_log_probabilities(squared_distances(z, centers), alpha=alpha)
        return deep_embedded_clustering_loss(log_q, p)

    assert torch.autograd.gradcheck(loss, inputs)


def test_functions_do_not_change_their_inputs():
    distances = torch.tensor(loop_squared_distances(*random_clusters()))
    log_q = torch.tensor(random_assignments()).log()
    p = torch.tensor(random_assignments(seed=1))
    copies = distances.clone(), log_q.clone(), p.clone()
    student_t_log_probabilities(distances, alpha=2.0)
    target_distribution(log_q)
    deep_embedded_clustering_loss(log_q, p)
    for tensor, before in zip((distances, log_q, p), copies, strict=True):
        assert torch.equal(tensor, before)
