import pickle

import joblib
import numpy as np
import pandas as pd
import pytest
from _cheap import CheapClusterer, within_cluster_scorer
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn import metrics as sklearn_metrics
from sklearn.base import BaseEstimator, ClassifierMixin, clone
from sklearn.datasets import make_blobs
from sklearn.impute import SimpleImputer
from sklearn.metrics import adjusted_rand_score, rand_score, silhouette_score
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.neighbors import NearestNeighbors
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans
from sklearn_ckm.metrics import (
    clustering_accuracy,
    information_maximization_score,
    neighborhood_agreement_score,
    nuclear_norm_score,
    soft_neighborhood_density_score,
)
from sklearn_ckm.model_selection import (
    TargetSplit,
    _scorers,
    make_label_free_scorer,
    make_target_scorer,
)
from sklearn_ckm.pipeline import make_domain_pipeline

SMALL = {
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 1,
    "max_epochs": 1,
    "random_state": 0,
}
CRITERIA = [
    "information_maximization",
    "neighborhood_agreement",
    "nuclear_norm",
    "silhouette",
    "soft_neighborhood_density",
    "stability",
]

X, Y = make_blobs(n_samples=120, centers=5 * np.eye(5), cluster_std=1.5, random_state=0)
TAGS = np.where(Y < 2, 1, -1)
TARGET = np.flatnonzero(TAGS < 0)
SPLITTER = TargetSplit(3, random_state=0)
FOLDS = list(SPLITTER.split(X, sample_domain=TAGS))


def global_state():
    return pickle.dumps(np.random.get_state())  # noqa: NPY002


class Reader(BaseEstimator):
    """Predicts what stands in the first column, or the name that has this place."""

    def __init__(self, names=None):
        self.names = names
        self.seen = []

    def predict(self, X):
        codes = np.asarray(X).reshape(len(X), -1)[:, 0].astype(int)
        self.seen.append(codes)
        return codes if self.names is None else np.asarray(self.names)[codes]

    def transform(self, X):
        return np.asarray(X)


def column(values):
    return np.array(values, dtype=float)[:, np.newaxis]


@pytest.fixture(scope="module")
def fitted():
    return CheapClusterer(3).fit(X, sample_domain=TAGS)


# comparison with labels -------------------------------------------------------------------------


@pytest.mark.parametrize(
    "metric, function, kwargs",
    [
        ("accuracy", sklearn_metrics.accuracy_score, {}),
        ("accuracy_score", sklearn_metrics.accuracy_score, {}),
        ("rand", rand_score, {}),
        ("adjusted_rand", adjusted_rand_score, {}),
        ("adjusted_rand_score", adjusted_rand_score, {}),
        ("clustering_accuracy", clustering_accuracy, {}),
        ("f1", sklearn_metrics.f1_score, {"average": "macro"}),
        ("fbeta_score", sklearn_metrics.fbeta_score, {"average": "macro", "beta": 2}),
        (sklearn_metrics.v_measure_score, sklearn_metrics.v_measure_score, {"beta": 3.0}),
        (lambda y, labels, scale=1: scale * (y != labels).sum(), None, {"scale": 3}),
    ],
)
@pytest.mark.parametrize("greater_is_better", [True, False])
def test_equals_the_metric(metric, function, kwargs, greater_is_better):
    y, predicted = [0, 0, 1, 1, 2, 2, 2], [1, 0, 1, 1, 2, 0, 2]
    scorer = make_target_scorer(metric, greater_is_better=greater_is_better, **kwargs)
    expected = (function or metric)(np.array(y), np.array(predicted), **kwargs)
    score = scorer(Reader(), column(predicted), y)
    assert score == pytest.approx(expected if greater_is_better else -expected)
    assert type(score) is float and score != 0


def test_truth_comes_before_the_prediction():
    # one true class in two clusters is complete in neither sense
    y, predicted = [0, 0, 0, 0], [0, 0, 1, 1]
    assert make_target_scorer("homogeneity")(Reader(), column(predicted), y) == pytest.approx(1)
    assert make_target_scorer("completeness")(Reader(), column(predicted), y) == pytest.approx(0)


@pytest.mark.parametrize(
    "y, names",
    [
        ([0, 1, -1, -1, 2, 0], None),
        ([0, 1, np.nan, -1, 2, 0], None),
        ([0, 1, np.nan, None, 2, 0], None),
        (np.array([0, 1, np.nan, -1, 2, 0]), None),
        (pd.array([0, 1, None, -1, 2, 0], dtype="Int64"), None),
        (["a", "b", "-1", "-1", "c", "a"], ["a", "b", "c"]),
        (np.array(["a", "b", "-1", "-1", "c", "a"]), ["a", "b", "c"]),
        (["a", "b", None, -1, "c", "a"], ["a", "b", "c"]),
        (pd.Series(["a", "b", None, "-1", "c", "a"], index=range(6)[::-1]), ["a", "b", "c"]),
    ],
)
def test_unlabelled_rows_are_left_out(y, names):
    # three of the four labelled rows are right; the other two are never predicted
    model = Reader(names)
    score = make_target_scorer("accuracy")(model, column([0, 1, 2, 2, 2, 1]), y)
    assert score == pytest.approx(3 / 4)
    ((*seen,),) = model.seen
    assert seen == [0, 1, 2, 1]


@pytest.mark.parametrize("kind", [list, np.array, pd.Series])
def test_tags_select_the_target_rows(kind):
    scorer = make_target_scorer("accuracy")
    y = [0, 0, 0, 1, 1, -1]
    tags = kind([1, -1, 0, -2, -1, -1])
    model = Reader()
    assert scorer(model, column([9, 0, 9, 1, 0, 7]), y, sample_domain=tags) == pytest.approx(2 / 3)
    assert_array_equal(model.seen[0], [0, 1, 0])
    # without tags the two source rows count, and both are wrong
    assert scorer(model, column([9, 0, 9, 1, 0, 7]), y) == pytest.approx(2 / 5)


def test_classes_of_the_source_are_not_compared():
    # labels of another type there would not even sort
    y = np.array(["x", 0, None, 1], dtype=object)
    score = make_target_scorer("accuracy")(
        Reader(), column([5, 0, 5, 1]), y, sample_domain=[1, -1, 1, -1]
    )
    assert score == 1.0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("names", [np.arange(5), np.array(list("edcba"))])
def test_semi_supervised_estimator_by_accuracy(names):
    y = names[Y]
    few = y.astype(object)
    few[TARGET] = None
    for label in names[2:]:
        few[np.flatnonzero(y == label)[:3]] = label
    model = CKMSemiSupervisedAdapter(**SMALL).fit(X, few, sample_domain=TAGS)
    scorer = make_target_scorer("accuracy")
    score = scorer(model, X, y, sample_domain=TAGS)
    assert score == np.mean(model.predict(X[TARGET]) == y[TARGET])
    assert score == model.score(X, y, sample_domain=TAGS) > 0.5
    assert scorer(model, X, few, sample_domain=TAGS) == model.score(X, few, sample_domain=TAGS)


class Names(BaseEstimator):
    """Predicts given names."""

    def __init__(self, names):
        self.names = names

    def predict(self, X):
        return self.names[: len(X)]


@pytest.mark.parametrize(
    "truth, predicted",
    [
        (np.array(list("abba")), np.array(["a", "b", -1, "a"], dtype=object)),
        (np.array([True, False, False, True]), np.array([True, False, -1, True], dtype=object)),
        (np.array([3, 4, 4, 3]), np.array([3, 4, "new", 3], dtype=object)),
        (np.array([3, 4, 4, 3]), np.array([3, 4, None, 3], dtype=object)),
        (
            np.array(["2020", "2021", "2021", "2020"], dtype="M8[D]"),
            np.array([np.datetime64("2020").astype("M8[D]").item(), "x", "y", None], dtype=object),
        ),
    ],
)
def test_names_beside_others_are_compared_as_names(truth, predicted):
    score = make_target_scorer("accuracy")(Names(predicted), column([0, 0, 0, 0]), truth)
    known = [a == b for a, b in zip(truth.tolist(), predicted.tolist(), strict=True)]
    assert score == np.mean(known)
    assert make_target_scorer("rand")(Names(predicted), column([0] * 4), truth) < 1


class Said(ClassifierMixin, BaseEstimator):
    """A fitted classifier that answers what it is given."""

    def __init__(self, answers):
        self.answers = answers

    def predict(self, X):
        return self.answers


def said(answers, classes=None):
    estimator = Said(answers)
    estimator.classes_ = np.unique(answers) if classes is None else np.array(classes, object)
    return estimator


@pytest.mark.parametrize("dtype", [np.uint8, np.int32, np.float64, bool])
def test_numbers_of_any_dtype_are_compared_as_they_are(dtype):
    truth, answers = np.array([1, 0, 0, 1, 1]), np.array([1, 1, 0, 1, 0])
    expected = sklearn_metrics.f1_score(truth, answers)
    assert make_target_scorer("f1")(said(answers.astype(dtype)), X[:5], truth) == expected


def test_labels_of_the_metric_are_those_of_the_rows():
    truth = np.array(["pos", "neg", "neg", "pos", "neg"])
    answers = np.array(["pos", "neg", -1, "neg", "pos"], dtype=object)
    estimator = said(answers, ["neg", "pos", -1])
    scorer = make_target_scorer(
        sklearn_metrics.precision_score, labels=["pos"], average="macro", zero_division=0.0
    )
    assert scorer(estimator, X[:5], truth) == 0.5
    scorer = make_target_scorer(sklearn_metrics.recall_score, pos_label=None, average="macro")
    assert scorer(
        said(answers[[0, 1, 1, 3, 4]], ["neg", "pos", -1]), X[:5], truth
    ) == pytest.approx(7 / 12)
    binary = np.array(["pos", "neg", "neg", "neg", "pos"], dtype=object)
    scorer = make_target_scorer(sklearn_metrics.f1_score, pos_label="pos")
    assert scorer(said(binary, ["neg", "pos"]), X[:5], truth) == 0.5


@pytest.mark.parametrize("kind", [str, int])
def test_labels_that_can_equal_no_class_raise(kind):
    truth, answers = np.array([1, 0, 1]), np.array([1, 0, 0])
    other = int if kind is str else str
    with pytest.raises(ValueError, match="Mix of label input types"):
        make_target_scorer("accuracy")(said(answers.astype(kind)), X[:3], truth.astype(other))


def test_one_cluster_is_not_the_best_nuclear_norm(fitted):
    class One(CheapClusterer):
        def predict_proba(self, X):
            return np.ones((len(X), 1))

    assert make_label_free_scorer("nuclear_norm")(One(1).fit(X), X) == 0.0


@pytest.mark.parametrize(
    "metric, error, message",
    [
        ("no_such_metric", ValueError, "Expected the name of a function in .*got 'no_such_metric'"),
        ("", ValueError, "Expected the name of a function .*got ''"),
        ("get_scorer", ValueError, "Expected the name of a function .*got 'get_scorer'"),
        (
            "silhouette",
            ValueError,
            "takes true and predicted labels and gives one number, got 'silhouette'",
        ),
        ("roc_auc", ValueError, "Expected the name of a function .*got 'roc_auc'"),
        ("zero_one_loss", ValueError, "Set greater_is_better=False"),
        ("mean_squared_error", ValueError, "Set greater_is_better=False"),
        ("get", ValueError, "Expected the name of a function .*got 'get'"),
        ("cluster", ValueError, "Expected the name of a function .*got 'cluster'"),
        ("confusion_matrix", ValueError, "gives one number, got 'confusion_matrix'"),
        ("classification_report", ValueError, "one number, got 'classification_report'"),
        ("class_likelihood_ratios", ValueError, "one number, got 'class_likelihood_ratios'"),
        (3, (TypeError, ValueError), "Expected .*got 3"),
    ],
)
def test_what_is_no_metric_raises(metric, error, message):
    with pytest.raises(error, match=message):
        make_target_scorer(metric)


@pytest.mark.parametrize(
    "y, tags, message",
    [
        (None, None, "Expected the classes of some target rows in y, got None. make_label_free"),
        ([-1, -1, -1], None, "Expected a labelled target row to score, got none among 3. make_lab"),
        ([0, 0, None], [1, 1, -1], "Expected a labelled target row to score, got none among 1"),
        ([0, 0], None, "got 2 labels for 3 rows"),
        ([0, 0, 0], [1, 1, 1], r"Expected target rows .* got only the tags \[1\]"),
        ([0, 0, 0], [1, -1], "got 2 tags in sample_domain for 3 rows"),
    ],
)
def test_invalid_calls_raise(y, tags, message):
    with pytest.raises(ValueError, match=message):
        make_target_scorer("accuracy")(Reader(), column([0, 0, 0]), y, sample_domain=tags)


# criteria without labels ------------------------------------------------------------------------

BY_HAND = {
    "information_maximization": lambda m, X: information_maximization_score(
        m.predict_proba(X), normalize=True
    ),
    "neighborhood_agreement": lambda m, X: neighborhood_agreement_score(X, m.predict(X)),
    "nuclear_norm": lambda m, X: nuclear_norm_score(m.predict_proba(X)),
    "silhouette": lambda m, X: silhouette_score(m.transform(X), m.predict(X)),
    "soft_neighborhood_density": lambda m, X: soft_neighborhood_density_score(m.predict_proba(X)),
}


@pytest.mark.parametrize("criterion", BY_HAND)
def test_equals_the_definition_on_target_rows(criterion, fitted):
    score = make_label_free_scorer(criterion)
    value = score(fitted, X, sample_domain=TAGS)
    assert type(value) is float
    assert value == pytest.approx(BY_HAND[criterion](fitted, X[TARGET]), abs=1e-12)
    assert score(fitted, X[TARGET]) == value
    everything = score(fitted, X)
    assert everything == pytest.approx(BY_HAND[criterion](fitted, X), abs=1e-12)
    assert everything != value


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("criterion", BY_HAND)
def test_equals_the_definition_for_a_deep_estimator(criterion):
    model = CKMDomainAdapter(3, **SMALL).fit(X, Y, sample_domain=TAGS)
    value = make_label_free_scorer(criterion)(model, X, Y, sample_domain=TAGS)
    assert value == pytest.approx(BY_HAND[criterion](model, X[TARGET]), abs=1e-6)


def test_stability_is_the_agreement_with_k_means_on_halves(fitted, monkeypatch):
    made = []

    class Spy(_scorers.KMeans):
        def fit(self, X, y=None, sample_weight=None):
            made.append((self, X.copy()))
            return super().fit(X, y, sample_weight)

    monkeypatch.setattr(_scorers, "KMeans", Spy)
    score = make_label_free_scorer("stability")(fitted, X, sample_domain=TAGS)
    z, labels = fitted.transform(X[TARGET]), fitted.predict(X[TARGET])
    assert len(made) == 10
    assert len({kmeans.random_state for kmeans, _ in made}) == 10
    scores = []
    for kmeans, half in made:
        assert kmeans.n_clusters == 3
        assert len(half) == len(np.unique(half, axis=0)) == len(z) // 2
        assert {row.tobytes() for row in half} <= {row.tobytes() for row in z}
        scores.append(adjusted_rand_score(labels, kmeans.predict(z)))
    assert len({half.tobytes() for _, half in made}) == 10
    assert score == pytest.approx(np.mean(scores))
    assert np.std(scores) > 0


def test_stability_of_right_random_and_single_clusters(fitted):
    score = make_label_free_scorer("stability")
    far, _ = make_blobs(90, centers=50 * np.eye(3), random_state=0)
    assert score(CheapClusterer(3).fit(far), far) == pytest.approx(1)
    assert abs(score(CheapClusterer(3, quality="random").fit(far), far)) < 0.1
    assert score(CheapClusterer(1).fit(far), far) == 0.0
    # every row a cluster of its own
    assert np.isfinite(score(CheapClusterer(6).fit(far[:6]), far[:6]))


@pytest.mark.parametrize("n_rows, n_clusters", [(30, 1), (4, 4)])
def test_silhouette_that_is_not_defined_is_the_worst(n_rows, n_clusters):
    rows = X[:n_rows]
    model = CheapClusterer(n_clusters).fit(rows)
    assert make_label_free_scorer("silhouette")(model, rows) == -1.0


def test_one_occupied_cluster_of_many_is_the_worst_silhouette():
    class Lopsided(Reader):
        def predict(self, X):
            return np.full(len(X), 2)

    assert make_label_free_scorer("silhouette")(Lopsided(), X) == -1.0
    assert make_label_free_scorer("neighborhood_agreement")(Lopsided(), X) == 0.0
    assert make_label_free_scorer("stability")(Lopsided(), X) == 0.0


@pytest.mark.parametrize("criterion", CRITERIA)
def test_labels_are_not_read(criterion, fitted):
    scorer = make_label_free_scorer(criterion)
    garbage = np.array([object() for _ in Y])
    values = {scorer(fitted, X, y, sample_domain=TAGS) for y in (None, Y, garbage, [np.inf])}
    assert len(values) == 1


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_neighborhood_agreement_is_the_score_of_the_estimator():
    noise = 1e4 * np.random.default_rng(0).normal(size=(len(X), 1))
    table = np.hstack([X, noise])  # a column in large units
    table[::7, 0] = np.nan
    scorer = make_label_free_scorer("neighborhood_agreement")
    model = CKMDomainAdapter(3, **SMALL)
    pipeline = make_domain_pipeline(SimpleImputer(), MinMaxScaler(), model)
    pipeline.fit(table, Y, sample_domain=TAGS)
    assert scorer(pipeline, table, sample_domain=TAGS) == pipeline.score(table[TARGET])
    filled = SimpleImputer().fit_transform(table)
    model = clone(model).fit(filled, Y, sample_domain=TAGS)
    assert scorer(model, filled, sample_domain=TAGS) == model.score(filled[TARGET]) > 0.3


def test_neighborhood_agreement_of_images(fitted):
    class OfImages(Reader):
        def predict(self, X):
            return (np.asarray(X)[:, 0, 0, 0] > 2).astype(int)

    images = X[:, :4].reshape(-1, 1, 2, 2)
    score = make_label_free_scorer("neighborhood_agreement")(OfImages(), images)
    labels = (X[:, 0] > 2).astype(int)
    assert score == neighborhood_agreement_score(X[:, :4], labels)


@pytest.mark.parametrize("criterion", CRITERIA)
def test_at_most_2000_target_rows_are_scored_and_always_the_same(criterion):
    class Spy(CheapClusterer):
        def predict(self, X):
            seen.append(X)
            return super().predict(X)

        def predict_proba(self, X):
            seen.append(X)
            return super().predict_proba(X)

    rng = np.random.default_rng(0)
    rows = rng.normal(size=(2600, 2))
    tags = np.where(np.arange(2600) % 5 == 0, 1, -1)  # 520 source rows
    model = Spy(2).fit(rows, sample_domain=tags)
    scorer = make_label_free_scorer(criterion)
    seen = []
    scores = [s(model, rows, sample_domain=tags) for s in (scorer, clone(scorer))]
    assert scores[0] == scores[1]
    assert len(seen) == 2
    assert_array_equal(seen[0], seen[1])
    assert len(seen[0]) == 2000
    number = {row.tobytes(): i for i, row in enumerate(rows)}
    places = [number[row.tobytes()] for row in seen[0]]
    assert (tags[places] < 0).all()
    assert (np.diff(places) > 0).all()  # distinct, in their order
    assert places[0] > 0 and places != np.flatnonzero(tags < 0)[:2000].tolist()
    # as many rows as fit are not sampled
    few = np.flatnonzero(tags < 0)[:2000]
    scorer(model, rows[few])
    assert_array_equal(seen[2], rows[few])


@pytest.mark.parametrize("criterion", ["", "Silhouette", "silhouette_score", "hidden_classes"])
def test_unknown_criterion_raises(criterion):
    with pytest.raises(ValueError, match=rf"Expected one of \['information.*got '{criterion}'"):
        make_label_free_scorer(criterion)


@pytest.mark.parametrize("criterion", CRITERIA)
@pytest.mark.parametrize(
    "tags, message",
    [
        (np.ones(120), r"Expected target rows .* got only the tags \[1\]"),
        ([-1], "got 1 tags in sample_domain for 120 rows"),
    ],
)
def test_bad_tags_raise(criterion, tags, message, fitted):
    with pytest.raises(ValueError, match=message):
        make_label_free_scorer(criterion)(fitted, X, sample_domain=tags)


# both kinds -------------------------------------------------------------------------------------

SCORERS = {
    "adjusted_rand": make_target_scorer("adjusted_rand"),
    **{criterion: make_label_free_scorer(criterion) for criterion in CRITERIA},
}


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize("copied", [lambda s: pickle.loads(pickle.dumps(s)), clone])
def test_copies_score_alike(name, copied, fitted):
    scorer = SCORERS[name]
    expected = scorer(fitted, X, Y, sample_domain=TAGS)
    assert copied(scorer)(fitted, X, Y, sample_domain=TAGS) == expected
    with config_context(enable_metadata_routing=True):
        requests = copied(scorer).get_metadata_routing().score.requests
    assert requests == {"sample_domain": True}


def test_representations_tell_what_is_scored():
    assert repr(make_label_free_scorer("silhouette")) == "LabelFreeScorer(criterion='silhouette')"
    assert "adjusted_rand_score" in repr(make_target_scorer("adjusted_rand"))


@pytest.mark.parametrize("name", SCORERS)
def test_leaves_inputs_and_global_state(name, fitted):
    rows, y, tags = X.copy(), Y.copy(), TAGS.copy()
    before = global_state()
    SCORERS[name](fitted, rows, y, sample_domain=tags)
    assert global_state() == before
    for array, expected in ((rows, X), (y, Y), (tags, TAGS)):
        assert_array_equal(array, expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("name", SCORERS)
def test_frames_keep_their_column_names(name):
    frame = pd.DataFrame(X, columns=list("abcde"), index=np.arange(len(X))[::-1])
    model = CKMDomainAdapter(3, **SMALL).fit(frame, Y, sample_domain=TAGS)
    labels = pd.Series(Y, index=frame.index[::-1])  # places count, not the index
    with pytest.warns(UserWarning, match="does not have valid feature names"):
        expected = SCORERS[name](model, X, Y, sample_domain=TAGS)
    assert SCORERS[name](model, frame, labels, sample_domain=pd.Series(TAGS)) == expected


# searches ---------------------------------------------------------------------------------------

GRID = {"n_clusters": [2, 3], "quality": ["right", "random"]}


def scores_by_hand(name, candidate):
    scores = []
    for train, test in FOLDS:
        model = CheapClusterer(**candidate).fit(X[train], sample_domain=TAGS[train])
        scores.append(SCORERS[name](model, X[test], Y[test]))
    return scores


def assert_as_by_hand(results, name, suffix):
    for i, candidate in enumerate(results["params"]):
        found = [results[f"split{fold}_test_{suffix}"][i] for fold in range(3)]
        assert found == scores_by_hand(name, candidate)


@pytest.mark.parametrize("name", SCORERS)
@pytest.mark.parametrize(
    "routing, params",
    [
        (False, {"groups": TAGS, "sample_domain": TAGS}),
        (True, {"sample_domain": TAGS}),
    ],
)
def test_search_by_one_scorer(name, routing, params):
    with config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            CheapClusterer(), GRID, scoring=SCORERS[name], cv=SPLITTER, error_score="raise"
        ).fit(X, Y, **params)
    assert_as_by_hand(search.cv_results_, name, "score")
    if name in ("adjusted_rand", "silhouette", "stability", "neighborhood_agreement"):
        assert search.best_params_["quality"] == "right"


@pytest.mark.parametrize("routing", [False, True])
def test_search_by_several_scorers_refits_by_one(routing):
    params = {"sample_domain": TAGS} if routing else {"groups": TAGS, "sample_domain": TAGS}
    with config_context(enable_metadata_routing=routing):
        search = GridSearchCV(
            CheapClusterer(),
            GRID,
            scoring=SCORERS,
            refit="adjusted_rand",
            cv=SPLITTER,
            error_score="raise",
        ).fit(X, Y, **params)
    for name in SCORERS:
        assert_as_by_hand(search.cv_results_, name, name)
    assert search.best_params_ == {"n_clusters": 3, "quality": "right"}


def test_tags_reach_the_scorers_where_routing_is_enabled():
    """A plain KFold tests on source rows: routed tags leave them out."""
    params = {"sample_domain": TAGS}
    scores = {}
    for routing in (False, True):
        with config_context(enable_metadata_routing=routing):
            scores[routing] = cross_val_score(
                CheapClusterer(), X, Y, scoring=SCORERS["adjusted_rand"], cv=2, params=params
            )
    half = len(X) // 2
    for fold, test in enumerate((np.arange(half), np.arange(half, len(X)))):
        train = np.setdiff1d(np.arange(len(X)), test)
        model = CheapClusterer().fit(X[train], sample_domain=TAGS[train])
        score = SCORERS["adjusted_rand"]
        assert scores[False][fold] == score(model, X[test], Y[test])
        assert scores[True][fold] == score(model, X[test], Y[test], sample_domain=TAGS[test])
    assert (scores[True] != scores[False]).all()


@pytest.mark.parametrize("routing", [False, True])
def test_cross_validation_of_a_pipeline(routing):
    pipeline = make_pipeline(StandardScaler(), CheapClusterer())
    params = {"sample_domain": TAGS}
    splitter = TargetSplit(3, sample_domain=TAGS, random_state=0)
    if not routing:
        params = {"cheapclusterer__sample_domain": TAGS}
    with config_context(enable_metadata_routing=routing):
        results = cross_validate(
            pipeline, X, Y, scoring=SCORERS, cv=splitter, params=params, error_score="raise"
        )
    for fold, (train, test) in enumerate(FOLDS):
        model = clone(pipeline).fit(X[train], cheapclusterer__sample_domain=TAGS[train])
        for name, scorer in SCORERS.items():
            assert results[f"test_{name}"][fold] == scorer(model, X[test], Y[test])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_two_jobs_give_the_same_bits():
    search = GridSearchCV(
        CKMDomainAdapter(3, **SMALL),
        {"lambda_clustering": [0.01, 1.0]},
        scoring=SCORERS,
        refit=False,
        cv=SPLITTER,
        error_score="raise",
    )
    params = {"groups": TAGS, "sample_domain": TAGS}
    alone = clone(search).fit(X, Y, **params)
    with joblib.parallel_config("loky", inner_max_num_threads=1):
        together = clone(search).set_params(n_jobs=2).fit(X, Y, **params)
    for name in SCORERS:
        for fold in range(3):
            key = f"split{fold}_test_{name}"
            assert_array_equal(together.cv_results_[key], alone.cv_results_[key])


# the score of the estimators --------------------------------------------------------------------


def standard_error_of_agreement(X, labels):
    """Of the score: agreement with ten neighbours, a row a draw."""
    neighbors = NearestNeighbors(n_neighbors=10).fit(X).kneighbors(return_distance=False)
    agreement = (labels[neighbors] == labels[:, np.newaxis]).mean(axis=1)
    counts = np.bincount(labels)
    expected = ((counts / len(X)) ** 2).sum()
    return agreement.std() / np.sqrt(len(X)) / (1 - expected)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("cls", [ConcreteKMeans, CKMDomainAdapter])
def test_score_does_not_rise_as_a_larger_weight_shrinks_the_clusters(cls, tmp_path):
    rows, y = make_blobs(400, centers=6 * np.eye(5), cluster_std=1.75, random_state=2)
    tags = np.where(y < 2, 1, -1)
    target, truth = rows[tags < 0], y[tags < 0] - 2

    def fit(weight, max_epochs=20):
        model = cls(
            3,
            **{**SMALL, "n_components": 5, "pretrain_epochs": 10, "max_epochs": max_epochs},
            lambda_clustering=weight,
            tol=0,
            memory=str(tmp_path),
        )
        if cls is ConcreteKMeans:
            return model.fit(target)
        return model.fit(rows, y, sample_domain=tags)

    # the clusters are right before the clustering term is weighed at all
    assert clustering_accuracy(truth, fit(1.0, max_epochs=0).labels_) > 0.97
    models = [fit(weight) for weight in (0.01, 0.1, 1.0, 10.0, 100.0)]
    scores = np.array([model.score(target) for model in models])
    broken = np.array([within_cluster_scorer(model, target) for model in models])
    silhouettes = [
        silhouette_score(model.transform(target), model.predict(target)) for model in models
    ]

    # clusters shrink with each decade, by more than ten in all
    assert (np.diff(-broken) < 0).all() and broken[0] < 10 * broken[-1]
    # Two standard errors: what another draw of as many rows would move the score by. There is
    # room for twice as much below the best score, one.
    noise = 2 * standard_error_of_agreement(target, truth)
    assert 2 * noise < 1 - scores[0]
    assert scores.max() - scores[0] < noise
    # the same in units of their own: a mean over rows, of which two standard errors are noise
    first = models[0]
    scatter = (first.transform(target) - first.cluster_centers_[first.predict(target)]) ** 2
    broken_noise = 2 * scatter.sum(axis=1).std() / np.sqrt(len(target))
    assert broken[-1] - broken[0] > 5 * broken_noise
    assert silhouettes[-1] > silhouettes[0] + 0.2
