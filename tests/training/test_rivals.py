"""Two starts of the centres that compete within one fit."""

import copy
import signal
from functools import cache

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import adjusted_rand_score
from skorch.callbacks import Callback, EarlyStopping, Freezer, LRScheduler
from torch import nn

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans, _deep_clusterer
from sklearn_ckm._training import _rivals
from sklearn_ckm._training._nets import FineTuningNet
from sklearn_ckm._training._rivals import n_epochs_until_compared

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

RNG = np.random.default_rng(0)
X_TGT, X_SRC = RNG.uniform(size=(90, 4)), RNG.uniform(size=(60, 4))  # no obvious clusters
Y_SRC = RNG.integers(2, size=60)
Y_FEW = np.full(90, -1)
Y_FEW[:4] = 7, 7, 8, 8
STARTS = "k-means", "whitened-k-means"
SEEDS = range(6)  # of which either start wins some


def make_clusterer(**params):
    return ConcreteKMeans(**params).fit(X_TGT)


def make_adapter(**params):
    return CKMDomainAdapter(**params).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


def make_few_label_adapter(**params):
    model = CKMSemiSupervisedAdapter(**params)
    return model.fit(X_SRC, Y_SRC, X_tgt=X_TGT, y_tgt=Y_FEW)


KINDS = make_clusterer, make_adapter, make_few_label_adapter


def fit(kind=make_clusterer, **params):
    small = {"n_clusters": 5, "n_components": 3, "pretrain_epochs": 3, "max_epochs": 6, "tol": 0.0}
    return kind(**{**small, "random_state": 0, **params})


def left(epoch):
    return epoch["consistency"] + epoch["balance"] + epoch.get("kshot", 0.0)


def assert_same_fit(first, second):
    assert_array_equal(first.labels_, second.labels_)
    assert_array_equal(first.cluster_centers_, second.cluster_centers_)
    assert_array_equal(first.transform(X_TGT), second.transform(X_TGT))
    assert first.history_ == second.history_
    assert (first.init_, first.stop_reason_) == (second.init_, second.stop_reason_)


def DropoutEncoder(input_shape, n_components):
    hidden = [nn.BatchNorm1d(16), nn.ReLU(), nn.Dropout(0.2)]
    return nn.Sequential(nn.Linear(4, 16), *hidden, nn.Linear(16, n_components))


class Uncopied(nn.Linear):
    def __deepcopy__(self, memo):
        raise TypeError("No copy.")


def UncopiedEncoder(input_shape, n_components):
    return nn.Sequential(Uncopied(4, 8), nn.ReLU(), nn.Linear(8, n_components))


@pytest.mark.parametrize("kind", KINDS)
def test_fit_is_that_of_the_start_with_less_left_at_half_of_the_epochs(kind):
    kept = set()
    for seed in SEEDS:
        alone = [fit(kind, random_state=seed, init=init) for init in STARTS]
        both = fit(kind, random_state=seed)
        sums = [left(model.history_[3 + 4 - 1]) for model in alone]  # after 3 + 4 epochs
        first = [fit(kind, random_state=seed, init=init, max_epochs=0).labels_ for init in STARTS]
        is_other = adjusted_rand_score(*first) < 1 and sums[1] < sums[0]
        assert both.init_ == STARTS[is_other]
        assert_same_fit(both, alone[is_other])
        kept.add(both.init_)
    assert kept == set(STARTS)


@cache
def seed_of(init, **params):
    """A seed with which this start wins."""
    return next(seed for seed in range(20) if fit(random_state=seed, **params).init_ == init)


@pytest.mark.parametrize("init", STARTS)
@pytest.mark.parametrize(
    "params",
    [
        {"encoder": DropoutEncoder},
        {"encoder": UncopiedEncoder},
        {"objective": "dec"},
        {"objective": "dcn"},
        {"optimizer": "sgd", "lr": 1e-3},
        {"max_epochs": 1},
        {"max_epochs": 2},
        {"n_init": 2},
    ],
    ids=str,
)
def test_nothing_of_the_other_start_is_left(init, params):
    seed = seed_of(init, **params) if params.get("n_init", 1) == 1 else 0
    both = fit(random_state=seed, **params)
    if "n_init" in params:
        kept = [fit(random_state=seed, **params, init=name) for name in STARTS]
        assert max(both.init_scores_) >= min(max(model.init_scores_) for model in kept)
    else:
        assert_same_fit(both, fit(random_state=seed, **params, init=init))
    assert_same_fit(both, fit(random_state=seed, **params))


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
    monkeypatch.setattr(_deep_clusterer, "train_rival", None)  # a call would raise
    model = fit(**params)
    assert model.init_ == params.get("init", "k-means")


def test_one_start_where_each_center_has_labels(monkeypatch):
    monkeypatch.setattr(_deep_clusterer, "train_rival", None)
    model = fit(make_few_label_adapter, n_clusters=2)
    assert_same_fit(model, fit(make_few_label_adapter, n_clusters=2, init="k-means"))


def test_warm_start_goes_on_from_the_start_that_was_kept(monkeypatch):
    model = ConcreteKMeans(
        5, n_components=3, pretrain_epochs=3, max_epochs=6, random_state=seed_of(STARTS[1])
    ).fit(X_TGT)
    assert model.init_ == STARTS[1]
    monkeypatch.setattr(_deep_clusterer, "train_rival", None)
    assert model.set_params(warm_start=True, init="k-means").fit(X_TGT).init_ == STARTS[1]


class Counts(Callback):
    n_begun = n_epochs = 0

    def on_train_begin(self, net, **kwargs):
        Counts.n_begun += net.phase == "finetune"

    def on_epoch_end(self, net, **kwargs):
        Counts.n_epochs += net.phase == "finetune"


@pytest.mark.parametrize("init", STARTS)
def test_callbacks_see_one_fit(init):
    Counts.n_begun = Counts.n_epochs = 0
    fit(random_state=seed_of(init), callbacks=[Counts()])
    assert (Counts.n_begun, Counts.n_epochs) == (1, 6)


class NotesRate(Callback):
    def on_epoch_end(self, net, **kwargs):
        net.history.record("rate", net.optimizer_.param_groups[0]["lr"])
        trained = [p.requires_grad for p in net.module_.decoder.parameters()]
        net.history.record("is_frozen", not any(trained))


def test_rates_and_frozen_layers_of_callbacks_stay():
    scheduler = LRScheduler("StepLR", step_size=1, gamma=0.5)
    callbacks = [scheduler, Freezer("decoder.*"), NotesRate()]
    for seed in range(20):
        model = fit(random_state=seed, callbacks=callbacks)
        if model.init_ == STARTS[1]:
            break
    tuned = [epoch for epoch in model.history_ if epoch["phase"] == "finetune"]
    assert not any("rate" in epoch for epoch in tuned[:4])  # of the start that they did not see
    lr = model.lr
    assert [epoch["rate"] for epoch in tuned[4:]] == pytest.approx([lr / 32, lr / 64])
    assert all(epoch["is_frozen"] for epoch in tuned[4:])


def test_callback_that_ends_the_fit_before_starts_are_compared():
    class Ends(Callback):
        def on_epoch_end(self, net, **kwargs):
            if net.phase == "finetune" and len(net.history) == 2:
                net.stop_reason = "callback"

    model = fit(random_state=seed_of(STARTS[1]), callbacks=[Ends()])
    assert (model.n_iter_, model.init_, model.stop_reason_) == (2, STARTS[0], "callback")


def test_callback_that_ends_the_fit_when_starts_are_compared():
    class Ends(Callback):
        def on_epoch_end(self, net, **kwargs):
            if net.phase == "finetune" and len(net.history) == 4:
                net.stop_reason = "callback"

    model = fit(random_state=seed_of(STARTS[1]), callbacks=[Ends()])
    assert (model.n_iter_, model.init_, model.stop_reason_) == (4, STARTS[1], "callback")


def test_start_that_settled_gives_way_to_one_that_did_not():
    params = {"tol": 1.0, "n_iter_no_change": 1}  # over as soon as it may be
    model = fit(random_state=seed_of(STARTS[1]), **params)
    assert model.init_ == STARTS[1]
    assert model.stop_reason_ == "converged"
    assert model.n_iter_ == 5  # it had its own epoch to settle in


def test_early_stopping_of_the_best_weights():
    best = EarlyStopping("train_loss", patience=9, load_best=True, sink=str)
    model = fit(random_state=seed_of(STARTS[1]), callbacks=[best])
    assert model.init_ in STARTS
    assert np.isfinite(model.transform(X_TGT)).all()


@pytest.mark.parametrize("n_calls", [1, 2])
def test_start_that_diverges_does_not_compete(n_calls, monkeypatch):
    """Once is enough: the rate of one that went back is not that of the fit."""
    seed, evaluate, calls = seed_of(STARTS[1]), FineTuningNet.evaluate_batch, iter(range(99))

    def diverging(net, batch):
        terms, clustering = evaluate(net, batch)
        if net.init == STARTS[1] and next(calls) < n_calls:
            terms["loss"] = terms["loss"] * float("nan")
        return terms, clustering

    monkeypatch.setattr(FineTuningNet, "evaluate_batch", diverging)
    both = fit(random_state=seed)
    monkeypatch.undo()
    assert_same_fit(both, fit(random_state=seed, init="k-means"))


@pytest.mark.filterwarnings("error")
def test_divergence_of_the_other_start_is_not_told(monkeypatch):
    seed, evaluate = seed_of(STARTS[1]), FineTuningNet.evaluate_batch

    def diverging(net, batch):
        terms, clustering = evaluate(net, batch)
        if net.init == STARTS[1]:
            terms["loss"] = terms["loss"] * float("nan")
        return terms, clustering

    monkeypatch.setattr(FineTuningNet, "evaluate_batch", diverging)
    assert fit(random_state=seed).init_ == STARTS[0]


def test_fit_that_went_back_once_goes_on_from_the_other_start_at_its_own_rate(monkeypatch):
    evaluate, calls = FineTuningNet.evaluate_batch, iter(range(99))

    def diverging(net, batch):
        terms, clustering = evaluate(net, batch)
        if net.init == STARTS[0] and next(calls) == 0:
            terms["loss"] = terms["loss"] * float("nan")
        return terms, clustering

    monkeypatch.setattr(FineTuningNet, "evaluate_batch", diverging)
    with pytest.warns(ConvergenceWarning, match="went back to the epoch before"):
        model = fit(random_state=seed_of(STARTS[1]), callbacks=[NotesRate()])
    assert model.history_[-1]["rate"] == pytest.approx(model.lr / 10)


def test_state_of_the_rival_is_not_kept():
    model = fit(random_state=seed_of(STARTS[1]))
    assert model._net.rival is None


def test_rival_leaves_the_pretrained_network_as_it_was(monkeypatch):
    seen, train = [], _rivals.train_rival

    def spy(make_net, pretrained, settings, seed):
        def take():
            return copy.deepcopy([pretrained.model.state_dict(), pretrained.optimizer_state])

        before = take()
        rival = train(make_net, pretrained, settings, seed)
        after = take()
        for name, value in before[0].items():
            assert torch.equal(value, after[0][name])
        for name, state in before[1].items():
            for key, value in state.items():
                assert torch.equal(torch.as_tensor(value), torch.as_tensor(after[1][name][key]))
        seen.append(rival)
        return rival

    monkeypatch.setattr(_deep_clusterer, "train_rival", spy)
    fit(encoder=DropoutEncoder)
    assert len(seen) == 1
    assert len(seen[0].history) == 4


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
    assert (STARTS[1], 1) not in again  # the other start is not trained anew
    assert ((STARTS[0], 1) in again) == (init == STARTS[1] or epoch == 1)
    assert not any(tmp_path.iterdir())
    assert_same_fit(resumed, fit(random_state=seed))
    assert resumed.init_ == winner


@pytest.mark.usefixtures("ctrl_c")
def test_interrupt_while_the_other_start_is_trained_leaves_a_fitted_model(monkeypatch):
    strike(monkeypatch, STARTS[1], 2, lambda: signal.raise_signal(signal.SIGINT))
    with pytest.warns(ConvergenceWarning, match="interrupted after 0 epochs of fine-tuning of 6"):
        model = fit(random_state=seed_of(STARTS[1]))
    assert (model.init_, model.n_iter_, model.stop_reason_) == (STARTS[0], 0, "interrupted")
    assert_array_equal(
        model.labels_, fit(random_state=seed_of(STARTS[1]), init=STARTS[0], max_epochs=0).labels_
    )
