import os

import numpy as np
import pytest
import torch
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from skorch.callbacks import Callback, Checkpoint
from torch import nn

from sklearn_ckm._training import _phases
from sklearn_ckm._training._criteria import JointCriterion
from sklearn_ckm._training._inference import embed
from sklearn_ckm._training._phases import (
    TrainingData,
    TrainingSettings,
    pretrain,
    set_centers,
    start_centers,
    start_finetuning,
    strip_net,
)
from sklearn_ckm._training._progress import EpochProgressBar
from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.modules import ClusteringModel, margin_temperature
from sklearn_ckm.objectives import ConcreteKMeansObjective

CPU = torch.device("cpu")


class Counter(Callback):
    n_epochs = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs += 1


def make_model():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        return ClusteringModel(nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.3)), nn.Linear(3, 4))


def make_settings(**kwargs):
    return TrainingSettings(CPU, lr=1e-2, batch_size=16, optimizer=torch.optim.Adam, **kwargs)


def make_target(n_samples=40):
    return torch.randn(n_samples, 4, generator=torch.Generator().manual_seed(0))


def test_pretraining_is_reproducible_and_leaves_the_global_state_alone():
    before = torch.random.get_rng_state()
    models = [make_model() for _ in range(3)]
    for model, seed in zip(models, (0, 0, 1), strict=True):
        history, _ = pretrain(
            model, TrainingData(make_target()), make_settings(), max_epochs=2, seed=seed
        )
        assert len(history) == 2
    first, again, other = (model.encoder[0].weight for model in models)
    assert torch.equal(first, again)
    assert not torch.equal(first, other)
    assert torch.equal(before, torch.random.get_rng_state())


def test_no_epochs_of_pretraining_change_nothing():
    model = make_model()
    data = TrainingData(make_target())
    assert pretrain(model, data, make_settings(), max_epochs=0, seed=0) == ([], {})
    assert torch.equal(model.encoder[0].weight, make_model().encoder[0].weight)


def test_pretraining_reads_both_domains():
    data = TrainingData(make_target(), make_target(30) + 2)
    models = make_model(), make_model()
    pretrain(models[0], data, make_settings(), max_epochs=1, seed=0)
    pretrain(models[1], TrainingData(data.target), make_settings(), max_epochs=1, seed=0)
    assert not torch.equal(models[0].encoder[0].weight, models[1].encoder[0].weight)


def test_pretraining_without_the_source_reads_the_target_alone():
    target, source = make_target(), make_target(30) + 2
    models = make_model(), make_model()
    alone, without = TrainingData(target), TrainingData(target, source)
    first = pretrain(models[0], alone, make_settings(), max_epochs=2, seed=0)
    second = pretrain(models[1], without, make_settings(), max_epochs=2, seed=0, has_source=False)
    assert first[0] == second[0]
    assert torch.equal(models[0].encoder[0].weight, models[1].encoder[0].weight)


def test_pretraining_without_a_large_source_has_as_many_batches():
    """Of 16 rows each, from 40 rows of the target, where 100 of the source make seven."""
    data = TrainingData(make_target(), make_target(100))
    _, state = pretrain(make_model(), data, make_settings(), max_epochs=2, seed=0, has_source=False)
    assert state["decoder.weight"]["step"] == 14


def test_checkpoint_of_skorch_gets_a_prefix_where_it_can_be_copied():
    kept = Checkpoint("train_loss_best", fn_prefix="best-")
    settings = make_settings(callbacks=[kept])
    pretraining, tuning = (
        settings.net_kwargs(0, phase)["callbacks"][0] for phase in ("pretraining", "fine-tuning")
    )
    assert (pretraining.fn_prefix, tuning.fn_prefix) == ("pretraining-best-", "best-")
    assert kept.fn_prefix == "best-"
    with open(os.devnull) as file:
        kept.file = file  # with a file open it is used as it is
        assert make_settings(callbacks=[kept]).net_kwargs(0, "pretraining")["callbacks"] == [kept]
    assert kept.fn_prefix == "best-"


def test_callbacks_are_copied_for_each_phase():
    counter = Counter()
    settings = make_settings(callbacks=[counter, ("named", counter)])
    pretrain(make_model(), TrainingData(make_target()), settings, max_epochs=2, seed=0)
    assert counter.n_epochs == 0


@pytest.mark.parametrize(("verbose", "name"), [(0, None), (1, "progress_bar"), (2, "print_log")])
def test_verbosity_adds_callbacks(verbose, name):
    callbacks = make_settings(verbose=verbose).net_kwargs(0, "x")["callbacks"]
    assert [callback[0] for callback in callbacks] == ([] if name is None else [name])


def test_progress_bar_counts_the_epochs(capsys):
    settings = make_settings(callbacks=[("bar", EpochProgressBar("pretraining"))])
    pretrain(make_model(), TrainingData(make_target()), settings, max_epochs=2, seed=0)
    printed = capsys.readouterr()
    assert "pretraining: 100%" in printed.err
    assert "2/2" in printed.err
    assert printed.out == ""


def test_centers_start_at_kmeans():
    X, _ = make_blobs(120, centers=4, n_features=3, random_state=0)
    z = torch.tensor(X, dtype=torch.float32)
    centers = start_centers(z, 4, seed=0)
    best = KMeans(4, n_init=20, random_state=1).fit(X)
    assert centers.dtype == torch.float32
    inertia = torch.cdist(z, centers).square().amin(1).sum().item()
    assert inertia == pytest.approx(best.inertia_, rel=1e-5)
    assert torch.equal(centers, start_centers(z, 4, seed=0))


def test_centers_start_at_the_best_of_several_kmeans():
    X, _ = make_blobs(400, centers=20, n_features=2, cluster_std=0.3, random_state=0)
    z = torch.tensor(X, dtype=torch.float32)
    single = [KMeans(20, n_init=1, random_state=seed).fit(X).inertia_ for seed in range(10)]
    best = KMeans(20, n_init=50, random_state=0).fit(X).inertia_
    assert np.median(single) > 1.2 * best  # most starts miss it
    for seed in range(5):
        inertia = torch.cdist(z, start_centers(z, 20, seed=seed)).square().amin(1).sum().item()
        assert inertia == pytest.approx(best, rel=1e-3)


def stretched_classes():
    """Two classes along one direction, and a wider one that tells nothing."""
    rng = np.random.default_rng(0)
    y = np.repeat([0, 1], 100)
    X = np.column_stack([6 * y + rng.normal(size=200), 14 * rng.uniform(size=200), 7 + 0 * y])
    return torch.tensor(X, dtype=torch.float32), y


def test_whitened_start_sees_classes_that_a_wider_direction_hides():
    z, y = stretched_classes()
    found = [
        torch.cdist(z, start_centers(z, 2, seed=0, is_whitened=w)).argmin(1) for w in (False, True)
    ]
    accuracy = [clustering_accuracy(y, labels.numpy()) for labels in found]
    assert accuracy[0] < 0.65
    assert accuracy[1] > 0.9


def test_whitened_centers_are_means_in_the_embedding_as_it_is():
    z, _ = stretched_classes()
    factor = np.linalg.cholesky(
        0.9 * np.cov(z.T.double(), bias=True)
        + 0.1 * np.eye(3) * z.var(0, correction=0).mean().item()
    )
    white = np.linalg.solve(factor, z.double().numpy().T).T
    labels = KMeans(2, n_init=20, random_state=0).fit_predict(white)
    means = np.stack([z.numpy()[labels == j].mean(0) for j in range(2)])
    centers = start_centers(z, 2, seed=0, is_whitened=True).numpy()
    assert centers.dtype == np.float32
    order = centers[:, 0].argsort()
    np.testing.assert_allclose(centers[order], means[means[:, 0].argsort()], rtol=1e-4)


@pytest.mark.parametrize("scale", [0.0, 1e-30, 1e30])
def test_whitened_start_of_rows_without_spread_or_of_extreme_scale(scale):
    z = scale * stretched_classes()[0]
    centers = start_centers(z, 2, seed=0, is_whitened=True)
    assert centers.isfinite().all()
    assert start_centers(z[:1], 1, seed=0, is_whitened=True).isfinite().all()


def test_centers_start_on_a_sample_of_many_rows(monkeypatch):
    monkeypatch.setattr(_phases, "_KMEANS_ROWS", 50)
    X, _ = make_blobs(1000, centers=3, n_features=2, cluster_std=0.1, random_state=0)
    z = torch.tensor(X, dtype=torch.float32)
    centers = start_centers(z, 3, seed=0)
    assert torch.cdist(z, centers).amin(1).max() < 1


def test_more_centers_than_distinct_rows_do_not_warn():
    centers = start_centers(torch.ones(6, 2), 3, seed=0)
    assert (centers == 1).all()


def test_set_centers_calibrates_on_all_rows():
    model, z = make_model(), make_target()[:, :3]
    labels = set_centers(model, z, z[:3].clone(), "auto")
    distances = torch.cdist(z, z[:3]).square()
    assert torch.equal(labels, distances.argmin(1))
    expected = margin_temperature(distances).item()
    assert model.centers.temperature.item() == pytest.approx(expected, rel=1e-5)


def finetuned(**kwargs):
    data = TrainingData(make_target())
    model = make_model()
    z = embed(model, data.target, CPU)
    labels = set_centers(model, z, start_centers(z, 3, seed=0), "auto")
    net, batches = start_finetuning(
        model,
        data,
        make_settings(),
        is_balanced=False,
        seed=0,
        criterion=JointCriterion(ConcreteKMeansObjective(), 0.1),
        labels=labels,
        max_epochs=2,
        **kwargs,
    )
    return net.partial_fit(batches)


def test_stripped_net_still_embeds_and_holds_no_training_state():
    net = finetuned()
    expected = embed(net.module_, make_target(), CPU)
    strip_net(net)
    assert torch.equal(embed(net.module_, make_target(), CPU), expected)
    assert not net.module_.training
    for name in ("optimizer", "generator", "labels", "monitors", "_farthest"):
        assert getattr(net, name) is None
