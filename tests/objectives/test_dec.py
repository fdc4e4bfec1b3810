import copy

import numpy as np
import pytest
import torch
from _oracles import leaves, loop_squared_distances, random_clusters, to_numpy
from numpy.testing import assert_allclose
from skorch.callbacks import Callback
from torch import nn

from sklearn_ckm._training._batches import DomainBatches
from sklearn_ckm._training._criteria import JointCriterion
from sklearn_ckm._training._nets import FineTuningNet
from sklearn_ckm.modules import Centers, ClusteringModel
from sklearn_ckm.objectives import DECObjective
from sklearn_ckm.utils._random import make_generator

N_ROWS, N_BATCHES = 40, 5


def student_t(distances, alpha=1.0):
    kernel = (1 + distances / alpha) ** (-(alpha + 1) / 2)
    return kernel / kernel.sum(1, keepdims=True)


def sharpened(q):
    weights = q**2 / q.sum(0)
    return weights / weights.sum(1, keepdims=True)


def divergences(p, q):
    """KL(p | q) of each row."""
    return (p * np.log(p / q)).sum(1)


def with_target(objective, distances, device="cpu"):
    """State of a fit in which the objective has seen all rows."""
    state = objective.start(None)
    objective.read_all_rows(state, torch.tensor(distances, device=device), torch.tensor(1.0))
    return state


# settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"alpha": 0}, "Expected 'alpha' to be a positive number, got 0"),
        ({"alpha": -1.0}, "Expected 'alpha'.*got -1.0"),
        ({"alpha": float("nan")}, "Expected 'alpha'.*got nan"),
        ({"alpha": float("inf")}, "Expected 'alpha'.*got inf"),
        ({"alpha": "1"}, "Expected 'alpha'.*got '1'"),
        ({"alpha": (1.0, 2.0)}, "Expected 'alpha'"),
        ({"refresh_every": 0}, "Expected 'refresh_every' to be a positive int, got 0"),
        ({"refresh_every": -2}, "Expected 'refresh_every'.*got -2"),
        ({"refresh_every": 1.0}, "Expected 'refresh_every'.*got 1.0"),
        ({"refresh_every": None}, "Expected 'refresh_every'.*got None"),
    ],
)
def test_settings_that_make_no_sense_raise(settings, message):
    with pytest.raises(ValueError, match=message):
        DECObjective(**settings).check_settings()


@pytest.mark.parametrize(
    "settings", [{}, {"alpha": 0.1, "refresh_every": 7}, {"alpha": np.float32(2)}, {"alpha": 3}]
)
def test_settings_that_make_sense_pass(settings):
    DECObjective(**settings).check_settings()


# the step -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("alpha", [0.5, 1.0, 3.0])
def test_step_draws_the_batch_to_its_rows_of_the_whole_target(device, alpha):
    z, centers = random_clusters(30)
    distances = loop_squared_distances(z, centers)
    q = student_t(distances, alpha)
    p = sharpened(q)
    index = np.random.default_rng(0).permutation(30)[:11]
    objective = DECObjective(alpha=alpha)
    result = objective.step(
        *leaves(device, z[index], centers),
        torch.tensor(1.0),
        index=torch.tensor(index, device=device),
        state=with_target(objective, distances, device),
    )
    assert_allclose(result.loss.item(), divergences(p[index], q[index]).mean(), rtol=1e-11)
    assert_allclose(to_numpy(result.distances), distances[index], rtol=1e-12)
    assert_allclose(np.exp(to_numpy(result.logits)), q[index], rtol=1e-12)
    assert result.choice.tolist() == distances[index].argmin(1).tolist()
    # the broken variants: the target of the batch alone, the first rows of the target
    for wrong in (sharpened(q[index]), p[:11]):
        assert abs(result.loss.item() - divergences(wrong, q[index]).mean()) > 1e-3


def test_gradients_are_the_published_ones_with_the_target_held_constant(device):
    z, centers = random_clusters(30)
    stale = random_clusters(30, seed=1)  # what the target distribution was computed from
    p = sharpened(student_t(loop_squared_distances(*stale)))
    index = np.arange(30)[::-3]
    z = z[index]
    distances = loop_squared_distances(z, centers)
    pull = 2 * (p[index] - student_t(distances)) / (1 + distances) / len(z)
    difference = z[:, None] - centers  # (n, k, d)
    objective = DECObjective()
    inputs = leaves(device, z, centers)
    result = objective.step(
        *inputs,
        torch.tensor(1.0),
        index=torch.tensor(index.copy(), device=device),
        state=with_target(objective, loop_squared_distances(*stale), device),
    )
    got = torch.autograd.grad(result.loss, inputs)
    assert_allclose(to_numpy(got[0]), (pull[:, :, None] * difference).sum(1), rtol=1e-10)
    assert_allclose(to_numpy(got[1]), -(pull[:, :, None] * difference).sum(0), rtol=1e-10)


def test_temperature_is_not_read():
    distances = torch.tensor(loop_squared_distances(*random_clusters()))
    objective = DECObjective()
    log_q = objective.log_probabilities(distances, torch.tensor(1.0))
    assert torch.equal(log_q, objective.log_probabilities(distances, torch.tensor(100.0)))
    assert_allclose(log_q.exp().numpy(), student_t(distances.numpy()), rtol=1e-12)

    def fail(distances):
        raise AssertionError("the temperature was followed")

    z, centers = map(torch.tensor, random_clusters())
    state = with_target(objective, distances.numpy())
    objective.step(z, centers, fail, index=torch.arange(12), state=state)


@pytest.mark.parametrize("state", [None, {}])
def test_step_without_the_target_distribution_raises(state):
    z, centers = map(torch.tensor, random_clusters())
    with pytest.raises(ValueError, match=r"target distribution.*Call 'start' and 'read_all_rows'"):
        DECObjective().step(z, centers, 1.0, index=torch.arange(12), state=state)


def test_step_without_the_index_raises():
    z, centers = random_clusters()
    objective = DECObjective()
    state = with_target(objective, loop_squared_distances(z, centers))
    with pytest.raises(ValueError, match="the index of the batch's rows"):
        objective.step(torch.tensor(z), torch.tensor(centers), 1.0, state=state)


@pytest.mark.parametrize(
    ("refresh_every", "due"),
    [(1, [0, 1, 2, 3, 4, 5, 6]), (2, [0, 2, 4, 6]), (3, [0, 3, 6]), (99, [0])],
)
def test_target_distribution_is_due_before_every_so_many_epochs(refresh_every, due):
    objective = DECObjective(refresh_every=refresh_every)
    assert [epoch for epoch in range(7) if objective.needs_all_rows(epoch)] == due


# in training --------------------------------------------------------------------------------------


class Watched(DECObjective):
    """DEC that notes on its class what it saw; the parameters are those of DEC."""

    reads, steps = [], []

    def read_all_rows(self, state, distances, temperature):
        super().read_all_rows(state, distances, temperature)
        self.reads.append((distances.numpy().copy(), state["target_distribution"].numpy().copy()))

    def step(self, z, centers, temperature, **kwargs):
        result = super().step(z, centers, temperature, **kwargs)
        p = kwargs["state"]["target_distribution"].numpy().copy()
        seen = (to_numpy(result.distances), kwargs["index"].numpy(), result.loss.item(), p)
        self.steps.append(seen)
        return result


@pytest.fixture(autouse=True)
def fresh_start():
    """Forget what was watched; seed the dropout and leave the global state as it was."""
    Watched.reads.clear()
    Watched.steps.clear()
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


class KeepModels(Callback):
    """Copies of the model at the beginning of each epoch."""

    models = []

    def on_epoch_begin(self, net, **kwargs):
        self.models.append(copy.deepcopy(net.module_))


def make_target():
    return torch.randn(N_ROWS, 6, generator=torch.Generator().manual_seed(0))


def make_net(objective, **kwargs):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Dropout(0.2), nn.Linear(4, 3))
        model = ClusteringModel(encoder, nn.Linear(3, 6), None, Centers(2 * torch.randn(4, 3)))
    kwargs = {"max_epochs": 6, "lr": 0.05, "optimizer": torch.optim.SGD, "verbose": 0, **kwargs}
    labels = torch.zeros(N_ROWS, dtype=torch.long)
    return FineTuningNet(model, JointCriterion(objective, 1.0), labels=labels, **kwargs)


def make_batches():
    return DomainBatches(make_target(), batch_size=8, generator=make_generator(0, "cpu"))


def q_of_all_rows(model):
    with torch.no_grad():
        z = model.eval().encoder(make_target())
    return student_t(
        loop_squared_distances(z.double().numpy(), to_numpy(model.centers.positions).astype(float))
    )


@pytest.mark.parametrize(("refresh_every", "n_reads"), [(1, 6), (2, 3), (3, 2), (4, 2)])
def test_target_is_that_of_all_rows_before_every_so_many_epochs(refresh_every, n_reads):
    KeepModels.models.clear()
    objective = Watched(refresh_every=refresh_every)
    make_net(objective, callbacks=[KeepModels()]).fit(make_batches())
    assert len(Watched.reads) == n_reads
    assert len(Watched.steps) == 6 * N_BATCHES
    for i, (distances, p) in enumerate(Watched.reads):
        assert distances.shape == (N_ROWS, 4)
        q = q_of_all_rows(KeepModels.models[i * refresh_every])  # in eval mode: no dropout
        assert_allclose(p, sharpened(q), rtol=1e-4, atol=1e-6)
    for i, (*_, p) in enumerate(Watched.steps):
        epoch = i // N_BATCHES
        assert np.array_equal(p, Watched.reads[epoch // refresh_every][1])
    # the model moves on meanwhile, so another schedule would have been seen
    assert all(
        np.abs(a[1] - b[1]).max() > 1e-3
        for a, b in zip(Watched.reads, Watched.reads[1:], strict=False)
    )


def test_rows_meet_their_own_target_in_shuffled_batches():
    make_net(Watched(refresh_every=2)).fit(make_batches())
    assert len({tuple(index) for _, index, *_ in Watched.steps}) == 6 * N_BATCHES  # shuffled
    errors = []
    for i, (distances, index, loss, _) in enumerate(Watched.steps):
        p = Watched.reads[i // (2 * N_BATCHES)][1].astype(float)
        q = student_t(distances.astype(float))
        assert loss == pytest.approx(divergences(p[index], q).mean(), rel=1e-4)
        in_order = np.arange(8) + 8 * (i % N_BATCHES)  # the broken variant: no index
        errors.append(abs(loss - divergences(p[in_order], q).mean()))
    assert np.median(errors) > 0.01


def test_recorded_loss_is_the_divergence_of_the_whole_target():
    # Nothing moves, and an epoch draws every row once.
    net = make_net(DECObjective(), max_epochs=1, lr=1e-30)
    net.module.encoder[2].p = 0.0
    net.fit(make_batches())
    q = q_of_all_rows(net.module_)
    expected = divergences(sharpened(q), q).mean()
    assert net.history[0]["clustering"] == pytest.approx(expected, rel=1e-5)
    # the broken variants: targets of the batches, and the default reduction of torch
    by_batch = np.vstack([sharpened(part) for part in np.split(q, N_BATCHES)])
    for broken in (divergences(by_batch, q).mean(), expected / 4):
        assert abs(broken - expected) > 0.05 * expected


def test_training_goes_on_with_partial_fit():
    parts, whole = (make_net(Watched(refresh_every=2), max_epochs=4) for _ in range(2))
    batches = make_batches()
    parts.partial_fit(batches, epochs=3).partial_fit(batches, epochs=1)
    assert len(Watched.reads) == 2  # before the epochs 0 and 2, not where the second part begins
    torch.manual_seed(0)
    whole.fit(make_batches())
    assert torch.equal(parts.module_.centers.positions, whole.module_.centers.positions)
