import pickle

import numpy as np
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, KFold
from torch import nn

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans, _deep_clusterer
from sklearn_ckm._training._batches import DomainBatches
from sklearn_ckm._training._criteria import JointCriterion
from sklearn_ckm._training._nets import FineTuningNet
from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.modules import Centers, ClusteringModel
from sklearn_ckm.objectives import (
    BaseClusteringObjective,
    ConcreteKMeansObjective,
    DCNObjective,
    DECObjective,
    SoftKMeansObjective,
)
from sklearn_ckm.utils._random import make_generator

SMALL = {
    "n_clusters": 3,
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 2,
    "max_epochs": 3,
    "batch_size": 32,
    "random_state": 0,
}
OBJECTIVES = {
    "ckm": ConcreteKMeansObjective,
    "dec": DECObjective,
    "dcn": DCNObjective,
    "soft-kmeans": SoftKMeansObjective,
}
SETTINGS = [
    ("objective__alpha", DECObjective, (1.0, 5.0)),
    ("objective__refresh_every", DECObjective, (1, 2)),
    ("objective__initial_count", DCNObjective, (100.0, 1.0)),
    ("objective__sharpness", SoftKMeansObjective, (1.0, (0.01, 0.1))),
]
X, Y = make_blobs(n_samples=120, centers=8 * np.eye(5), random_state=0)
TAGS = np.where(Y < 3, -1, 1)
TARGET = X[TAGS < 0]

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


@pytest.fixture(params=[ConcreteKMeans, CKMDomainAdapter], ids=lambda cls: cls.__name__)
def make(request):
    return lambda **params: request.param(**{**SMALL, **params})


@pytest.fixture(params=OBJECTIVES)
def objective(request):
    return request.param


def fit(model):
    if isinstance(model, CKMDomainAdapter):
        return model.fit(X, Y, sample_domain=TAGS)
    return model.fit(TARGET)


def assert_same_model(first, second):
    assert_array_equal(first.labels_, second.labels_)
    assert_array_equal(first.cluster_centers_, second.cluster_centers_)
    assert_array_equal(first.predict_proba(X), second.predict_proba(X))
    assert first.history_ == second.history_


def nearest_centers(model, centers=None):
    z = model.transform(TARGET).astype(np.float64)
    centers = model.cluster_centers_ if centers is None else centers
    return ((z[:, None] - centers) ** 2).sum(2).argmin(1)


# by name and by instance --------------------------------------------------------------------------


def test_equal_seeds_give_equal_fits_by_name_and_by_instance(make, objective):
    model = fit(make(objective=objective))
    assert_same_model(model, fit(make(objective=objective)))
    assert_same_model(model, fit(make(objective=OBJECTIVES[objective]())))
    other = fit(make(objective=objective, random_state=1))
    assert not np.array_equal(model.cluster_centers_, other.cluster_centers_)


def test_objectives_differ(make):
    fits = [fit(make(objective=objective)).cluster_centers_ for objective in OBJECTIVES]
    for i, first in enumerate(fits):
        assert all(not np.array_equal(first, second) for second in fits[:i])


def test_objective_of_the_caller_is_left_alone(make, objective):
    instance = OBJECTIVES[objective]()
    before = vars(instance).copy()
    model = make(objective=instance)
    fit(model)
    model.predict_proba(X)
    assert vars(instance) == before
    assert model.objective is instance


@pytest.mark.parametrize(
    ("instance", "message"),
    [
        (DECObjective(alpha=0), "Expected 'alpha' to be a positive number, got 0"),
        (DECObjective(refresh_every=0), "Expected 'refresh_every' to be a positive int, got 0"),
        (DCNObjective(initial_count=-1), "Expected 'initial_count' .*got -1"),
        (SoftKMeansObjective(sharpness=0), "Expected 'sharpness' .*got 0"),
    ],
)
def test_settings_that_make_no_sense_stop_the_fit(make, instance, message):
    with pytest.raises(ValueError, match=message):
        fit(make(objective=instance))


@pytest.mark.parametrize(("name", "cls", "values"), SETTINGS, ids=lambda value: str(value))
def test_settings_are_reached_by_their_name_and_matter(make, name, cls, values):
    model = make(objective=cls())
    assert model.get_params()[name] == values[0]
    first = fit(clone(model))
    second = fit(clone(model).set_params(**{name: values[1]}))
    assert second.get_params()[name] == values[1]
    assert not np.array_equal(first.cluster_centers_, second.cluster_centers_)


def test_grid_search_over_a_setting_and_over_objectives():
    grid = [
        {"objective": [DECObjective()], "objective__alpha": [0.5, 1.0]},
        {"objective": ["dcn", "soft-kmeans"]},
    ]
    search = GridSearchCV(
        ConcreteKMeans(**{**SMALL, "max_epochs": 1}), grid, cv=KFold(2), error_score="raise"
    )
    search.fit(TARGET)
    assert len(search.cv_results_["params"]) == 4
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()


# life cycle ---------------------------------------------------------------------------------------


def test_several_starts(make, objective):
    model = fit(make(objective=objective, n_init=2))
    assert model.n_iter_ == 3
    assert_array_equal(model.labels_, model.predict(TARGET))
    assert_same_model(model, fit(make(objective=objective, n_init=2)))


def test_warm_start_trains_on(make, objective):
    model = make(objective=objective, warm_start=True)
    first = fit(model).cluster_centers_
    second = fit(model).cluster_centers_
    assert [row["phase"] for row in model.history_] == ["finetune"] * 3
    assert not np.array_equal(first, second)
    assert_array_equal(fit(model.set_params(max_epochs=0)).cluster_centers_, second)


def test_pickle_predicts_and_trains_on_as_before(make, objective):
    model = fit(make(objective=objective, warm_start=True))
    copy = pickle.loads(pickle.dumps(model))
    assert_same_model(copy, model)
    assert_same_model(fit(copy), fit(model))


# the centres --------------------------------------------------------------------------------------


@pytest.fixture
def started(monkeypatch):
    """Where the centres of a fit start; set by the test, else by k-means."""
    seen = {"positions": []}

    def start_centers(z, n_clusters, **kwargs):
        positions = seen.get("wanted", original(z, n_clusters, **kwargs))
        seen["positions"].append(positions.numpy().copy())
        return positions

    original = _deep_clusterer.start_centers
    monkeypatch.setattr(_deep_clusterer, "start_centers", start_centers)
    return seen


def test_centers_move_in_training_and_not_without(make, objective, started):
    trained = fit(make(objective=objective, init="k-means"))
    untouched = fit(make(objective=objective, init="k-means", max_epochs=0))
    first, second = started["positions"]
    assert_array_equal(first, second)
    assert_array_equal(untouched.cluster_centers_, first)
    assert (trained.cluster_centers_ != first).all(1).all()  # every centre
    assert [row["phase"] for row in untouched.history_] == ["pretrain"] * 2


@pytest.mark.parametrize(
    "params", [{"augmentation": None}, {"lambda_consistency": 0.0, "lambda_balance": 0.0}]
)
def test_centers_stay_where_no_term_has_a_weight(make, objective, started, params):
    model = fit(make(objective=objective, lambda_clustering=0.0, **params))
    assert_array_equal(model.cluster_centers_, started["positions"][0])


@pytest.mark.parametrize("term", ["lambda_consistency", "lambda_balance"])
def test_views_move_the_centers_where_the_clustering_term_has_no_weight(
    make, objective, started, term
):
    lambdas = {"lambda_clustering": 0.0, "lambda_consistency": 0.0, "lambda_balance": 0.0}
    model = fit(make(objective=objective, **{**lambdas, term: 1.0}))
    assert (model.cluster_centers_ != started["positions"][0]).all(1).all()  # every centre


@pytest.mark.parametrize("max_epochs", [0, 2])
def test_labels_are_those_of_the_centers_of_the_model(make, objective, started, max_epochs):
    started["wanted"] = torch.tensor([[0.3, 0.0, 0.0], [0.0, 0.3, 0.0], [0.0, 0.0, 0.3]])
    model = fit(make(objective=objective, max_epochs=max_epochs, lambda_balance=1.0))
    assert_array_equal(model.labels_, nearest_centers(model))
    assert_array_equal(model.predict(TARGET), model.labels_)
    assert_array_equal(model.predict_proba(TARGET).argmax(1), model.labels_)
    # the broken variant scores k-means of the final embedding
    fresh = KMeans(3, n_init=5, random_state=0).fit(model.transform(TARGET))
    assert clustering_accuracy(fresh.labels_, model.labels_) < 0.95


def test_probabilities_are_those_of_the_objective(make):
    model = fit(make(objective=DECObjective(alpha=2.0)))
    z = model.transform(X).astype(np.float64)
    distances = ((z[:, None] - model.cluster_centers_) ** 2).sum(2)
    kernel = (1 + distances / 2.0) ** -1.5
    expected = kernel / kernel.sum(1, keepdims=True)
    assert_allclose(model.predict_proba(X), expected, rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("n_init", [1, 2])
@pytest.mark.parametrize(("refresh_every", "n_reads"), [(1, 5), (2, 3), (3, 2)])
def test_target_distribution_is_refreshed_on_schedule(
    make, monkeypatch, n_init, refresh_every, n_reads
):
    reads = []
    original = DECObjective.read_all_rows

    def read_all_rows(self, state, distances, temperature):
        reads.append(distances.shape)
        original(self, state, distances, temperature)

    monkeypatch.setattr(DECObjective, "read_all_rows", read_all_rows)
    objective = DECObjective(refresh_every=refresh_every)
    fit(make(objective=objective, max_epochs=5, tol=0.0, n_init=n_init))
    assert len(reads) == n_reads * n_init
    assert set(reads) == {(len(TARGET), 3)}


# behaviour ----------------------------------------------------------------------------------------


class Frozen(BaseClusteringObjective):
    """The broken variant: an objective whose centres stay where they are."""

    def __init__(self, objective):
        self.objective = objective

    def start(self, centers):
        return self.objective.start(centers)

    def needs_all_rows(self, epoch):
        return self.objective.needs_all_rows(epoch)

    def read_all_rows(self, state, distances, temperature):
        self.objective.read_all_rows(state, distances, temperature)

    def step(self, z, centers, temperature, **kwargs):
        return self.objective.step(z, centers.detach(), temperature, **kwargs)


def accuracy_from_a_poor_start(objective):
    """Three clusters in a fixed embedding, two centres of which begin in the wrong place."""
    means = 4 * torch.eye(3)
    labels = torch.arange(150) % 3
    target = means[labels] + 0.7 * torch.randn(150, 3, generator=torch.Generator().manual_seed(0))
    start = means + torch.tensor([[-2.5, 3.0, 0.0], [0.0, 3.5, 0.0], [1.5, 1.5, 0.0]])
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        model = ClusteringModel(nn.Identity(), nn.Linear(3, 3), None, Centers(start, 1.0))
    net = FineTuningNet(
        model,
        JointCriterion(objective, 1.0),
        labels=torch.zeros(150, dtype=torch.long),
        generator=make_generator(0, "cpu"),
        max_epochs=60,
        lr=0.05,
        optimizer=torch.optim.Adam,
        verbose=0,
    )
    net.fit(DomainBatches(target, batch_size=50, generator=make_generator(0, "cpu")))
    centers = model.centers.positions.detach()
    found = (target[:, None] - centers).square().sum(2).argmin(1)
    return (found == labels).float().mean().item()


def test_planted_clusters_are_found_from_a_poor_start_unless_the_centers_are_frozen(objective):
    assert accuracy_from_a_poor_start(OBJECTIVES[objective]()) > 0.97
    assert accuracy_from_a_poor_start(Frozen(OBJECTIVES[objective]())) < 0.8


def test_far_blobs_are_found(make, objective):
    model = fit(make(objective=objective, pretrain_epochs=5, max_epochs=5))
    assert clustering_accuracy(Y[TAGS < 0], model.labels_) == 1.0
