import pytest
import torch
from _oracles import loop_reconstruction_loss, random_clusters, to_numpy
from torch import nn

from sklearn_ckm._training._batches import Batch
from sklearn_ckm._training._criteria import JointCriterion, ReconstructionCriterion
from sklearn_ckm.losses import classification_loss, reconstruction_loss
from sklearn_ckm.modules import Centers, ClusteringModel
from sklearn_ckm.objectives import ConcreteKMeansObjective
from sklearn_ckm.utils._random import make_generator

N_SOURCE = 5
TERMS = ("reconstruction", "clustering", "classification")
PARTS = ("encoder", "decoder", "classifier", "centers")


def make_model(device="cpu", n_classes=2):
    torch.manual_seed(0)
    _, centers = random_clusters(n_clusters=4, n_components=3)
    classifier = nn.Linear(3, n_classes) if n_classes else None
    centers = Centers(torch.tensor(centers, dtype=torch.float32), 2.0)
    return ClusteringModel(nn.Linear(6, 3), nn.Linear(3, 6), classifier, centers).to(device)


def make_batch(device="cpu", y=(0, 1, 1, 0, -1)):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N_SOURCE + 7, 6, generator=generator).to(device)
    y = None if y is None else torch.tensor(y, device=device)
    return Batch(x, N_SOURCE, y, torch.arange(7, device=device))


def run(model, batch, weights=(0.3, 0.7), *, objective=None, seed=0):
    criterion = JointCriterion(objective or ConcreteKMeansObjective(), *weights)
    generator = make_generator(seed, batch.x.device)
    return criterion(model, batch, progress=0.0, generator=generator)


def part_gradients(loss, model):
    """Gradients of the parts of the model; None where the graph does not reach."""
    gradients = {}
    for part in PARTS:
        parameters = list(getattr(model, part).parameters())
        found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
        gradients[part] = None if found[0] is None else torch.cat([g.flatten() for g in found])
    return gradients


@pytest.fixture(autouse=True)
def keep_global_state():
    with torch.random.fork_rng(devices=[]):
        yield


@pytest.mark.parametrize(
    ("term", "reached"),
    [
        ("reconstruction", {"encoder", "decoder"}),
        ("clustering", {"encoder", "centers"}),
        ("classification", {"encoder", "classifier"}),
        ("loss", set(PARTS)),
    ],
)
def test_gradients_are_routed(device, term, reached):
    model, batch = make_model(device), make_batch(device)
    terms, _ = run(model, batch)
    gradients = part_gradients(terms[term], model)
    for part in PARTS:
        has_gradient = gradients[part] is not None and bool((gradients[part] != 0).any())
        assert has_gradient == (part in reached), part


@pytest.mark.parametrize(
    ("term", "source", "target"),
    [
        ("reconstruction", True, True),
        ("clustering", False, True),
        ("classification", True, False),
    ],
)
def test_terms_read_their_own_domain(term, source, target):
    model, batch = make_model(), make_batch(y=(0, 1, 1, 0, 1))
    batch.x.requires_grad_()
    terms, _ = run(model, batch)
    (gradient,) = torch.autograd.grad(terms[term], batch.x)
    assert ((gradient[:N_SOURCE] != 0).any(1) == source).all()
    assert ((gradient[N_SOURCE:] != 0).any(1) == target).all()


def test_terms_equal_the_losses_of_their_rows(device):
    model, batch = make_model(device), make_batch(device)
    objective = ConcreteKMeansObjective(form="A", estimator="gumbel")
    terms, (z_target, step) = run(model, batch, objective=objective, seed=3)
    z, reconstruction = model(batch.x)
    expected_step = objective.step(
        z[N_SOURCE:],
        model.centers.positions,
        torch.tensor(2.0, device=device),
        progress=0.0,
        generator=make_generator(3, device),
    )
    expected_classification = classification_loss(model.classifier(z[:N_SOURCE]), batch.y)
    assert terms["reconstruction"].item() == pytest.approx(
        loop_reconstruction_loss(to_numpy(batch.x), to_numpy(reconstruction)), rel=1e-5
    )
    assert terms["clustering"].item() == pytest.approx(expected_step.loss.item(), rel=1e-6)
    assert terms["classification"].item() == pytest.approx(expected_classification.item(), rel=1e-6)
    assert torch.equal(z_target, z[N_SOURCE:])
    assert torch.equal(step.choice, expected_step.choice)


@pytest.mark.parametrize("weights", [(0.3, 0.7), (0.0, 1.0), (10.0, 0.0)])
def test_total_is_the_weighted_sum(weights):
    terms, _ = run(make_model(), make_batch(), weights)
    clustering, classification = weights
    expected = (
        terms["reconstruction"].item()
        + clustering * terms["clustering"].item()
        + classification * terms["classification"].item()
    )
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-6)


def test_single_backward_is_the_sum_of_the_separate_ones():
    model, batch = make_model(), make_batch()
    weights = dict(zip(TERMS, (1.0, 0.3, 0.7), strict=True))

    def gradient(name, weight):
        model.zero_grad(set_to_none=True)
        terms, _ = run(model, batch, (0.3, 0.7))
        (weight * terms[name]).backward()
        return torch.cat(
            [
                (torch.zeros_like(p) if p.grad is None else p.grad).flatten()
                for p in model.parameters()
            ]
        )

    total = gradient("loss", 1.0)
    separate = sum(gradient(name, weight) for name, weight in weights.items())
    torch.testing.assert_close(total, separate, rtol=1e-5, atol=1e-6)


def test_without_the_classification_weight_the_labels_do_not_matter():
    model = make_model()

    def gradients(weight, y):
        terms, _ = run(model, make_batch(y=y), (0.3, weight))
        return torch.autograd.grad(terms["loss"], list(model.parameters()))

    labels = (0, 1, 1, 0, 1), (1, 1, 0, -1, 0)
    without = [gradients(0.0, y) for y in labels]
    assert all(torch.equal(a, b) for a, b in zip(*without, strict=True))
    with_weight = [gradients(0.7, y) for y in labels]
    assert not all(torch.equal(a, b) for a, b in zip(*with_weight, strict=True))


@pytest.mark.parametrize("weight", [0.0, 0.3])
def test_without_the_clustering_weight_the_centers_do_not_move(weight):
    model = make_model()
    before = model.centers.positions.detach().clone()
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        run(model, make_batch(), (weight, 0.7))[0]["loss"].backward()
        optimizer.step()
    assert torch.equal(model.centers.positions, before) == (weight == 0)


@pytest.mark.parametrize(("n_classes", "y"), [(0, (0, 1, 1, 0, 1)), (2, None)])
def test_without_classifier_or_labels_there_is_no_classification(n_classes, y):
    terms, _ = run(make_model(n_classes=n_classes), make_batch(y=y))
    assert set(terms) == {"loss", "reconstruction", "clustering"}
    expected = terms["reconstruction"] + 0.3 * terms["clustering"]
    assert terms["loss"].item() == pytest.approx(expected.item(), rel=1e-6)


def test_adaptive_temperature_follows_the_target_only():
    model, batch = make_model(), make_batch()
    model.centers = Centers(model.centers.positions.detach())
    moved = batch._replace(x=batch.x.clone())
    moved.x[:N_SOURCE] *= 100
    temperatures = []
    for b in (batch, moved):
        model.centers.temperature.fill_(1.0)
        run(model, b)
        temperatures.append(model.centers.temperature.item())
    assert temperatures[0] == temperatures[1] != 1.0


def test_clustering_stays_in_float32_under_autocast(device):
    model, batch = make_model(device), make_batch(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        terms, (z, step) = run(model, batch)
    assert z.dtype == torch.bfloat16
    assert step.distances.dtype == step.logits.dtype == torch.float32
    assert all(term.dtype == torch.float32 for term in terms.values())


def test_pretraining_minimises_the_reconstruction_alone(device):
    model, batch = make_model(device), make_batch(device)
    terms, clustering = ReconstructionCriterion()(model, batch, progress=0.0, generator=None)
    expected = reconstruction_loss(batch.x, model(batch.x)[1])
    assert clustering is None
    assert set(terms) == {"loss", "reconstruction"}
    assert terms["loss"].item() == expected.item()
