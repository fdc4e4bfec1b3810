"""What holds for all methods that the adapters are compared with."""

import copy
import pickle
import warnings
from functools import partial

import numpy as np
import pandas as pd
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.model_selection import GridSearchCV
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils.estimator_checks import parametrize_with_checks
from skorch.callbacks import Callback

from sklearn_ckm.domain_adaptation import (
    CommonFactorClassifier,
    DomainAdversarialClusterer,
    LabelEfficientTransfer,
    ProgressiveClusterer,
)

CLUSTERERS = [DomainAdversarialClusterer, ProgressiveClusterer]
CLASSIFIERS = [LabelEfficientTransfer, CommonFactorClassifier]
SMALL = {"n_components": 2, "encoder": "mlp-small", "pretrain_epochs": 2, "max_epochs": 2}


# The data of some checks hold fewer groups than n_clusters, which k-means says.
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@parametrize_with_checks(
    [
        DomainAdversarialClusterer(n_clusters=2, **SMALL),
        ProgressiveClusterer(n_clusters=2, **SMALL),
        LabelEfficientTransfer(**SMALL),
        CommonFactorClassifier(lr=1e-2, **SMALL),  # sigmoids learn slowly
    ],
    expected_failed_checks=lambda _: {},
)
def test_small_estimator_passes_every_check(estimator, check):
    check(estimator)


def make_domains():
    """Three classes of the source and two others of the target, one at each corner of a simplex."""
    X, y = make_blobs(n_samples=100, centers=8 * np.eye(5), random_state=0)
    return X[y < 3], y[y < 3], X[y >= 3], y[y >= 3]


X_SRC, Y_SRC, X_TGT, Y_TGT = make_domains()
Y_FEW = np.where(np.arange(len(Y_TGT)) % 5 == 0, Y_TGT, -1)
X = np.vstack([X_SRC, X_TGT])
TAGS = np.repeat([0, -1], [len(X_SRC), len(X_TGT)])


@pytest.fixture(params=CLUSTERERS + CLASSIFIERS, ids=lambda cls: cls.__name__)
def make(request):
    """A function that makes an estimator of one of the classes."""
    params = {**SMALL, "n_components": 3, "batch_size": 20, "random_state": 0}
    if request.param in CLUSTERERS:
        params["n_clusters"] = 2
    return lambda **more: request.param(**{**params, **more})


def is_clusterer(model):
    return isinstance(model, tuple(CLUSTERERS))


def fit(model, y_source=Y_SRC, y_few=Y_FEW, X_source=X_SRC, X_target=X_TGT):
    if is_clusterer(model):
        return model.fit(X_source, y_source, X_tgt=X_target)
    return model.fit(X_source, y_source, X_tgt=X_target, y_tgt=y_few)


def fit_stacked(model, y_source=Y_SRC, y_target=None, rows=slice(None)):
    y_target = Y_FEW if y_target is None else y_target
    y = np.array([*y_source, *y_target], dtype=object)
    return model.fit(X[rows], y[rows], sample_domain=TAGS[rows])


def assert_same_model(first, second):
    assert_array_equal(first.labels_, second.labels_)
    assert_array_equal(first.transform(X), second.transform(X))
    assert first.history_ == second.history_
    if is_clusterer(first):
        assert_array_equal(first.cluster_centers_, second.cluster_centers_)
    else:
        assert_array_equal(first.predict_proba(X), second.predict_proba(X))


# domains and labels -----------------------------------------------------------------------------


def test_two_arrays_and_stacked_rows_give_the_same_model(make):
    assert_same_model(fit_stacked(make()), fit(make()))


def test_rows_of_the_domains_may_be_interleaved(make):
    is_source = np.random.default_rng(0).permutation(TAGS) >= 0
    rows = np.empty(len(X), dtype=int)  # shuffled, but in order within each domain
    rows[is_source], rows[~is_source] = np.flatnonzero(TAGS >= 0), np.flatnonzero(TAGS < 0)
    assert_same_model(fit_stacked(make(), rows=rows), fit(make()))


@pytest.mark.parametrize("garbage", [[object()] * 40, [None] * 40, ["a", 1] * 20, [np.inf] * 40])
@pytest.mark.parametrize("cls", CLUSTERERS)
def test_clusterers_never_read_target_labels(cls, garbage):
    model = cls(n_clusters=2, random_state=0, **SMALL)
    stacked = fit_stacked(clone(model), y_target=garbage)
    assert_same_model(stacked, fit(model))
    assert_array_equal(stacked.source_classes_, [0, 1, 2])


@pytest.mark.parametrize("missing", [-1, None, np.nan])
@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_classifiers_read_the_labels_of_the_shots_only(cls, missing):
    model = cls(random_state=0, **SMALL)
    few = np.array([missing if label < 0 else label for label in Y_FEW], dtype=object)
    assert_same_model(fit(clone(model), y_few=few), fit(model))
    other = np.where(Y_FEW < 0, -1, 7 - Y_FEW)  # 3 and 4 change places
    swapped = fit(clone(model), y_few=other)
    assert not np.allclose(swapped.predict_proba(X), model.predict_proba(X))


def test_names_of_classes_do_not_matter_and_come_back(make):
    names = np.array(["ant", "bee", "cow", "dog", "elk"])
    few = np.array([None if label < 0 else names[label] for label in Y_FEW], dtype=object)
    named, plain = fit(make(), names[Y_SRC], few), fit(make())
    assert_array_equal(named.transform(X), plain.transform(X))
    assert_array_equal(named.source_classes_, names[:3])
    assert_array_equal(named.predict_source(X), names[plain.predict_source(X)])
    if is_clusterer(named):
        assert_array_equal(named.labels_, plain.labels_)
    else:
        assert_array_equal(named.classes_, names[3:])
        assert_array_equal(named.labels_, names[plain.labels_])
        truth = names[Y_TGT]
        assert named.score(X_TGT, truth) == (named.predict(X_TGT) == truth).mean()


@pytest.mark.parametrize("missing", [None, np.nan])
def test_unlabelled_source_rows_are_allowed(make, missing):
    y = [missing if i % 3 == 0 else label for i, label in enumerate(Y_SRC.tolist())]
    model = fit(make(), np.array(y, dtype=object))
    assert_array_equal(model.source_classes_, [0, 1, 2])
    assert model.source_classes_.dtype.kind == "i"
    assert_same_model(model, fit(make(), pd.Series(y)))
    assert not np.array_equal(model.transform(X), fit(make()).transform(X))


@pytest.mark.parametrize("y", [[None] * len(X_SRC), [np.nan] * len(X_SRC)])
def test_source_without_a_label_raises(make, y):
    with pytest.raises(ValueError, match=r"Expected labelled source rows for .*, got none"):
        fit(make(), y)


def test_missing_labels_of_the_source_raise(make):
    with pytest.raises(ValueError, match="requires y to be passed, but the target y is None"):
        make().fit(X)
    with pytest.raises(ValueError, match=r"got none|requires y to be passed"):
        fit(make(), None)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_target_without_a_label_raises(cls):
    with pytest.raises(ValueError, match=r"at least one labelled target row for .*, got none"):
        fit(cls(**SMALL), y_few=np.full(len(X_TGT), -1))


@pytest.mark.parametrize("cls", CLUSTERERS)
def test_fewer_target_rows_than_clusters_raise(cls):
    with pytest.raises(ValueError, match="n_samples=3 and n_clusters=4"):
        fit(cls(n_clusters=4, **SMALL), X_target=X_TGT[:3])


@pytest.mark.parametrize("cls", CLUSTERERS)
def test_as_many_target_rows_as_clusters_are_enough(cls):
    model = fit(cls(n_clusters=3, random_state=0, **SMALL), X_target=X_TGT[:3])
    assert sorted(model.labels_) == [0, 1, 2]
    assert_allclose(model.cluster_centers_[model.labels_], model.transform(X_TGT[:3]), atol=1e-5)


@pytest.mark.parametrize("cls", CLUSTERERS)
def test_one_cluster_is_allowed(cls):
    model = fit(cls(n_clusters=1, random_state=0, **SMALL))
    assert (model.labels_ == 0).all()
    assert_allclose(model.cluster_centers_[0], model.transform(X_TGT).mean(0), atol=1e-5)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_one_target_class_is_allowed(cls):
    model = fit(cls(random_state=0, **SMALL), y_few=np.where(Y_FEW == 3, 3, -1))
    assert (model.labels_ == 3).all()
    assert (model.predict_proba(X) == 1).all()


def test_one_source_class_and_few_rows_are_enough(make):
    model = make(random_state=0)
    fit(model, ["only"], [3, 4], X_source=X_SRC[:1], X_target=X_TGT[[0, 1]])
    assert_array_equal(model.predict_source(X_TGT), ["only"] * len(X_TGT))
    assert np.isfinite(model.transform(X)).all()


# answers ----------------------------------------------------------------------------------------


def test_labels_are_the_predictions_of_the_target_rows(make):
    model = fit(make(lr=1e-2, max_epochs=10))
    assert len(np.unique(model.labels_)) == 2
    assert_array_equal(model.labels_, model.predict(X_TGT))


@pytest.mark.parametrize("cls", CLUSTERERS)
def test_fit_predict_answers_by_style(cls):
    model = cls(n_clusters=2, random_state=0, **SMALL)
    labels = clone(model).fit_predict(X_SRC, Y_SRC, X_tgt=X_TGT)
    stacked = model.fit_predict(X, np.hstack([Y_SRC, Y_TGT]), sample_domain=TAGS)
    assert_array_equal(labels, model.labels_)
    assert_array_equal(stacked, model.predict(X))
    assert_array_equal(stacked[TAGS < 0], labels)


@pytest.mark.parametrize("cls", CLUSTERERS)
def test_clusters_are_those_of_the_nearest_center(cls):
    model = fit(cls(n_clusters=3, random_state=0, **SMALL))
    z = model.transform(X_TGT)
    distances = np.square(z[:, None] - model.cluster_centers_[None]).sum(2)
    assert_array_equal(model.labels_, distances.argmin(1))
    means = [z[model.labels_ == j].mean(0) for j in range(3)]
    assert_allclose(model.cluster_centers_, means, atol=1e-5)  # k-means has converged


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_probabilities_are_the_softmax_of_the_target_head(cls):
    model = fit(cls(random_state=0, **SMALL))
    with torch.no_grad():
        z = torch.from_numpy(model.transform(X).astype(np.float32))
        expected = model._net.module_.target_classifier(z).softmax(1).numpy()
    assert_allclose(model.predict_proba(X), expected, rtol=1e-5)
    assert_allclose(model.predict_proba(X).sum(1), 1, rtol=1e-12)
    assert_array_equal(model.predict(X), model.classes_[expected.argmax(1)])


def test_answer_for_a_row_does_not_depend_on_the_others(make):
    model = fit(make())
    order = np.random.default_rng(0).permutation(len(X))
    for method in ["transform", "predict", "predict_source", "predict_proba"]:
        if not hasattr(model, method):
            continue
        answer = getattr(model, method)
        together = answer(X)
        equal = assert_array_equal
        if method == "predict_proba":
            equal = partial(assert_allclose, rtol=1e-12)
        equal(answer(X[order]), together[order])
        for rows in (slice(0, 1), slice(7, 20), slice(99, 100)):
            equal(answer(X[rows]), together[rows])


def test_source_classifier_learns_the_source_classes(make):
    trained = {"lr": 1e-2, "pretrain_epochs": 20, "max_epochs": 0}
    accuracy = (fit(make(**trained)).predict_source(X_SRC) == Y_SRC).mean()
    untrained = fit(make(pretrain_epochs=0, max_epochs=0)).predict_source(X_SRC)
    assert accuracy > 0.95 > 0.7 > (untrained == Y_SRC).mean()


def test_embedding_has_a_column_per_component_and_names(make):
    model = fit(make())
    assert model.transform(X).shape == (len(X), 3)
    assert model.transform(X).dtype == np.float64
    assert model.transform(X.astype(np.float32)).dtype == np.float32
    name = type(model).__name__.lower()
    frame = model.set_output(transform="pandas").transform(X)
    assert list(frame.columns) == [f"{name}{i}" for i in range(3)]
    assert list(frame.columns) == model.get_feature_names_out().tolist()


def test_answers_need_a_fit(make):
    for method in ("predict", "transform", "predict_source"):
        with pytest.raises(NotFittedError, match="is not fitted yet"):
            getattr(make(), method)(X)


# inputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.uint8])
def test_images_equal_flattened_images_with_their_shape(make, dtype):
    rng = np.random.default_rng(0)
    bright = 100 * (np.arange(40) % 2)[:, None, None, None]
    images = (rng.integers(0, 100, size=(40, 1, 8, 8)) + bright).astype(dtype)
    y, few = np.arange(20) % 2, np.arange(20) % 2
    params = {"encoder": "conv", "pretrain_epochs": 1, "max_epochs": 1}
    four = fit(make(**params), y, few, images[:20], images[20:])
    flat = images.reshape(40, -1)
    two = fit(make(image_shape=(1, 8, 8), **params), y, few, flat[:20], flat[20:])
    assert_array_equal(four.labels_, two.labels_)
    assert_array_equal(four.transform(images), two.transform(flat))
    assert four.history_ == two.history_
    assert four.n_features_in_ == two.n_features_in_ == 64


def test_encoder_may_be_a_class_of_ones_own(make):
    def encoder(input_shape, n_components):
        return torch.nn.Sequential(
            torch.nn.Linear(*input_shape, 6), torch.nn.BatchNorm1d(6), torch.nn.Linear(6, 3)
        )

    model = fit(make(encoder=encoder))
    assert np.isfinite(model.transform(X)).all()
    assert_array_equal(model.labels_, model.predict(X_TGT))


def test_half_precision_trains_nearly_the_same_model(make):
    exact, half = fit(make()), fit(make(precision="bfloat16"))
    assert_allclose(half.transform(X), exact.transform(X), atol=0.1)
    assert not np.array_equal(half.transform(X), exact.transform(X))
    for record, other in zip(half.history_, exact.history_, strict=True):
        assert record["loss"] == pytest.approx(other["loss"], rel=0.1)


# training ---------------------------------------------------------------------------------------


class Listener(Callback):
    """Remembers phases, in a list that copies share."""

    seen = []

    def __init__(self):
        self.n_calls = 0

    def on_epoch_end(self, net, **kwargs):
        self.n_calls += 1
        self.seen.append((net.phase, self.n_calls))


def test_callbacks_are_called_in_both_phases_on_copies(make):
    Listener.seen.clear()
    listener = Listener()
    model = fit(make(callbacks=[listener], pretrain_epochs=2, max_epochs=3))
    second = "round 1" if isinstance(model, ProgressiveClusterer) else "adapt"
    expected = [("pretrain", 1), ("pretrain", 2), *((second, i) for i in (1, 2, 3))]
    assert Listener.seen == expected
    assert listener.n_calls == 0
    assert [(row["phase"], row["epoch"]) for row in model.history_] == expected
    assert model.n_iter_ == 3


@pytest.mark.parametrize(("verbose", "text"), [(0, ""), (1, "pretrain"), (2, "train_loss")])
def test_verbose_tells_of_both_phases(make, capfd, verbose, text):
    fit(make(verbose=verbose))
    out, err = capfd.readouterr()
    assert text in out + err
    assert bool(out + err) == bool(verbose)


@pytest.mark.parametrize("epochs", [(0, 0), (2, 0), (0, 2)])
def test_either_phase_may_be_left_out(make, epochs):
    model = fit(make(pretrain_epochs=epochs[0], max_epochs=epochs[1]))
    n_first = sum(row["phase"] == "pretrain" for row in model.history_)
    assert (n_first, model.n_iter_) == epochs
    assert len(model.history_) == sum(epochs)
    assert_array_equal(model.labels_, model.predict(X_TGT))


@pytest.mark.filterwarnings(
    "ignore:Training diverged.*went back:sklearn.exceptions.ConvergenceWarning"
)
def test_diverging_training_raises(make):
    with pytest.raises(ValueError, match=r"Training diverged in epoch 1 of the phase 'pretrain'"):
        fit(make(optimizer="sgd", lr=1e30))


# life cycle -------------------------------------------------------------------------------------


def test_same_seed_gives_the_same_bits_and_another_seed_others(make):
    first = fit(make())
    assert_same_model(fit(make()), first)
    assert_same_model(fit(copy.deepcopy(first)), first)
    other = fit(make(random_state=1))
    assert not np.array_equal(other.transform(X), first.transform(X))


def test_copies_answer_alike_and_clones_are_unfitted(make):
    model = fit(make())
    assert_same_model(pickle.loads(pickle.dumps(model)), model)
    assert_same_model(copy.deepcopy(model), model)
    copied = clone(model)
    assert copied.get_params() == model.get_params()
    assert not hasattr(copied, "labels_")
    assert_array_equal(pickle.loads(pickle.dumps(model)).predict_source(X), model.predict_source(X))


def test_pipeline_and_search_hand_the_domains_on(make):
    y = np.hstack([Y_SRC, Y_FEW])
    with config_context(enable_metadata_routing=True):
        pipeline = make_pipeline(StandardScaler(), make()).fit(X, y, sample_domain=TAGS)
    scaled = StandardScaler().fit_transform(X)
    direct = make().fit(scaled, y, sample_domain=TAGS)
    assert_same_model(pipeline[-1], direct)


@pytest.mark.parametrize("cls", CLASSIFIERS)
def test_search_scores_by_the_names_of_target_rows(cls):
    y = np.hstack([Y_SRC, Y_TGT])
    grid = {"max_epochs": [0, 10]}
    model = cls(random_state=0, lr=1e-2, **{**SMALL, "n_components": 3})
    order = np.random.default_rng(0).permutation(len(X))
    with config_context(enable_metadata_routing=True):
        search = GridSearchCV(model, grid, cv=2, refit=False)
        search.fit(X[order], y[order], sample_domain=TAGS[order])
    untrained, trained = search.cv_results_["mean_test_score"]
    assert trained > 0.9 > 0.75 > untrained


def global_state():
    return {
        "numpy": pickle.dumps(np.random.get_state()),  # noqa: NPY002
        "torch": torch.get_rng_state().tolist(),
        "dtype": torch.get_default_dtype(),
        "gradients": torch.is_grad_enabled(),
        "filters": list(warnings.filters),
    }


@pytest.mark.parametrize("seed", [0, None])
def test_global_state_is_left_and_decides_nothing(make, seed):
    fit(make())  # torch imports parts of itself at the first step
    before = global_state()
    model = fit(make(random_state=seed))
    model.predict(X), model.transform(X), model.predict_source(X)
    assert global_state() == before
    with torch.random.fork_rng(devices=[]), torch.inference_mode():
        torch.manual_seed(7)
        other = fit(make(random_state=seed))
    assert np.array_equal(other.transform(X), model.transform(X)) == (seed == 0)


def test_fit_leaves_parameters_and_arguments(make):
    model = make(callbacks=[Listener()], device="cpu")
    before = model.get_params()
    arguments = [Y_SRC, Y_FEW, X_SRC, X_TGT]
    copies = [argument.copy() for argument in arguments]
    fit(model, *arguments)
    after = model.get_params()
    assert after.keys() == before.keys()
    assert all(after[name] is before[name] for name in before)
    for argument, copied in zip(arguments, copies, strict=True):
        assert_array_equal(argument, copied)


def test_refit_that_failed_keeps_the_last_model(make):
    model = fit(make())
    before = copy.deepcopy(model)
    with pytest.raises(ValueError, match="got none"):
        fit(model, [None] * len(X_SRC), X_target=2 * X_TGT)
    assert_same_model(model, before)
