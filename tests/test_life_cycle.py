"""Estimators among scikit-learn's tools: copies, files, pipelines, searches, routing, the cache."""

import copy
import io
import os
import pickle
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.model_selection import GridSearchCV, KFold, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from skorch.callbacks import Callback, Checkpoint

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans
from sklearn_ckm.objectives import ConcreteKMeansObjective
from sklearn_ckm.utils import _random

SMALL = {
    "n_clusters": 2,
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 4,
    "max_epochs": 2,
    "random_state": 0,
}


def make_stacked():
    """Rows of both domains in a random order, their labels and their tags."""
    X, y = make_blobs(n_samples=100, centers=8 * np.eye(5), random_state=0)
    return X, y, np.where(y < 3, 0, -1)


X, Y, TAGS = make_stacked()
IS_TARGET = TAGS < 0
ADAPTERS = (CKMDomainAdapter, CKMSemiSupervisedAdapter)


def fit(model, X=X):
    """Fit on both domains, where the estimator knows of domains."""
    if isinstance(model, ADAPTERS):
        return model.fit(X, Y, sample_domain=TAGS)
    return model.fit(X[IS_TARGET])


def score(model):
    """Score on the target rows, whose classes only the classifier reads."""
    return model.score(X[IS_TARGET], Y[IS_TARGET])


def answers(model):
    methods = ["predict", "predict_proba", "transform"]
    return {name: getattr(model, name)(X) for name in methods}


def assert_same_answers(first, second):
    for name, answer in answers(first).items():
        assert_array_equal(answer, getattr(second, name)(X))
    assert_array_equal(first.labels_, second.labels_)
    assert_array_equal(first.cluster_centers_, second.cluster_centers_)


@pytest.fixture(params=[ConcreteKMeans, *ADAPTERS], ids=lambda cls: cls.__name__)
def make(request):
    """A function that makes an estimator of one class."""
    return lambda **params: request.param(**{**SMALL, **params})


# copies and files -------------------------------------------------------------------------------


def test_clone_keeps_every_parameter_and_nothing_learned(make):
    callbacks = [("callback", Callback())]
    params = {
        "n_clusters": 3,
        "objective": ConcreteKMeansObjective(noise=(1.0, 0.5), form="A", estimator="gumbel"),
        "temperature": 2.0,
        "image_shape": (1, 1, 5),
        "device": "cpu",
        "memory": "folder",
        "checkpoint": "another",
        "callbacks": callbacks,
        "random_state": 3,
    }
    model = fit(make())
    model.set_params(**params)
    copied = clone(model)
    assert [name for name in vars(copied) if name.endswith("_")] == []
    assert not hasattr(copied, "_net")
    assert type(copied) is type(model)
    nested = ("objective", "callbacks")  # copied themselves
    for name, value in model.get_params(deep=False).items():
        if name not in nested:
            assert getattr(copied, name) == value
    assert copied.objective is not model.objective
    assert copied.objective.get_params() == params["objective"].get_params()
    assert [name for name, _ in copied.callbacks] == ["callback"]


def test_parameters_of_the_objective_are_reached_by_name(make):
    model = make(objective=ConcreteKMeansObjective())
    model.set_params(objective__noise=0.25, objective__form="A")
    assert (model.objective.noise, model.objective.form) == (0.25, "A")
    assert model.get_params()["objective__noise"] == 0.25


def pickled(model):
    return pickle.loads(pickle.dumps(model))


def dumped(model):
    file = io.BytesIO()
    joblib.dump(model, file)
    file.seek(0)
    return joblib.load(file)


@pytest.mark.parametrize("round_trip", [pickled, dumped, copy.deepcopy])
def test_copies_give_the_same_answers(make, round_trip):
    model = fit(make())
    copied = round_trip(model)
    assert_same_answers(model, copied)
    assert copied.history_ == model.history_
    assert score(copied) == score(model)
    assert_same_answers(model, round_trip(copied))


@pytest.mark.parametrize("round_trip", [pickled, dumped, copy.deepcopy])
def test_copies_can_be_fitted_again(make, round_trip):
    model = fit(make())
    assert_same_answers(fit(round_trip(model)), model)
    warm = make(warm_start=True)
    again = fit(round_trip(fit(warm)).set_params(max_epochs=0))
    assert_same_answers(again, warm)


@pytest.mark.parametrize("cls", ADAPTERS)
def test_copy_of_an_adapter_classifies_the_source_alike(cls):
    model = fit(cls(**SMALL))
    assert_array_equal(pickled(model).predict_source(X), model.predict_source(X))


def test_pickle_holds_the_weights_once_and_no_data(make):
    model = fit(make())
    n_bytes = sum(4 * weight.numel() for weight in model._net.module_.parameters())
    many = make().fit(np.repeat(X, 20, axis=0), np.repeat(Y > 3, 20))
    sizes = [len(pickle.dumps(m)) for m in (model, many)]
    assert sizes[0] < 1.2 * n_bytes + 50_000  # no second copy, no moments of the optimiser
    assert sizes[1] - sizes[0] < 10 * (len(many.labels_) + 1000)  # labels grow, nothing else


def test_unfitted_estimator_can_be_pickled(make):
    assert_same_answers(fit(pickled(make())), fit(make()))


@pytest.mark.skipif(torch.cuda.is_available(), reason="needs a machine without CUDA")
@pytest.mark.parametrize("parameter", ["auto", "cuda:0"])
def test_model_of_a_cuda_machine_predicts_on_one_without(make, parameter):
    model = fit(make())
    expected = answers(model)
    model.device = parameter
    model._net.device = "cuda:0"
    data = pickle.dumps(model)
    with pytest.warns(UserWarning, match="fitted on cuda:0, which does not exist here") as record:
        loaded = pickle.loads(data)
    assert record[0].filename == __file__
    for name, answer in expected.items():
        assert_array_equal(getattr(loaded, name)(X), answer)


def test_tensors_of_a_fitted_model_live_in_the_mapped_part_of_the_net(make):
    # skorch loads the attributes that it maps to another device from bytes of their own; a tensor
    # elsewhere in the pickle would need the machine that it was trained on
    class Finder(pickle.Pickler):
        def reducer_override(self, obj):
            if isinstance(obj, torch.Tensor):
                found.append(tuple(obj.shape))
            return NotImplemented

    found = []
    Finder(io.BytesIO()).dump(fit(make()))
    assert found == []


# names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [pd, pl])
def test_output_may_be_a_frame_with_names(make, library):
    frame = library.DataFrame({name: X[:, i] for i, name in enumerate("abcde")})
    model = fit(make())
    model.set_output(transform="pandas" if library is pd else "polars")
    output = model.transform(X)
    assert isinstance(output, library.DataFrame)
    prefix = type(model).__name__.lower()
    assert list(output.columns) == [f"{prefix}{i}" for i in range(3)]
    assert_array_equal(model.get_feature_names_out(), list(output.columns))
    model.set_output(transform="default")
    assert_array_equal(output.to_numpy(), model.transform(X))
    named = fit_frame(make(), frame)
    assert_array_equal(named.feature_names_in_, list("abcde"))
    assert not hasattr(model, "feature_names_in_")


def fit_frame(model, frame):
    if isinstance(model, ADAPTERS):
        return model.fit(frame, Y, sample_domain=TAGS)
    return model.fit(frame)


def test_columns_in_another_order_raise(make):
    frame = pd.DataFrame(X, columns=list("abcde"))
    model = fit_frame(make(), frame)
    for method in ("predict", "transform", "score"):
        y = [Y] if method == "score" else []
        with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
            getattr(model, method)(frame[list("edcba")], *y)


# pipelines and searches -------------------------------------------------------------------------


def test_pipeline_equals_its_steps_done_by_hand():
    pipeline = Pipeline([("scale", StandardScaler()), ("adapt", CKMDomainAdapter(**SMALL))])
    pipeline.fit(X, Y, adapt__sample_domain=TAGS)
    scaled = StandardScaler().fit_transform(X)
    model = CKMDomainAdapter(**SMALL).fit(scaled, Y, sample_domain=TAGS)
    for method in ("predict", "predict_proba", "transform"):
        assert_array_equal(getattr(pipeline, method)(X), getattr(model, method)(scaled))
    assert pipeline.score(X) == model.score(scaled)
    weight = np.arange(len(X)) % 2
    assert pipeline.score(X, sample_weight=weight) == model.score(scaled, sample_weight=weight)
    labels = pipeline.fit_predict(X, Y, adapt__sample_domain=TAGS)
    assert_array_equal(labels, model.predict(scaled))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_pipeline_of_images_keeps_their_shape():
    images = np.random.default_rng(0).uniform(size=(40, 64))
    encoder = ConcreteKMeans(**{**SMALL, "encoder": "conv", "image_shape": (1, 8, 8)})
    pipeline = make_pipeline(MinMaxScaler(), encoder).fit(images)
    assert pipeline[-1]._net.module_.encoder.input_shape == (1, 8, 8)
    assert pipeline.transform(images).shape == (40, 3)


def test_estimator_is_a_step_before_another():
    rows = make_pipeline(ConcreteKMeans(**SMALL), StandardScaler()).fit_transform(X)
    assert rows.shape == (100, 3)
    assert abs(rows.mean()) < 1e-6


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_grid_search_slices_the_tags_and_refits():
    grid = {"lambda_clustering": [0.01, 1.0], "objective__noise": [0.0, 1.0]}
    model = CKMDomainAdapter(**SMALL, objective=ConcreteKMeansObjective())
    search = GridSearchCV(model, grid, cv=KFold(2), error_score="raise")
    search.fit(X, Y, sample_domain=TAGS)
    scores = search.cv_results_["mean_test_score"]
    assert scores.shape == (4,)
    assert np.isfinite(scores).all()
    assert len(search.best_estimator_.labels_) == IS_TARGET.sum()
    expected = clone(model).set_params(**search.best_params_)
    assert_same_answers(search.best_estimator_, fit(expected))
    assert search.predict(X).shape == (len(X),)
    # one fold by hand: tags are cut as the rows are, the score is that of all held-out rows
    train, test = next(KFold(2).split(X))
    first = clone(model).set_params(**search.cv_results_["params"][0])
    first.fit(X[train], Y[train], sample_domain=TAGS[train])
    assert search.cv_results_["split0_test_score"][0] == first.score(X[test])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_grid_search_over_a_pipeline():
    pipeline = Pipeline([("scale", StandardScaler()), ("adapt", CKMDomainAdapter(**SMALL))])
    search = GridSearchCV(pipeline, {"adapt__n_clusters": [2, 3]}, cv=KFold(2))
    search.fit(X, Y, adapt__sample_domain=TAGS)
    assert np.isfinite(search.cv_results_["mean_test_score"]).all()
    assert len(search.best_estimator_[-1].labels_) == IS_TARGET.sum()


def test_cross_validate_takes_tags(make):
    model = make()
    params = {"sample_domain": TAGS} if isinstance(model, ADAPTERS) else {}
    result = cross_validate(model, X, Y, cv=KFold(2), params=params, error_score="raise")
    assert np.isfinite(result["test_score"]).all()


# metadata routing -------------------------------------------------------------------------------


def test_routing_takes_tags_to_the_adapter_without_a_request():
    expected = CKMDomainAdapter(**SMALL).fit(
        StandardScaler().fit_transform(X), Y, sample_domain=TAGS
    )
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), CKMDomainAdapter(**SMALL))
        pipeline.fit(X, Y, sample_domain=TAGS)
        assert_array_equal(pipeline[-1].labels_, expected.labels_)
        assert_array_equal(pipeline[-1].cluster_centers_, expected.cluster_centers_)
        labels = pipeline.fit_predict(X, Y, sample_domain=TAGS)
        assert_array_equal(labels, expected.predict(StandardScaler().fit_transform(X)))
        score = pipeline.score(X, sample_domain=TAGS)
    assert score == expected.score(StandardScaler().fit_transform(X), sample_domain=TAGS)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_routing_takes_tags_through_a_search_to_fit_and_score():
    model = CKMDomainAdapter(**SMALL)
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(model, {"n_clusters": [2, 3]}, cv=KFold(2), error_score="raise")
        search.fit(X, Y, sample_domain=TAGS)
    assert len(search.best_estimator_.labels_) == IS_TARGET.sum()
    train, test = next(KFold(2).split(X))
    first = clone(model).fit(X[train], Y[train], sample_domain=TAGS[train])
    expected = first.score(X[test], sample_domain=TAGS[test])
    assert search.cv_results_["split0_test_score"][0] == expected


def test_routing_refuses_the_second_array():
    source = ~IS_TARGET
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), CKMDomainAdapter(**SMALL))
        with pytest.raises(TypeError, match=r"unexpected argument\(s\) \{'X_tgt'\}.*not routed"):
            pipeline.fit(X[source], Y[source], X_tgt=X[IS_TARGET])


def test_direct_call_works_with_routing_enabled():
    expected = fit(CKMDomainAdapter(**SMALL))
    source = ~IS_TARGET
    with config_context(enable_metadata_routing=True):
        model = CKMDomainAdapter(**SMALL)
        model.fit(X[source], Y[source], X_tgt=X[IS_TARGET])
    assert_same_answers(model, expected)


def test_tags_are_the_only_request_of_the_adapter():
    with config_context(enable_metadata_routing=True):
        requests = CKMDomainAdapter().get_metadata_routing()
    assert requests.fit.requests == {"sample_domain": True}
    assert requests.fit_predict.requests == {"sample_domain": True}
    assert requests.score.requests == {"sample_domain": True, "sample_weight": None}


class Writer(Callback):
    """As those of skorch that log to a file: cannot be copied, and writes numbers."""

    def __init__(self):
        self.lock = threading.Lock()
        self.rows = []

    def on_epoch_end(self, net, **kwargs):
        row = {k: float(v) for k, v in net.history[-1].items() if k != "batches"}
        self.rows.append((net.phase, row))


def test_callback_that_cannot_be_copied_is_called_itself(make):
    writer = Writer()
    model = fit(make(callbacks=[writer]))
    assert [phase for phase, _ in writer.rows] == [row["phase"] for row in model.history_]
    assert_same_answers(model, fit(make()))


# cache ------------------------------------------------------------------------------------------


class PretrainingCounter(Callback):
    n_epochs = [0]

    def on_epoch_end(self, net, **kwargs):
        self.n_epochs[0] += net.phase == "pretrain"


def count_pretraining(function):
    before = PretrainingCounter.n_epochs[0]
    return function(), PretrainingCounter.n_epochs[0] - before


@pytest.mark.parametrize("as_memory", [False, True])
@pytest.mark.parametrize("verbose", [0, 1])
def test_cached_pretraining_changes_no_bit(make, tmp_path, as_memory, verbose, capsys):
    memory = joblib.Memory(tmp_path, verbose=0) if as_memory else str(tmp_path)
    settings = {"callbacks": [PretrainingCounter()], "verbose": verbose}
    model, n_epochs = count_pretraining(lambda: fit(make(memory=memory, **settings)))
    assert n_epochs == 4
    assert_same_answers(model, fit(make()))
    for changed in ({}, {"lambda_clustering": 2.0}, {"max_epochs": 1, "temperature": 0.5}):
        cached, n_epochs = count_pretraining(
            lambda changed=changed: fit(make(memory=memory, **settings, **changed))
        )
        plain = fit(make(**changed))
        assert n_epochs == 0
        assert_same_answers(cached, plain)
        assert cached.history_ == plain.history_


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_cached_pretraining_serves_other_numbers_of_clusters(make, tmp_path):
    settings = {"init": "k-means", "callbacks": [PretrainingCounter()]}  # of one network
    fit(make(memory=str(tmp_path), **settings))
    settings["n_clusters"] = 3
    cached, n_epochs = count_pretraining(lambda: fit(make(memory=str(tmp_path), **settings)))
    assert n_epochs == 0
    assert_same_answers(cached, fit(make(**settings)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(
    "changed",
    [
        {"random_state": 1},
        {"pretrain_epochs": 3},
        {"batch_size": 10},
        {"lr": 1e-4},
        {"optimizer": "sgd"},
        {"n_components": 2},
        {"encoder": "mlp"},
        {"precision": "bfloat16"},
    ],
    ids=lambda changed: next(iter(changed)),
)
def test_cache_is_not_used_where_the_pretraining_would_differ(make, tmp_path, changed):
    fit(make(memory=str(tmp_path)))
    settings = {"callbacks": [PretrainingCounter()], **changed}
    cached, n_epochs = count_pretraining(lambda: fit(make(memory=str(tmp_path), **settings)))
    assert n_epochs == {**SMALL, **changed}["pretrain_epochs"]
    assert_same_answers(cached, fit(make(**changed)))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_cache_is_not_used_for_another_source(tmp_path):
    images = (16 * X).clip(0, 255).astype(np.uint8)  # bytes, so that the target stays as it is
    other = np.where(IS_TARGET[:, None], images, 255 - images)
    settings = {"image_shape": (1, 1, 5), "callbacks": [PretrainingCounter()]}
    fit(CKMDomainAdapter(**SMALL, **settings, memory=str(tmp_path)), images)
    model = CKMDomainAdapter(**SMALL, **settings, memory=str(tmp_path))
    cached, n_epochs = count_pretraining(lambda: fit(model, other))
    assert n_epochs == 4
    assert cached.history_ == fit(CKMDomainAdapter(**SMALL, **settings), other).history_


def test_cache_is_not_used_for_other_data(make, tmp_path):
    fit(make(memory=str(tmp_path)))
    rows = X.copy()
    rows[IS_TARGET.argmax(), 0] += 1e-3
    settings = {"memory": str(tmp_path), "callbacks": [PretrainingCounter()]}
    cached, n_epochs = count_pretraining(lambda: fit(make(**settings), rows))
    assert n_epochs == 4
    assert_same_answers(cached, fit(make(), rows))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_nothing_is_cached_without_a_seed(make, tmp_path):
    fit(make(memory=str(tmp_path), random_state=None))
    assert list(tmp_path.iterdir()) == []


def test_encoder_that_cannot_be_hashed_is_refused_by_the_cache(make, tmp_path):
    def local(input_shape, n_components):
        return torch.nn.Linear(input_shape[0], n_components)

    local.lock = open  # a closure is fine as long as nothing is cached
    assert fit(make(encoder=local)).cluster_centers_.shape == (2, 3)
    with pytest.raises(ValueError, match="can be hashed when 'memory' is set"):
        fit(make(encoder=local, memory=str(tmp_path)))


def test_search_with_a_cache_pretrains_once_a_fold(tmp_path):
    grid = {"lambda_clustering": [0.01, 0.1, 1.0], "lambda_classification": [0.1, 1.0]}
    model = CKMDomainAdapter(**SMALL, memory=str(tmp_path), callbacks=[PretrainingCounter()])
    search = GridSearchCV(model, grid, cv=KFold(2), error_score="raise", refit=False)
    _, n_epochs = count_pretraining(lambda: search.fit(X, Y, sample_domain=TAGS))
    assert n_epochs == 2 * SMALL["pretrain_epochs"]


SCRIPT = """
import pickle, sys
from sklearn_ckm._training import _pretraining_cache

pretrain = _pretraining_cache.pretrain

def tell(*args, **kwargs):
    print("pretrained", file=sys.stderr)
    return pretrain(*args, **kwargs)

_pretraining_cache.pretrain = tell
model, X, y, domain = pickle.load(sys.stdin.buffer)
model.fit(X, y, **domain)
print(model.cluster_centers_.tobytes().hex())
"""


def test_cache_serves_other_processes(make, tmp_path):
    """Both are processes of their own: joblib knows a function's folder once a process only."""

    def fit_elsewhere(model):
        model.set_params(memory=str(tmp_path / "cache"))
        data = (X[IS_TARGET], None, {})
        if isinstance(model, ADAPTERS):
            data = (X, Y, {"sample_domain": TAGS})
        run = subprocess.run(
            [sys.executable, "-c", SCRIPT],
            input=pickle.dumps((model, *data)),
            capture_output=True,
            check=True,
            env={**os.environ, "OMP_NUM_THREADS": "1"},
        )
        return run.stdout, run.stderr.decode().count("pretrained")

    first, second, other = [fit_elsewhere(make(random_state=seed)) for seed in (0, 0, 1)]
    assert [first[1], second[1], other[1]] == [1, 0, 1]
    assert first[0] == second[0] != other[0]


# callbacks that read the history ----------------------------------------------------------------


@pytest.mark.parametrize("monitor", [None, "train_loss_best"])
def test_skorch_checkpoint_saves_the_phases(make, monitor, tmp_path):
    fit(make(callbacks=[Checkpoint(monitor=monitor, dirname=str(tmp_path), f_criterion=None)]))
    assert (tmp_path / "params.pt").exists()


def test_best_loss_is_marked_for_callbacks(make):
    seen = []

    class Spy(Callback):
        def on_epoch_end(self, net, **kwargs):
            *before, last = (record["loss"] for record in net.history)
            is_best = last < min(before, default=np.inf)
            seen.append(net.history[-1]["train_loss_best"] == is_best)

        def __deepcopy__(self, memo):
            return self

    fit(make(callbacks=[Spy()]))
    assert seen == [True] * 6


# fits that go on, fail or run side by side ------------------------------------------------------


def test_warm_start_takes_over_a_new_temperature(make):
    model = fit(make(warm_start=True))
    assert model.temperature_ != 2.5
    assert fit(model.set_params(temperature=2.5)).temperature_ == 2.5
    assert fit(model.set_params(temperature="auto")).temperature_ != 2.5


def test_warm_start_with_other_source_classes_raises():
    model = fit(CKMDomainAdapter(**SMALL, warm_start=True))
    with pytest.raises(ValueError, match=r"the source classes \[0, 1, 2\].*got \[5, 6, 7\]"):
        model.fit(X, Y + 5, sample_domain=TAGS)


def test_failed_refit_leaves_the_earlier_fit_usable(make):
    model = fit(make())
    expected = answers(model)
    with pytest.raises(ValueError, match="at least as many target rows as clusters"):
        model.fit(X[:1, :4], Y[:1])
    for name, answer in expected.items():
        assert_array_equal(answer, getattr(model, name)(X))
    assert model.n_features_in_ == X.shape[1]


def test_several_starts_are_possible_with_two_rows(make):
    model = make(n_init=3, n_clusters=2, max_epochs=5).fit(X[IS_TARGET][:2], [0, 1])
    assert sorted(model.labels_) == [0, 1]


def test_fits_in_threads_equal_fits_in_turn(make):
    """Weights come from the process's random state: without turns, threads would mix theirs."""
    state = torch.get_rng_state()
    expected = fit(make())
    with ThreadPoolExecutor(4) as executor:
        models = list(executor.map(lambda _: fit(make()), range(12)))
    for model in models:
        assert_same_answers(model, expected)
    assert torch.equal(state, torch.get_rng_state())


def test_several_fits_share_a_device(make, device):
    """In threads and in processes at once; on a GPU all of them allocate on the same one."""
    model = make(device=str(device))
    arguments = (X[IS_TARGET],) if isinstance(model, ConcreteKMeans) else (X, Y)
    tags = {} if isinstance(model, ConcreteKMeans) else {"sample_domain": TAGS}
    expected = clone(model).fit(*arguments, **tags).cluster_centers_
    ways = ("threads",) if device.type == "emulated" else ("threads", "processes")
    for prefer in ways:
        jobs = [joblib.delayed(clone(model).fit)(*arguments, **tags) for _ in range(4)]
        for fitted in joblib.Parallel(n_jobs=2, prefer=prefer)(jobs):
            np.testing.assert_allclose(fitted.cluster_centers_, expected, rtol=1e-3, atol=1e-4)


def test_model_loads_while_another_thread_trains(make):
    data, loaded = pickle.dumps(fit(make())), []
    with _random.torch_seed(0, torch.device("cpu")):  # as training does
        thread = threading.Thread(target=lambda: loaded.append(pickle.loads(data)), daemon=True)
        thread.start()
        thread.join(20)
        assert loaded
