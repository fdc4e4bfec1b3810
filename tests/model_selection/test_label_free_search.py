import pickle
from functools import cache
from itertools import combinations

import numpy as np
import pandas as pd
import pytest
from _cheap import CheapClusterer, within_cluster_scorer
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, ClusterMixin, clone
from sklearn.datasets import make_blobs
from sklearn.exceptions import FitFailedWarning, NotFittedError
from sklearn.metrics import adjusted_rand_score, make_scorer
from sklearn.model_selection import GridSearchCV, cross_validate
from sklearn.pipeline import Pipeline, make_pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans
from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.model_selection import (
    HiddenClasses,
    LabelFreeSearchCV,
    TargetSplit,
    make_label_free_scorer,
    make_target_scorer,
)

SMALL = {
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 1,
    "max_epochs": 1,
    "random_state": 0,
}
CRITERIA = ["hidden_classes", "seed_stability", "silhouette"]
GRID = {"quality": ["random", "right", "collapsed"]}
DEEP_GRID = {"lambda_clustering": [0.01, 10.0]}

X, Y = make_blobs(n_samples=140, centers=8 * np.eye(7), cluster_std=1.5, random_state=0)
TAGS = np.where(Y < 4, 1, -1)
SOURCE, TARGET = np.flatnonzero(TAGS >= 0), np.flatnonzero(TAGS < 0)

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")


def global_state():
    return pickle.dumps(np.random.get_state())  # noqa: NPY002


def make_search(model=None, grid=GRID, **params):
    model = CheapClusterer(3) if model is None else model
    common = {"criterion": "hidden_classes", "random_state": 0, "error_score": "raise"}
    params = {**common, **params}
    return LabelFreeSearchCV(model, grid, **params)


def make_deep_search(**params):
    return make_search(CKMDomainAdapter(3, **SMALL), DEEP_GRID, **params)


def fit(search, y=Y):
    return search.fit(X, y, sample_domain=TAGS)


def scores(search):
    """Scores of the splits, a row each."""
    columns = [key for key in search.cv_results_ if key.startswith("split")]
    return np.array([search.cv_results_[f"split{i}_test_score"] for i in range(len(columns))])


def assert_same_results(first, second, tolerance=0.0):
    assert_allclose(scores(first), scores(second), rtol=0, atol=tolerance)
    assert_array_equal(first.cv_results_["rank_test_score"], second.cv_results_["rank_test_score"])
    assert first.best_index_ == second.best_index_
    if hasattr(first, "hidden_classes_"):
        assert_array_equal(first.hidden_classes_, second.hidden_classes_)


@cache
def deep_search(criterion):
    """A fitted search of the adapter, to compare with."""
    return fit(make_deep_search(criterion=criterion))


class Recorder(CheapClusterer):
    """Keeps the rows, tags, labels and parameters of each fit."""

    fits = []

    def fit(self, X, y=None, *, sample_domain=None):
        self.fits.append((X, y, sample_domain, self.get_params()))
        return super().fit(X, y, sample_domain=sample_domain)


@pytest.fixture
def recorder():
    Recorder.fits = []
    return Recorder(3)


# calls ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("make", [make_search, make_deep_search])
def test_both_calls_give_the_same(make, criterion):
    is_deep = make is make_deep_search
    stacked = deep_search(criterion) if is_deep else fit(make(criterion=criterion))
    two = make(criterion=criterion).fit(X[SOURCE], Y[SOURCE], X_tgt=X[TARGET])
    assert_same_results(stacked, two)
    assert_array_equal(stacked.predict(X), two.predict(X))
    assert_array_equal(stacked.transform(X), two.transform(X))


@pytest.mark.parametrize("criterion", CRITERIA)
def test_rows_tags_and_labels_of_any_kind(criterion):
    expected = fit(make_search(criterion=criterion))
    frame = pd.DataFrame(X, index=np.arange(len(X))[::-1])
    for rows in (frame, X.tolist()):
        for tags in (TAGS.tolist(), pd.Series(TAGS), TAGS[:, np.newaxis], TAGS * 3.0):
            search = make_search(criterion=criterion).fit(rows, Y.tolist(), sample_domain=tags)
            assert_same_results(search, expected)
    names = np.array(list("gfedcba"))
    assert_array_equal(
        scores(fit(make_search(criterion="silhouette"), names[Y])),
        scores(fit(make_search(criterion="silhouette"))),
    )


def test_names_of_the_hidden_classes():
    search = fit(make_search(), np.array(list("abcdefg"))[Y])
    assert len(search.hidden_classes_) == search.n_splits_ == 3
    for hidden in search.hidden_classes_:
        assert len(hidden) == 2 and set(hidden) < set("abcd")


@pytest.mark.parametrize("criterion", CRITERIA)
def test_column_names_reach_the_estimator(criterion):
    frame = pd.DataFrame(X, columns=list("abcdefg"))
    search = make_deep_search(criterion=criterion).fit(frame, Y, sample_domain=TAGS)
    assert search.best_estimator_.feature_names_in_.tolist() == list("abcdefg")
    assert search.feature_names_in_.tolist() == list("abcdefg")  # as in GridSearchCV
    assert search.n_features_in_ == 7
    assert search.predict(frame).shape == (len(X),)


@pytest.mark.parametrize("criterion", ["hidden_classes", "silhouette"])
def test_images_are_as_their_rows(criterion):
    images = X[:, :6].reshape(-1, 1, 2, 3)
    search = make_deep_search(criterion=criterion).fit(images, Y, sample_domain=TAGS)
    flat = make_search(CKMDomainAdapter(3, image_shape=(1, 2, 3), **SMALL), DEEP_GRID)
    flat.set_params(criterion=criterion).fit(X[:, :6], Y, sample_domain=TAGS)
    assert_same_results(search, flat)
    assert_array_equal(search.transform(images), flat.transform(X[:, :6]))


def make_domain_pipeline(*steps):
    module = pytest.importorskip("sklearn_ckm.pipeline")
    return module.make_domain_pipeline(*steps)


@pytest.mark.parametrize("criterion", [*CRITERIA, HiddenClasses(with_target=True)], ids=str)
@pytest.mark.parametrize("make_pipe", [make_pipeline, make_domain_pipeline])
def test_pipelines_and_routing_change_nothing(make_pipe, criterion):
    scaled = StandardScaler().fit_transform(X)
    pipe = make_pipe(StandardScaler(), CheapClusterer(3))
    searches = []
    for routing in (False, True):
        with config_context(enable_metadata_routing=routing):
            grid = {f"cheapclusterer__{name}": values for name, values in GRID.items()}
            search = fit(make_search(pipe, grid, criterion=criterion))
            two = clone(search).fit(X[SOURCE], Y[SOURCE], X_tgt=X[TARGET])
        # sums of the scaler round by the order of the rows
        assert_same_results(search, two, tolerance=1e-12)
        assert search.best_estimator_["cheapclusterer"].n_clusters == 3
        assert_array_equal(search.predict(X), search.best_estimator_[-1].predict(scaled))
        searches.append(search)
    assert_same_results(*searches)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("routing", [False, True])
def test_deep_estimator_in_nested_pipelines_is_the_estimator_alone(criterion, routing):
    expected = deep_search(criterion)
    pipe = Pipeline([("nothing", "passthrough"), ("adapt", CKMDomainAdapter(3, **SMALL))])
    nested = Pipeline([("nothing", "passthrough"), ("inner", pipe)])
    grid = {f"inner__adapt__{name}": values for name, values in DEEP_GRID.items()}
    with config_context(enable_metadata_routing=routing):
        search = fit(make_search(nested, grid, criterion=criterion))
    assert_same_results(search, expected)
    assert_array_equal(search.transform(X), expected.transform(X))


# results ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("n_splits", [2, 3])
def test_attributes_and_results_are_those_of_a_grid_search(criterion, n_splits):
    grid = [{"quality": ["right", "random"]}, {"random_state": [3]}]
    search = fit(make_search(grid=grid, criterion=criterion, n_splits=n_splits))
    splitter = TargetSplit(n_splits, random_state=0)
    usual = GridSearchCV(CheapClusterer(3), grid, scoring="adjusted_rand_score", cv=splitter)
    usual.fit(X, Y, groups=TAGS, sample_domain=TAGS)

    results = search.cv_results_
    n_fits = 1 if criterion == "seed_stability" else n_splits
    expected = {name for name in usual.cv_results_ if not name.startswith("split")}
    assert set(results) == expected | {f"split{i}_test_score" for i in range(n_fits)}
    assert results["params"] == usual.cv_results_["params"]
    for name in ("param_quality", "param_random_state"):
        assert_array_equal(results[name].mask, usual.cv_results_[name].mask)
        assert results[name].tolist() == usual.cv_results_[name].tolist()
    for name, values in usual.cv_results_.items():
        if name in results and not name.startswith("param"):
            assert type(results[name]) is type(values)
            assert results[name].dtype == values.dtype and results[name].shape == values.shape
    splits = np.array([results[f"split{i}_test_score"] for i in range(n_fits)])
    assert_allclose(results["mean_test_score"], splits.mean(axis=0))
    assert_allclose(results["std_test_score"], splits.std(axis=0))
    mean = results["mean_test_score"]
    assert results["rank_test_score"].tolist() == [1 + (mean > value).sum() for value in mean]
    assert search.best_index_ == results["rank_test_score"].argmin()
    assert search.best_score_ == mean[search.best_index_]
    assert search.best_params_ == results["params"][search.best_index_]
    assert search.n_splits_ == n_fits and search.refit_time_ > 0 and not search.multimetric_
    assert (results["mean_fit_time"] > 0).all() and (results["mean_score_time"] > 0).all()


def test_hidden_classes_are_kept_for_that_criterion_only():
    search = fit(make_search())
    assert hasattr(search, "hidden_classes_")
    assert not hasattr(fit(search.set_params(criterion="silhouette")), "hidden_classes_")


@pytest.mark.parametrize("make", [make_search, make_deep_search])
@pytest.mark.parametrize("with_target", [False, True])
def test_hidden_classes_by_hand(make, with_target):
    criterion = HiddenClasses(with_target=with_target)
    search = fit(make(criterion=criterion))
    tasks = list(criterion.make_tasks(X, Y, TAGS, n_splits=3, random_state=0))
    assert_array_equal(search.hidden_classes_, [task.hidden for task in tasks])
    for i, task in enumerate(tasks):
        for j, params in enumerate(search.cv_results_["params"]):
            model = clone(search.estimator).set_params(**params, n_clusters=2)
            train = task.train
            model.fit(task.X[train], task.y[train], sample_domain=task.sample_domain[train])
            predicted = model.predict(task.X[task.test])
            expected = clustering_accuracy(task.y[task.test], predicted)
            assert search.cv_results_[f"split{i}_test_score"][j] == expected


def test_hidden_classes_by_another_metric():
    search = fit(make_search(criterion=HiddenClasses(n_hidden=2, scoring="adjusted_rand")))
    (task, *_) = HiddenClasses(n_hidden=2).make_tasks(X, Y, TAGS, n_splits=3, random_state=0)
    for j, params in enumerate(search.cv_results_["params"]):
        model = CheapClusterer(2, **params)
        model.fit(task.X[task.train], sample_domain=task.sample_domain[task.train])
        expected = adjusted_rand_score(task.y[task.test], model.predict(task.X[task.test]))
        assert search.cv_results_["split0_test_score"][j] == expected


def test_hidden_classes_by_a_scorer():
    scorer = make_target_scorer("adjusted_rand")
    by_scorer = fit(make_search(criterion=HiddenClasses(scoring=scorer)))
    by_name = fit(make_search(criterion=HiddenClasses(scoring="adjusted_rand")))
    assert_same_results(by_scorer, by_name)
    for other in (make_label_free_scorer("silhouette"), make_scorer(adjusted_rand_score)):
        with pytest.raises(TypeError, match="Expected scoring of HiddenClasses to be a metric of"):
            fit(make_search(criterion=HiddenClasses(scoring=other)))


def test_hidden_classes_fit_on_source_rows_with_the_hidden_number_of_clusters(recorder):
    search = fit(make_search(recorder, {"quality": ["right"]}, n_splits=2))
    *hidden, (rows, _, tags, params) = Recorder.fits
    assert len(hidden) == 2
    of_target = {row.tobytes() for row in X[TARGET]}
    for task_rows, _, task_tags, task_params in hidden:
        assert task_params["n_clusters"] == 2
        assert not of_target & {row.tobytes() for row in task_rows}
        assert (task_tags > 0).any() and (task_tags < 0).any()
    # the last one is the refit, on the real target and with the number that was asked for
    assert params["n_clusters"] == search.best_estimator_.n_clusters == 3
    assert_array_equal(rows, X)
    assert_array_equal(tags, TAGS)
    assert search.estimator is recorder and recorder.n_clusters == 3
    assert not hasattr(recorder, "labels_")


def test_hidden_classes_set_the_number_of_clusters_of_whole_steps_too(recorder):
    """A grid may replace the last step, whose own n_clusters says nothing of the hidden ones."""
    pipe = Pipeline([("scale", StandardScaler()), ("cluster", CheapClusterer(3))])
    grid = {"cluster": [Recorder(3), Recorder(5)]}
    try:
        fit(make_search(pipe, grid, refit=False))
    except ValueError as error:
        assert "n_clusters" in str(error)  # refusing is as good
    assert {params["n_clusters"] for *_, params in Recorder.fits} <= {2}


def test_seed_stability_by_hand(recorder):
    search = fit(
        make_search(
            recorder,
            {"quality": ["right", "random"]},
            refit=False,
            n_splits=4,
            criterion="seed_stability",
        )
    )
    seeds = [
        [p["random_state"] for *_, p in Recorder.fits if p["quality"] == quality]
        for quality in ("right", "random")
    ]
    assert seeds[0] == seeds[1]  # the same for each candidate
    assert seeds[0][0] == 0 and len(set(seeds[0])) == 4
    for rows, y, tags, params in Recorder.fits:
        assert params["n_clusters"] == 3
        for array, expected in ((rows, X), (y, Y), (tags, TAGS)):
            assert_array_equal(array, expected)
    for j, quality in enumerate(("right", "random")):
        models = [CheapClusterer(3, quality=quality, random_state=seed) for seed in seeds[0]]
        labels = [m.fit(X, sample_domain=TAGS).predict(X[TARGET]) for m in models]
        pairs = [adjusted_rand_score(a, b) for a, b in combinations(labels, 2)]
        assert len(pairs) == 6
        assert search.cv_results_["split0_test_score"][j] == pytest.approx(np.mean(pairs))


def test_seed_stability_of_a_deep_estimator_by_hand():
    search = fit(make_deep_search(criterion="seed_stability", n_splits=2))
    # one further seed; whichever it is, both candidates have it
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max, size=1)[0])
    for j, weight in enumerate(DEEP_GRID["lambda_clustering"]):
        labels = []
        for random_state in (0, seed):
            model = CKMDomainAdapter(3, **{**SMALL, "random_state": random_state})
            model.set_params(lambda_clustering=weight).fit(X, Y, sample_domain=TAGS)
            labels.append(model.labels_)
        expected = adjusted_rand_score(*labels)
        assert search.cv_results_["split0_test_score"][j] == pytest.approx(expected)


def test_seeds_reach_every_step_that_has_one():
    class Shuffled(StandardScaler):
        fits = []

        def __init__(self, random_state=7):
            super().__init__()
            self.random_state = random_state

        def fit(self, X, y=None):
            self.fits.append(self.random_state)
            return super().fit(X, y)

    pipe = make_pipeline(Shuffled(), CheapClusterer(3))
    fit(
        make_search(
            pipe, {"cheapclusterer__quality": ["right"]}, criterion="seed_stability", refit=False
        )
    )
    assert Shuffled.fits[0] == 7 and len(set(Shuffled.fits)) == 3


@pytest.mark.parametrize("criterion", ["silhouette", "soft_neighborhood_density"])
def test_scorer_is_averaged_over_folds_of_the_target(recorder, criterion):
    grid = {"n_clusters": [2, 3], "quality": ["right", "random"]}
    seen = []

    def scorer(estimator, X, y=None):
        seen.append((X, y))
        return make_label_free_scorer(criterion)(estimator, X)

    own = fit(make_search(recorder, grid, criterion=scorer, n_splits=4, refit=False))
    fits, number = Recorder.fits, {row.tobytes(): i for i, row in enumerate(X)}
    folds = []
    for (train_rows, train_y, train_tags, _), (test_rows, test_y) in zip(
        fits[:4], seen[:4], strict=True
    ):
        train, test = ([number[row.tobytes()] for row in rows] for rows in (train_rows, test_rows))
        assert set(SOURCE) <= set(train)
        assert_array_equal(np.sort(train + test), np.arange(len(X)))
        assert_array_equal(train_tags, TAGS[train])
        assert_array_equal(train_y, Y[train])
        assert_array_equal(test_y, Y[test])
        folds.append((train, test))
    assert_array_equal(np.sort(np.concatenate([test for _, test in folds])), TARGET)
    assert folds[0][1] != TARGET[: len(folds[0][1])].tolist()  # shuffled

    scoring = make_label_free_scorer(criterion)
    usual = GridSearchCV(CheapClusterer(3), grid, scoring=scoring, cv=folds, error_score="raise")
    usual.fit(X, Y, sample_domain=TAGS)
    named = fit(make_search(grid=grid, criterion=criterion, n_splits=4))
    same = fit(make_search(grid=grid, criterion=scoring, n_splits=4))
    for search in (own, named, same):
        for i in range(4):
            key = f"split{i}_test_score"
            assert_array_equal(search.cv_results_[key], usual.cv_results_[key])
        assert search.best_params_ == usual.best_params_


def test_scorer_of_labels_reads_those_of_the_target():
    scorer = make_target_scorer("adjusted_rand")
    stacked = fit(make_search(criterion=scorer))
    assert stacked.best_params_ == {"quality": "right"} and stacked.best_score_ > 0.8
    two = make_search(criterion=scorer)
    two.fit(X[SOURCE], Y[SOURCE], X_tgt=X[TARGET], y_tgt=Y[TARGET])
    assert_same_results(stacked, two)


# refit ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", CRITERIA)
def test_refit_is_the_fit_by_hand(criterion):
    search = deep_search(criterion)
    model = CKMDomainAdapter(3, **SMALL, **search.best_params_).fit(X, Y, sample_domain=TAGS)
    best = search.best_estimator_
    for name in ("predict", "predict_proba", "transform"):
        expected = getattr(model, name)(X)
        assert_array_equal(getattr(best, name)(X), expected)
        assert_array_equal(getattr(search, name)(X), expected)
    assert_array_equal(best.labels_, model.labels_)
    assert_array_equal(best.cluster_centers_, model.cluster_centers_)
    assert best.history_ == model.history_
    assert search.score(X, sample_domain=TAGS) == model.score(X, sample_domain=TAGS)
    assert search.score(X) == model.score(X) != search.score(X, sample_domain=TAGS)


def test_no_refit_leaves_no_estimator():
    search = fit(make_search(refit=False))
    assert search.best_params_ == {"quality": "right"}
    for name in ("best_estimator_", "refit_time_", "predict", "transform", "predict_proba"):
        assert not hasattr(search, name)
    with pytest.raises(AttributeError, match="predict"):
        search.predict(X)
    with pytest.raises(AttributeError, match="refit=False"):
        search.score(X)


def test_no_refit_forgets_the_estimator_of_the_fit_before():
    frame = pd.DataFrame(X, columns=list("abcdefg"))
    search = fit(make_deep_search()).set_params(refit=True)
    search.fit(frame, Y, sample_domain=TAGS)
    search.set_params(refit=False).fit(X[:, :3], Y, sample_domain=TAGS)
    for name in ("best_estimator_", "refit_time_", "feature_names_in_", "n_features_in_"):
        assert not hasattr(search, name)
    for method in ("predict", "predict_source", "transform"):
        assert not hasattr(search, method)
    with pytest.raises(AttributeError, match="refit=False"):
        search.score(X[:, :3])


def test_unfitted_search_says_so():
    for method in ("predict", "transform", "predict_proba", "score"):
        with pytest.raises(NotFittedError, match="not fitted yet"):
            getattr(make_search(), method)(X)


def test_search_offers_what_its_estimator_offers():
    search = fit(make_search())
    assert not hasattr(search, "decision_function")
    assert not hasattr(search, "classes_")
    assert search.n_features_in_ == 7


# labels of the target ---------------------------------------------------------------------------

GARBAGE = [0, 3, 99, -1, np.nan, np.inf, 0.5, "a", None, object()]


@pytest.mark.parametrize(
    "criterion", [*CRITERIA, HiddenClasses(n_hidden=2, with_target=True)], ids=str
)
def test_labels_of_the_target_change_nothing(criterion):
    expected = deep_search(criterion)
    y = Y.astype(object)
    for i, row in enumerate(TARGET):
        y[row] = GARBAGE[i % len(GARBAGE)]
    search = fit(make_deep_search(criterion=criterion), y)
    assert_same_results(search, expected)
    assert_array_equal(search.transform(X), expected.transform(X))
    y_tgt = y[TARGET]
    two = make_deep_search(criterion=criterion)
    two.fit(X[SOURCE], Y[SOURCE], X_tgt=X[TARGET], y_tgt=y_tgt)
    assert_same_results(two, expected)


def test_source_without_labels_is_enough_but_for_hidden_classes():
    for y in (None, np.full(len(X), np.nan)):
        for criterion in ("seed_stability", "silhouette"):
            search = fit(make_deep_search(criterion=criterion, n_splits=2), y)
            assert search.best_estimator_.source_classes_.size == 0
        with pytest.raises(ValueError, match=r"at least 4 classes .* got 0"):
            fit(make_deep_search(), y)
    two = make_deep_search(criterion="silhouette", n_splits=2).fit(X[SOURCE], X_tgt=X[TARGET])
    assert_same_results(two, search)


# few labels -------------------------------------------------------------------------------------


class SemiSupervised(CKMSemiSupervisedAdapter):
    """Keeps the labels and tags of each fit."""

    fits = []

    def fit(self, X, y=None, *, X_tgt=None, y_tgt=None, sample_domain=None):
        self.fits.append((y, sample_domain))
        return super().fit(X, y, X_tgt=X_tgt, y_tgt=y_tgt, sample_domain=sample_domain)


def few_labels(n_each, unlabelled=-1):
    y = Y.copy().astype(float)
    y[TARGET] = unlabelled
    for label in (4, 5, 6):
        y[np.flatnonzero(label == Y)[:n_each]] = label
    return y


def label_counts(y, tags):
    _, counts = np.unique(y[(tags < 0) & (y >= 0)], return_counts=True)
    return counts.tolist()


@pytest.mark.parametrize(
    "criterion, n_labelled, n_shots",
    [
        ("hidden_classes", 3, 3),
        ("hidden_classes", 1, 1),
        (HiddenClasses(n_shots=2), 5, 2),
    ],
    ids=str,
)
def test_hidden_classes_keep_as_many_labels_as_the_target_has(criterion, n_labelled, n_shots):
    SemiSupervised.fits = []
    model = SemiSupervised(**SMALL)
    search = fit(make_search(model, DEEP_GRID, criterion=criterion), few_labels(n_labelled))
    *hidden, real = SemiSupervised.fits
    assert len(hidden) == 6
    for y, tags in hidden:
        assert label_counts(y, tags) == [n_shots] * 2
    assert label_counts(*real) == [n_labelled] * 3
    assert search.classes_.tolist() == [4, 5, 6]
    assert search.best_estimator_.n_clusters is None


def test_hidden_classes_of_a_classifier_by_hand():
    y = few_labels(3)
    search = fit(make_search(CKMSemiSupervisedAdapter(**SMALL), DEEP_GRID), y)
    tasks = HiddenClasses().make_tasks(X, y, TAGS, n_splits=3, n_shots=3, random_state=0)
    for i, task in enumerate(tasks):
        for j, params in enumerate(search.cv_results_["params"]):
            model = CKMSemiSupervisedAdapter(**SMALL, **params)
            train = task.train
            model.fit(task.X[train], task.y[train], sample_domain=task.sample_domain[train])
            expected = np.mean(model.predict(task.X[task.test]) == task.y[task.test])
            assert search.cv_results_[f"split{i}_test_score"][j] == expected
    model = CKMSemiSupervisedAdapter(**SMALL, **search.best_params_).fit(X, y, sample_domain=TAGS)
    assert_array_equal(search.predict_proba(X), model.predict_proba(X))
    assert search.score(X, Y, sample_domain=TAGS) == model.score(X, Y, sample_domain=TAGS)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_both_calls_of_a_classifier_give_the_same(criterion):
    model = CKMSemiSupervisedAdapter(**SMALL)
    y = few_labels(3)
    stacked = fit(make_search(model, DEEP_GRID, criterion=criterion), y)
    two = make_search(model, DEEP_GRID, criterion=criterion)
    two.fit(X[SOURCE], y[SOURCE], X_tgt=X[TARGET], y_tgt=y[TARGET])
    assert_same_results(stacked, two)
    column = clone(two).fit(X, y, sample_domain=TAGS[:, np.newaxis])
    assert_same_results(stacked, column)


def test_many_labels_of_the_target_are_no_obstacle():
    """The hidden classes have fewer rows than the target's classes have labels."""
    y = np.where(TAGS < 0, Y, np.where(np.arange(len(Y)) % 2, Y, np.nan))
    search = fit(make_search(CKMSemiSupervisedAdapter(**SMALL), {}, criterion="hidden_classes"), y)
    assert np.isfinite(search.best_score_)


def test_few_labels_stay_in_training_where_the_criterion_reads_none():
    y = few_labels(1)
    search = make_search(CKMSemiSupervisedAdapter(**SMALL), {}, criterion="silhouette", n_splits=4)
    with_all = fit(search, y)
    assert np.isfinite(scores(with_all)).all()
    # by hand: the labelled rows are split like source rows, and fitted as what they are
    seed = int(np.random.RandomState(0).randint(np.iinfo(np.int32).max))
    as_source = np.where((TAGS < 0) & (y != -1), 1, TAGS)
    for i, (train, test) in enumerate(TargetSplit(4, random_state=seed).split(X, y, as_source)):
        assert (y[test] == -1).all()
        model = CKMSemiSupervisedAdapter(**SMALL).fit(X[train], y[train], sample_domain=TAGS[train])
        expected = make_label_free_scorer("silhouette")(model, X[test])
        assert with_all.cv_results_[f"split{i}_test_score"][0] == expected


def test_no_candidate_that_can_be_rated_raises():
    model = CheapClusterer(3)
    search = make_search(model, {"quality": ["fails"]}, error_score=np.nan)
    search.set_params(param_grid={"quality": ["collapsed", "right"]}, criterion=_not_rated)
    with (
        pytest.warns(UserWarning, match="test scores are non-finite"),
        pytest.raises(ValueError, match="could rate, got none"),
    ):
        fit(search)


def _not_rated(estimator, X, y=None):
    return np.nan


def test_estimator_of_one_domain_is_refused():
    with pytest.raises(TypeError, match="whose fit takes sample_domain, got ConcreteKMeans"):
        fit(make_search(ConcreteKMeans(3, **SMALL), DEEP_GRID))


def test_number_of_clusters_is_not_chosen_large_by_default():
    model = CKMDomainAdapter(**{**SMALL, "pretrain_epochs": 10, "max_epochs": 10})
    search = LabelFreeSearchCV(model, {"n_clusters": [2, 3, 6, 12]}, n_splits=2, random_state=0)
    assert fit(search).best_params_ == {"n_clusters": 3}


@pytest.mark.parametrize("routing", [False, True])
def test_search_at_the_end_of_a_pipeline_scores(routing):
    search = make_search(CKMDomainAdapter(3, **SMALL), DEEP_GRID, criterion="silhouette")
    with config_context(enable_metadata_routing=routing):
        pipe = make_domain_pipeline(StandardScaler(), search).fit(X, Y, sample_domain=TAGS)
        expected = pipe[-1].best_estimator_.score(pipe[0].transform(X), sample_domain=TAGS)
        assert pipe.score(X, sample_domain=TAGS) == expected
        assert pipe.score(X) == pipe[-1].best_estimator_.score(pipe[0].transform(X))
        weight = np.arange(len(X)) % 2
        if not routing:
            weighted = pipe[-1].best_estimator_.score(pipe[0].transform(X), sample_weight=weight)
            assert pipe.score(X, sample_weight=weight) == weighted


@pytest.mark.parametrize("make_pipe", [make_pipeline, make_domain_pipeline])
@pytest.mark.parametrize("routing", [False, True])
def test_tags_select_the_rows_of_the_score_in_pipelines(routing, make_pipe):
    with config_context(enable_metadata_routing=routing):
        model = CKMDomainAdapter(3, **SMALL)
        if routing:
            model.set_score_request(sample_weight=True)
        pipe = make_pipe(StandardScaler(), model)
        grid = {"ckmdomainadapter__lambda_clustering": [0.1]}
        search = fit(make_search(pipe, grid, criterion="silhouette"))
        weight = 1.0 + np.arange(len(X)) % 2
        expected = search.score(X[TARGET], sample_weight=weight[TARGET])
        assert search.score(X, Y, sample_domain=TAGS, sample_weight=weight) == expected
        assert search.score(X) != search.score(X[TARGET]) == search.score(X, sample_domain=TAGS)


def test_search_answers_as_its_best_estimator():
    search = deep_search("silhouette")
    assert_array_equal(search.predict_source(X), search.best_estimator_.predict_source(X))
    assert not hasattr(search, "predict_cluster")
    pipe = make_pipeline(StandardScaler(), CKMSemiSupervisedAdapter(**SMALL))
    grid = {"ckmsemisupervisedadapter__lambda_clustering": [0.1]}
    named = make_search(pipe, grid, criterion="silhouette")
    with pytest.raises(NotFittedError):
        named.predict_cluster(X)
    fit(named)
    best = named.best_estimator_
    scaled = best[0].transform(X)
    assert_array_equal(named.predict_cluster(X), best[-1].predict_cluster(scaled))
    assert_array_equal(named.predict_cluster_proba(X), best[-1].predict_cluster_proba(scaled))
    assert not hasattr(make_search(), "predict_source")


def test_default_criterion_is_information_maximization():
    model = CKMDomainAdapter(3, **SMALL)
    default = fit(LabelFreeSearchCV(model, DEEP_GRID, random_state=0))
    named = fit(make_search(model, DEEP_GRID, criterion="information_maximization"))
    assert_same_results(default, named)


@pytest.mark.parametrize(
    ("criterion", "method"),
    [
        ("information_maximization", "predict_proba"),
        ("nuclear_norm", "predict_proba"),
        ("soft_neighborhood_density", "predict_proba"),
        ("silhouette", "transform"),
        ("stability", "transform"),
    ],
)
def test_estimator_without_what_the_criterion_reads_raises(criterion, method):
    class Bare(ClusterMixin, BaseEstimator):
        def fit(self, X, y=None, sample_domain=None):
            return self

        def predict(self, X):
            return np.zeros(len(X), dtype=int)

    with pytest.raises(TypeError, match=f"Expected an estimator with {method} for"):
        fit(make_search(Bare(), {}, criterion=criterion))
    with pytest.raises(TypeError, match=f"Expected an estimator with {method} for"):
        make_label_free_scorer(criterion)(Bare(), X)


def test_class_as_criterion_raises():
    with pytest.raises(TypeError, match="Expected an object as criterion, got the class Hidden"):
        fit(make_search(CheapClusterer(3), {}, criterion=HiddenClasses))


def test_names_of_both_sides_may_differ_in_type():
    y = few_labels(3).astype(int).astype(object)
    y[SOURCE] = np.array(list("abcd"))[Y[SOURCE]]
    search = fit(make_search(CKMSemiSupervisedAdapter(**SMALL), DEEP_GRID), y)
    plain = fit(make_search(CKMSemiSupervisedAdapter(**SMALL), DEEP_GRID), few_labels(3))
    assert_array_equal(scores(search), scores(plain))
    assert search.classes_.tolist() == [4, 5, 6]


# a parameter object -----------------------------------------------------------------------------


def test_constructor_only_assigns_and_parameters_are_its_own():
    model, grid = CheapClusterer(3), {"quality": ["right"]}
    search = LabelFreeSearchCV(model, grid)
    assert search.estimator is model and search.param_grid is grid
    params = search.get_params(deep=False)
    assert params == {
        "estimator": model,
        "param_grid": grid,
        "criterion": "information_maximization",
        "n_splits": 3,
        "n_jobs": None,
        "refit": True,
        "verbose": 0,
        "pre_dispatch": "2*n_jobs",
        "error_score": params["error_score"],
        "random_state": None,
    }
    assert np.isnan(params["error_score"])
    assert search.get_params()["estimator__quality"] == "right"


@pytest.mark.parametrize("criterion", [*CRITERIA, HiddenClasses(n_hidden=2)], ids=str)
@pytest.mark.parametrize("copied", [clone, lambda search: pickle.loads(pickle.dumps(search))])
def test_copies_search_alike(criterion, copied):
    search = make_search(criterion=criterion)
    assert_same_results(fit(copied(search)), fit(search))
    assert not hasattr(clone(search), "cv_results_")


@pytest.mark.parametrize("criterion", CRITERIA)
def test_pickled_results_predict_alike(criterion):
    search = deep_search(criterion)
    copied = pickle.loads(pickle.dumps(search))
    assert_same_results(copied, search)
    assert_array_equal(copied.predict_proba(X), search.predict_proba(X))


def test_representation():
    search = LabelFreeSearchCV(CheapClusterer(2), {}, criterion=HiddenClasses(n_hidden=2))
    assert "criterion=HiddenClasses(n_hidden=2)" in repr(search)
    assert repr(search).startswith("LabelFreeSearchCV(")
    assert "LabelFreeSearchCV" in fit(make_search())._repr_html_()


def test_criterion_object_is_left_as_it_was():
    criterion = HiddenClasses()
    before = dict(vars(criterion))
    fit(make_search(criterion=criterion))
    assert vars(criterion) == before


@pytest.mark.parametrize("criterion", CRITERIA)
def test_inputs_are_left_as_they_were(criterion):
    rows, y, tags = X.copy(), Y.copy(), TAGS.copy()
    make_search(criterion=criterion).fit(rows, y, sample_domain=tags)
    for array, expected in ((rows, X), (y, Y), (tags, TAGS)):
        assert_array_equal(array, expected)


# randomness -------------------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", CRITERIA)
def test_int_gives_the_same_search_at_each_call(criterion):
    search = make_search(criterion=criterion, n_splits=4, grid={"quality": ["random"]})
    assert_array_equal(scores_of(search), scores_of(search))
    state = np.random.RandomState(0)
    assert_array_equal(scores_of(clone(search).set_params(random_state=state)), scores_of(search))
    others = [scores_of(clone(search).set_params(random_state=seed)) for seed in (1, 2, 3)]
    assert any((other != scores_of(search)).any() for other in others)


def scores_of(search):
    return fit(clone(search)).cv_results_["mean_test_score"]


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("random_state", [0, None])
def test_global_state_is_left_alone(criterion, random_state):
    before = global_state()
    fit(make_search(criterion=criterion, random_state=random_state))
    assert global_state() == before


def test_none_draws_anew():
    search = make_search(
        criterion="seed_stability", random_state=None, grid={"quality": ["random"]}, refit=False
    )
    assert len({float(scores_of(search)[0]) for _ in range(4)}) > 1


# numbers of clusters ----------------------------------------------------------------------------


@pytest.mark.parametrize(
    "model, grid, name",
    [
        (CheapClusterer(3), {"n_clusters": [2, 3]}, "n_clusters"),
        (CheapClusterer(3), {"n_clusters": [3]}, "n_clusters"),
        (CheapClusterer(3), [{"quality": ["right"]}, {"n_clusters": [2]}], "n_clusters"),
        (
            make_pipeline(StandardScaler(), CheapClusterer(3)),
            {"cheapclusterer__n_clusters": [2]},
            "cheapclusterer__n_clusters",
        ),
    ],
)
@pytest.mark.parametrize("criterion", ["hidden_classes", HiddenClasses(n_hidden=2)], ids=str)
def test_hidden_classes_refuse_to_choose_the_number_of_clusters(model, grid, name, criterion):
    message = f"Expected no '{name}' in param_grid: recovering hidden classes says nothing of"
    with pytest.raises(ValueError, match=message):
        fit(make_search(model, grid, criterion=criterion))


@pytest.mark.parametrize("criterion", ["silhouette", make_target_scorer("adjusted_rand")], ids=str)
def test_scorers_choose_the_number_of_clusters(criterion):
    search = fit(make_search(grid={"n_clusters": [2, 3, 6]}, criterion=criterion))
    assert search.best_params_ == {"n_clusters": 3}
    assert len(np.unique(search.predict(X[TARGET]))) == 3


def test_seed_stability_chooses_the_number_of_clusters():
    grid = {"n_clusters": [3, 9]}
    search = fit(make_search(grid=grid, criterion="seed_stability", n_splits=4))
    assert search.best_params_ == {"n_clusters": 3}


# failing candidates -----------------------------------------------------------------------------


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("error_score", [np.nan, -7.0])
def test_failing_candidate_ranks_last(criterion, error_score):
    grid = {"quality": ["fails", "random", "right"]}
    search = make_search(grid=grid, criterion=criterion, error_score=error_score)
    with pytest.warns((FitFailedWarning, UserWarning)) as caught:
        fit(search)
    assert any("fits failed" in str(w.message) for w in caught)
    results = search.cv_results_
    assert_array_equal(results["mean_test_score"][0], error_score)
    assert results["rank_test_score"].tolist() == [3, 2, 1]
    assert search.best_params_ == {"quality": "right"} and np.isfinite(search.best_score_)


def test_candidate_that_fails_in_one_split_ranks_last():
    class FailsOnce(CheapClusterer):
        def fit(self, X, y=None, *, sample_domain=None):
            n_fits[self.quality] = n_fits.get(self.quality, 0) + 1
            if self.quality == "right" and n_fits["right"] == 2:
                raise ValueError("The second fit fails as planned.")
            return super().fit(X, y, sample_domain=sample_domain)

    for criterion in ("hidden_classes", "silhouette"):
        n_fits = {}
        grid = {"quality": ["right", "random", "frozen"]}
        search = make_search(FailsOnce(3), grid, criterion=criterion, error_score=np.nan)
        with pytest.warns((FitFailedWarning, UserWarning)):
            fit(search)
        assert np.isnan(scores(search)[:, 0]).tolist() == [False, True, False]
        assert np.isnan(search.cv_results_["mean_test_score"][0])
        assert search.cv_results_["rank_test_score"][0] == 3
        assert search.best_params_["quality"] != "right"


@pytest.mark.parametrize("criterion", CRITERIA)
def test_all_candidates_failing_raises(criterion):
    search = make_search(grid={"quality": ["fails"]}, criterion=criterion, error_score=np.nan)
    with pytest.raises(ValueError, match=r"All the .* fits failed"):
        fit(search)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_failure_can_be_raised(criterion):
    search = make_search(grid={"quality": ["fails"]}, criterion=criterion, error_score="raise")
    with pytest.raises(ValueError, match="It fails as planned"):
        fit(search)


# errors -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "params, error, message",
    [
        (
            {"criterion": "accuracy"},
            ValueError,
            r"Expected criterion to be one of \['hidden_classes', .*'stability'\], got 'accuracy'",
        ),
        ({"criterion": "silhouette", "n_splits": 1}, ValueError, "at least 2 for criterion='silh"),
        ({"criterion": "seed_stability", "n_splits": 1}, ValueError, "n_splits of at least 2 .*1."),
        ({"criterion": within_cluster_scorer, "n_splits": 1}, ValueError, "n_splits of at least 2"),
        ({"criterion": 3}, ValueError, "The 'criterion' parameter of LabelFreeSearchCV must be"),
        ({"criterion": None}, ValueError, "The 'criterion' parameter of LabelFreeSearchCV must be"),
        ({"n_splits": 0}, ValueError, "The 'n_splits' parameter of LabelFreeSearchCV must be"),
        ({"n_splits": 2.0}, ValueError, "The 'n_splits' parameter of LabelFreeSearchCV must be"),
        ({"n_splits": 7}, ValueError, "n_splits of at most 6, the number of ways to hide 2 of 4"),
        ({"refit": "accuracy"}, ValueError, "The 'refit' parameter of LabelFreeSearchCV must be"),
        ({"random_state": "a"}, ValueError, "The 'random_state' parameter of LabelFreeSearchCV"),
        ({"criterion": HiddenClasses(n_hidden=3)}, ValueError, "n_hidden == 3, must be <= 2"),
        ({"criterion": HiddenClasses(scoring="a")}, ValueError, "name of a function .*got 'a'"),
        (
            {"criterion": "silhouette", "n_splits": 31},
            ValueError,
            "n_splits of at most 30, for 2 target rows in each test fold, got 31 for 60 rows",
        ),
        ({"grid": {"no_such_parameter": [1]}}, ValueError, "Invalid parameter 'no_such_parameter'"),
    ],
)
def test_bad_parameters_raise(params, error, message):
    with pytest.raises(error, match=message):
        fit(make_search(**params))


def test_one_split_suffices_for_hidden_classes():
    search = fit(make_search(n_splits=1))
    assert search.n_splits_ == 1 and scores(search).shape == (1, 3)


def test_classes_are_too_few_to_hide_some():
    with pytest.raises(ValueError, match=r"at least 4 classes .* got 3\. .* 'seed_stability'"):
        fit(make_search(), np.where(Y == 3, 2, Y))


@pytest.mark.parametrize(
    "call, message",
    [
        ({}, "Expected two domains: .*got neither"),
        (
            {"X_tgt": X[TARGET], "sample_domain": TAGS},
            "Expected either X_tgt or sample_domain, got both",
        ),
        ({"sample_domain": np.ones(len(X))}, r"Expected target rows .* only the tags \[1.*\]"),
        ({"sample_domain": -np.ones(len(X))}, r"Expected source rows .* only the tags \[-1.*\]"),
        ({"sample_domain": TAGS[1:]}, "got 139 tags in sample_domain for 140 rows"),
        ({"sample_domain": TAGS + 0.5}, "Expected integers in sample_domain"),
        ({"X_tgt": X[:0]}, "Expected rows in X_tgt, got none"),
        ({"X_tgt": X[:, :3]}, "same number of features in both domains"),
        ({"X_tgt": X[TARGET], "y_tgt": [1]}, "one label per row in y_tgt, got 1 labels"),
        ({"sample_domain": TAGS, "y_tgt": Y[TARGET]}, "Expected y_tgt together with X_tgt, got"),
        ({"sample_domain": TAGS, "y": Y[1:]}, "one label per row in y, got 139 labels for 140"),
    ],
)
@pytest.mark.parametrize("criterion", CRITERIA)
def test_bad_calls_raise(criterion, call, message):
    with pytest.raises(ValueError, match=message):
        make_search(criterion=criterion).fit(X, **{"y": Y, **call})


# planted solutions ------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "criterion, wrong",
    [
        ("hidden_classes", ["random", "frozen", "collapsed"]),
        (HiddenClasses(n_hidden=2, scoring="adjusted_rand"), ["random", "frozen", "collapsed"]),
        (HiddenClasses(with_target=True), ["random", "frozen", "collapsed"]),
        ("seed_stability", ["random"]),
        ("silhouette", ["random", "frozen"]),
        ("stability", ["random", "frozen"]),
        ("neighborhood_agreement", ["random", "frozen", "collapsed"]),
    ],
    ids=str,
)
@pytest.mark.parametrize("seed", range(2))
def test_right_setting_is_chosen(criterion, wrong, seed):
    right = {"quality": [*wrong, "right"]}
    search = fit(make_search(grid=right, criterion=criterion, random_state=seed))
    assert search.best_params_ == {"quality": "right"}
    others = search.cv_results_["mean_test_score"][:-1]
    assert search.best_score_ > others.max() + 0.2
    assert clustering_accuracy(Y[TARGET], search.predict(X[TARGET])) > 0.9
    # broken: the scatter in the embedding, which a collapse makes smallest
    grid = {"quality": [*wrong, "collapsed", "right"]}
    broken = fit(make_search(grid=grid, criterion=within_cluster_scorer, random_state=seed))
    assert broken.best_params_ == {"quality": "collapsed"}
    assert clustering_accuracy(Y[TARGET], broken.predict(X[TARGET])) < 0.6


@pytest.mark.parametrize("criterion", ["seed_stability", "nuclear_norm"])
def test_one_cluster_for_all_rows_is_not_the_best(criterion):
    search = fit(make_search(grid={"n_clusters": [1, 3]}, criterion=criterion))
    assert search.best_params_ == {"n_clusters": 3}
    assert search.cv_results_["mean_test_score"][0] == 0.0


@pytest.mark.parametrize(
    "criterion, fooled_by", [("seed_stability", "frozen"), ("silhouette", "collapsed")]
)
def test_what_the_criteria_cannot_see(criterion, fooled_by):
    grid = {"quality": ["right", fooled_by]}
    search = fit(make_search(grid=grid, criterion=criterion))
    assert search.cv_results_["mean_test_score"][1] > 0.99
    assert fit(make_search(grid=grid)).best_params_ == {"quality": "right"}


# search inside a validation ---------------------------------------------------------------------


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize("is_piped", [False, True])
def test_search_inside_cross_validation_with_routing(criterion, is_piped):
    model, grid = CheapClusterer(3), {"quality": ["random", "right"]}
    if is_piped:
        model = make_pipeline(StandardScaler(), model)
        grid = {f"cheapclusterer__{name}": values for name, values in grid.items()}
    splitter = TargetSplit(2, random_state=0)
    search = make_search(model, grid, criterion=criterion)
    with config_context(enable_metadata_routing=True):
        results = cross_validate(
            search,
            X,
            Y,
            cv=splitter,
            params={"sample_domain": TAGS},
            scoring={
                "truth": make_target_scorer("clustering_accuracy"),
                "silhouette": make_label_free_scorer("silhouette"),
            },
            return_estimator=True,
            error_score="raise",
        )
    for i, (train, test) in enumerate(splitter.split(X, sample_domain=TAGS)):
        expected = clone(search).fit(X[train], Y[train], sample_domain=TAGS[train])
        assert_same_results(results["estimator"][i], expected)
        predicted = expected.predict(X[test])
        assert results["test_truth"][i] == clustering_accuracy(Y[test], predicted) > 0.9


@pytest.mark.parametrize("routing", [False, True])
def test_search_inside_cross_validation_by_its_own_score(routing):
    splitter = TargetSplit(2, sample_domain=TAGS, random_state=0)
    search = make_search(criterion="silhouette")
    with config_context(enable_metadata_routing=routing):
        results = cross_validate(
            search, X, Y, cv=splitter, params={"sample_domain": TAGS}, error_score="raise"
        )
    for i, (train, test) in enumerate(splitter.split(X)):
        expected = clone(search).fit(X[train], Y[train], sample_domain=TAGS[train])
        assert results["test_score"][i] == expected.score(X[test])


def test_requests():
    with config_context(enable_metadata_routing=True):
        routing = make_search().get_metadata_routing()
        assert routing.consumes("fit", ["sample_domain", "X_tgt", "y_tgt"]) == {"sample_domain"}
        assert routing.consumes("score", ["sample_domain", "y"]) == {"sample_domain"}


def test_search_inside_cross_validation_without_routing():
    search = make_search()
    scores = cross_validate(
        search,
        X,
        Y,
        cv=TargetSplit(2, random_state=0),
        groups=TAGS,
        params={"sample_domain": TAGS},
        scoring=make_target_scorer("clustering_accuracy"),
        error_score="raise",
    )
    assert (scores["test_score"] == 1).all()
