import numpy as np
import pytest
import torch
from _oracles import (
    expected_distance_gradient,
    leaves,
    loop_assignment_gradient,
    loop_kmeans_gradients,
    loop_kmeans_loss,
    loop_softmax,
    loop_squared_distances,
    random_clusters,
    softmax_pullback,
    to_numpy,
    torch_state_unchanged,
)
from hypothesis import given, settings
from hypothesis import strategies as st
from scipy.stats import kstest, ortho_group

from sklearn_ckm.losses import _concrete_kmeans as module
from sklearn_ckm.losses import (
    concrete_kmeans_loss,
    squared_distances,
    standard_gumbel_like,
    straight_through_assignment,
)
from sklearn_ckm.losses._concrete_kmeans import ESTIMATORS
from sklearn_ckm.utils._random import make_generator

HARD = [name for name in ESTIMATORS if name != "soft"]
FORMS = ["A", "B"]


def assign_and_lose(z, centers, *, form="B", temperature=1.0, **kwargs):
    """The whole loss, from embeddings and centres."""
    logits = (-squared_distances(z, centers) / temperature).log_softmax(1)
    assignment, choice = straight_through_assignment(logits, **kwargs)
    return concrete_kmeans_loss(z, centers, assignment, form=form), choice


def gradients(z, centers, **kwargs):
    """Gradients with respect to the embeddings and the centres, as arrays, and the choice."""
    z, centers = leaves("cpu", z, centers)
    loss, choice = assign_and_lose(z, centers, **kwargs)
    return *map(to_numpy, torch.autograd.grad(loss, (z, centers))), choice.numpy()


def separated_clusters(seed=0):
    """Embeddings whose two nearest centres differ by at least 0.5 in squared distance."""
    z, centers = random_clusters(60, seed=seed)
    nearest = np.sort(loop_squared_distances(z, centers), axis=1)
    return z[nearest[:, 1] - nearest[:, 0] >= 0.5], centers


@pytest.fixture
def forced_choice(monkeypatch):
    """Make every row of the next assignment take the cluster of one's choosing."""

    def force(choice):
        def noise_like(logits, generator=None):
            rows = torch.arange(len(logits))
            noise = torch.zeros_like(logits)
            noise[rows, torch.as_tensor(choice)] = 1e6
            return noise

        monkeypatch.setattr(module, "standard_gumbel_like", noise_like)

    return force


# the value ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", HARD)
@pytest.mark.parametrize("relaxation", [1e-3, 0.1, 1.0, 50.0])
def test_noise_free_loss_is_the_mean_nearest_squared_distance(device, form, estimator, relaxation):
    z, centers = random_clusters()
    loss, _ = assign_and_lose(
        *leaves(device, z, centers),
        form=form,
        estimator=estimator,
        relaxation=relaxation,
        noise=0.0,
    )
    assert loss.item() == pytest.approx(loop_kmeans_loss(z, centers), rel=1e-12)


@pytest.mark.parametrize("estimator", HARD)
def test_forms_agree_in_value(estimator):
    z, centers = map(torch.tensor, random_clusters())
    losses = [
        assign_and_lose(
            z, centers, form=form, estimator=estimator, generator=make_generator(0, "cpu")
        )[0].item()
        for form in FORMS
    ]
    assert losses[0] == pytest.approx(losses[1], rel=1e-13)


def test_form_b_takes_distances_that_are_at_hand():
    z, centers = map(torch.tensor, random_clusters())
    distances = squared_distances(z, centers)
    assignment, _ = straight_through_assignment(-distances, noise=0.0)
    given = concrete_kmeans_loss(z, centers, assignment, distances=distances)
    assert given.item() == concrete_kmeans_loss(z, centers, assignment).item()


@pytest.mark.parametrize("estimator", HARD)
@pytest.mark.parametrize("dtype", [torch.float32, torch.float64])
def test_rows_are_exactly_one_hot(device, estimator, dtype):
    generator = make_generator(0, device)
    logits = 5 * torch.randn(20_000, 7, generator=generator, device=device, dtype=dtype)
    assignment, choice = straight_through_assignment(
        logits, estimator=estimator, generator=generator
    )
    assert torch.equal(assignment, torch.nn.functional.one_hot(choice, 7).to(dtype))


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=st.floats(1e-3, 1e2),
    estimator=st.sampled_from(ESTIMATORS),
    relaxation=st.floats(0.05, 20),
    noise=st.floats(0, 3),
)
def test_rows_sum_to_one(seed, scale, estimator, relaxation, noise):
    rng = np.random.default_rng(seed)
    logits = torch.tensor(rng.normal(scale=scale, size=(6, 5)))
    assignment, choice = straight_through_assignment(
        logits,
        estimator=estimator,
        relaxation=relaxation,
        noise=noise,
        generator=make_generator(seed, "cpu"),
    )
    assert (assignment >= 0).all()
    assert torch.allclose(assignment.sum(1), torch.ones(6).double(), rtol=0, atol=1e-12)
    assert torch.equal(assignment.argmax(1), choice)


@pytest.mark.parametrize("relaxation", [0.5, 1.0, 3.0])
def test_soft_assignment_is_the_softmax_of_the_relaxed_logits(relaxation):
    logits = np.random.default_rng(0).normal(size=(6, 4))
    soft, choice = straight_through_assignment(
        torch.tensor(logits), estimator="soft", relaxation=relaxation, noise=1.0
    )
    np.testing.assert_allclose(soft.numpy(), loop_softmax(logits / relaxation), rtol=1e-13)
    assert choice.tolist() == logits.argmax(1).tolist()


# randomness ---------------------------------------------------------------------------------------


def test_noise_is_standard_gumbel(device):
    logits = torch.empty(100_000, dtype=torch.float64, device=device)
    noise = to_numpy(standard_gumbel_like(logits, make_generator(0, device)))
    assert kstest(noise, "gumbel_r").pvalue > 1e-3
    assert kstest(-noise, "gumbel_r").pvalue < 1e-100  # the other tail, the broken variant


def test_noise_is_finite_in_float32(device):
    logits = torch.empty(5_000_000, device=device)
    assert torch.isfinite(standard_gumbel_like(logits, make_generator(1, device))).all()


def test_sampled_frequencies_are_the_softmax(device):
    logits = torch.tensor([0.3, -1.2, 1.0, -0.2], dtype=torch.float64, device=device)
    rows = logits.expand(400_000, 4)
    expected = loop_softmax([logits.tolist()])[0]

    def frequencies(noise):
        _, choice = straight_through_assignment(
            rows, noise=noise, generator=make_generator(0, device)
        )
        return to_numpy(torch.bincount(choice, minlength=4)) / len(rows)

    assert np.abs(frequencies(1.0) - expected).max() < 0.005
    assert np.abs(frequencies(0.5) - expected).max() > 0.05


@pytest.mark.parametrize("form", FORMS)
def test_mean_loss_under_noise_is_the_soft_distortion(form):
    z, centers = random_clusters(1, scale=0.6)
    distances = loop_squared_distances(z, centers)
    expected = (loop_softmax(-distances) * distances).sum()
    rows = torch.tensor(z).expand(400_000, 3)
    generator = make_generator(0, "cpu")
    loss, _ = assign_and_lose(rows, torch.tensor(centers), form=form, generator=generator)
    assert loss.item() == pytest.approx(expected, rel=5e-3)
    assert loss.item() > 1.05 * loop_kmeans_loss(z, centers)


def test_noise_does_not_vanish_with_the_relaxation():
    # Annealing tau leaves the forward samples as they are: it does not turn them into k-means.
    logits = torch.tensor([[1.0, 0.0, -1.0]]).expand(50_000, 3)
    shares = [
        straight_through_assignment(logits, relaxation=tau, generator=make_generator(0, "cpu"))[1]
        for tau in (1.0, 1e-3)
    ]
    assert torch.equal(*shares)
    assert (shares[0] != 0).float().mean() > 0.2


@pytest.mark.parametrize("estimator", HARD)
def test_equal_seeds_draw_equally(device, estimator):
    logits = torch.zeros(200, 5, device=device)

    def draw(seed):
        generator = make_generator(seed, device)
        return straight_through_assignment(logits, estimator=estimator, generator=generator)[1]

    assert torch.equal(draw(3), draw(3))
    assert not torch.equal(draw(3), draw(4))


@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_global_random_state_is_left_alone(estimator):
    with torch_state_unchanged():
        straight_through_assignment(
            torch.zeros(5, 3), estimator=estimator, generator=make_generator(0, "cpu")
        )


@pytest.mark.gpu
def test_noise_free_choice_is_the_same_on_both_devices(device):
    z, centers = random_clusters(500, seed=3)
    _, choice = assign_and_lose(*leaves(device, z, centers), noise=0.0)
    _, on_cpu = assign_and_lose(*leaves("cpu", z, centers), noise=0.0)
    assert torch.equal(choice.cpu(), on_cpu)


# the gradient -------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_detached_gradients_are_those_of_kmeans(form, noise):
    z, centers = random_clusters()
    *got, choice = gradients(
        z,
        centers,
        form=form,
        estimator="detached",
        noise=noise,
        generator=make_generator(0, "cpu"),
    )
    for gradient, expected in zip(got, loop_kmeans_gradients(z, centers, choice), strict=True):
        np.testing.assert_allclose(gradient, expected, rtol=1e-12, atol=1e-14)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ["gumbel", "straight-through"])
def test_gradient_tends_to_that_of_kmeans_for_small_relaxations(form, estimator):
    z, centers = separated_clusters()
    kwargs = {"form": form, "estimator": estimator, "noise": 0.0}
    *small, choice = gradients(z, centers, relaxation=1e-3, **kwargs)
    *large, _ = gradients(z, centers, relaxation=1.0, **kwargs)
    expected = loop_kmeans_gradients(z, centers, choice)
    for i in range(2):
        np.testing.assert_allclose(small[i], expected[i], rtol=0, atol=1e-6)
        assert np.abs(large[i] - expected[i]).max() > 0.01


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ["gumbel", "straight-through", "reinmax"])
@pytest.mark.parametrize("relaxation", [0.1, 0.7, 1.0, 5.0])
@pytest.mark.parametrize("noise", [0.0, 1.0])
def test_gradient_equals_the_analytic_formula(form, estimator, relaxation, noise):
    z, centers = random_clusters()
    temperature = 2.5
    n_clusters = len(centers)
    logits = -loop_squared_distances(z, centers) / temperature
    gumbel = standard_gumbel_like(torch.tensor(logits), make_generator(7, "cpu")).numpy()
    *got, choice = gradients(
        z,
        centers,
        form=form,
        temperature=temperature,
        estimator=estimator,
        relaxation=relaxation,
        noise=noise,
        generator=make_generator(7, "cpu"),
    )
    noisy = logits + noise * gumbel
    assert choice.tolist() == noisy.argmax(1).tolist()

    a = loop_assignment_gradient(z, centers, choice, form)
    if estimator == "reinmax":
        middle = (loop_softmax(logits / relaxation) + np.eye(n_clusters)[choice]) / 2
        indirect = 2 * softmax_pullback(middle, a)
        indirect -= softmax_pullback(loop_softmax(logits), a) / 2
    else:
        soft = loop_softmax((noisy if estimator == "gumbel" else logits) / relaxation)
        indirect = softmax_pullback(soft, a) / relaxation
    indirect /= len(z)

    expected_z, expected_centers = loop_kmeans_gradients(z, centers, choice)
    for i in range(len(z)):
        for j in range(n_clusters):
            pull = indirect[i, j] * 2 * (z[i] - centers[j]) / temperature
            expected_z[i] -= pull
            expected_centers[j] += pull
    np.testing.assert_allclose(got[0], expected_z, rtol=1e-9, atol=1e-11)
    np.testing.assert_allclose(got[1], expected_centers, rtol=1e-9, atol=1e-11)


@pytest.mark.parametrize("form", FORMS)
def test_one_gradient_step_is_a_lloyd_step(form):
    z, centers = random_clusters(40)
    *_, gradient, choice = gradients(z, centers, form=form, estimator="detached", noise=0.0)
    for j in np.unique(choice):
        rows = z[choice == j]
        rate = len(z) / (2 * len(rows))  # 1 / (2 n_j) for the sum over samples
        np.testing.assert_allclose(centers[j] - rate * gradient[j], rows.mean(0), atol=1e-12)


@pytest.mark.parametrize("form", FORMS)
def test_direct_gradient_vanishes_at_a_fixed_point_of_kmeans(form):
    z, centers = random_clusters(40)
    for _ in range(100):
        choice = loop_squared_distances(z, centers).argmin(1)
        centers = np.stack([z[choice == j].mean(0) for j in range(len(centers))])
    *_, gradient, _ = gradients(z, centers, form=form, estimator="detached", noise=0.0)
    *_, moved, _ = gradients(z, centers + 0.1, form=form, estimator="detached", noise=0.0)
    assert np.abs(gradient).max() < 1e-13
    assert np.abs(moved).max() > 1e-3


def all_outcomes(logits, z, centers, form, estimator, force):
    """Gradient of the logits of one sample, for every outcome of the noise."""
    n_clusters = len(centers)
    force(range(n_clusters))
    (logits,) = leaves("cpu", np.repeat(logits, n_clusters, axis=0))
    rows = torch.tensor(np.repeat(z, n_clusters, axis=0))
    assignment, choice = straight_through_assignment(logits, estimator=estimator)
    assert choice.tolist() == list(range(n_clusters))
    loss = concrete_kmeans_loss(rows, torch.tensor(centers), assignment, form=form)
    return to_numpy(torch.autograd.grad(loss, logits)[0]) * n_clusters


@pytest.mark.parametrize("seed", range(3))
@pytest.mark.parametrize(
    ("estimator", "form", "is_exact"),
    [
        ("reinmax", "A", True),
        ("reinmax", "B", True),
        ("straight-through", "A", False),
        ("straight-through", "B", True),
        ("detached", "B", False),
    ],
)
def test_expected_gradient(forced_choice, seed, estimator, form, is_exact):
    z, centers = random_clusters(1, 5, 7, scale=0.6, seed=seed)
    distances = loop_squared_distances(z, centers)
    exact = expected_distance_gradient(-distances, distances)[0]
    if estimator == "detached":
        expected = np.zeros_like(exact)
    else:
        outcomes = all_outcomes(-distances, z, centers, form, estimator, forced_choice)
        expected = loop_softmax(-distances)[0] @ outcomes
    error = np.linalg.norm(expected - exact) / np.linalg.norm(exact)
    assert error < 1e-12 if is_exact else error > 0.1


def test_soft_gradient_is_the_exact_expectation():
    z, centers = random_clusters(6)
    distances = loop_squared_distances(z, centers)
    (logits,) = leaves("cpu", -distances)
    soft, _ = straight_through_assignment(logits, estimator="soft")
    loss = concrete_kmeans_loss(torch.tensor(z), torch.tensor(centers), soft, form="B")
    (gradient,) = torch.autograd.grad(loss, logits)
    expected = expected_distance_gradient(-distances, distances) / len(z)
    np.testing.assert_allclose(gradient.numpy(), expected, rtol=1e-11, atol=1e-14)


def cosine_of_gumbel_gradient(form, relaxation):
    """Between the mean gumbel gradient of the logits and the exact one, margins of a few nats."""
    z, centers = np.zeros((1, 2)), np.array([[1.0, 0.0], [-1.7, 0.2], [0.3, 2.1]])
    distances = loop_squared_distances(z, centers)
    assert 1 < np.sort(distances[0])[1] - np.sort(distances[0])[0] < 4
    (logits,) = leaves("cpu", np.repeat(-distances, 200_000, axis=0))
    assignment, _ = straight_through_assignment(
        logits, relaxation=relaxation, estimator="gumbel", generator=make_generator(0, "cpu")
    )
    rows = torch.tensor(z).expand(len(logits), 2)
    loss = concrete_kmeans_loss(rows, torch.tensor(centers), assignment, form=form)
    mean = to_numpy(torch.autograd.grad(loss, logits)[0]).sum(0)
    exact = expected_distance_gradient(-distances, distances)[0]
    return mean @ exact / np.linalg.norm(mean) / np.linalg.norm(exact)


def test_gumbel_gradient_of_form_a_points_the_wrong_way_unless_the_relaxation_is_small():
    assert cosine_of_gumbel_gradient("A", 1.0) < 0
    assert cosine_of_gumbel_gradient("A", 0.03) > 0.9


@pytest.mark.parametrize("relaxation", [1.0, 0.3, 0.03])
def test_gumbel_gradient_of_form_b_points_the_right_way(relaxation):
    assert cosine_of_gumbel_gradient("B", relaxation) > 0.95


# symmetries ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_translation_rotation_and_scale(form, estimator):
    z, centers = random_clusters()
    rotation, shift, scale = ortho_group.rvs(3, random_state=0), np.array([5.0, -3.0, 2.0]), 1.7

    def run(z, centers, temperature):
        return gradients(
            z,
            centers,
            form=form,
            estimator=estimator,
            temperature=temperature,
            generator=make_generator(0, "cpu"),
        )

    plain = run(z, centers, 2.0)
    moved = run(z + shift, centers + shift, 2.0)
    turned = run(z @ rotation, centers @ rotation, 2.0)
    scaled = run(scale * z, scale * centers, 2.0 * scale**2)
    for i in range(2):
        np.testing.assert_allclose(moved[i], plain[i], rtol=1e-9, atol=1e-10)
        np.testing.assert_allclose(turned[i], plain[i] @ rotation, rtol=1e-9, atol=1e-10)
        # the loss grows with the square of the scale, its gradient with the scale
        np.testing.assert_allclose(scaled[i], scale * plain[i], rtol=1e-9, atol=1e-10)
    for other in (moved, turned, scaled):
        assert other[2].tolist() == plain[2].tolist()


@pytest.mark.parametrize("form", FORMS)
def test_scale_multiplies_the_loss_by_its_square(form):
    z, centers = map(torch.tensor, random_clusters())
    kwargs = {"form": form, "noise": 0.0}
    plain, _ = assign_and_lose(z, centers, **kwargs)
    scaled, _ = assign_and_lose(3 * z, 3 * centers, temperature=9.0, **kwargs)
    assert scaled.item() == pytest.approx(9 * plain.item(), rel=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_permuting_the_centers_permutes_their_gradients(form, estimator):
    z, centers = random_clusters()
    order = [2, 0, 3, 1]
    kwargs = {"form": form, "estimator": estimator, "noise": 0.0}
    z_gradient, center_gradient, choice = gradients(z, centers, **kwargs)
    permuted = gradients(z, centers[order], **kwargs)
    np.testing.assert_allclose(permuted[0], z_gradient, rtol=1e-9, atol=1e-12)
    np.testing.assert_allclose(permuted[1], center_gradient[order], rtol=1e-9, atol=1e-12)
    assert [order[j] for j in permuted[2]] == choice.tolist()


# edges --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_single_center_has_no_indirect_gradient(form, estimator):
    z, centers = random_clusters(6, 1)
    kwargs = {"form": form, "estimator": estimator, "generator": make_generator(0, "cpu")}
    loss, choice = assign_and_lose(*map(torch.tensor, (z, centers)), **kwargs)
    assert loss.item() == pytest.approx(np.square(z - centers).sum() / 6, rel=1e-13)
    got = gradients(z, centers, **kwargs)
    expected = loop_kmeans_gradients(z, centers, choice.tolist())
    np.testing.assert_allclose(got[0], expected[0], rtol=1e-12)
    np.testing.assert_allclose(got[1], expected[1], rtol=1e-12)


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("scale", [300.0, 1e-6])
def test_huge_and_tiny_distances_stay_finite(device, form, estimator, scale):
    z, centers = (
        torch.tensor(scale * a, dtype=torch.float32, device=device, requires_grad=True)
        for a in random_clusters(scale=1.0)
    )
    distances = squared_distances(z, centers)
    assert distances.max() > 1e5 if scale > 1 else distances.max() < 1e-10
    for noise in (0.0, 1.0):
        loss, _ = assign_and_lose(
            z,
            centers,
            form=form,
            estimator=estimator,
            noise=noise,
            generator=make_generator(0, device),
        )
        for value in (loss, *torch.autograd.grad(loss, (z, centers))):
            assert torch.isfinite(value).all()


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("estimator", ESTIMATORS)
@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_computed_in_float32(form, estimator, dtype):
    z, centers = (torch.tensor(100 * a, dtype=dtype) for a in random_clusters())
    kwargs = {"form": form, "estimator": estimator, "noise": 0.0}
    loss, _ = assign_and_lose(z, centers, **kwargs)
    raised, _ = assign_and_lose(z.float(), centers.float(), **kwargs)
    assert loss.dtype == torch.float32
    assert loss.item() == raised.item()
    assert loss.item() > 1e4


@pytest.mark.parametrize("relaxation", [0, -0.1, float("nan")])
@pytest.mark.parametrize("estimator", ESTIMATORS)
def test_relaxation_must_be_positive(relaxation, estimator):
    with pytest.raises(ValueError, match="Expected a positive relaxation, got"):
        straight_through_assignment(torch.zeros(2, 3), relaxation=relaxation, estimator=estimator)


@pytest.mark.parametrize("noise", [-0.1, float("nan")])
def test_noise_must_not_be_negative(noise):
    with pytest.raises(ValueError, match="Expected a noise scale of at least 0, got"):
        straight_through_assignment(torch.zeros(2, 3), noise=noise)


def test_unknown_estimator_raises():
    with pytest.raises(ValueError, match=r"Expected an estimator among .*got 'st'"):
        straight_through_assignment(torch.zeros(2, 3), estimator="st")


def test_unknown_form_raises():
    with pytest.raises(ValueError, match=r"Expected a form among .*got 'C'"):
        concrete_kmeans_loss(torch.zeros(2, 3), torch.zeros(2, 3), torch.eye(2), form="C")


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("relaxation", [0.5, 2.0])
def test_gradcheck_of_the_soft_assignment(form, relaxation):
    inputs = leaves("cpu", *random_clusters(4, 3, 2))

    def loss(z, centers):
        return assign_and_lose(z, centers, form=form, estimator="soft", relaxation=relaxation)[0]

    assert torch.autograd.gradcheck(loss, inputs)
