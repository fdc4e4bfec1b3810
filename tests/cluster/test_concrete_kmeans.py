import copy
from functools import partial

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from _oracles import early_balance
from numpy.testing import assert_allclose, assert_array_equal
from scipy.special import softmax
from sklearn.cluster import KMeans
from sklearn.datasets import load_digits, make_blobs
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, Checkpoint, EarlyStopping

from sklearn_ckm import ConcreteKMeans, _deep_clusterer
from sklearn_ckm._training import _nets, _starts
from sklearn_ckm._training._criteria import JointCriterion
from sklearn_ckm._training._divergence import DivergenceError
from sklearn_ckm._training._finetuning import FineTuning
from sklearn_ckm.metrics import clustering_accuracy, neighborhood_agreement_score
from sklearn_ckm.objectives import ConcreteKMeansObjective

SMALL = {
    "n_clusters": 3,
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 3,
    "max_epochs": 3,
    "batch_size": 256,
    "random_state": 0,
}
MONITORS = {
    "mean_max_probability",
    "sampled_not_nearest",
    "embedding_variance",
    "within_over_variance",
    "center_spread_over_variance",
    "min_cluster_fraction",
    "max_cluster_fraction",
    "label_change",
    "center_gradient_direct",
    "center_gradient_indirect",
    "temperature",
}

X, Y = make_blobs(n_samples=90, centers=8 * np.eye(5)[:3], random_state=0)


def concrete(**params):
    return ConcreteKMeans(**{**SMALL, **params})


def assert_same_model(first, second):
    assert_array_equal(first.labels_, second.labels_)
    assert_array_equal(first.cluster_centers_, second.cluster_centers_)
    assert first.history_ == second.history_


@pytest.fixture(scope="module")
def fitted():
    return concrete().fit(X)


# prediction -------------------------------------------------------------------------------------


def test_far_blobs_are_found():
    assert clustering_accuracy(Y, concrete().fit(X).labels_) == 1.0


def test_y_is_ignored(fitted):
    for y in (Y, Y[::-1], ["a"] * len(X), [None] * len(X)):
        assert_same_model(concrete().fit(X, y), fitted)


@pytest.mark.parametrize("n_samples", [7, 256, 257, 700])
def test_labels_are_the_predictions_of_the_fitted_rows(n_samples):
    rows = make_blobs(n_samples=n_samples, centers=8 * np.eye(5)[:3], random_state=1)[0]
    model = concrete(max_epochs=1).fit(rows)
    assert_array_equal(model.labels_, model.predict(rows))
    assert_array_equal(concrete(max_epochs=1).fit_predict(rows), model.labels_)


def test_prediction_of_a_row_does_not_depend_on_its_company(fitted):
    whole = {name: getattr(fitted, name)(X) for name in ("predict", "predict_proba", "transform")}
    for name, answer in whole.items():
        assert len(answer) == len(X)
        for rows in (slice(0, 1), slice(5, 9), slice(None, None, -1)):
            assert_array_equal(getattr(fitted, name)(X[rows]), answer[rows])


def test_prediction_is_the_nearest_centre(fitted):
    z = fitted.transform(X).astype(np.float64)
    distances = np.square(z[:, None] - fitted.cluster_centers_).sum(-1)  # (n_samples, n_clusters)
    assert_array_equal(fitted.predict(X), distances.argmin(1))
    expected = softmax(-distances / fitted.temperature_, axis=1)
    assert_allclose(fitted.predict_proba(X), expected, rtol=1e-3, atol=1e-6)


def test_median_gap_of_the_logits_starts_at_six_nats():
    model = concrete(max_epochs=0).fit(X)
    top = np.sort(np.log(model.predict_proba(X)), axis=1)[:, -2:]
    assert np.median(top[:, 1] - top[:, 0]) == pytest.approx(6, rel=0.05)
    assert concrete(max_epochs=0, temperature=0.3).fit(X).temperature_ == pytest.approx(0.3)


def test_learned_attributes_have_their_types(fitted):
    assert fitted.labels_.dtype == np.int32
    assert fitted.cluster_centers_.shape == (3, 3)
    assert fitted.n_features_in_ == 5
    assert type(fitted.n_iter_) is int
    assert type(fitted.temperature_) is float
    assert fitted.transform(X).dtype == np.float64
    assert fitted.transform(X.astype(np.float32)).dtype == np.float32


# score ------------------------------------------------------------------------------------------


def test_score_is_the_agreement_with_input_neighbourhoods(fitted):
    score = fitted.score(X)
    assert type(score) is float
    # the common scale and the shift of the columns leave neighbours as they are
    expected = neighborhood_agreement_score(X, fitted.labels_, sample_size=None)
    assert score == pytest.approx(expected, abs=1e-12)


def test_score_does_not_read_labels(fitted):
    assert fitted.score(X, Y) == fitted.score(X, Y[::-1]) == fitted.score(X)


def test_score_does_not_depend_on_the_numbering_of_the_clusters(fitted):
    renumbered = copy.deepcopy(fitted)
    positions = renumbered._net.module_.centers.positions
    with torch.no_grad():
        positions.copy_(positions[[2, 0, 1]])
    assert not np.array_equal(renumbered.predict(X), fitted.predict(X))
    assert renumbered.score(X) == fitted.score(X)


def test_score_does_not_rise_when_the_embedding_shrinks(fitted):
    shrunk = copy.deepcopy(fitted)
    module = shrunk._net.module_
    with torch.no_grad():
        for tensor in (*module.encoder.layers[-1].parameters(), module.centers.positions):
            tensor.mul_(1e-3)
    assert_allclose(shrunk.transform(X), 1e-3 * fitted.transform(X), rtol=1e-4)
    assert shrunk.score(X) == fitted.score(X)


def test_score_of_collapsed_centres_is_zero(fitted):
    collapsed = copy.deepcopy(fitted)
    with torch.no_grad():
        collapsed._net.module_.centers.positions.zero_()
    assert collapsed.score(X) == 0
    assert fitted.score(X) > 0.9


def test_score_takes_weights(fitted):
    weight = np.arange(len(X)) % 3
    assert fitted.score(X, sample_weight=np.full(len(X), 7)) == pytest.approx(fitted.score(X))
    assert fitted.score(X, sample_weight=(weight > 0).astype(float)) == pytest.approx(
        fitted.score(X[weight > 0])
    )


# phases -----------------------------------------------------------------------------------------


def test_without_epochs_it_is_an_autoencoder_with_kmeans():
    model = concrete(max_epochs=0, n_clusters=5).fit(X)  # more clusters than blobs: no easy answer
    z = model.transform(X).astype(np.float64)
    means = np.stack([z[model.labels_ == j].mean(0) for j in range(5)])
    assert_allclose(model.cluster_centers_, means, rtol=1e-4, atol=1e-5)
    best = KMeans(5, n_init=20, random_state=1).fit(z)
    assert np.square(z - means[model.labels_]).sum() <= 1.02 * best.inertia_
    assert model.n_iter_ == 0
    assert {record["phase"] for record in model.history_} == {"pretrain"}


def test_init_says_in_which_space_kmeans_starts():
    plain, whitened = (
        concrete(max_epochs=0, n_clusters=5, init=init).fit(X)
        for init in ("k-means", "whitened-k-means")
    )
    assert_same_model(plain, concrete(max_epochs=0, n_clusters=5).fit(X))
    z = torch.tensor(plain.transform(X), dtype=torch.float64)
    assert_allclose(whitened.transform(X), z)  # the embedding itself is left as it is
    inertia = [
        torch.cdist(z, torch.tensor(m.cluster_centers_, dtype=z.dtype)).amin(1).square().sum()
        for m in (plain, whitened)
    ]
    assert inertia[0] < 0.999 * inertia[1]


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_pretraining_may_be_left_out():
    model = concrete(pretrain_epochs=0).fit(X)
    assert [record["phase"] for record in model.history_] == ["finetune"] * 3


def test_pretraining_does_not_depend_on_what_comes_after():
    def pretraining(**params):
        return [r for r in concrete(**params).fit(X).history_ if r["phase"] == "pretrain"]

    assert pretraining() == pretraining(lambda_clustering=3.0, n_clusters=2, max_epochs=1)


def test_first_epoch_does_not_depend_on_the_number_of_epochs():
    def first(**params):
        return concrete(**params).fit(X).history_[3]

    assert first(max_epochs=1) == first(max_epochs=3)


@pytest.mark.parametrize("seed", [0, 1, 2])
@pytest.mark.parametrize("augmentation", [None, "auto"])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_start_of_the_best_score_is_kept(monkeypatch, augmentation, seed):
    centers, run = [], FineTuning.run

    def recording(self, *args, **kwargs):
        net, start = run(self, *args, **kwargs)
        centers.append(net.module_.centers.positions.detach().numpy().copy())
        return net, start

    monkeypatch.setattr(FineTuning, "run", recording)
    rows = np.random.default_rng(seed).uniform(size=(90, 3))  # no obvious clusters
    params = {"n_clusters": 5, "random_state": seed, "augmentation": augmentation, "tol": 0.0}
    model = concrete(n_init=4, **params).fit(rows)
    scores = model.init_scores_
    assert scores.shape == (4,)
    assert len(set(scores)) > 1  # else there is nothing to choose
    assert_array_equal(model.cluster_centers_, centers[np.argmax(scores)])
    if augmentation is None:
        assert model.score(rows) == pytest.approx(max(scores), abs=1e-12)
    else:
        last = model.history_[-1]
        assert max(scores) == -(last["consistency"] + last["balance"])
    assert_same_model(model, concrete(n_init=4, **params).fit(rows))


def test_starts_have_weights_of_their_own_and_the_first_is_that_of_one():
    several = concrete(n_init=3, max_epochs=6, tol=0.0).fit(X)
    assert several.n_iter_ == 6
    assert len(several.history_) == several.pretrain_epochs + 6
    assert len(set(several.init_scores_)) == 3
    two, one = (concrete(n_init=n, max_epochs=6, tol=0.0).fit(X) for n in (2, 1))
    assert_array_equal(two.init_scores_, several.init_scores_[:2])
    last = one.history_[-1]
    assert two.init_scores_[0] == -(last["consistency"] + last["balance"])
    assert not hasattr(several.set_params(n_init=1).fit(X), "init_scores_")
    assert_same_model(several, one)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_score_of_a_start_is_that_of_the_weights_it_keeps():
    best = EarlyStopping("train_loss", patience=9, lower_is_better=False, load_best=True, sink=str)
    params = {"max_epochs": 6, "tol": 0.0, "callbacks": [best]}
    model = concrete(n_init=2, **params).fit(X)
    tuned = [epoch for epoch in concrete(**params).fit(X).history_ if epoch["phase"] == "finetune"]
    losses = [epoch["loss"] for epoch in tuned]
    kept = tuned[int(np.argmax(losses))]  # the worst, so that it is not the last
    assert kept is not tuned[-1]
    assert model.init_scores_[0] == -(kept["consistency"] + kept["balance"])


def test_checkpoint_of_skorch_keeps_the_phases_apart(tmp_path):
    kept = Checkpoint("train_loss_best", dirname=str(tmp_path), load_best=True)
    kept.sink = str
    model = concrete(max_epochs=0, callbacks=[kept]).fit(X)  # nothing was kept to be loaded
    assert_array_equal(model.labels_, concrete(max_epochs=0).fit(X).labels_)
    assert {path.name for path in tmp_path.glob("*params.pt")} == {"pretraining-params.pt"}
    model = concrete(n_init=2, callbacks=[kept]).fit(X)
    names = {path.name for path in tmp_path.glob("*params.pt")}
    assert {"params.pt", "start-1-params.pt", "pretraining-start-1-params.pt"} < names
    tuned = [epoch for epoch in model.history_ if epoch["phase"] == "finetune"]
    best = min(tuned, key=lambda epoch: epoch["loss"])
    assert max(model.init_scores_) == -(best["consistency"] + best["balance"])


BACKBONE = torch.nn.Linear(5, 4)


def on_top_of(input_shape, n_components, backbone):
    return torch.nn.Sequential(backbone, torch.nn.Linear(4, n_components))


def test_fits_share_no_module_that_is_bound_in_the_encoder():
    before = copy.deepcopy(BACKBONE.state_dict())
    encoder = partial(on_top_of, backbone=BACKBONE)
    one = concrete(encoder=encoder).fit(X)
    z = one.transform(X)
    concrete(encoder=encoder, random_state=1).fit(X)
    assert_array_equal(one.transform(X), z)
    assert_same_model(one, concrete(encoder=encoder).fit(X))
    for name, value in BACKBONE.state_dict().items():
        assert torch.equal(value, before[name])


def test_start_that_diverges_is_left_out(monkeypatch):
    run, calls = FineTuning.run, iter(range(9))

    def diverging(self, *args, **kwargs):
        if next(calls) in fails:
            raise DivergenceError("It diverged.")
        return run(self, *args, **kwargs)

    monkeypatch.setattr(FineTuning, "run", diverging)
    fails = {1}
    with pytest.warns(ConvergenceWarning, match="Start 2 of 3 is left out. It diverged.") as caught:
        model = concrete(n_init=3).fit(X)
    assert caught[0].filename == __file__
    assert_array_equal(np.isfinite(model.init_scores_), [True, False, True])
    calls, fails = iter(range(9)), {0}
    with pytest.raises(ValueError, match="It diverged"):
        concrete(n_init=3).fit(X)


@pytest.mark.parametrize("optimizer", ["adamw", "sgd", torch.optim.RMSprop])
def test_optimizer_may_be_chosen(optimizer):
    model = concrete(optimizer=optimizer, augmentation=None).fit(X)
    by_default = concrete(augmentation=None).fit(X)
    assert np.isfinite(model.cluster_centers_).all()
    assert not np.array_equal(model.cluster_centers_, by_default.cluster_centers_)


def test_bfloat16_is_close_to_float32(fitted):
    model = concrete(precision="bfloat16").fit(X)
    assert clustering_accuracy(fitted.labels_, model.labels_) == 1.0
    losses = [[record["loss"] for record in m.history_] for m in (model, fitted)]
    assert_allclose(*losses, rtol=0.02)
    assert losses[0] != losses[1]


# warm start -------------------------------------------------------------------------------------


def test_warm_start_goes_on_from_the_last_fit():
    model = concrete(warm_start=True).fit(X)
    z, centers, temperature = model.transform(X), model.cluster_centers_, model.temperature_
    model.set_params(max_epochs=0, random_state=9).fit(X)
    assert_array_equal(model.transform(X), z)
    assert_array_equal(model.cluster_centers_, centers)
    assert model.temperature_ == temperature
    assert model.history_ == []
    assert model.n_iter_ == 0

    model.set_params(max_epochs=2, tol=0.0).fit(X)
    assert [record["phase"] for record in model.history_] == ["finetune"] * 2
    assert model.n_iter_ == 2
    assert not np.array_equal(model.cluster_centers_, centers)
    assert_array_equal(model.labels_, model.predict(X))


def test_without_warm_start_a_fit_forgets_the_last_one(fitted):
    model = concrete(random_state=5).fit(X + 1)
    assert_same_model(model.set_params(random_state=0).fit(X), fitted)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warm_start_keeps_the_scale_of_the_first_fit():
    model = concrete(warm_start=True).fit(X)
    z = model.transform(X)
    model.set_params(max_epochs=0).fit(10 * X)  # far from the centres
    assert_array_equal(model.transform(X), z)


def test_only_the_first_fit_of_a_warm_start_starts_soft(monkeypatch):
    criteria = []

    def note(*args, **kwargs):
        criteria.append(JointCriterion(*args, **kwargs))
        return criteria[-1]

    monkeypatch.setattr(_deep_clusterer, "JointCriterion", note)
    model = concrete()
    for is_warm in (False, True, False):
        criteria.clear()
        model.set_params(warm_start=is_warm).fit(X)
        assert {criterion.starts_soft for criterion in criteria} == {not is_warm}


@pytest.mark.parametrize("changed", [{"n_clusters": 4}, {"n_components": 2}])
def test_warm_start_refuses_another_architecture(changed):
    model = concrete(warm_start=True).fit(X)
    labels = model.predict(X)
    with pytest.raises(ValueError, match=r"warm_start continues.*Set warm_start=False"):
        model.set_params(**changed).fit(X)
    assert_array_equal(model.predict(X), labels)


def test_warm_start_refuses_another_number_of_features():
    model = concrete(warm_start=True).fit(X)
    with pytest.raises(ValueError, match=r"warm_start|n_features|features"):
        model.fit(X[:, :4])


def test_warm_start_refuses_the_columns_in_another_order():
    frame = pd.DataFrame(X, columns=list("abcde"))
    model = concrete(warm_start=True).fit(frame)
    with pytest.raises(ValueError, match=r"feature names.*\['e', 'd', 'c', 'b', 'a'\] after"):
        model.fit(frame[list("edcba")])
    assert model.feature_names_in_.tolist() == list("abcde")
    assert_array_equal(model.fit(frame).labels_, model.predict(frame))
    model.set_params(warm_start=False).fit(frame[list("edcba")])
    assert model.feature_names_in_.tolist() == list("edcba")


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warm_start_refuses_images_of_another_dtype():
    images = np.random.default_rng(0).integers(0, 256, (30, 1, 4, 4), dtype=np.uint8)
    model = concrete(warm_start=True).fit(images)
    with pytest.raises(ValueError, match="Expected uint8 images as in fit"):
        model.fit(images / 255)


# callbacks and messages -------------------------------------------------------------------------


class Recorder(Callback):
    """Notes on its class what it was called for, since each phase works on a copy."""

    calls: list = []

    def __init__(self):
        self.n_epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs += 1
        self.calls.append((net.phase, self, self.n_epochs))


@pytest.mark.parametrize("is_named", [False, True])
def test_each_phase_works_on_its_own_copy_of_a_callback(is_named):
    recorder = Recorder()
    callbacks = [("recorder", recorder)] if is_named else [recorder]
    Recorder.calls.clear()
    model = concrete(callbacks=callbacks, tol=0.0).fit(X)
    assert [(phase, n) for phase, _, n in Recorder.calls] == [
        *(("pretrain", n) for n in (1, 2, 3)),
        *(("finetune", n) for n in (1, 2, 3)),
    ]
    assert len({id(copied) for _, copied, _ in Recorder.calls} - {id(recorder)}) == 2
    assert model.callbacks is callbacks
    assert recorder.n_epochs == 0
    assert vars(recorder) == {"n_epochs": 0}


class BatchCounter(Callback):
    batches: list = []

    def on_batch_end(self, net, batch=None, training=False, **kwargs):
        self.batches.append((net.phase, len(batch.x), kwargs["loss"].item()))


def test_callback_hears_batches_and_changes_nothing():
    BatchCounter.batches.clear()
    model = concrete(callbacks=[BatchCounter()], batch_size=40).fit(X)
    assert [size for _, size, _ in BatchCounter.batches] == [40] * 3 * 6
    first = np.mean([loss for _, _, loss in BatchCounter.batches[:3]])
    assert model.history_[0]["loss"] == pytest.approx(first, rel=1e-5)
    assert_same_model(model, concrete(batch_size=40).fit(X))


def test_silent_by_default(capsys):
    concrete().fit(X)
    assert capsys.readouterr() == ("", "")


def test_verbose_1_shows_a_bar_for_each_phase(capsys):
    model = concrete(verbose=1).fit(X)
    out, err = capsys.readouterr()
    assert out == ""
    assert "pretraining: 100%" in err
    assert "fine-tuning: 100%" in err
    assert f"loss={model.history_[-1]['loss']:.4g}" in err


def test_verbose_2_prints_a_line_for_each_epoch(capsys):
    model = concrete(verbose=2).fit(X)
    out, err = capsys.readouterr()
    assert err == ""
    lines = out.splitlines()
    assert sum("reconstruction" in line for line in lines) == 2  # one header a phase
    for record in model.history_:
        assert any(f"{record['reconstruction']:.4f}" in line for line in lines)


@pytest.mark.parametrize("verbose", [0, 1, 2, True, False])
def test_verbose_changes_no_result(fitted, verbose):
    assert_same_model(concrete(verbose=verbose).fit(X), fitted)


# history and reasons to stop --------------------------------------------------------------------


@pytest.mark.parametrize(
    ("params", "view_terms"),
    [
        ({}, {"consistency", "balance"}),
        ({"lambda_consistency": 0.0, "lambda_balance": 0.0}, set()),
        ({"augmentation": None}, set()),
    ],
)
def test_history_has_one_plain_record_for_each_epoch(params, view_terms):
    model = concrete(**params).fit(X)
    assert [r["phase"] for r in model.history_] == ["pretrain"] * 3 + ["finetune"] * 3
    assert [r["epoch"] for r in model.history_] == [1, 2, 3] * 2
    assert model.n_iter_ == 3
    for record in model.history_[:3]:
        assert set(record) == {"phase", "epoch", "loss", "reconstruction"}
    for record in model.history_[3:]:
        terms = {"phase", "epoch", "loss", "reconstruction", "clustering"}
        assert set(record) == terms | view_terms | MONITORS
        numbers = [value for name, value in record.items() if name not in ("phase", "epoch")]
        assert all(type(value) is float and np.isfinite(value) for value in numbers)


@pytest.mark.parametrize("weight", [0.0, 0.1, 5.0])
def test_loss_without_views_is_the_weighted_sum_of_its_terms(weight):
    for record in concrete(lambda_clustering=weight, augmentation=None).fit(X).history_[3:]:
        expected = record["reconstruction"] + weight * record["clustering"]
        assert record["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", [(0.0, 10.0, 10.0), (0.1, 0.5, 2.0), (5.0, 0.0, 3.0)])
def test_loss_with_views_is_the_weighted_sum_of_its_terms(weights):
    lambdas = dict(zip(("clustering", "consistency", "balance"), weights, strict=True))
    model = concrete(**{f"lambda_{term}": weight for term, weight in lambdas.items()})
    for i, record in enumerate(model.fit(X).history_[3:]):
        record["balance"] *= early_balance(i, model.max_epochs)
        weighted = sum(weight * record[term] for term, weight in lambdas.items())
        assert record["loss"] == pytest.approx(record["reconstruction"] + weighted, rel=1e-5)


def test_monitors_describe_the_model_where_nothing_moves():
    model = concrete(lr=1e-20, max_epochs=1).fit(X)  # and one batch holds everything
    z, record = model.transform(X), model.history_[-1]
    variance = z.var(0).sum()
    distances = np.square(z[:, None] - model.cluster_centers_).sum(-1)
    spread = np.square(model.cluster_centers_ - model.cluster_centers_.mean(0)).sum(1).mean()
    assert record["embedding_variance"] == pytest.approx(variance, rel=1e-3)
    assert record["within_over_variance"] == pytest.approx(
        distances.min(1).mean() / variance, rel=1e-3
    )
    assert record["center_spread_over_variance"] == pytest.approx(spread / variance, rel=1e-3)
    shares = np.bincount(model.labels_, minlength=3) / len(X)
    assert record["min_cluster_fraction"] == pytest.approx(shares.min())
    assert record["max_cluster_fraction"] == pytest.approx(shares.max())
    assert record["mean_max_probability"] == pytest.approx(
        model.predict_proba(X).max(1).mean(), rel=1e-3
    )
    assert record["temperature"] == pytest.approx(model.temperature_)
    assert record["label_change"] == 0


def test_without_tolerance_every_epoch_is_done():
    model = concrete(tol=0.0, n_iter_no_change=1, max_epochs=4).fit(X)
    assert (model.n_iter_, model.stop_reason_) == (4, "max_epochs")


@pytest.mark.parametrize("n_init", [1, 3])
@pytest.mark.parametrize(("views", "n_iter"), [({"augmentation": None}, 2), ({}, 12)])
def test_training_stops_when_labels_stand_still(n_init, views, n_iter):
    params = {"tol": 1.1, "n_iter_no_change": 2, "max_epochs": 20, "n_init": n_init}
    model = concrete(**params, **views).fit(X)
    assert (model.n_iter_, model.stop_reason_) == (n_iter, "converged")  # views: after one half


def test_early_stopping_of_skorch_ends_its_phase_only():
    callback = EarlyStopping(
        monitor="train_loss", patience=2, threshold=1e9, threshold_mode="abs", sink=str
    )
    model = concrete(callbacks=[callback], pretrain_epochs=9, max_epochs=9).fit(X)
    # The first epoch counts as an improvement on infinity, two misses follow.
    assert [record["epoch"] for record in model.history_] == [1, 2, 3] * 2
    assert (model.n_iter_, model.stop_reason_) == (3, "callback")


# broken centres ---------------------------------------------------------------------------------

LITERAL = {
    "n_clusters": 4,
    "augmentation": None,
    "temperature": 1.0,
    "lr": 1e-2,
    "max_epochs": 30,
    "lambda_clustering": 10.0,
    "tol": 0.0,
}
NUMBERS = (
    r"\d+ of \d+ centres are dead \(centres \[[\d, ]+\] hold \[[\d, ]+\] of \d+ rows\)"
    r"|centres have collapsed \(their spread is [\d.e+-]+, the variance of the embedding [\d.e+-]+"
    r"|\d+ pairs of centres are doubled \(centres \d+ and \d+ are [\d.e+-]+ apart"
)


def test_literal_method_that_collapses_says_so():
    literal = ConcreteKMeansObjective(form="A", estimator="gumbel")
    with pytest.warns(ConvergenceWarning, match=NUMBERS) as record:
        model = concrete(objective=literal, **LITERAL).fit(X)
    assert len(record) == 1
    assert record[0].filename == __file__  # points to the user's line
    assert model.stop_reason_ == "collapsed"


@pytest.mark.parametrize("n_clusters", [4, 6])
def test_more_clusters_than_distinct_rows_says_so(n_clusters):
    rows = np.repeat(8 * np.eye(5)[:3], 10, axis=0)
    with pytest.warns(ConvergenceWarning, match=NUMBERS):
        model = concrete(n_clusters=n_clusters).fit(rows)
    assert model.stop_reason_ == "collapsed"
    assert len(np.unique(model.labels_)) <= 3
    assert np.isfinite(model.cluster_centers_).all()


def test_healthy_centres_do_not_warn(fitted, recwarn):
    model = concrete(n_clusters=1).fit(X)
    assert model.stop_reason_ == fitted.stop_reason_ == "max_epochs"
    assert not recwarn


def test_moved_empty_centres_are_counted():
    rows = np.repeat(8 * np.eye(5)[:3], 10, axis=0)
    objective = ConcreteKMeansObjective(reseed_empty=True)
    with pytest.warns(ConvergenceWarning, match="centres are dead|doubled"):
        model = concrete(n_clusters=5, objective=objective).fit(rows)
    counts = [r["n_reseeded"] for r in model.history_ if r["phase"] == "finetune"]
    assert len(counts) == 3
    assert all(isinstance(count, int) and 0 <= count <= 4 for count in counts)
    assert max(counts) > 0


def test_healthy_centres_are_not_moved(fitted):
    model = concrete(objective=ConcreteKMeansObjective(reseed_empty=True)).fit(X)
    assert [r["n_reseeded"] for r in model.history_[3:]] == [0, 0, 0]
    assert_array_equal(model.cluster_centers_, fitted.cluster_centers_)
    assert "n_reseeded" not in fitted.history_[-1]


# inputs -----------------------------------------------------------------------------------------


def other_containers():
    frame = pd.DataFrame(X, columns=list("abcde"))
    yield "list", X.tolist()
    yield "Fortran order", np.asfortranarray(X)
    yield "strided", np.repeat(X, 2, axis=0)[::2]
    yield "read-only", np.lib.stride_tricks.as_strided(X, writeable=False)
    yield "pandas", frame
    yield "polars", pl.from_pandas(frame)
    yield "torch", torch.from_numpy(X)
    yield "torch with gradient", torch.from_numpy(X).requires_grad_()


@pytest.mark.parametrize(("name", "rows"), list(other_containers()))
@pytest.mark.filterwarnings("ignore:X does not have valid feature names:UserWarning")
def test_container_of_the_rows_does_not_matter(fitted, name, rows):
    model = concrete().fit(rows)
    assert_same_model(model, fitted)
    assert_array_equal(model.predict(rows), fitted.labels_)
    assert_array_equal(model.transform(rows), fitted.transform(X))
    assert model.score(rows) == fitted.score(X)


@pytest.mark.parametrize(
    "dtype", [np.float32, np.float64, np.uint8, np.float16, np.int16, np.int64]
)
def test_dtype_of_a_table_does_not_matter(dtype):
    whole = (10 * X).clip(0, 200).round()
    model = concrete().fit(whole.astype(dtype))
    expected = concrete().fit(whole)
    assert_array_equal(model.labels_, expected.labels_)
    assert_allclose(model.cluster_centers_, expected.cluster_centers_, rtol=1e-3, atol=1e-5)
    assert_array_equal(model.labels_, model.predict(whole.astype(dtype)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("dtype", [np.uint8, np.float32])
def test_memory_map_is_read_and_not_written(tmp_path, dtype):
    images = np.random.default_rng(0).integers(0, 256, (40, 1, 4, 4)).astype(dtype)
    np.save(tmp_path / "images.npy", images)
    mapped = np.load(tmp_path / "images.npy", mmap_mode="r")
    model = concrete().fit(mapped)
    assert_same_model(model, concrete().fit(images))
    assert_array_equal(model.predict(mapped), model.labels_)
    assert_array_equal(np.load(tmp_path / "images.npy"), images)


def make_images(dtype=np.uint8, size=8, channels=1):
    """Two groups of noisy images, dark and bright."""
    rng = np.random.default_rng(0)
    level = np.repeat([0, 150], 25)[:, None, None, None]
    images = rng.integers(0, 100, (50, channels, size, size)) + level
    images[0], images[-1] = 0, 255  # so that floats are mapped as bytes are
    return images.astype(dtype)


IMAGES = {"n_clusters": 2, "pretrain_epochs": 1, "max_epochs": 1}


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("encoder", ["conv", "mlp-small", "auto"])
@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_images_equal_flattened_images_with_their_shape(encoder, dtype):
    images = make_images(dtype, channels=2)
    flat = images.reshape(len(images), -1)
    four = concrete(encoder=encoder, **IMAGES).fit(images)
    two = concrete(encoder=encoder, image_shape=(2, 8, 8), **IMAGES).fit(flat)
    assert_same_model(four, two)
    assert four.n_features_in_ == two.n_features_in_ == 2 * 8 * 8
    for method in ("predict", "predict_proba", "transform"):
        assert_array_equal(getattr(four, method)(images), getattr(two, method)(flat))
    assert four.score(images) == two.score(flat)
    assert_array_equal(two.predict(images), two.predict(flat))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_image_shape_may_be_given_with_images_and_as_a_list():
    images = make_images()
    expected = concrete(**IMAGES).fit(images)
    assert_same_model(concrete(image_shape=(1, 8, 8), **IMAGES).fit(images), expected)
    flat = images.reshape(len(images), -1)
    assert_same_model(concrete(image_shape=[1, 8, 8], **IMAGES).fit(flat), expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_bytes_are_divided_by_255():
    images = make_images()
    as_bytes = concrete(**IMAGES).fit(images)
    as_floats = concrete(**IMAGES).fit(images / 255)
    assert_array_equal(as_bytes.labels_, as_floats.labels_)
    assert_allclose(as_bytes.transform(images), as_floats.transform(images / 255), atol=1e-5)
    assert as_bytes.transform(images).dtype == np.float32


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_torch_images_equal_arrays():
    images = make_images()
    model = concrete(**IMAGES).fit(torch.from_numpy(images))
    assert_same_model(model, concrete(**IMAGES).fit(images))
    assert_array_equal(model.predict(torch.from_numpy(images)), model.labels_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_range_of_float_images_does_not_matter():
    images = make_images(np.float64)
    expected = concrete(**IMAGES).fit(images)
    model = concrete(**IMAGES).fit(4 * images - 7)
    assert_allclose(model.cluster_centers_, expected.cluster_centers_, atol=1e-4)


# encoders ---------------------------------------------------------------------------------------


class OneLayer(torch.nn.Module):
    """An encoder of a user, without a decoder of its own."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        self.layer = torch.nn.Linear(input_shape[0], n_components)

    def forward(self, x):
        return self.layer(x)


class WithDropout(OneLayer):
    def forward(self, x):
        return torch.nn.functional.dropout(self.layer(x), 0.5, self.training)


class Mirrored(OneLayer):
    def build_decoder(self):
        return torch.nn.Linear(self.layer.out_features, self.layer.in_features)


def factory(input_shape, n_components):
    return OneLayer(input_shape, n_components)


@pytest.mark.parametrize("encoder", [OneLayer, Mirrored, factory])
def test_encoder_may_be_a_class_or_a_factory(encoder):
    model = concrete(encoder=encoder).fit(X)
    assert model.transform(X).shape == (90, 3)
    assert_array_equal(model.labels_, model.predict(X))
    decoder = model._net.module_.decoder
    assert isinstance(decoder, torch.nn.Linear) == (encoder is Mirrored)


def test_dropout_is_drawn_in_training_and_off_in_prediction():
    model = concrete(encoder=WithDropout).fit(X)
    assert_array_equal(model.transform(X), model.transform(X))
    assert_array_equal(model.labels_, model.predict(X))
    assert_same_model(model, concrete(encoder=WithDropout).fit(X))
    assert model.history_[0] != concrete(encoder=OneLayer).fit(X).history_[0]


@pytest.mark.parametrize(
    "params",
    [
        {"form": "A", "estimator": "gumbel", "relaxation": (1.0, 0.1)},
        {"estimator": "straight-through"},
        {"estimator": "detached", "noise": 0.0},
        {"estimator": "soft"},
        {"noise": (1.0, 0.0), "relaxation": lambda progress: 1.0 - progress / 2},
    ],
)
def test_every_objective_trains(params):
    model = concrete(objective=ConcreteKMeansObjective(**params)).fit(X)
    assert clustering_accuracy(Y, model.labels_) == 1.0
    assert_array_equal(model.labels_, model.predict(X))


def test_noise_of_the_objective_is_used():
    def sampled_not_nearest(noise):
        model = concrete(objective=ConcreteKMeansObjective(noise=noise)).fit(X)
        return np.mean([record["sampled_not_nearest"] for record in model.history_[3:]])

    assert sampled_not_nearest(0.0) == 0.0
    assert sampled_not_nearest(10.0) > 0.1


def test_finetuning_keeps_the_reconstruction_that_pretraining_reached(monkeypatch):
    digits = load_digits().data[:400]

    def jump():
        settings = {"n_components": 10, "batch_size": 32, "lambda_clustering": 0.0}
        model = concrete(pretrain_epochs=60, max_epochs=1, **settings).fit(digits)
        before, after = (record["reconstruction"] for record in model.history_[-2:])
        return after / before

    assert jump() < 1.1
    # with fresh moments, the first steps of Adam are as long as its rate allows
    monkeypatch.setattr(_nets, "load_named_state", lambda *args: None)
    assert jump() > 1.4


@pytest.mark.parametrize(("scores", "is_first"), [((0.0, 1.0), False), ((0.0, 0.0), True)])
def test_history_is_that_of_the_start_that_is_kept(monkeypatch, scores, is_first):
    left = iter(scores)
    monkeypatch.setattr(_starts, "score_start", lambda *args: next(left))
    kept, one = (
        [record for record in concrete(n_init=n).fit(X).history_ if record["phase"] == "pretrain"]
        for n in (2, 1)
    )
    assert len(kept) == len(one)
    assert (kept == one) == is_first


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_starts_on_two_rows_score_alike():
    model = concrete(n_clusters=2, n_init=2, augmentation=None).fit(X[:2])
    assert_array_equal(model.init_scores_, [0.0, 0.0])


def test_rows_that_score_a_start_are_drawn_from_all(monkeypatch):
    seen = []
    monkeypatch.setattr(_starts, "SCORED_ROWS", 10)
    monkeypatch.setattr(_starts, "score_start", _starts.score_start)
    monkeypatch.setattr(_starts, "neighborhood_agreement", lambda net, x: seen.append(x) or 0.0)
    model = concrete(n_init=2, augmentation=None).fit(X)
    scaled = model._scaled_inputs(X)
    rows = [int((scaled == row).all(1).nonzero()[0]) for row in seen[0]]
    assert len(rows) == 10 and max(rows) >= len(X) // 2
