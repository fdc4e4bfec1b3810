"""Fitted estimators in pickle, joblib and skops: equal answers, small files, no hidden pickle."""

import copy
import io
import pickle
import zipfile

import joblib
import numpy as np
import pytest
import skops.io
import torch
from numpy.testing import assert_array_equal
from sklearn.datasets import make_blobs
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from torch import nn

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans
from sklearn_ckm.domain_adaptation import (
    CommonFactorClassifier,
    DomainAdversarialClusterer,
    LabelEfficientTransfer,
    ProgressiveClusterer,
)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"n_components": 3, "encoder": "mlp-small", "pretrain_epochs": 1, "max_epochs": 2}
ALL = [
    ConcreteKMeans,
    CKMDomainAdapter,
    CKMSemiSupervisedAdapter,
    DomainAdversarialClusterer,
    ProgressiveClusterer,
    LabelEfficientTransfer,
    CommonFactorClassifier,
]
X, Y = make_blobs(n_samples=60, centers=8 * np.eye(5), random_state=0)
NAMES, TAGS = np.array(list("abcde"))[Y], np.where(Y < 3, 0, -1)


class Own(nn.Sequential):
    def __init__(self, input_shape, n_components):
        super().__init__(nn.Flatten(), nn.Linear(5, n_components), nn.BatchNorm1d(n_components))


def fit(cls, repeats=1, **params):
    if "n_clusters" in cls._parameter_constraints and cls is not CKMSemiSupervisedAdapter:
        params = {"n_clusters": 2, **params}
    model = cls(**{**SMALL, "random_state": 0, **params})
    rows, y, tags = (np.repeat(a, repeats, axis=0) for a in (X, NAMES, TAGS))
    return model.fit(rows) if cls is ConcreteKMeans else model.fit(rows, y, sample_domain=tags)


@pytest.fixture(scope="module", params=ALL, ids=lambda cls: cls.__name__)
def model(request):
    return fit(request.param)


def pickled(model):
    data = pickle.dumps(model)
    return pickle.loads(data), len(data)


def dumped(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file), file.getbuffer().nbytes


def by_skops(model):
    data = skops.io.dumps(model)
    trusted = skops.io.get_untrusted_types(data=data)
    return skops.io.loads(data, trusted=trusted), len(data)


def assert_same(first, second):
    assert repr(first) == repr(second)
    assert vars(first).keys() == vars(second).keys()
    for method in ("predict", "predict_proba", "transform", "predict_source"):
        if not hasattr(first, method):
            continue
        if method == "predict_source" and first._net.module_.classifier is None:
            continue
        answer, other = getattr(first, method)(X), getattr(second, method)(X)
        assert_array_equal(other, answer)
        assert other.dtype == answer.dtype
    assert_array_equal(second.labels_, first.labels_)
    assert second.labels_.dtype == first.labels_.dtype
    assert second.history_ == first.history_


ROUND_TRIPS = [pickled, dumped, by_skops]


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
def test_answers_are_equal_and_files_small(model, round_trip):
    loaded, n_bytes = round_trip(model)
    assert_same(model, loaded)
    assert_same(model, round_trip(loaded)[0])
    n_weights = sum(4 * weight.numel() for weight in model._net.module_.parameters())
    # skops describes every number of the history in some hundred letters
    assert n_bytes < n_weights + (100_000 if round_trip is by_skops else 20_000)


@pytest.mark.parametrize("round_trip", [*ROUND_TRIPS, lambda model: (copy.deepcopy(model), 0)])
@pytest.mark.parametrize("cls", [ConcreteKMeans, CKMDomainAdapter, CKMSemiSupervisedAdapter])
def test_warm_start_goes_on_alike(cls, round_trip):
    model = fit(cls, warm_start=True)
    loaded = round_trip(model)[0]
    for each in (model, loaded):
        each.fit(X) if cls is ConcreteKMeans else each.fit(X, NAMES, sample_domain=TAGS)
    assert_same(model, loaded)


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
def test_no_rows_of_the_training_are_kept(model, round_trip):
    many = fit(type(model), repeats=20)
    sizes = [round_trip(each)[1] for each in (model, many)]
    assert sizes[1] - sizes[0] < 8 * len(many.labels_) + 1000  # labels grow, nothing else


def test_skops_asks_to_trust_nothing_but_the_package(model):
    untrusted = skops.io.get_untrusted_types(data=skops.io.dumps(model))
    cls = type(model)
    allowed = {f"{cls.__module__}.{cls.__name__}", "sklearn_ckm.utils._input.InputScaler"}
    if hasattr(model, "_objective"):
        allowed.add("sklearn_ckm.objectives._concrete_kmeans.ConcreteKMeansObjective")
    assert set(untrusted) == allowed


def is_pickle(data):
    try:
        pickle.loads(data)
    except Exception:
        return False
    return True


def test_skops_file_holds_no_pickle(model):
    """skorch's own state of a net is one, in bytes that no list of types shows."""
    assert any(is_pickle(each) for each in members(model._net))
    assert not any(is_pickle(each) for each in members(model))


def members(model):
    with zipfile.ZipFile(io.BytesIO(skops.io.dumps(model))) as file:
        return [file.read(name) for name in file.namelist()]


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
def test_own_encoder_goes_by_reference(round_trip):
    model = fit(CKMDomainAdapter, encoder=Own)
    assert_same(model, round_trip(model)[0])


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
def test_convolutions_keep_their_layout(round_trip):
    images = np.random.default_rng(0).random((30, 1, 8, 8))
    model = ConcreteKMeans(2, **{**SMALL, "encoder": "conv"}, random_state=0).fit(images)
    loaded = round_trip(model)[0]
    assert_array_equal(loaded.predict_proba(images), model.predict_proba(images))
    strides = [weight.stride() for weight in model._net.module_.parameters()]
    assert [weight.stride() for weight in loaded._net.module_.parameters()] == strides


@pytest.mark.parametrize("round_trip", ROUND_TRIPS)
def test_pipeline_with_a_scaler(round_trip):
    pipeline = make_pipeline(StandardScaler(), ConcreteKMeans(2, **SMALL, random_state=0)).fit(X)
    assert_array_equal(round_trip(pipeline)[0].predict(X), pipeline.predict(X))


def test_parameters_changed_after_the_fit_do_not_change_the_network(model):
    changed = pickled(model)[0].set_params(encoder="mlp", n_components=7)
    assert_same(changed, pickled(changed)[0])


def test_state_is_taken_without_a_change_of_the_model(model):
    before = vars(model).copy()
    random_state = torch.get_rng_state()
    pickled(model)
    assert all(vars(model)[name] is value for name, value in before.items())
    assert vars(model).keys() == before.keys()
    assert_array_equal(torch.get_rng_state(), random_state)
