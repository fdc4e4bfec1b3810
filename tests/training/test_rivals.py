"""Starts of the fine-tuning that compete within one fit."""

import signal
import warnings
from functools import cache

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from scipy.spatial.distance import cdist
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, LRScheduler
from torch import nn

from sklearn_ckm import (
    CKMDomainAdapter,
    CKMSemiSupervisedAdapter,
    ConcreteKMeans,
    _networks,
    load,
)
from sklearn_ckm._training import _finetuning
from sklearn_ckm._training._divergence import DivergenceError
from sklearn_ckm._training._nets import FineTuningNet
from sklearn_ckm._training._rivals import left_to_minimize, n_epochs_until_compared
from sklearn_ckm.objectives import ConcreteKMeansObjective

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X_TGT, X_SRC = RNG.uniform(size=(90, 4)), RNG.uniform(size=(60, 4))  # no obvious clusters
Y_SRC = RNG.integers(2, size=60)
Y_FEW = np.full(90, -1)
Y_FEW[:4] = 7, 7, 8, 8
STARTS = "k-means", "whitened-k-means"
ALONE = {"source_in_pretraining": False}
RIVALS = (  # by the order in which they are tried
    {"init": STARTS[0]},
    {"init": STARTS[1]},
    {"init": STARTS[1], **ALONE},
)
SEEDS = (*range(6), 8)  # of which every start wins some


def make_clusterer(**params):
    return ConcreteKMeans(**params).fit(X_TGT)


def make_adapter(**params):
    return CKMDomainAdapter(**params).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


def make_few_label_adapter(**params):
    model = CKMSemiSupervisedAdapter(**params)
    return model.fit(X_SRC, Y_SRC, X_tgt=X_TGT, y_tgt=Y_FEW)


KINDS = make_clusterer, make_adapter, make_few_label_adapter
WITH_SOURCE = KINDS[1:]


def fit(kind=make_clusterer, **params):
    small = {"n_clusters": 5, "n_components": 3, "pretrain_epochs": 3, "max_epochs": 6, "tol": 0.0}
    return kind(**{**small, "random_state": 0, **params})


def nearest_centers(model):
    return cdist(model.transform(X_TGT), model.cluster_centers_).argmin(1)


def left(epoch):
    of_target = epoch["consistency"] + epoch["balance"] + epoch.get("kshot", 0.0)
    return of_target + epoch.get("source_consistency", 0.0) + epoch.get("source_balance", 0.0)


def assert_same_fit(first, second):
    assert_array_equal(first.labels_, second.labels_)
    assert_array_equal(first.cluster_centers_, second.cluster_centers_)
    assert_array_equal(first.transform(X_TGT), second.transform(X_TGT))
    assert first.history_ == second.history_
    for name in ("init_", "pretraining_", "source_in_pretraining_"):
        assert getattr(first, name, None) == getattr(second, name, None)
    assert (first.init_, first.stop_reason_) == (second.init_, second.stop_reason_)


def DropoutEncoder(input_shape, n_components):
    hidden = [nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(nn.Linear(4, 16), *hidden, nn.Linear(16, n_components))


class Uncopied(nn.Linear):
    def __deepcopy__(self, memo):
        raise TypeError("No copy.")


def UncopiedEncoder(input_shape, n_components):
    return nn.Sequential(Uncopied(4, 8), nn.ReLU(), nn.Linear(8, n_components))


@pytest.mark.parametrize(
    ("kind", "params", "rivals"),
    [
        (make_clusterer, {}, RIVALS[:2]),
        *((kind, {}, RIVALS) for kind in WITH_SOURCE),
        *((kind, {"source_in_pretraining": True}, RIVALS[:2]) for kind in WITH_SOURCE),
        *((kind, ALONE, ({**RIVALS[0], **ALONE}, RIVALS[2])) for kind in WITH_SOURCE),
    ],
)
def test_fit_is_that_of_the_start_with_least_left_at_half_of_the_epochs(kind, params, rivals):
    won = set()
    for seed in SEEDS:
        alone, divisions, sums = [], [], []
        for i, rival in enumerate(rivals):
            if i == 2 and len(alone) == 1:
                break  # there was no doubt in the first network
            start = nearest_centers(fit(kind, random_state=seed, **rival, max_epochs=0))
            if all(adjusted_rand_score(start, other) < 1 for other in divisions):
                alone.append(fit(kind, random_state=seed, **rival))
                divisions.append(start)
                sums.append(left(alone[-1].history_[3 + 4 - 1]))  # after 3 + 4 epochs
        best = int(np.argmin(sums))
        model = fit(kind, random_state=seed, **params)
        assert_same_fit(model, alone[best])
        won.add((model.init_, getattr(model, "source_in_pretraining_", None)))
    assert len(won) == len(rivals)


@pytest.mark.parametrize("kind", WITH_SOURCE)
def test_network_of_one_start_is_with_the_source_unless_it_is_not_wanted(kind):
    asked = ({}, True), ({"source_in_pretraining": True}, True), (ALONE, False)
    for params, has_source in asked:
        model = fit(kind, init=STARTS[0], **params)
        assert model.source_in_pretraining_ is has_source
    assert not hasattr(fit(), "source_in_pretraining_")


@cache
def seed_of(init, **params):
    """A seed with which this start wins."""
    return next(seed for seed in range(20) if fit(random_state=seed, **params).init_ == init)


class FreezesEncoder(Callback):
    """In the fine-tuning, of one start."""

    def __init__(self, init):
        self.init = init

    def on_train_begin(self, net, **kwargs):
        if net.phase == "finetune" and net.init == self.init:
            net.module_.encoder.requires_grad_(False)


class Shakes(Callback):
    """Draws from the global generator where a phase begins and ends."""

    def on_train_begin(self, net, **kwargs):
        for parameter in net.module_.encoder.parameters():
            parameter.data += 0.01 * torch.randn_like(parameter)

    on_train_end = on_train_begin


class Ends(Callback):
    def __init__(self, epoch):
        self.epoch = epoch

    def on_epoch_end(self, net, **kwargs):
        if net.phase == "finetune" and len(net.history) == self.epoch:
            net.stop_reason = "callback"


class Counts(Callback):
    def __init__(self, seen):
        self.seen = seen

    def __deepcopy__(self, memo):
        return Counts(self.seen)  # copies write to one list

    def on_train_begin(self, net, **kwargs):
        self.seen.append((net.phase, net.init if net.phase == "finetune" else None, "begin"))

    def on_epoch_end(self, net, **kwargs):
        self.seen.append((net.phase, net.init if net.phase == "finetune" else None, "epoch"))

    def on_train_end(self, net, **kwargs):
        self.seen.append((net.phase, net.init if net.phase == "finetune" else None, "end"))


def quiet(callback):
    callback.sink = str
    return callback


@pytest.mark.parametrize(
    "params",
    [
        {"encoder": DropoutEncoder},
        {"encoder": UncopiedEncoder},
        {"objective": "dec"},
        {"objective": "dcn"},
        {"objective": ConcreteKMeansObjective(noise=(1.0, 0.0))},
        {"optimizer": "sgd", "lr": 1e-3},
        {"precision": "bfloat16"},
        {"temperature": 0.3},
        {"max_epochs": 1},
        {"max_epochs": 2},
        {"tol": 0.9, "n_iter_no_change": 1},
        {"tol": 0.9, "n_iter_no_change": 2},
        {"callbacks": [LRScheduler("StepLR", step_size=1, gamma=0.5)]},
        {"callbacks": [LRScheduler("ReduceLROnPlateau", monitor="reconstruction", patience=0)]},
        {"callbacks": [FreezesEncoder(STARTS[0])]},
        {"callbacks": [FreezesEncoder(STARTS[1])]},
        {"callbacks": [Shakes()]},
        {"callbacks": [EarlyStopping("train_loss", patience=9, load_best=True, sink=str)]},
        {"callbacks": [Ends(5)]},
        {"callbacks": [quiet(Checkpoint("train_loss_best", load_best=True))]},
        {
            "callbacks": [
                quiet(Checkpoint("train_loss_best", "{last_epoch[epoch]}.pt", load_best=True))
            ]
        },
    ],
    ids=str,
)
def test_nothing_of_the_other_start_is_left(params, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)  # where skorch's checkpoints are
    kept, before = set(), torch.get_rng_state()
    for seed in range(20):
        both = fit(random_state=seed, **params)
        assert torch.equal(torch.get_rng_state(), before)
        assert_same_fit(both, fit(random_state=seed, **params, init=both.init_))
        kept.add(both.init_)
        if len(kept) == 2:
            return
    pytest.fail(f"only {kept} won")


def test_epochs_until_starts_are_compared():
    assert [n_epochs_until_compared(n) for n in (1, 2, 3, 4, 5, 100)] == [1, 2, 3, 3, 4, 51]


@pytest.mark.parametrize(
    "params",
    [
        {"augmentation": None},
        {"lambda_consistency": 0.0, "lambda_balance": 0.0},
        {"max_epochs": 0},
        {"n_clusters": 1},
        {"init": "k-means"},
        {"init": "whitened-k-means"},
    ],
    ids=str,
)
def test_one_start_where_there_is_nothing_to_compare(params, monkeypatch):
    monkeypatch.setattr(_finetuning, "train_best", None)  # a call would raise
    model = fit(**params)
    assert model.init_ == params.get("init", "k-means")


def test_one_start_where_each_center_has_labels(monkeypatch):
    monkeypatch.setattr(_finetuning, "train_best", None)
    model = fit(make_few_label_adapter, n_clusters=2)
    assert_same_fit(model, fit(make_few_label_adapter, n_clusters=2, init="k-means"))


def test_warm_start_goes_on_from_the_start_that_was_kept(monkeypatch):
    model = ConcreteKMeans(
        5, n_components=3, pretrain_epochs=3, max_epochs=6, random_state=seed_of(STARTS[1])
    ).fit(X_TGT)
    assert model.init_ == STARTS[1]
    monkeypatch.setattr(_finetuning, "train_best", None)
    assert model.set_params(warm_start=True, init="k-means").fit(X_TGT).init_ == STARTS[1]


@pytest.mark.parametrize("init", STARTS)
def test_callbacks_see_both_starts(init):
    seen = []
    model = fit(random_state=seed_of(init), callbacks=[Counts(seen)])
    assert model.init_ == init
    (other,) = set(STARTS) - {init}
    for start, n_epochs in ((None, 3), (init, 6), (other, 4)):
        events = [event for _, name, event in seen if name == start]
        assert events == ["begin", *["epoch"] * n_epochs, "end"]
    assert seen[-1][1:] == (init, "end")


@pytest.mark.parametrize("epoch", [1, 4])
def test_callback_that_ends_the_fit_before_a_second_start(epoch, monkeypatch):
    seen = []
    model = fit(random_state=seed_of(STARTS[1]), callbacks=[Ends(epoch), Counts(seen)])
    assert (model.n_iter_, model.init_, model.stop_reason_) == (epoch, STARTS[0], "callback")
    assert STARTS[1] not in {name for _, name, _ in seen}


def test_callback_that_ends_the_second_start_early():
    class EndsTheSecond(Callback):
        def on_epoch_end(self, net, **kwargs):
            if net.phase == "finetune" and net.init == STARTS[1] and len(net.history) == 2:
                net.stop_reason = "callback"

    seed = seed_of(STARTS[1])
    model = fit(random_state=seed, callbacks=[EndsTheSecond()])
    assert_same_fit(model, fit(random_state=seed, init=STARTS[0]))


def test_callback_that_fails_leaves_no_training_open():
    class Fails(Callback):
        def on_epoch_end(self, net, **kwargs):
            if net.phase == "finetune" and net.init == STARTS[1]:
                raise ValueError("Mine.")

    seen = []
    with pytest.raises(ValueError, match="Mine"):
        fit(random_state=seed_of(STARTS[1]), callbacks=[Counts(seen), Fails()])
    for start in (None, *STARTS):
        assert [event for _, name, event in seen if name == start][-1] == "end"


class SeesWeights(Counts):
    def on_train_end(self, net, **kwargs):
        super().on_train_end(net)
        assert all(p.isfinite().all() for p in net.module_.parameters())


@pytest.mark.parametrize("epoch", [1, 3])
def test_start_that_diverges_does_not_compete(epoch, monkeypatch):
    """Once is enough: at a tenth of the rate it would be another fit."""
    seed, evaluate, calls = seed_of(STARTS[1]), FineTuningNet.evaluate_batch, []
    seen = []

    def diverging(net, batch):
        terms, clustering = evaluate(net, batch)
        if net.init == STARTS[1] and len(net.history) == epoch and not calls:
            calls.append(None)
            terms["loss"] = terms["loss"] * float("nan")
        return terms, clustering

    monkeypatch.setattr(FineTuningNet, "evaluate_batch", diverging)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        warnings.filterwarnings("ignore", message=".*cannot be trusted")
        both = fit(random_state=seed, callbacks=[SeesWeights(seen)])
    assert calls
    assert [e for _, name, e in seen if name == STARTS[1]] == [
        "begin",
        *["epoch"] * (epoch - 1),
        "end",
    ]
    monkeypatch.undo()
    assert_same_fit(both, fit(random_state=seed, init="k-means"))


def test_first_start_that_went_back_once_competes_and_the_second_may_go_back_later(monkeypatch):
    evaluate, calls = FineTuningNet.evaluate_batch, {init: 0 for init in STARTS}

    def diverging(net, batch):
        terms, clustering = evaluate(net, batch)
        calls[net.init] += 1
        is_late = net.init == STARTS[1] and len(net.history) == 6 and not net.is_slowed
        if is_late or (net.init == STARTS[0] and calls[net.init] == 1):
            terms["loss"] = terms["loss"] * float("nan")
        return terms, clustering

    monkeypatch.setattr(FineTuningNet, "evaluate_batch", diverging)
    with pytest.warns(ConvergenceWarning, match="went back to the epoch before") as caught:
        model = fit(random_state=0)  # the second wins
    told = [str(w.message) for w in caught if "went back" in str(w.message)]
    assert len(told) == 2
    assert "epoch 1 of" in told[0]
    assert "epoch 6 of" in told[1]
    assert (model.init_, model.n_iter_) == (STARTS[1], 6)


def third_start_wins(**params):
    """A seed with which it does, in the adapter."""
    for seed in range(20):
        model = fit(make_adapter, random_state=seed, **params)
        if not model.source_in_pretraining_:
            return seed
    return pytest.fail("never won")


def count_pretrainings(monkeypatch, action=lambda: None):
    """Note which pretrainings begin; one without the source does something else instead."""
    seen = []

    def pretrain(*args, **kwargs):
        seen.append(kwargs["has_source"])
        if not kwargs["has_source"]:
            action()
        return whole(*args, **kwargs)

    whole = _networks.pretrain
    monkeypatch.setattr(_networks, "pretrain", pretrain)
    return seen


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ({}, [True, False]),
        ({"source_in_pretraining": True}, [True]),
        (ALONE, [False]),
        ({"init": "k-means"}, [True]),
        ({"augmentation": None}, [True]),
        ({"n_init": 2}, [True, False, True, False]),
    ],
    ids=str,
)
def test_networks_that_are_pretrained(params, expected, monkeypatch):
    seen = count_pretrainings(monkeypatch)
    fit(make_adapter, **params)
    assert seen == expected


def test_no_second_network_where_the_first_leaves_no_doubt(monkeypatch):
    seen = count_pretrainings(monkeypatch)
    X = RNG.normal(size=(80, 4)) + 9.0 * (np.arange(80) % 2)[:, None]
    model = CKMDomainAdapter(2, n_components=3, pretrain_epochs=3, max_epochs=6, random_state=0)
    model.fit(X_SRC, Y_SRC, X_tgt=X)
    assert seen == [True]
    assert (model.init_, model.source_in_pretraining_) == ("k-means", True)


def test_second_network_that_diverges_does_not_compete(monkeypatch):
    def diverge():
        raise DivergenceError("Too far.")

    seed = third_start_wins()
    count_pretrainings(monkeypatch, diverge)
    model = fit(make_adapter, random_state=seed)
    monkeypatch.undo()
    assert_same_fit(model, fit(make_adapter, random_state=seed, source_in_pretraining=True))


def test_networks_come_from_the_cache(tmp_path):
    seed = third_start_wins()
    models = [fit(make_adapter, random_state=seed, memory=str(tmp_path)) for _ in range(2)]
    for model in models:
        assert_same_fit(model, fit(make_adapter, random_state=seed))


def test_second_network_that_divides_the_rows_as_the_first_does_not_compete(monkeypatch):
    """Without an epoch of pretraining both are the same."""
    begun = []

    class Begins(Callback):
        def on_train_begin(self, net, **kwargs):
            begun.append((net.phase, net.has_source))

    model = fit(make_adapter, pretrain_epochs=0, callbacks=[Begins()])
    assert begun == [("finetune", True)] * 2
    assert model.source_in_pretraining_ is True


def test_nets_tell_whether_their_pretraining_had_the_source():
    told = []

    class Notes(Callback):
        def on_train_begin(self, net, **kwargs):
            told.append((net.phase, net.has_source))

    fit(make_adapter, callbacks=[Notes()])
    first = [("pretrain", True), ("finetune", True), ("finetune", True)]
    assert told == [*first, ("pretrain", False), ("finetune", False)]
    told.clear()
    fit(callbacks=[Notes()])
    assert told == [("pretrain", None), ("finetune", None), ("finetune", None)]


def test_third_start_is_told_of(capsys):
    fit(make_adapter, random_state=third_start_wins(), verbose=2)
    lines = [t for t in capsys.readouterr().out.splitlines() if t.startswith("Going on")]
    assert len(lines) == 2
    assert lines[1].startswith("Going on from whitened-k-means without the source:")


def test_warm_start_goes_on_from_the_network_without_the_source(monkeypatch):
    model = CKMDomainAdapter(
        5, n_components=3, pretrain_epochs=3, max_epochs=6, random_state=third_start_wins()
    ).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    before = model.transform(X_TGT)
    seen = count_pretrainings(monkeypatch)
    model.set_params(warm_start=True, max_epochs=0).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert seen == []
    assert_array_equal(model.transform(X_TGT), before)
    assert model.source_in_pretraining_ is False


def test_third_start_that_wins_is_saved_as_such(tmp_path):
    model = fit(make_adapter, random_state=third_start_wins())
    model.save(tmp_path / "model")
    loaded = load(tmp_path / "model")
    assert (loaded.init_, loaded.source_in_pretraining_) == ("whitened-k-means", False)
    assert_array_equal(loaded.predict(X_TGT), model.labels_)


def test_several_weights_have_a_third_start_each():
    seed = third_start_wins()
    one, two = (fit(make_adapter, random_state=seed, n_init=n) for n in (1, 2))
    assert_array_equal(two.init_scores_[:1], [-left(one.history_[-1])])
    if two.init_scores_[0] >= two.init_scores_[1]:
        assert_same_fit(one, two)


def test_labels_that_are_left_wrong_count_in_the_comparison():
    assert left_to_minimize({"consistency": 1.0, "balance": 2.0, "kshot": 4.0, "loss": 9.0}) == 7.0
    assert left_to_minimize({"consistency": 1.0}) == 1.0
    assert left_to_minimize({"source_consistency": 1.0, "source_balance": 2.0, "loss": 9.0}) == 3.0


class Failure(Exception):
    pass


def strike(monkeypatch, init, epoch, action):
    """Let an action happen once, in an epoch of the fine-tuning of one start."""
    evaluate, moments = FineTuningNet.evaluate_batch, []

    def striking(net, batch):
        moment = net.init, len(net.history)
        if moment == (init, epoch) and moment not in moments:
            moments.append(moment)
            action()
        moments.append(moment)
        return evaluate(net, batch)

    monkeypatch.setattr(FineTuningNet, "evaluate_batch", striking)
    return moments


def fail():
    raise Failure


@pytest.mark.parametrize("winner", STARTS)
@pytest.mark.parametrize(
    ("init", "epoch"),
    [(STARTS[1], 2), (STARTS[1], 4), (STARTS[0], 1), (STARTS[0], 2), (STARTS[0], 4), ("kept", 5)],
)
def test_broken_fit_goes_on_to_the_same_model(tmp_path, monkeypatch, winner, init, epoch):
    seed = seed_of(winner)
    moments = strike(monkeypatch, winner if init == "kept" else init, epoch, fail)
    with pytest.raises(Failure):
        fit(random_state=seed, checkpoint=tmp_path)
    before = len(moments)
    resumed = fit(random_state=seed, checkpoint=tmp_path)
    again = moments[before:]
    assert again[0] == ((winner if init == "kept" else init), epoch)  # what was done is not again
    assert not any(tmp_path.iterdir())
    assert_same_fit(resumed, fit(random_state=seed))
    assert resumed.init_ == winner


@pytest.mark.parametrize("winner", [True, False])
@pytest.mark.parametrize("moment", ["pretraining", 2, 4])
def test_fit_broken_in_the_second_network_goes_on_to_the_same_model(
    tmp_path, monkeypatch, winner, moment
):
    seed = next(
        seed
        for seed in range(20)
        if fit(make_adapter, random_state=seed).source_in_pretraining_ is winner
    )
    whole = fit(make_adapter, random_state=seed)
    is_broken, networks = [], []

    def break_once():
        if not is_broken:
            is_broken.append(None)
            raise Failure

    if moment == "pretraining":
        count_pretrainings(monkeypatch, break_once)
    else:
        evaluate = FineTuningNet.evaluate_batch

        def striking(net, batch):
            if net.module_ not in networks:
                networks.append(net.module_)
            if len(networks) == 2 and len(net.history) == moment:
                break_once()
            return evaluate(net, batch)

        monkeypatch.setattr(FineTuningNet, "evaluate_batch", striking)
    with pytest.raises(Failure):
        fit(make_adapter, random_state=seed, checkpoint=tmp_path)
    assert is_broken
    assert_same_fit(fit(make_adapter, random_state=seed, checkpoint=tmp_path), whole)
    assert not any(tmp_path.iterdir())


def test_second_start_that_was_slowed_stays_slowed_when_it_goes_on(tmp_path, monkeypatch):
    """Slowed in the first epoch after the comparison, killed in the next, then diverging again."""
    seed, evaluate, is_killed = seed_of(STARTS[1]), FineTuningNet.evaluate_batch, []

    def diverging(net, batch):
        terms, clustering = evaluate(net, batch)
        if net.init == STARTS[1] and len(net.history) == 5 and not net.is_slowed:
            terms["loss"] = terms["loss"] * float("nan")
        if net.init == STARTS[1] and len(net.history) == 6:
            if not is_killed:
                is_killed.append(None)
                raise Failure
            terms["loss"] = terms["loss"] * float("nan")
        return terms, clustering

    monkeypatch.setattr(FineTuningNet, "evaluate_batch", diverging)
    with pytest.raises(Failure):
        fit(random_state=seed, checkpoint=tmp_path)
    with pytest.raises(ValueError, match="diverged"):
        fit(random_state=seed, checkpoint=tmp_path)


def test_second_start_is_told_of(capsys):
    model = fit(random_state=seed_of(STARTS[1]), verbose=2)
    (line,) = [t for t in capsys.readouterr().out.splitlines() if t.startswith("Going on")]
    assert line.startswith(f"Going on from {model.init_}: {left(model.history_[6]):.4g} left")


class Interrupt(KeyboardInterrupt):
    """From a handler of the program's own."""


def interrupt():
    raise Interrupt


@pytest.mark.parametrize("action", [lambda: signal.raise_signal(signal.SIGINT), interrupt])
@pytest.mark.parametrize(
    ("init", "epoch", "n_done"),
    [(STARTS[0], 1, 0), (STARTS[0], 4, 3), (STARTS[1], 1, 4), (STARTS[1], 4, 4), (STARTS[1], 5, 4)],
)
@pytest.mark.usefixtures("ctrl_c")
def test_interrupt_leaves_a_fitted_model(monkeypatch, action, init, epoch, n_done):
    seed = seed_of(STARTS[1])
    strike(monkeypatch, init, epoch, action)
    message = f"interrupted after {n_done} epochs of fine-tuning of 6"
    with pytest.warns(ConvergenceWarning, match=message):
        model = fit(random_state=seed)
    kept = STARTS[epoch == 5]  # until they are compared, the first one
    assert (model.init_, model.n_iter_, model.stop_reason_) == (kept, n_done, "interrupted")
    monkeypatch.undo()
    whole = fit(random_state=seed, init=kept)
    assert model.history_ == whole.history_[: 3 + n_done]


@pytest.mark.parametrize("action", [lambda: signal.raise_signal(signal.SIGINT), interrupt])
@pytest.mark.usefixtures("ctrl_c")
def test_interrupt_in_the_pretraining_of_a_further_network_leaves_the_best_so_far(
    monkeypatch, action
):
    seed = third_start_wins()
    count_pretrainings(monkeypatch, action)
    with pytest.warns(ConvergenceWarning, match="interrupted after 4 epochs of fine-tuning of 6"):
        model = fit(make_adapter, random_state=seed)
    assert (model.n_iter_, model.stop_reason_) == (4, "interrupted")
    monkeypatch.undo()
    whole = fit(make_adapter, random_state=seed, source_in_pretraining=True)
    assert (model.init_, model.source_in_pretraining_) == (whole.init_, True)
    assert model.history_ == whole.history_[: 3 + 4]
