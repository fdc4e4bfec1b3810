import numpy as np
import pytest
import torch
from _oracles import (
    loop_cross_entropy,
    loop_reconstruction_loss,
    loop_softmax,
    loop_squared_distances,
    random_clusters,
    to_numpy,
)
from torch import nn

from sklearn_ckm._training._batches import Batch
from sklearn_ckm._training._criteria import JointCriterion, ReconstructionCriterion, early_factor
from sklearn_ckm.augmentation import ImageAugmentation, TableAugmentation
from sklearn_ckm.losses import classification_loss, reconstruction_loss
from sklearn_ckm.modules import Centers, ClusteringModel
from sklearn_ckm.objectives import (
    ConcreteKMeansObjective,
    DCNObjective,
    DECObjective,
    SoftKMeansObjective,
)
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


# labelled target rows -----------------------------------------------------------------------------

N_SHOTS = 4
KSHOT_WEIGHTS = (0.3, 0.7, 0.9)


def make_shots(device="cpu", *, y_shots=(0, 3, 2, 2)):
    """A batch whose last rows are labelled ones of the target."""
    batch = make_batch(device)
    shots = torch.randn(N_SHOTS, 6, generator=torch.Generator().manual_seed(2)).to(device)
    y_shots = torch.tensor(y_shots, device=device)
    return batch._replace(x=torch.cat([batch.x, shots]), y_shots=y_shots)


def shot_embeddings(model, batch):
    with torch.no_grad():
        return to_numpy(model.encoder(batch.x[-N_SHOTS:])).astype(np.float64)


def test_kshot_is_the_cross_entropy_of_the_centers(device):
    model, batch = make_model(device), make_shots(device)
    terms, _ = run(model, batch, KSHOT_WEIGHTS)
    z, centers = shot_embeddings(model, batch), to_numpy(model.centers.positions)
    distances, y = loop_squared_distances(z, centers), batch.y_shots.tolist()
    assert terms["kshot"].item() == pytest.approx(loop_cross_entropy(-distances / 2.0, y), rel=1e-5)
    # the same as a linear classifier: |z|^2 is common to all centres
    linear = (2 * z @ centers.T - (centers**2).sum(1)) / 2.0
    assert terms["kshot"].item() == pytest.approx(loop_cross_entropy(linear, y), rel=1e-5)


def test_kshot_has_the_temperature_of_the_clustering_term():
    model, batch = make_model(), make_shots()
    model.centers = Centers(model.centers.positions.detach())
    model.centers.temperature.fill_(3.0)
    terms, _ = run(model, batch, KSHOT_WEIGHTS)
    temperature = model.centers.temperature.item()
    assert temperature != 3.0
    centers = to_numpy(model.centers.positions)
    distances = loop_squared_distances(shot_embeddings(model, batch), centers)
    expected = loop_cross_entropy(-distances / temperature, batch.y_shots.tolist())
    assert terms["kshot"].item() == pytest.approx(expected, rel=1e-5)


def test_kshot_under_deep_embedded_clustering_has_its_probabilities():
    model, batch = make_model(), make_shots()
    objective = DECObjective(alpha=2.0)
    state = {"target_distribution": torch.full((7, 4), 0.25)}
    criterion = JointCriterion(objective, *KSHOT_WEIGHTS)
    terms, _ = criterion(model, batch, progress=0.0, generator=None, state=state)
    distances = loop_squared_distances(
        shot_embeddings(model, batch), to_numpy(model.centers.positions)
    )
    logits = -(2.0 + 1) / 2 * np.log1p(distances / 2.0)
    expected = loop_cross_entropy(logits, batch.y_shots.tolist())
    assert terms["kshot"].item() == pytest.approx(expected, rel=1e-5)


def test_kshot_gradients_equal_the_closed_form(device):
    model, batch = make_model(device), make_shots(device)
    model.encoder = nn.Identity()
    model.decoder = nn.Identity()
    x = torch.tensor(random_clusters(16, 4, 3, seed=4)[0], dtype=torch.float32, device=device)
    batch = batch._replace(x=x.requires_grad_(), y=None)
    terms, _ = run(model, batch, KSHOT_WEIGHTS)
    got = torch.autograd.grad(terms["kshot"], (x, model.centers.positions))

    z, centers = to_numpy(x)[-N_SHOTS:].astype(np.float64), to_numpy(model.centers.positions)
    scale = 2 / (2.0 * N_SHOTS)  # 2 / (temperature * n)
    error = loop_softmax(-loop_squared_distances(z, centers) / 2.0)
    error -= np.eye(4)[batch.y_shots.cpu().numpy()]
    expected_centers = np.zeros_like(centers, dtype=np.float64)
    for i, row in enumerate(error):
        for j, e in enumerate(row):
            expected_centers[j] += scale * e * (z[i] - centers[j])
    np.testing.assert_allclose(
        to_numpy(got[0])[-N_SHOTS:], scale * error @ centers, rtol=1e-4, atol=1e-6
    )
    assert (got[0][:-N_SHOTS] == 0).all()
    np.testing.assert_allclose(to_numpy(got[1]), expected_centers, rtol=1e-4, atol=1e-6)


def test_kshot_reaches_the_encoder_and_the_centers_only(device):
    model, batch = make_model(device), make_shots(device)
    gradients = part_gradients(run(model, batch, KSHOT_WEIGHTS)[0]["kshot"], model)
    assert gradients["decoder"] is None
    assert gradients["classifier"] is None
    assert (gradients["encoder"] != 0).any()
    assert (gradients["centers"] != 0).any()


@pytest.mark.parametrize("term", [*TERMS, "kshot"])
def test_labelled_rows_are_read_by_their_own_term_alone(term):
    model, batch = make_model(), make_shots()
    batch.x.requires_grad_()
    terms, _ = run(model, batch, KSHOT_WEIGHTS)
    (gradient,) = torch.autograd.grad(terms[term], batch.x)
    assert ((gradient[-N_SHOTS:] != 0).any(1) == (term == "kshot")).all()
    assert (gradient[:-N_SHOTS] != 0).any() == (term != "kshot")


def test_the_other_terms_are_as_without_labelled_rows():
    model = make_model()
    with_shots, (z, _) = run(model, make_shots(), KSHOT_WEIGHTS)
    without, (z_without, _) = run(model, make_batch(), KSHOT_WEIGHTS)
    assert set(with_shots) == {*without, "kshot"}
    for name in TERMS:
        assert with_shots[name].item() == pytest.approx(without[name].item(), rel=1e-6)
    torch.testing.assert_close(z, z_without)


@pytest.mark.parametrize("weights", [(0.3, 0.7, 0.9), (0.0, 0.0, 2.0), (1.0, 1.0, 0.0)])
@pytest.mark.parametrize(
    "objective", [ConcreteKMeansObjective(), SoftKMeansObjective(), DCNObjective()]
)
def test_total_with_labelled_rows_is_the_weighted_sum(weights, objective):
    terms, _ = run(make_model(), make_shots(), weights, objective=objective)
    expected = terms["reconstruction"].item() + sum(
        weight * terms[name].item()
        for weight, name in zip(weights, ("clustering", "classification", "kshot"), strict=True)
    )
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-6)


def test_without_the_kshot_weight_the_labelled_rows_do_not_matter():
    model = make_model()

    def gradients(weight, y_shots, scale=1.0):
        batch = make_shots(y_shots=y_shots)
        batch.x[-N_SHOTS:] *= scale
        terms, _ = run(model, batch, (0.3, 0.7, weight))
        return torch.autograd.grad(terms["loss"], list(model.parameters()))

    changes = ((0, 3, 2, 2), 1.0), ((1, 1, 0, 3), 1.0), ((0, 3, 2, 2), 5.0)
    first, *others = (gradients(0.0, *change) for change in changes)
    for other in others:
        assert all(torch.equal(a, b) for a, b in zip(first, other, strict=True))
    first, *others = (gradients(0.9, *change) for change in changes)
    for other in others:
        assert not all(torch.equal(a, b) for a, b in zip(first, other, strict=True))


def test_kshot_vanishes_where_the_classes_lie_on_far_centers():
    model, batch = make_model(), make_shots(y_shots=(2, 0, 3, 1))
    values = []
    for scale in (1.0, 1e3):
        with torch.no_grad():
            model.encoder.weight *= scale
            model.encoder.bias *= scale
            z = model.encoder(batch.x[-N_SHOTS:])
        model.centers = Centers(z[batch.y_shots.argsort()], 2.0)
        values.append(run(model, batch, KSHOT_WEIGHTS)[0]["kshot"].item())
    assert values[0] > 0.01
    assert values[1] < 1e-6


def test_centers_without_labelled_rows_stay_in_the_softmax():
    model, batch = make_model(), make_shots(y_shots=(0, 1, 1, 0))
    terms, _ = run(model, batch, KSHOT_WEIGHTS)
    centers = to_numpy(model.centers.positions)
    distances = loop_squared_distances(shot_embeddings(model, batch), centers)
    y = batch.y_shots.tolist()
    assert terms["kshot"].item() == pytest.approx(loop_cross_entropy(-distances / 2.0, y), rel=1e-5)
    assert terms["kshot"].item() > 1.1 * loop_cross_entropy(-distances[:, :2] / 2.0, y)


def test_renaming_the_classes_permutes_the_centers():
    model, batch = make_model(), make_shots()
    order = torch.tensor([2, 0, 3, 1])
    before = run(model, batch, KSHOT_WEIGHTS)[0]["kshot"].item()
    model.centers = Centers(model.centers.positions.detach()[order], 2.0)
    assert run(model, batch, KSHOT_WEIGHTS)[0]["kshot"].item() != pytest.approx(before, rel=1e-3)
    renamed = batch._replace(y_shots=order.argsort()[batch.y_shots])
    assert run(model, renamed, KSHOT_WEIGHTS)[0]["kshot"].item() == pytest.approx(before, rel=1e-6)


def test_kshot_stays_in_float32_under_autocast(device):
    model, batch = make_model(device), make_shots(device)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        terms, _ = run(model, batch, KSHOT_WEIGHTS)
    assert terms["kshot"].dtype == torch.float32


def test_single_backward_with_labelled_rows_is_the_sum_of_the_separate_ones():
    model = make_model()
    terms, _ = run(model, make_shots(), KSHOT_WEIGHTS)

    def gradient(name):
        parameters = list(model.parameters())
        found = torch.autograd.grad(
            terms[name], parameters, retain_graph=True, allow_unused=True, materialize_grads=True
        )
        return torch.cat([g.flatten() for g in found])

    weights = zip((1.0, *KSHOT_WEIGHTS), (*TERMS, "kshot"), strict=True)
    separate = sum(weight * gradient(name) for weight, name in weights)
    torch.testing.assert_close(gradient("loss"), separate, rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize("weight", [0.0, 0.9])
def test_centers_of_a_deep_clustering_network_hear_the_labelled_rows_alone(device, weight):
    model, batch = make_model(device), make_shots(device)
    terms, _ = run(model, batch, (0.3, 0.7, weight), objective=DCNObjective())
    clustering = part_gradients(terms["clustering"], model)
    assert (clustering["encoder"] != 0).any()
    assert clustering["centers"] is None
    assert clustering["decoder"] is None
    assert (part_gradients(terms["loss"], model)["centers"] != 0).any() == (weight > 0)


# views --------------------------------------------------------------------------------------------

N_TARGET = 7
VIEW_TERMS = ("consistency", "balance")
VIEW_WEIGHTS = {"lambda_consistency": 1.3, "lambda_balance": 0.6}


def opposite(x, generator):
    """A view that is easily told from the rows."""
    return -2 * x


def run_views(
    model,
    batch,
    augmentation=opposite,
    weights=VIEW_WEIGHTS,
    *,
    objective=None,
    seed=0,
    state=None,
    progress=0.9,
):
    criterion = JointCriterion(
        objective or ConcreteKMeansObjective(), *KSHOT_WEIGHTS, augmentation=augmentation, **weights
    )
    generator = make_generator(seed, batch.x.device)
    return criterion(model, batch, progress=progress, generator=generator, state=state)


def domains(batch):
    """Rows of the source, of the target, and the labelled ones."""
    return batch.x.split([N_SOURCE, N_TARGET, len(batch.x) - N_SOURCE - N_TARGET])


def inputs_of(module):
    """What the module is called with, call by call."""
    inputs = []
    module.register_forward_pre_hook(lambda _, given: inputs.append(given[0].detach().clone()))
    return inputs


def all_gradients(loss, model):
    return torch.autograd.grad(loss, list(model.parameters()), retain_graph=True)


@pytest.mark.parametrize("make", [make_batch, make_shots])
def test_without_an_augmentation_the_weights_of_the_views_change_nothing(device, make):
    model, batch = make_model(device), make(device)
    objective = ConcreteKMeansObjective(form="A", estimator="gumbel")
    before = batch.x.clone()
    plain, (z_plain, _) = run_views(model, batch, None, {}, objective=objective)
    terms, (z, _) = run_views(model, batch, None, objective=objective)
    assert list(terms) == list(plain)
    assert not set(VIEW_TERMS) & set(terms)
    assert all(torch.equal(terms[name], plain[name]) for name in terms)
    assert torch.equal(z, z_plain)
    gradients = zip(
        all_gradients(terms["loss"], model), all_gradients(plain["loss"], model), strict=True
    )
    assert all(torch.equal(a, b) for a, b in gradients)
    assert torch.equal(batch.x, before)


def test_without_an_augmentation_the_network_sees_the_batch_as_it_is():
    model, batch = make_model(), make_shots()
    encoded = inputs_of(model.encoder)
    run_views(model, batch, None)
    assert len(encoded) == 1
    assert torch.equal(encoded[0], batch.x)


@pytest.mark.parametrize("make", [make_batch, make_shots])
def test_source_and_shots_enter_in_a_view_and_the_target_twice(device, make):
    model, batch = make_model(device), make(device)
    encoded, before = inputs_of(model.encoder), batch.x.clone()
    run_views(model, batch)
    source, target, shots = domains(batch)
    assert len(encoded) == 1
    assert torch.equal(encoded[0], torch.cat([-2 * source, target, -2 * shots, -2 * target]))
    assert torch.equal(batch.x, before)


@pytest.mark.parametrize("make", [make_batch, make_shots])
@pytest.mark.parametrize("augmentation", [None, opposite])
def test_decoder_reads_source_and_target_alone(make, augmentation):
    model, batch = make_model(), make()
    decoded = inputs_of(model.decoder)
    run_views(model, batch, augmentation)
    source, target, _ = domains(batch)
    rows = torch.cat([source if augmentation is None else -2 * source, target])
    assert len(decoded) == 1
    torch.testing.assert_close(decoded[0], model.encoder(rows))


@pytest.mark.parametrize(
    ("weights", "has_views"),
    [
        (VIEW_WEIGHTS, True),
        ({"lambda_consistency": 1.0}, True),
        ({"lambda_balance": 1.0}, True),
        ({"lambda_consistency": 0.0, "lambda_balance": 0.0}, False),
        ({}, False),
    ],
)
def test_augmentation_is_called_once_for_each_domain(weights, has_views):
    calls, generators = [], []

    def augmentation(x, generator):
        calls.append(x.clone())
        generators.append(generator)
        return -x

    model, batch = make_model(), make_shots()
    encoded = inputs_of(model.encoder)
    terms, _ = run_views(model, batch, augmentation, weights)
    source, target, shots = domains(batch)
    expected = [source, torch.cat([shots, target])]  # one target domain, whatever has labels
    assert len(calls) == len(expected)
    assert all(torch.equal(call, rows) for call, rows in zip(calls, expected, strict=True))
    assert len(encoded[0]) == len(batch.x) + (N_TARGET if has_views else 0)
    assert set(terms) >= set(VIEW_TERMS) if has_views else not set(VIEW_TERMS) & set(terms)
    assert len(set(map(id, generators))) == 1


def test_domains_without_rows_are_not_augmented():
    sizes = []

    def augmentation(x, generator):
        sizes.append(len(x))
        return -x

    batch = make_batch(y=None)
    target = Batch(batch.x[N_SOURCE:], 0, None, batch.target_index)
    terms, _ = run_views(make_model(n_classes=0), target, augmentation)
    assert sizes == [N_TARGET]
    assert set(terms) == {"loss", "reconstruction", "clustering", *VIEW_TERMS}


def test_without_weights_only_source_and_shots_change():
    model, batch = make_model(), make_shots()
    encoded = inputs_of(model.encoder)
    terms, _ = run_views(model, batch, opposite, {})
    source, target, shots = domains(batch)
    changed = batch._replace(x=torch.cat([-2 * source, target, -2 * shots]))
    expected, _ = run_views(model, changed, None, {})
    assert torch.equal(encoded[0], changed.x)
    assert list(terms) == list(expected)
    assert all(torch.equal(terms[name], expected[name]) for name in terms)


def test_terms_with_views_equal_the_losses_of_their_rows(device):
    model, batch = make_model(device), make_shots(device)
    terms, (z_target, step) = run_views(model, batch)
    source, target, shots = domains(batch)
    seen = torch.cat([-2 * source, target])
    expected = {
        "reconstruction": loop_reconstruction_loss(to_numpy(seen), to_numpy(model(seen)[1])),
        "clustering": run_views(model, batch, None)[0]["clustering"].item(),
        "classification": classification_loss(
            model.classifier(model.encoder(-2 * source)), batch.y
        ).item(),
    }
    centers = to_numpy(model.centers.positions).astype(np.float64)

    def logits(x):
        return -loop_squared_distances(to_numpy(model.encoder(x)), centers) / 2.0

    p, q = loop_softmax(logits(target)), loop_softmax(logits(-2 * target))
    expected["kshot"] = loop_cross_entropy(logits(-2 * shots), batch.y_shots.tolist())
    expected["consistency"] = -(p * np.log(q) + q * np.log(p)).sum(1).mean() / 2
    share = np.concatenate([p, q]).mean(0)
    expected["balance"] = (share * np.log(4 * share)).sum()
    assert set(terms) == {"loss", *expected}
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4), name
    torch.testing.assert_close(z_target, model.encoder(target))
    assert len(step.choice) == N_TARGET


@pytest.mark.parametrize(
    "weights", [VIEW_WEIGHTS, {"lambda_consistency": 2.0}, {"lambda_balance": 3.0}]
)
@pytest.mark.parametrize(
    "objective", [ConcreteKMeansObjective(), SoftKMeansObjective(), DCNObjective()]
)
def test_total_with_views_is_the_weighted_sum(weights, objective):
    terms, _ = run_views(make_model(), make_shots(), weights=weights, objective=objective)
    names = ("clustering", "classification", "kshot")
    expected = terms["reconstruction"].item()
    expected += sum(w * terms[name].item() for w, name in zip(KSHOT_WEIGHTS, names, strict=True))
    expected += sum(weights.get(f"lambda_{name}", 0.0) * terms[name].item() for name in VIEW_TERMS)
    assert terms["loss"].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 6.0), (0.25, 6.0**0.5), (0.5, 1.0)])
def test_view_terms_are_softer_at_first_and_the_others_are_not(progress, factor):
    model, batch = make_model(), make_shots()
    terms, _ = run_views(model, batch, progress=progress)
    as_sharp, _ = run_views(model, batch)
    model.centers.set_temperature(2.0 * factor)
    expected, _ = run_views(model, batch)
    for name in VIEW_TERMS:
        assert terms[name].item() == pytest.approx(expected[name].item(), rel=1e-5)
    for name in (*TERMS, "kshot"):
        assert terms[name].item() == as_sharp[name].item()


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 6.0), (0.25, 6.0**0.5), (0.5, 1.0)])
def test_terms_of_the_source_are_softer_at_first_too(progress, factor):
    model, batch = make_model(), make_shots()
    weights = {**VIEW_WEIGHTS, "follows_classes": True, "lambda_source": 1.0}
    terms, _ = run_views(model, batch, progress=progress, weights=weights)
    model.centers.set_temperature(2.0 * factor)
    expected, _ = run_views(model, batch, weights=weights)
    for name in ("source_consistency", "source_balance"):
        assert terms[name].item() == pytest.approx(expected[name].item(), rel=1e-5)
        assert terms[name].item() > 0
    assert "reconstruction" not in terms


def test_training_that_goes_on_does_not_soften_again():
    model, batch = make_model(), make_shots()
    terms, _ = run_views(model, batch, progress=0.0, weights={**VIEW_WEIGHTS, "starts_soft": False})
    expected, _ = run_views(model, batch)
    assert {k: v.item() for k, v in terms.items()} == {k: v.item() for k, v in expected.items()}


@pytest.mark.parametrize(
    ("augmentation", "starts_soft", "expected"),
    [
        (None, True, [True] * 3),
        (opposite, True, [False, False, True]),
        (opposite, False, [True] * 3),
    ],
)
def test_training_may_stop_once_the_terms_are_what_they_will_be(
    augmentation, starts_soft, expected
):
    kwargs = {"augmentation": augmentation, "starts_soft": starts_soft}
    criterion = JointCriterion(ConcreteKMeansObjective(), 0.1, lambda_balance=1.0, **kwargs)
    assert JointCriterion(ConcreteKMeansObjective(), 0.1, **kwargs).is_settled(
        0.0
    )  # no term looks at a view
    assert [criterion.is_settled(progress) for progress in (0.0, 0.4, 0.5)] == expected


@pytest.mark.parametrize(("progress", "factor"), [(0.0, 3.0), (0.25, 3.0**0.5), (0.5, 1.0)])
def test_balance_weighs_more_at_first(progress, factor):
    model, batch = make_model(), make_shots()
    kwargs = {"progress": progress, "weights": {"lambda_balance": 0.6}}
    terms, _ = run_views(model, batch, **kwargs)
    zero, _ = run_views(model, batch, progress=progress, weights={"lambda_consistency": 1e-30})
    weighed = terms["loss"].item() - zero["loss"].item()
    assert weighed == pytest.approx(0.6 * factor * terms["balance"].item(), rel=1e-3)


def test_early_factor_falls_to_one_and_stays_there():
    values = [early_factor(6.0, progress) for progress in np.linspace(0, 1, 21)]
    assert (np.diff(values[:11]) < 0).all()
    assert values[10:] == [1.0] * 11


@pytest.mark.parametrize("term", VIEW_TERMS)
@pytest.mark.parametrize(
    "objective", [ConcreteKMeansObjective(), SoftKMeansObjective(), DCNObjective(), DECObjective()]
)
def test_views_reach_the_encoder_and_the_centers_only(device, term, objective):
    model, batch = make_model(device), make_shots(device)
    state = {"target_distribution": torch.full((N_TARGET, 4), 0.25, device=device)}
    terms, _ = run_views(model, batch, objective=objective, state=state)
    gradients = part_gradients(terms[term], model)
    assert gradients["decoder"] is None
    assert gradients["classifier"] is None
    assert (gradients["encoder"] != 0).any()
    assert (gradients["centers"] != 0).any()


@pytest.mark.parametrize("term", [*TERMS, "kshot", *VIEW_TERMS])
def test_views_of_the_target_are_read_by_their_own_terms_alone(term):
    model, batch = make_model(), make_shots()
    change = torch.zeros(N_TARGET, 6, requires_grad=True)

    def augmentation(x, generator):
        if len(x) == N_SOURCE:
            return 0.5 * x
        shots, target = x.split([len(x) - N_TARGET, N_TARGET])
        return torch.cat([0.5 * shots, 0.5 * target.detach() + change])

    batch.x.requires_grad_()
    terms, _ = run_views(model, batch, augmentation)
    of_rows, of_views = torch.autograd.grad(
        terms[term], (batch.x, change), allow_unused=True, materialize_grads=True
    )
    assert ((of_views != 0).any(1) == (term in VIEW_TERMS)).all()
    if term in VIEW_TERMS:
        is_target = torch.arange(len(batch.x)).sub(N_SOURCE).div(N_TARGET, rounding_mode="floor")
        assert torch.equal((of_rows != 0).any(1), is_target == 0)


def test_views_that_change_nothing_have_the_entropy_as_consistency():
    model, batch = make_model(), make_batch()
    terms, (_, step) = run_views(model, batch, lambda x, generator: x)
    p = step.logits.exp()
    entropy = -(p * step.logits).sum(1).mean().item()
    assert terms["consistency"].item() == pytest.approx(entropy, rel=1e-5)
    other, _ = run_views(model, batch)
    assert other["consistency"].item() > 1.1 * entropy


def test_temperature_follows_the_rows_and_not_their_views():
    model, batch = make_model(), make_batch()
    model.centers = Centers(model.centers.positions.detach())
    temperatures, consistencies = [], []
    for augmentation in (None, opposite, lambda x, generator: 100 * x):
        model.centers.temperature.fill_(3.0)
        terms, _ = run_views(model, batch, augmentation)
        temperatures.append(model.centers.temperature.item())
        consistencies.append(terms.get("consistency"))
    assert temperatures[0] == temperatures[1] == temperatures[2] != 3.0
    # the temperature of the views is that of the rows
    model.centers.set_temperature(temperatures[0])
    expected = run_views(model, batch)[0]["consistency"].item()
    assert consistencies[1].item() == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize("objective", [ConcreteKMeansObjective(estimator="gumbel"), None])
def test_same_seed_same_views(objective):
    model, batch = make_model(), make_shots()
    losses = [
        run_views(model, batch, TableAugmentation(), objective=objective, seed=seed)[0]["loss"]
        for seed in (0, 0, 1)
    ]
    assert torch.equal(losses[0], losses[1])
    assert not torch.equal(losses[0], losses[2])


def test_views_stay_in_float32_under_autocast(device):
    model, batch = make_model(device), make_shots(device)
    model.encoder = nn.Sequential(nn.Flatten(), nn.Linear(6, 3)).to(device)
    model.decoder = nn.Sequential(nn.Linear(3, 6), nn.Unflatten(1, (1, 2, 3))).to(device)
    batch = batch._replace(x=batch.x.sigmoid().view(-1, 1, 2, 3))
    augmentation = ImageAugmentation(brightness=0.2, contrast=0.3, blur=0.5)
    encoded = inputs_of(model.encoder)
    run_views(model, batch, augmentation)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        terms, _ = run_views(model, batch, augmentation)
    assert all(term.dtype == torch.float32 for term in terms.values())
    assert torch.equal(encoded[0], encoded[1])
