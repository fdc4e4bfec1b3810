import copy
import signal
from functools import partial

import numpy as np
import pytest
import torch
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, EarlyStopping, LRScheduler
from torch import nn

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm._training._batches import DomainBatches
from sklearn_ckm._training._checkpoint import PhaseCheckpoint
from sklearn_ckm._training._criteria import JointCriterion
from sklearn_ckm._training._divergence import DivergenceError, find_divergence
from sklearn_ckm._training._history import epoch_records
from sklearn_ckm._training._monitors import MONITORS, ClusteringMonitors
from sklearn_ckm._training._nets import FineTuningNet, PretrainingNet
from sklearn_ckm._training._optimizers import resolve_optimizer
from sklearn_ckm._training._state import restore_state, take_state
from sklearn_ckm.modules import Centers, ClusteringModel
from sklearn_ckm.objectives import (
    BaseClusteringObjective,
    ConcreteKMeansObjective,
    SoftKMeansObjective,
)
from sklearn_ckm.objectives._resolve import OBJECTIVES, resolve_objective
from sklearn_ckm.utils._random import make_generator

CPU = torch.device("cpu")
N_BATCHES = 5


def make_data(device=CPU):
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(40, 6, generator=generator)
    source = torch.randn(20, 6, generator=generator) + 1
    return [a.to(device) for a in (target, source, torch.arange(20) % 2)]


def make_batches(device=CPU, *, seed=0):
    return DomainBatches(*make_data(device), batch_size=8, generator=make_generator(seed, device))


def make_model(device=CPU, *, n_classes=2, temperature="auto"):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = nn.Sequential(nn.Linear(6, 4), nn.Tanh(), nn.Linear(4, 3))
        classifier = nn.Linear(3, n_classes) if n_classes else None
        centers = Centers(torch.randn(4, 3), temperature)
        return ClusteringModel(encoder, nn.Linear(3, 6), classifier, centers).to(device)


def finetuning_net(device=CPU, *, model=None, weights=(0.3, 0.7), objective=None, **kwargs):
    kwargs = {"max_epochs": 3, "lr": 1e-2, "optimizer": torch.optim.Adam, **kwargs}
    return FineTuningNet(
        model or make_model(device),
        JointCriterion(objective or ConcreteKMeansObjective(), *weights),
        labels=torch.zeros(40, dtype=torch.long, device=device),
        generator=make_generator(0, device),
        device=str(device),
        verbose=0,
        **kwargs,
    )


def pretraining_net(**kwargs):
    kwargs = {"max_epochs": 3, "lr": 1e-2, "optimizer": torch.optim.Adam, **kwargs}
    return PretrainingNet(make_model(n_classes=0), verbose=0, **kwargs)


def weights(net):
    return torch.cat([p.detach().flatten() for p in net.module_.parameters()])


class Recorder(Callback):
    """Counts the hooks of a batch and keeps what they are called with."""

    def __init__(self):
        self.begun, self.ended, self.gradients, self.losses = 0, 0, [], []

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        self.begun += 1

    def on_batch_end(self, net, batch=None, training=False, loss=None, **kwargs):
        self.ended += 1
        self.losses.append(loss.item())

    def on_grad_computed(self, net, named_parameters, batch=None, training=False, **kwargs):
        self.gradients.append(sum(p.grad.norm().item() for _, p in named_parameters))


class Interrupter(Callback):
    def on_epoch_end(self, net, **kwargs):
        raise KeyboardInterrupt


# history ------------------------------------------------------------------------------------------


def test_history_has_one_record_per_epoch_without_batches(device):
    net = finetuning_net(device).fit(make_batches(device))
    records = epoch_records(net)
    terms = {"loss", "reconstruction", "clustering", "classification"}
    assert [record["epoch"] for record in records] == [1, 2, 3]
    assert all(len(record["batches"]) == 1 for record in net.history)  # for callbacks' sake
    for record in records:
        assert record.keys() == {"epoch", "phase", *terms, *MONITORS}
        assert record["phase"] == "finetune"
        assert all(type(record[name]) is float for name in (*terms, *MONITORS))
        expected = (
            record["reconstruction"] + 0.3 * record["clustering"] + 0.7 * record["classification"]
        )
        assert record["loss"] == pytest.approx(expected, rel=1e-5)


def test_loggers_of_skorch_find_numbers_alone(device):
    net = finetuning_net(device).fit(make_batches(device))
    rows = [{k: v for k, v in row.items() if k != "batches"} for row in net.history]
    assert all(float(value) == value for row in rows for value in row.values())


def test_history_of_the_pretraining():
    records = epoch_records(pretraining_net().fit(make_batches()))
    assert [record["phase"] for record in records] == ["pretrain"] * 3
    assert all(record.keys() == {"epoch", "phase", "loss", "reconstruction"} for record in records)


def test_recorded_losses_are_the_means_of_the_batches():
    net = finetuning_net(callbacks=[Recorder()], max_epochs=2).fit(make_batches())
    losses = dict(net.callbacks_)["Recorder"].losses
    for record, batch_losses in zip(net.history, np.reshape(losses, (2, N_BATCHES)), strict=True):
        assert record["loss"] == pytest.approx(batch_losses.mean(), rel=1e-5)


# callbacks ----------------------------------------------------------------------------------------


def test_batch_hooks_are_called_for_every_batch():
    net = finetuning_net(callbacks=[Recorder()]).fit(make_batches())
    recorder = dict(net.callbacks_)["Recorder"]
    assert recorder.begun == recorder.ended == len(recorder.gradients) == 3 * N_BATCHES
    assert min(recorder.gradients) > 0
    assert [len(record["batches"]) for record in net.history] == [N_BATCHES] * 3


def test_listening_to_batches_changes_nothing():
    plain = finetuning_net().fit(make_batches())
    heard = finetuning_net(callbacks=[Recorder()]).fit(make_batches())
    assert torch.equal(weights(plain), weights(heard))
    assert epoch_records(plain) == epoch_records(heard)


class InterruptsBatch(Callback):
    """Sends the process an interrupt, as Ctrl-C does, in one batch of one epoch."""

    def __init__(self, epoch, batch=1):
        self.epoch = epoch
        self.batch = batch

    def on_grad_computed(self, net, named_parameters, batch=None, training=False, **kwargs):
        if len(net.history) == self.epoch and len(net.history[-1]["batches"]) == self.batch:
            signal.raise_signal(signal.SIGINT)


@pytest.mark.usefixtures("ctrl_c")
def test_interrupt_of_the_pretraining_is_raised():
    for callback in (Interrupter(), InterruptsBatch(1)):
        net = pretraining_net(callbacks=[callback])
        with pytest.raises(KeyboardInterrupt):
            net.fit(make_batches())
        assert len(net.history) == 1


def test_interrupt_at_the_end_of_an_epoch_keeps_it():
    net = finetuning_net(callbacks=[Interrupter()]).fit(make_batches())
    whole = finetuning_net().initialize()
    whole.partial_fit(make_batches(), epochs=1)
    assert net.stop_reason == "interrupted"
    assert torch.equal(weights(net), weights(whole))
    assert epoch_records(net) == epoch_records(whole)


@pytest.mark.usefixtures("ctrl_c")
@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("batch", [1, 2])
def test_interrupt_within_an_epoch_goes_back_to_its_start(epoch, batch):
    net = finetuning_net(callbacks=[InterruptsBatch(epoch, batch)], max_epochs=4)
    net.fit(make_batches())
    whole = finetuning_net(max_epochs=4).initialize()
    whole.partial_fit(make_batches(), epochs=epoch - 1)
    assert net.stop_reason == "interrupted"
    assert torch.equal(weights(net), weights(whole))
    assert epoch_records(net) == epoch_records(whole)
    assert torch.equal(net.monitors.labels, whole.monitors.labels)


@pytest.mark.parametrize("monitor", ["loss", "train_loss", "reconstruction", "label_change"])
def test_early_stopping_ends_the_phase(monitor):
    stopping = EarlyStopping(monitor, patience=2, threshold=1e9, threshold_mode="abs", sink=str)
    net = finetuning_net(callbacks=[stopping], max_epochs=20).fit(make_batches())
    assert net.stop_reason == "callback"
    assert len(net.history) == 3


def test_hooks_after_an_early_stopping_are_still_called():
    class Closer(Callback):
        n_epochs = n_ends = 0

        def on_epoch_end(self, net, **kwargs):
            self.n_epochs += 1

        def on_train_end(self, net, **kwargs):
            self.n_ends += 1

    stopping = EarlyStopping("loss", patience=1, threshold=1e9, threshold_mode="abs", sink=str)
    net = finetuning_net(callbacks=[stopping, Closer()], max_epochs=20).fit(make_batches())
    closer = dict(net.callbacks_)["Closer"]
    assert closer.n_epochs == len(net.history) == 2
    assert closer.n_ends == 1


def test_without_a_reason_to_stop_there_is_none():
    net = finetuning_net().fit(make_batches())
    assert net.stop_reason is None
    assert len(net.history) == 3


def test_learning_rate_schedule():
    schedule = LRScheduler(
        torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.5, event_name="event_lr"
    )
    net = finetuning_net(callbacks=[schedule], lr=0.08).fit(make_batches())
    assert [record["event_lr"] for record in net.history] == [0.08, 0.04, 0.02]
    assert net.optimizer_.param_groups[0]["lr"] == 0.01


def test_learning_rate_schedule_by_batch():
    schedule = LRScheduler(
        torch.optim.lr_scheduler.StepLR, step_size=N_BATCHES, gamma=0.5, step_every="batch"
    )
    net = finetuning_net(callbacks=[schedule], lr=0.08).fit(make_batches())
    assert net.optimizer_.param_groups[0]["lr"] == 0.01


# stopping -----------------------------------------------------------------------------------------


def test_stops_when_no_label_changes():
    net = finetuning_net(lr=1e-9, tol=1e-3, n_iter_no_change=2, max_epochs=20)
    net.fit(make_batches())
    assert net.stop_reason == "converged"
    assert len(net.history) == 3  # the labels of the first epoch differ from the given ones
    assert [record["label_change"] == 0 for record in net.history] == [False, True, True]


def test_only_still_epochs_in_a_row_count():
    net = finetuning_net(tol=0.5, n_iter_no_change=2, max_epochs=20)
    changes = iter([1.0, 0.0, 1.0, 0.0, 1.0, 0.0, 0.0, 0.0])

    def finish_epoch(self, n_batches, centers, finish=ClusteringMonitors.finish_epoch):
        return {**finish(self, n_batches, centers), "label_change": next(changes)}

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(ClusteringMonitors, "finish_epoch", finish_epoch)
        net.fit(make_batches())
    assert net.stop_reason == "converged"
    assert len(net.history) == 7


@pytest.mark.parametrize(
    "objective",
    [
        ConcreteKMeansObjective(noise=(1.0, 0.0)),
        ConcreteKMeansObjective(relaxation=lambda progress: 1.0),
        SoftKMeansObjective(sharpness=(0.1, 10.0)),
    ],
)
def test_a_schedule_runs_to_its_end(objective):
    kwargs = {"lr": 1e-9, "tol": 2.0, "n_iter_no_change": 1, "max_epochs": 6}
    net = finetuning_net(objective=objective, **kwargs).fit(make_batches())
    assert net.stop_reason is None
    assert len(net.history) == 6
    constant = finetuning_net(objective=type(objective)(), **kwargs).fit(make_batches())
    assert constant.stop_reason == "converged"


def test_zero_tolerance_never_stops():
    net = finetuning_net(lr=1e-9, tol=0.0, n_iter_no_change=1, max_epochs=6).fit(make_batches())
    assert net.stop_reason is None
    assert len(net.history) == 6


@pytest.mark.parametrize("phase", ["pretrain", "finetune"])
def test_divergence_at_any_rate_raises(phase):
    make = pretraining_net if phase == "pretrain" else finetuning_net
    net = make(lr=1e30, optimizer=torch.optim.SGD)
    message = rf"Training diverged in epoch 1 of the phase '{phase}'.*Lower 'lr' \(now "
    further = " or the lambdas" if phase == "finetune" else ""  # the pretraining has none
    with (
        pytest.warns(ConvergenceWarning, match=rf"{message}1e\+30\){further}\..*went back"),
        pytest.raises(ValueError, match=rf"{message}1e\+29\){further}\.$"),
    ):
        net.fit(make_batches())


@pytest.mark.parametrize("phase", ["pretrain", "finetune"])
def test_loss_that_explodes_is_a_divergence_though_it_is_finite(phase):
    make = pretraining_net if phase == "pretrain" else finetuning_net
    with (
        pytest.warns(ConvergenceWarning, match=r"in epoch 1 .* the loss rose from .*went back"),
        pytest.raises(DivergenceError, match=r"the loss rose from [\d.]+ to \S*e\+\d+ or more"),
    ):
        make(lr=1e3).fit(make_batches())


def test_few_rows_far_from_all_others_are_no_divergence():
    tensors = {"weight": torch.ones(2)}
    means = {"loss": 1e12}  # one batch of the epoch holds them
    assert find_divergence(means, tensors, least=0.5, before=1.0) is None
    assert "rose from 1 to 2e+06" in find_divergence(means, tensors, least=2e6, before=1.0)
    assert find_divergence({"loss": 1e9}, tensors, least=1e9, before=1e4) is None
    assert find_divergence({"loss": 1.0}, tensors, least=1.0, before=1e-9) is None  # was zero
    assert "'weight'" in find_divergence({"loss": 1.0}, {"weight": torch.tensor([torch.inf])})


class Explodes(Callback):
    """Sets a rate that no training survives, in one epoch, once."""

    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_begin(self, net, **kwargs):
        if len(net.history) == self.epoch and not net.is_slowed:
            for group in net.optimizer_.param_groups:
                group["lr"] = 1e3


@pytest.mark.parametrize("make", [pretraining_net, finetuning_net])
def test_loss_that_explodes_later_is_a_divergence(make):
    net = make(callbacks=[Explodes(3)], max_epochs=4)
    with pytest.warns(ConvergenceWarning, match=r"in epoch 3 .* the loss rose from .*went back"):
        net.fit(make_batches())
    assert [record["epoch"] for record in net.history] == [1, 2, 3, 4]
    assert net.history[-1]["loss"] < 10 * net.history[0]["loss"]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("batch_size", [8, 32, 64])
@pytest.mark.parametrize("row", [0, 7, 31, 50])
def test_one_row_far_from_those_of_the_fit_before_is_no_divergence(batch_size, row):
    X = np.random.default_rng(0).normal(size=(60, 5))
    settings = {"pretrain_epochs": 3, "max_epochs": 3, "warm_start": True, "random_state": 0}
    model = ConcreteKMeans(2, encoder="mlp-small", batch_size=batch_size, **settings).fit(X)
    X[row] *= 1e5
    assert len(model.fit(X).labels_) == 60


class Breaks(Callback):
    """Makes one weight, or all gradients, infinite in the last batch of an epoch, once."""

    def __init__(self, epoch, what):
        self.epoch = epoch
        self.what = what
        self.rates = []

    def on_grad_computed(self, net, named_parameters, batch=None, training=False, **kwargs):
        self.rates.append([group["lr"] for group in net.optimizer_.param_groups])
        is_due = len(net.history) == self.epoch and len(net.history[-1]["batches"]) == N_BATCHES
        if is_due and not net.is_slowed:
            named = list(named_parameters)
            if self.what == "weight":
                named[0][1].data[0] = torch.inf
            else:
                named[0][1].grad.fill_(torch.nan)


@pytest.mark.parametrize("epoch", [1, 3])
@pytest.mark.parametrize("what", ["weight", "gradient"])
@pytest.mark.parametrize("make", [pretraining_net, finetuning_net])
def test_divergence_goes_back_an_epoch_and_on_at_a_tenth_of_the_rate(make, what, epoch):
    net = make(callbacks=[Breaks(epoch, what)], max_epochs=4)
    with pytest.warns(ConvergenceWarning, match=f"in epoch {epoch} .*went back to the epoch"):
        net.fit(make_batches())
    rates = dict(net.callbacks_)["Breaks"].rates
    assert rates[epoch * N_BATCHES - 1][0] == 1e-2
    assert rates[epoch * N_BATCHES][0] == pytest.approx(1e-3)
    assert [record["epoch"] for record in net.history] == [1, 2, 3, 4]

    # an unbroken net that is slowed by hand after as many epochs
    whole, batches = make(max_epochs=4).initialize(), make_batches()
    whole.partial_fit(batches, epochs=epoch - 1)
    for group in whole.optimizer_.param_groups:
        group["lr"] *= 0.1
    whole.partial_fit(batches, epochs=5 - epoch)
    assert torch.equal(weights(net), weights(whole))
    assert epoch_records(net) == epoch_records(whole)


def always_one(epoch):
    return 1.0


@pytest.mark.parametrize(
    ("policy", "kwargs"), [("LambdaLR", {"lr_lambda": always_one}), ("StepLR", {"step_size": 9})]
)
def test_rate_schedule_stays_at_a_tenth_after_a_divergence(policy, kwargs):
    breaks = Breaks(2, "weight")
    net = finetuning_net(callbacks=[LRScheduler(policy, **kwargs), breaks], max_epochs=4)
    with pytest.warns(ConvergenceWarning, match="a tenth of the rate") as caught:
        net.fit(make_batches())
    assert caught[0].filename == __file__
    rates = [rate for rate, *_ in breaks.rates]
    assert rates[: 2 * N_BATCHES] == [1e-2] * (2 * N_BATCHES)
    assert rates[2 * N_BATCHES :] == pytest.approx([1e-3] * (3 * N_BATCHES))


def test_schedule_of_plateaus_stays_at_a_tenth_after_a_divergence():
    plateau = LRScheduler("ReduceLROnPlateau", monitor="train_loss", patience=9, min_lr=1e-6)
    net = finetuning_net(callbacks=[plateau, Breaks(2, "weight")], max_epochs=4)
    with pytest.warns(ConvergenceWarning, match="a tenth of the rate"):
        net.fit(make_batches())
    assert [group["lr"] for group in net.optimizer_.param_groups] == pytest.approx([1e-3] * 2)
    assert dict(net.callbacks_)["LRScheduler"].lr_scheduler_.min_lrs == pytest.approx([1e-7] * 2)


def test_values_that_are_infinite_by_intention_are_no_divergence():
    model = make_model()
    model.encoder.register_buffer("mask", torch.full((3, 3), -torch.inf).triu(1))
    net = finetuning_net(model=model, max_epochs=2).fit(make_batches())
    assert len(net.history) == 2
    model = make_model()
    model.encoder.register_buffer("drift", torch.zeros(2))

    class Spoils(Callback):
        def on_epoch_begin(self, net, **kwargs):
            net.module_.encoder.drift.fill_(torch.inf)

    net = finetuning_net(model=model, callbacks=[Spoils()], max_epochs=2)
    with (
        pytest.warns(ConvergenceWarning, match="'encoder.drift' of the network has values that"),
        pytest.raises(ValueError, match=r"'encoder\.drift' of the network has values that are not"),
    ):
        net.fit(make_batches())


def test_error_of_a_callback_at_the_end_does_not_hide_the_first():
    class Fails(Callback):
        def on_epoch_end(self, net, **kwargs):
            raise KeyError("the first")

        def on_train_end(self, net, **kwargs):
            raise ValueError("the second")

    with pytest.raises(KeyError, match="the first"):
        finetuning_net(callbacks=[Fails()]).fit(make_batches())


def test_training_goes_on_with_partial_fit():
    whole = finetuning_net(max_epochs=4).fit(make_batches())
    parts, batches = finetuning_net(max_epochs=4), make_batches()
    parts.partial_fit(batches, epochs=1).partial_fit(batches, epochs=3)
    assert torch.equal(weights(whole), weights(parts))
    assert epoch_records(whole) == epoch_records(parts)


def test_progress_reaches_the_objective():
    seen = []

    def relaxation(progress):
        seen.append(progress)
        return 1.0

    objective = ConcreteKMeansObjective(relaxation=relaxation)
    finetuning_net(objective=objective, max_epochs=4).fit(make_batches())
    assert seen == [epoch / 4 for epoch in range(4) for _ in range(N_BATCHES)]


# what is trained ----------------------------------------------------------------------------------


def test_equal_seeds_train_equally(device):
    first, again = (finetuning_net(device).fit(make_batches(device)) for _ in range(2))
    other = finetuning_net(device).fit(make_batches(device, seed=1))
    assert torch.equal(weights(first), weights(again))
    assert not torch.equal(weights(first), weights(other))


def test_one_step_equals_a_step_by_hand():
    model = make_model(temperature=2.0)
    by_hand = copy.deepcopy(model)
    batches = DomainBatches(*make_data(), batch_size=64, generator=make_generator(0, CPU))
    sgd = torch.optim.SGD
    finetuning_net(model=model, max_epochs=1, optimizer=sgd, lr=0.01).fit(batches)

    (batch,) = DomainBatches(*make_data(), batch_size=64, generator=make_generator(0, CPU))
    criterion = JointCriterion(ConcreteKMeansObjective(), 0.3, 0.7)
    terms, _ = criterion(by_hand, batch, progress=0.0, generator=make_generator(0, CPU))
    parameters = list(by_hand.parameters())
    for p, g in zip(parameters, torch.autograd.grad(terms["loss"], parameters), strict=True):
        p.data -= 0.01 * g
    for got, expected in zip(model.parameters(), parameters, strict=True):
        torch.testing.assert_close(got, expected, rtol=1e-6, atol=1e-7)


@pytest.mark.parametrize("optimizer", ["adam", "sgd", "adamw"])
def test_without_the_clustering_weight_the_centers_do_not_move(optimizer):
    model = make_model()
    before = model.centers.positions.detach().clone()
    net = finetuning_net(
        model=model, weights=(0.0, 0.7), optimizer=resolve_optimizer(optimizer, CPU)
    )
    net.fit(make_batches())
    assert torch.equal(model.centers.positions, before)


def test_trains_in_train_mode_whatever_the_mode_before():
    modes = []

    class Spy(nn.Linear):
        def forward(self, x):
            modes.append(self.training)
            return super().forward(x)

    model = make_model()
    model.decoder = Spy(3, 6)
    finetuning_net(model=model.eval(), max_epochs=1).fit(make_batches())
    assert modes == [True] * N_BATCHES


def test_bfloat16_trains_close_to_float32():
    losses = [
        epoch_records(finetuning_net(precision=precision).fit(make_batches()))[-1]["loss"]
        for precision in ("float32", "bfloat16")
    ]
    assert losses[0] != losses[1]
    assert losses[1] == pytest.approx(losses[0], rel=0.05)


class Unreadable:
    """A label that fails whoever looks at it."""

    def fail(self, *args):
        raise AssertionError("a target label was read")

    __eq__ = __ne__ = __lt__ = __gt__ = __le__ = __ge__ = fail
    __hash__ = __bool__ = __int__ = __float__ = __str__ = __repr__ = __index__ = fail


def test_target_labels_are_out_of_reach():
    rng = np.random.default_rng(0)
    X, domain = rng.normal(size=(60, 4)), np.repeat([1, -1], 30)
    y = np.empty(60, dtype=object)
    y[:30] = ["a", "b"] * 15
    fits = []
    for target_labels in ([Unreadable()] * 30, ["c"] * 30, [None] * 30):
        y[30:] = target_labels
        adapter = CKMDomainAdapter(
            3, n_components=2, pretrain_epochs=1, max_epochs=2, lambda_clustering=0.01,
            random_state=0,
        )  # fmt: skip
        fits.append(adapter.fit(X, y, sample_domain=domain))
    for fit in fits[1:]:
        np.testing.assert_array_equal(fit.labels_, fits[0].labels_)
        np.testing.assert_array_equal(fit.cluster_centers_, fits[0].cluster_centers_)
    assert fits[0].source_classes_.tolist() == ["a", "b"]


# empty clusters -----------------------------------------------------------------------------------


def reseeding_net(
    target, centers, *, reseed_empty=True, source=None, y_target=None, temperature=100.0, seed=0
):
    """A net whose embedding is its input, trained for one epoch at a tiny learning rate."""
    model = ClusteringModel(nn.Identity(), nn.Linear(2, 2), None, Centers(centers, temperature))
    objective = ConcreteKMeansObjective(estimator="soft", reseed_empty=reseed_empty)
    net = FineTuningNet(
        model,
        JointCriterion(objective, 1.0),
        labels=torch.zeros(len(target), dtype=torch.long),
        generator=make_generator(0, CPU),
        max_epochs=1,
        lr=1e-6,
        optimizer=partial(torch.optim.Adam, fused=True),
        verbose=0,
    )
    kwargs = {"y_target": y_target, "batch_size": 8, "generator": make_generator(seed, CPU)}
    return net.fit(DomainBatches(target, source, **kwargs))


def blob_with_outlier():
    target = torch.randn(20, 2, generator=torch.Generator().manual_seed(0))
    target[13] = torch.tensor([-5.0, -5.0])
    return target, torch.tensor([[-1.0, 0.0], [1.0, 0.0], [12.0, 12.0]])


def test_empty_cluster_moves_to_the_farthest_row():
    target, centers = blob_with_outlier()
    net = reseeding_net(target, centers)
    positions = net.module_.centers.positions.detach()
    assert net.history[-1]["n_reseeded"] == 1
    assert torch.equal(positions[2], target[13])
    torch.testing.assert_close(positions[:2], centers[:2], rtol=0, atol=1e-4)


def test_named_centre_stays_where_its_few_labels_are():
    target, centers = blob_with_outlier()
    target = torch.cat([target, torch.tensor([[12.0, 12.0]])])
    y_target = torch.full((21,), -1)
    y_target[-1] = 2  # the one row of this class has a label, and is not drawn
    net = reseeding_net(target, centers, y_target=y_target)
    assert net.history[-1]["n_reseeded"] == 0
    torch.testing.assert_close(net.module_.centers.positions.detach(), centers, rtol=0, atol=1e-4)


def test_moved_center_starts_with_a_fresh_optimizer_state():
    def moments(reseed_empty):
        net = reseeding_net(*blob_with_outlier(), reseed_empty=reseed_empty)
        state = net.optimizer_.state[net.module_.centers.positions]
        return torch.stack([state["exp_avg"], state["exp_avg_sq"]]), state["step"].item()

    kept, n_steps = moments(False)
    reset, n_steps_reset = moments(True)
    assert (kept != 0).all()  # the soft assignment pulls the far centre as well
    assert (reset[:, 2] == 0).all()
    assert torch.equal(reset[:, :2], kept[:, :2])
    assert n_steps == n_steps_reset == 3


def test_occupied_clusters_are_left_alone():
    target, centers = blob_with_outlier()
    net = reseeding_net(target, centers[:2])
    assert net.history[-1]["n_reseeded"] == 0


def test_reseeding_is_off_by_default():
    target, centers = blob_with_outlier()
    net = reseeding_net(target, centers, reseed_empty=False)
    assert "n_reseeded" not in net.history[-1]
    torch.testing.assert_close(net.module_.centers.positions[2], centers[2], rtol=0, atol=1e-4)


@pytest.mark.parametrize("seed", range(30))
@pytest.mark.parametrize("n_source", [None, 100])
def test_several_empty_clusters_move_to_different_rows(n_source, seed):
    # With a larger source the rows of the target are drawn several times an epoch, and a batch
    # may hold one of them twice.
    target, centers = blob_with_outlier()
    centers = torch.cat([centers, -centers[2:] + torch.tensor([[40.0, 0.0]])])
    source = None if n_source is None else torch.zeros(n_source, 2)
    net = reseeding_net(target, centers, source=source, seed=seed)
    positions = net.module_.centers.positions.detach()
    assert net.history[-1]["n_reseeded"] == 2
    assert all((target == positions[j]).all(1).any() for j in (2, 3))
    assert not torch.equal(positions[2], positions[3])


# objectives with a state --------------------------------------------------------------------------


class Diary(ConcreteKMeansObjective):
    """Concrete k-means that asks for everything an objective may ask for, and notes it."""

    moves_centers = True
    entries: list = []

    def start(self, centers):
        self.entries.append(("start", None))
        return {"seen": torch.zeros(())}

    def needs_all_rows(self, epoch):
        return epoch % 2 == 1

    def read_all_rows(self, state, distances, temperature):
        assert not distances.requires_grad
        self.entries.append(("read", distances))

    def move_centers(self, state, z, centers):
        assert not z.requires_grad
        state["seen"] += len(z)
        self.entries.append(("move", (z, centers, state["seen"].item())))

    def step(self, z, centers, temperature, *, index=None, state=None, **kwargs):
        self.entries.append(("step", (index, state)))
        return super().step(z, centers, temperature, **kwargs)


@pytest.fixture
def diary():
    Diary.entries.clear()
    return Diary()


def test_hooks_of_an_objective_are_called_in_order(device, diary):
    net = finetuning_net(device, objective=diary, max_epochs=4).fit(make_batches(device))
    epoch = ["step", "move"] * N_BATCHES
    expected = ["start", *epoch, "read", *epoch, *epoch, "read", *epoch]
    assert [name for name, _ in Diary.entries] == expected
    assert net.clustering_state["seen"].item() == 4 * 40
    states = [value[1] for name, value in Diary.entries if name == "step"]
    assert all(state is net.clustering_state for state in states)


def test_objective_learns_which_target_rows_it_sees(diary):
    finetuning_net(objective=diary, max_epochs=1).fit(make_batches())
    got = [value[0] for name, value in Diary.entries if name == "step"]
    expected = [batch.target_index for batch in make_batches()]
    assert all(torch.equal(a, b) for a, b in zip(got, expected, strict=True))


def test_objective_reads_the_distances_of_all_target_rows_in_their_order(diary):
    net = finetuning_net(objective=diary, max_epochs=2, lr=1e-30, optimizer=torch.optim.SGD)
    net.fit(make_batches())
    (distances,) = [value for name, value in Diary.entries if name == "read"]
    with torch.no_grad():
        z = net.module_.encoder(make_data()[0])
        expected = (z[:, None] - net.module_.centers.positions).square().sum(-1)
    torch.testing.assert_close(distances, expected, rtol=1e-4, atol=1e-6)


def test_rule_of_the_centres_gets_the_new_embeddings_of_the_target_rows(diary):
    batches = DomainBatches(*make_data(), batch_size=64, generator=make_generator(0, CPU))
    net = finetuning_net(objective=diary, max_epochs=1, lr=0.1).fit(batches)
    before = make_model()
    (index,) = [value[0] for name, value in Diary.entries if name == "step"]
    ((z, centers, _),) = [value for name, value in Diary.entries if name == "move"]
    with torch.no_grad():
        x = make_data()[0][index]
        torch.testing.assert_close(z, net.module_.encoder(x))
        assert (z - before.encoder(x)).abs().max() > 0.01
    assert centers.data_ptr() == net.module_.centers.positions.data_ptr()  # moved in place


def with_batch_statistics():
    model = make_model()
    model.encoder = nn.Sequential(nn.Linear(6, 4), nn.BatchNorm1d(4), nn.Linear(4, 3))
    return model


def test_hooks_neither_feed_batch_statistics_nor_leave_evaluation_mode_behind(diary):
    modes = []
    model = with_batch_statistics()
    model.encoder[1].register_forward_hook(lambda layer, *args: modes.append(layer.training))
    net = finetuning_net(model=model, objective=diary, max_epochs=2).fit(make_batches())
    # in the second epoch all target rows are read first, in one block
    assert modes == [True, False] * N_BATCHES + [False] + [True, False] * N_BATCHES
    assert net.module_.encoder[1].num_batches_tracked == 2 * N_BATCHES


@pytest.mark.parametrize("objective", OBJECTIVES)
def test_every_objective_trains_the_centres_and_records_finite_numbers(device, objective):
    objective = resolve_objective(objective)
    model = make_model(device)
    with torch.no_grad():
        model.centers.positions *= 0.3  # among the embeddings, where each has rows
    before = model.centers.positions.detach().clone()
    copied = copy.deepcopy(model)
    net = finetuning_net(device, model=model, objective=objective).fit(make_batches(device))
    again = finetuning_net(device, model=copied, objective=objective).fit(make_batches(device))
    assert ((net.module_.centers.positions - before).abs().amax(1) > 1e-3).all()
    assert torch.equal(weights(net), weights(again))
    for record in epoch_records(net):
        assert all(np.isfinite(record[name]) for name in ("loss", "clustering", *MONITORS))


@pytest.mark.parametrize("objective", sorted({*OBJECTIVES} - {"dcn"}))
def test_objectives_by_gradient_leave_the_centres_where_they_weigh_nothing(objective):
    net = finetuning_net(objective=resolve_objective(objective), weights=(0.0, 0.7))
    net.fit(make_batches())
    assert torch.equal(net.module_.centers.positions, make_model().centers.positions)


def test_objective_without_hooks_has_an_empty_state():
    class Plain(BaseClusteringObjective):
        step = ConcreteKMeansObjective().step

    net = finetuning_net(objective=Plain()).fit(make_batches())
    assert net.clustering_state == {}
    assert torch.equal(weights(net), weights(finetuning_net().fit(make_batches())))


def test_rate_that_was_lowered_before_a_break_is_not_lowered_again(tmp_path):
    kwargs = {"max_epochs": 2, "checkpoint": PhaseCheckpoint(tmp_path / "fit" / "finetune.pt")}
    with pytest.warns(ConvergenceWarning, match="a tenth of the rate"):
        finetuning_net(callbacks=[Breaks(1, "weight")], **kwargs).fit(make_batches())
    resumed = finetuning_net(**kwargs).fit(make_batches())
    assert resumed.is_slowed  # so that the next divergence raises
    assert len(resumed.history) == 2


def test_still_epochs_before_a_break_count(tmp_path):
    checkpoint = PhaseCheckpoint(tmp_path / "fit" / "finetune.pt")
    kwargs = {"tol": 2.0, "n_iter_no_change": 4, "checkpoint": checkpoint}
    finetuning_net(max_epochs=2, **kwargs).fit(make_batches())
    resumed = finetuning_net(max_epochs=9, **kwargs).fit(make_batches())
    assert len(resumed.history) == 4
    assert resumed.stop_reason == "converged"


def test_state_can_be_gone_back_to_twice():
    net, batches = finetuning_net().initialize(), make_batches()
    state = take_state(net, batches)
    for _ in range(2):
        restore_state(net, batches, state)
        assert (net.monitors.labels == 0).all()
        net.monitors.labels.fill_(3)  # as an epoch does
