import copy
import math

import numpy as np
import pytest
import torch
from _oracles import loop_cross_entropy, loop_softmax, loop_squared_distances, to_numpy
from torch import nn

from sklearn_ckm._training._adaptation_criteria import (
    AdversarialCriterion,
    ClassificationCriterion,
    FactorizationCriterion,
    TransferCriterion,
    _neighbor_affinity,
    _of_unit_variance,
)
from sklearn_ckm._training._batches import Batch
from sklearn_ckm.modules import (
    AdaptationModel,
    DenseEncoder,
    DomainDiscriminator,
    MultiLayerDiscriminator,
    last_layers,
)

N_SOURCE, N_TARGET, N_SHOTS = 5, 7, 4
ROWS = {
    "source": slice(0, N_SOURCE),
    "target": slice(N_SOURCE, N_SOURCE + N_TARGET),
    "shots": slice(N_SOURCE + N_TARGET, None),
}
SOURCE_CENTERS = torch.tensor([[1.0, 0.0, 2.0], [0.0, -3.0, 0.5], [1.0, 1.0, 1.0]])


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


def make_batch(device="cpu", y=(0, 1, 1, 0, -1), y_shots=(0, 0, 1, 1)):
    generator = torch.Generator().manual_seed(1)
    x = torch.randn(N_SOURCE + N_TARGET + len(y_shots), 6, generator=generator).to(device)
    y, y_shots = (torch.tensor(labels, device=device) for labels in (y, y_shots))
    return Batch(x, N_SOURCE, y, torch.arange(N_TARGET, device=device), y_shots)


def make_adversarial(device="cpu"):
    model = AdaptationModel(DenseEncoder((6,), 3, (4,)), nn.Linear(3, 2))
    model.discriminator = DomainDiscriminator(3)
    batch = make_batch(device)
    return model.to(device), batch._replace(x=batch.x[: batch.n_rows], y_shots=None)


def make_transfer(device="cpu"):
    model = AdaptationModel(DenseEncoder((6,), 3, (4,)), nn.Linear(3, 3))
    model.target_classifier = nn.Linear(3, 2)
    model.discriminator = MultiLayerDiscriminator((4, 3), gate=0.5, n_hidden=5)
    model.source_encoder = DenseEncoder((6,), 3, (4,)).requires_grad_(False)
    return model.to(device), make_batch(device)


def make_factorization(device="cpu"):
    model = AdaptationModel(DenseEncoder((6,), 3, (4,)), None)
    model.factors = nn.Linear(3, 8)
    model.classifier = nn.Sequential(model.factors, nn.Sigmoid(), nn.Linear(8, 2))
    model.target_classifier = nn.Sequential(model.factors, nn.Sigmoid(), nn.Linear(8, 2))
    return model.to(device), make_batch(device)


def run(criterion, model, batch, progress=0.0):
    terms, step = criterion(model, batch, progress=progress, generator=None)
    assert step is None
    return terms


def transfer(alpha=0.3, beta=0.7, temperatures=(2.0, 1.5), device="cpu"):
    return TransferCriterion(alpha, beta, *temperatures, SOURCE_CENTERS.to(device), 2)


def gradient_of(loss, part):
    """Gradient for the parameters of a part, put together; None where the graph does not reach."""
    parameters = [p for p in part.parameters() if p.requires_grad]
    found = torch.autograd.grad(loss, parameters, retain_graph=True, allow_unused=True)
    if all(gradient is None for gradient in found):
        return None
    pairs = zip(parameters, found, strict=True)
    return torch.cat([(torch.zeros_like(p) if g is None else g).flatten() for p, g in pairs])


def reached_parts(loss, model, parts):
    """Names of the parts which a loss gives a gradient other than zero."""
    found = {part: gradient_of(loss, getattr(model, part)) for part in parts}
    return {part for part, gradient in found.items() if gradient is not None and gradient.any()}


def read_rows(loss, x):
    """Names of the groups of rows that a loss depends on."""
    (gradient,) = torch.autograd.grad(loss, x, retain_graph=True, allow_unused=True)
    return {name for name, rows in ROWS.items() if gradient[rows].any()}


# classification ---------------------------------------------------------------------------------


@pytest.mark.parametrize("head", ["classifier", "other_head"])
def test_classification_reads_the_labels_of_its_rows(device, head):
    model = AdaptationModel(nn.Linear(6, 3), nn.Linear(3, 2), other_head=nn.Linear(3, 2)).to(device)
    labels = torch.tensor([1, 0, -1, 1, 0, 0], device=device)
    index = torch.tensor([5, 2, 0, 0], device=device)
    batch = Batch(torch.randn(4, 6, device=device), 0, None, index)
    terms = run(ClassificationCriterion(labels, head), model, batch)
    logits = to_numpy(getattr(model, head)(model.encoder(batch.x)))
    assert set(terms) == {"loss", "classification"}
    assert terms["loss"].item() == pytest.approx(loop_cross_entropy(logits, [0, -1, 1, 1]), 1e-5)
    parts = ("encoder", "classifier", "other_head")
    assert reached_parts(terms["loss"], model, parts) == {"encoder", head}


# adversarial ------------------------------------------------------------------------------------


@pytest.mark.parametrize("progress", [0.0, 0.1, 0.5, 1.0])
@pytest.mark.parametrize("weight", [0.0, 1.0, 2.5])
def test_encoder_minimises_one_term_and_maximises_the_other(progress, weight):
    model, batch = make_adversarial()
    terms = run(AdversarialCriterion(weight), model, batch, progress)
    z = model.encoder(batch.x)
    standardized = (z - z.mean(0)) / (z.var(0, correction=0) + 1e-5).sqrt()
    logits = model.discriminator(standardized)
    discrimination = (
        nn.functional.softplus(-logits[:N_SOURCE]).mean()
        + nn.functional.softplus(logits[N_SOURCE:]).mean()
    )
    labelled = z[: N_SOURCE - 1]
    classification = nn.functional.cross_entropy(model.classifier(labelled), batch.y[:-1])
    factor = weight * (2 / (1 + math.exp(-10 * progress)) - 1)

    torch.testing.assert_close(terms["classification"], classification)
    torch.testing.assert_close(terms["discrimination"], discrimination)
    torch.testing.assert_close(terms["loss"], classification + discrimination)
    expected = gradient_of(classification, model.encoder) - factor * gradient_of(
        discrimination, model.encoder
    )
    torch.testing.assert_close(gradient_of(terms["loss"], model.encoder), expected)
    # the discriminator itself is not reversed, whatever the weight
    torch.testing.assert_close(
        gradient_of(terms["loss"], model.discriminator),
        gradient_of(discrimination, model.discriminator),
    )
    torch.testing.assert_close(
        gradient_of(terms["loss"], model.classifier), gradient_of(classification, model.classifier)
    )


def test_without_the_adversarial_weight_the_encoder_hears_the_classification_alone():
    model, batch = make_adversarial()
    terms = run(AdversarialCriterion(0.0), model, batch, progress=1.0)
    alone = gradient_of(terms["classification"], model.encoder)
    assert torch.equal(gradient_of(terms["loss"], model.encoder), alone)
    with_weight = run(AdversarialCriterion(1.0), model, batch, progress=1.0)
    assert not torch.equal(gradient_of(with_weight["loss"], model.encoder), alone)


def test_encoder_cannot_win_by_the_scale_or_place_of_its_code():
    model, batch = make_adversarial()
    loss = run(AdversarialCriterion(1.0), model, batch)["discrimination"].item()
    with torch.no_grad():
        model.encoder.layers[-1].weight *= 10
        model.encoder.layers[-1].bias += 100
    scaled = run(AdversarialCriterion(1.0), model, batch)["discrimination"].item()
    assert scaled == pytest.approx(loss, rel=1e-3)


def test_constant_code_is_finite_and_tells_nothing():
    model, batch = make_adversarial()
    with torch.no_grad():
        model.encoder.layers[-1].weight.zero_()
    terms = run(AdversarialCriterion(1.0), model, batch, progress=1.0)
    logit = model.discriminator(torch.zeros(1, 3))
    expected = nn.functional.softplus(-logit) + nn.functional.softplus(logit)
    assert terms["discrimination"].item() == pytest.approx(expected.item(), rel=1e-4)
    assert torch.isfinite(gradient_of(terms["loss"], model.encoder)).all()


# transfer ---------------------------------------------------------------------------------------

PARTS = ("encoder", "classifier", "target_classifier", "discriminator")


@pytest.mark.parametrize(
    ("term", "reached", "rows"),
    [
        ("classification", {"encoder", "target_classifier"}, {"shots"}),
        ("discrimination", {"discriminator"}, set()),  # read, but no gradient reaches the rows
        ("confusion", {"encoder"}, {"target"}),
        ("transfer", {"encoder"}, {"target", "shots"}),
        ("loss", {"encoder", "target_classifier", "discriminator"}, {"target", "shots"}),
    ],
)
def test_losses_of_the_transfer_reach_their_own_player_only(device, term, reached, rows):
    model, batch = make_transfer(device)
    batch.x.requires_grad_()
    terms = run(transfer(device=device), model, batch)
    assert reached_parts(terms[term], model, PARTS) == reached
    if rows:
        assert read_rows(terms[term], batch.x) == rows


def loop_entropy(logits, temperature):
    rows = loop_softmax(logits / temperature)
    return -sum(p * math.log(p) for row in rows for p in row) / len(rows)


def loop_similarity(query, support):
    return np.array([[row @ s / math.sqrt(s @ s) for s in support] for row in query])


@pytest.mark.parametrize("weights", [(0.3, 0.7), (0.0, 0.7), (0.3, 0.0), (0.0, 0.0)])
@pytest.mark.parametrize("temperatures", [(2.0, 1.0), (0.5, 3.0)])
def test_transfer_equals_the_sum_computed_by_hand(weights, temperatures):
    model, batch = make_transfer()
    terms = run(transfer(*weights, temperatures), model, batch)

    with torch.no_grad():
        hidden, z = last_layers(model.encoder, batch.x[N_SOURCE:])
        of_source = to_numpy(model.discriminator(last_layers(model.source_encoder, batch.x[:5])))
        of_target = to_numpy(model.discriminator([hidden[:N_TARGET], z[:N_TARGET]]))
        logits = to_numpy(model.target_classifier(z[N_TARGET:]))
    z, y_shots = to_numpy(z).astype(float), to_numpy(batch.y_shots)
    z, z_shots = z[:N_TARGET], z[N_TARGET:]
    d_source, d_target = (1 / (1 + np.exp(-of)) for of in (of_source, of_target))
    centers = np.array([z_shots[y_shots == j].mean(0) for j in range(2)])
    expected = {
        "classification": loop_cross_entropy(logits, y_shots),
        "discrimination": -np.log(d_source).mean() - np.log(1 - d_target).mean(),
        "confusion": -np.log(d_target).mean(),
        "transfer": loop_entropy(loop_similarity(z, SOURCE_CENTERS.numpy()), temperatures[0])
        + loop_entropy(loop_similarity(z, centers), temperatures[1])
        + loop_cross_entropy(loop_similarity(z_shots, centers), y_shots),
    }
    alpha, beta = weights
    total = (
        expected["classification"]
        + alpha * (expected["discrimination"] + expected["confusion"])
        + beta * expected["transfer"]
    )
    assert terms["loss"].item() == pytest.approx(total, rel=1e-5)
    for name in set(terms) - {"loss"}:
        assert terms[name].item() == pytest.approx(expected[name], rel=1e-5)
    has_term = {"discrimination": alpha > 0, "confusion": alpha > 0, "transfer": beta > 0}
    assert {name: name in terms for name in has_term} == has_term


def test_class_of_which_no_row_was_drawn_has_no_part_in_the_transfer():
    model, batch = make_transfer()
    batch = batch._replace(y_shots=torch.tensor([0, 0, 2, 2]))  # of three classes
    criterion = TransferCriterion(0.0, 1.0, 2.0, 1.5, SOURCE_CENTERS, 3)
    z, z_shots = (model.encoder(batch.x)[rows] for rows in (ROWS["target"], ROWS["shots"]))
    transfer_of_three = criterion._semantic_transfer(z, z_shots, batch.y_shots)
    of_two = TransferCriterion(0.0, 1.0, 2.0, 1.5, SOURCE_CENTERS, 2)
    expected = of_two._semantic_transfer(z, z_shots, torch.tensor([0, 0, 1, 1]))
    assert transfer_of_three.item() == pytest.approx(expected.item(), rel=1e-6)
    gradient = torch.autograd.grad(transfer_of_three, model.encoder.parameters())
    assert all(part.isfinite().all() for part in gradient)


def test_source_encoder_stays_bit_for_bit_even_with_batch_statistics():
    def make_encoder():
        return nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Dropout(0.5), nn.Linear(4, 3))

    model, batch = make_transfer()
    model.encoder, model.source_encoder = make_encoder(), make_encoder().requires_grad_(False)
    model.discriminator = MultiLayerDiscriminator([3])
    model.train()
    before = copy.deepcopy(model.source_encoder.state_dict())
    own = copy.deepcopy(model.encoder.state_dict())
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1, weight_decay=0.1)
    for _ in range(3):
        optimizer.zero_grad()
        run(transfer(), model, batch)["loss"].backward()
        optimizer.step()
    assert all(p.grad is None for p in model.source_encoder.parameters())
    for name, value in model.source_encoder.state_dict().items():
        assert torch.equal(value, before[name])
        assert not torch.equal(model.encoder.state_dict()[name], own[name])


def test_without_a_shot_of_a_class_in_the_batch_the_transfer_is_finite():
    model, batch = make_transfer()
    terms = run(transfer(), model, batch._replace(y_shots=torch.tensor([1, 1, 1, 1])))
    gradient = gradient_of(terms["loss"], model.encoder)
    assert torch.isfinite(gradient).all()


def test_labels_of_the_source_are_not_read_in_the_transfer():
    model, batch = make_transfer()
    losses = [
        run(transfer(), model, batch._replace(y=y))["loss"].item() for y in (batch.y, 1 - batch.y)
    ]
    assert losses[0] == losses[1]


# factorization ----------------------------------------------------------------------------------

WEIGHTS = (0.7, 0.2, 0.3)


@pytest.mark.parametrize(
    ("term", "reached", "rows"),
    [
        ("classification", {"encoder", "factors", "source head"}, {"source"}),
        ("kshot", {"encoder", "factors", "target head"}, {"shots"}),
        ("factorization", {"encoder", "factors"}, {"source", "target"}),
        ("graph", {"encoder"}, {"target"}),
        ("loss", {"encoder", "factors", "source head", "target head"}, set(ROWS)),
    ],
)
def test_losses_on_the_factors_are_routed(device, term, reached, rows):
    model, batch = make_factorization(device)
    batch.x.requires_grad_()
    terms = run(FactorizationCriterion(*WEIGHTS), model, batch)
    model.add_module("source head", model.classifier[-1])
    model.add_module("target head", model.target_classifier[-1])
    parts = ("encoder", "factors", "source head", "target head")
    assert reached_parts(terms[term], model, parts) == reached
    assert read_rows(terms[term], batch.x) == rows


def loop_affinity(factors, n_neighbors=5):
    n = len(factors)
    edges = np.zeros((n, n))
    for i, row in enumerate(loop_squared_distances(factors, factors)):
        others = sorted((distance, j) for j, distance in enumerate(row) if j != i)
        for _, j in others[:n_neighbors]:
            edges[i, j] += 1
            edges[j, i] += 1
    return edges * (n / edges.sum())


@pytest.mark.parametrize("weights", [WEIGHTS, (1.0, 3.0, 0.5)])
def test_factorization_equals_the_sum_computed_by_hand(weights):
    model, batch = make_factorization()
    terms = run(FactorizationCriterion(*weights), model, batch)
    with torch.no_grad():
        z = model.encoder(batch.x)
        f = to_numpy(model.factors(z).sigmoid()).astype(float)
        logits = to_numpy(model.classifier(z[ROWS["source"]]))
        logits_shots = to_numpy(model.target_classifier(z[ROWS["shots"]]))
    z_target = to_numpy(z[ROWS["target"]]).astype(float)
    z_target /= math.sqrt(z_target.var(0).sum())
    both = f[: N_SOURCE + N_TARGET]
    affinity = loop_affinity(f[ROWS["target"]])
    expected = {
        "classification": loop_cross_entropy(logits, to_numpy(batch.y)),
        "kshot": loop_cross_entropy(logits_shots, to_numpy(batch.y_shots)),
        "factorization": -(both * np.log(both) + (1 - both) * np.log(1 - both)).sum() / len(both),
        "graph": (affinity * loop_squared_distances(z_target, z_target)).sum() / N_TARGET,
    }
    assert set(terms) == {"loss", *expected}
    for name, value in expected.items():
        assert terms[name].item() == pytest.approx(value, rel=1e-4)
    total = sum(w * v for w, v in zip((1.0, *weights), expected.values(), strict=True))
    assert terms["loss"].item() == pytest.approx(total, rel=1e-4)


def test_scale_of_the_embedding_does_not_matter_to_the_graph():
    model, batch = make_factorization()
    graph = run(FactorizationCriterion(*WEIGHTS), model, batch)["graph"].item()
    with torch.no_grad():  # the same factors from an embedding ten times as large
        model.encoder.layers[-1].weight *= 10
        model.encoder.layers[-1].bias *= 10
        model.factors.weight /= 10
    assert run(FactorizationCriterion(*WEIGHTS), model, batch)["graph"].item() == pytest.approx(
        graph, rel=1e-4
    )


@pytest.mark.parametrize("n_rows", [1, 2, 3, 6, 7, 40])
def test_graph_is_symmetric_without_loops_and_sums_to_one_a_row(device, n_rows):
    factors = torch.rand(n_rows, 4, device=device)
    affinity = _neighbor_affinity(factors)
    assert affinity.shape == (n_rows, n_rows)
    assert torch.equal(affinity, affinity.T)
    assert (affinity.diagonal() == 0).all()
    assert (affinity >= 0).all()
    if n_rows == 1:
        return
    assert affinity.sum().item() == pytest.approx(n_rows, rel=1e-5)
    assert ((affinity > 0).sum(1) >= min(5, n_rows - 1)).all()
    expected = loop_affinity(to_numpy(factors).astype(float))
    np.testing.assert_allclose(to_numpy(affinity), expected, rtol=1e-5)


def test_graph_passes_no_gradient_to_the_factors():
    assert not _neighbor_affinity(torch.rand(7, 4, requires_grad=True)).requires_grad


def test_unit_variance_holds_for_any_scale_and_its_divisor_is_a_constant():
    z = torch.randn(6, 3, requires_grad=True)
    scaled = _of_unit_variance(z)
    variance = z.detach().var(0, correction=0).sum()
    assert scaled.var(0, correction=0).sum().item() == pytest.approx(1, rel=1e-5)
    torch.testing.assert_close(_of_unit_variance(100 * z), scaled)
    (gradient,) = torch.autograd.grad(scaled.sum(), z)
    torch.testing.assert_close(gradient, torch.full_like(z, 1 / variance.sqrt().item()))


@pytest.mark.parametrize("n_target", [1, 2])
def test_few_target_rows_are_enough_for_the_graph(n_target):
    model, batch = make_factorization()
    keep = [*range(N_SOURCE + n_target), *range(N_SOURCE + N_TARGET, len(batch.x))]
    batch = batch._replace(x=batch.x[keep], target_index=batch.target_index[:n_target])
    terms = run(FactorizationCriterion(*WEIGHTS), model, batch)
    gradient = gradient_of(terms["loss"], model.encoder)
    assert torch.isfinite(gradient).all()
    # two rows of unit variance lie two apart, in each of the two orders, over two rows
    expected = {1: 0.0, 2: 4.0}[n_target]
    assert terms["graph"].item() == pytest.approx(expected, rel=1e-5)


def test_collapsed_embedding_costs_the_graph_nothing_and_stays_finite():
    model, batch = make_factorization()
    with torch.no_grad():
        model.encoder.layers[-1].weight.zero_()
    terms = run(FactorizationCriterion(*WEIGHTS), model, batch)
    assert terms["graph"].item() == 0
    assert torch.isfinite(gradient_of(terms["loss"], model.encoder)).all()


# all --------------------------------------------------------------------------------------------

ALL = {
    "adversarial": (lambda device: AdversarialCriterion(0.5), make_adversarial),
    "transfer": (lambda device: transfer(device=device), make_transfer),
    "factorization": (lambda device: FactorizationCriterion(*WEIGHTS), make_factorization),
}


@pytest.mark.parametrize(("make_criterion", "make"), ALL.values(), ids=ALL)
def test_losses_stay_in_float32_under_autocast(device, make_criterion, make):
    model, batch = make(device)
    criterion = make_criterion(device)
    plain = run(criterion, model, batch, progress=0.5)
    with torch.autocast(device.type, dtype=torch.bfloat16):
        terms = run(criterion, model, batch, progress=0.5)
    for name, term in terms.items():
        assert term.dtype == torch.float32
        assert term.item() == pytest.approx(plain[name].item(), rel=0.05)


def test_similarities_are_not_rounded_under_autocast():
    """The code is rounded; what is made of it is not."""
    model, batch = make_transfer()
    criterion = transfer()
    with torch.autocast("cpu", dtype=torch.bfloat16):
        terms = run(criterion, model, batch)
        z = model.encoder(batch.x[N_SOURCE:]).float()
    expected = criterion._semantic_transfer(z[:N_TARGET], z[N_TARGET:], batch.y_shots)
    assert terms["transfer"].item() == pytest.approx(expected.item(), rel=1e-6)


@pytest.mark.parametrize(("make_criterion", "make"), ALL.values(), ids=ALL)
def test_criteria_leave_batch_and_model(make_criterion, make):
    model, batch = make("cpu")
    x, state = batch.x.clone(), copy.deepcopy(model.state_dict())
    run(make_criterion("cpu"), model, batch)["loss"].backward()
    assert torch.equal(batch.x, x)
    assert all(torch.equal(value, state[name]) for name, value in model.state_dict().items())
