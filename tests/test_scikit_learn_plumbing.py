"""What scikit-learn's tools do with two domains: the record behind docs/scikit_learn.rst.

Each cell of that table has a test here. Those named ``..._today`` record behaviour of scikit-learn
that users have to know and that we did not choose: where one of them fails, scikit-learn has
changed, and the page has to change with it.
"""

import re
import textwrap
from pathlib import Path

import joblib
import numpy as np
import pandas as pd
import polars as pl
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context
from sklearn.base import clone
from sklearn.calibration import CalibratedClassifierCV
from sklearn.compose import ColumnTransformer
from sklearn.datasets import make_blobs
from sklearn.ensemble import BaggingClassifier, VotingClassifier
from sklearn.experimental import enable_halving_search_cv  # noqa: F401
from sklearn.frozen import FrozenEstimator
from sklearn.metrics import rand_score
from sklearn.model_selection import (
    GridSearchCV,
    HalvingGridSearchCV,
    KFold,
    RandomizedSearchCV,
    StratifiedKFold,
    cross_val_predict,
    cross_val_score,
    cross_validate,
    learning_curve,
    permutation_test_score,
    validation_curve,
)
from sklearn.pipeline import FeatureUnion, Pipeline
from sklearn.preprocessing import StandardScaler

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter
from sklearn_ckm.model_selection import TargetSplit, make_target_scorer
from sklearn_ckm.pipeline import DomainPipeline

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

PAGE = Path(__file__).parents[1] / "docs" / "scikit_learn.rst"
SMALL = {
    "n_clusters": 2,
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 1,
    "max_epochs": 1,
    "random_state": 0,
}
GRID = {"lambda_clustering": [0.01, 1.0]}


def make_stack():
    """Source rows of two classes, then as many target rows of two others; labels and tags."""
    X, y = make_blobs(n_samples=80, centers=8 * np.eye(4), cluster_std=3, random_state=0)
    order = np.argsort(y >= 2, kind="stable")
    return X[order], y[order], np.where(y[order] < 2, 1, -1)


X, Y, TAGS = make_stack()
SOURCE, TARGET = np.flatnonzero(TAGS > 0), np.flatnonzero(TAGS < 0)
FRAME = pd.DataFrame(X, columns=list("abcd"))
TARGET_TESTS = [TARGET[test] for _, test in KFold(2, shuffle=True, random_state=0).split(TARGET)]
TARGET_FOLDS = [(np.setdiff1d(np.arange(len(X)), test), test) for test in TARGET_TESTS]
MIXED_FOLDS = list(StratifiedKFold(2, shuffle=True, random_state=0).split(X, Y))


@pytest.fixture(params=[False, True], ids=["routing-off", "routing-on"])
def routing(request):
    with config_context(enable_metadata_routing=request.param):
        yield request.param


@pytest.fixture(params=[CKMDomainAdapter, CKMSemiSupervisedAdapter], ids=lambda cls: cls.__name__)
def model(request):
    return request.param(**SMALL)


class Spy(CKMDomainAdapter):
    """Records what each fit of it or of its clones gets."""

    fits = []

    def fit(self, X, y=None, *, X_tgt=None, sample_domain=None):
        self.fits.append({"X": X, "y": y, "X_tgt": X_tgt, "sample_domain": sample_domain})
        return super().fit(X, y, X_tgt=X_tgt, sample_domain=sample_domain)


@pytest.fixture
def spy():
    Spy.fits.clear()
    yield Spy(**SMALL)
    Spy.fits.clear()


def true_tags(rows):
    """Tags of rows of ``X``, found by their values."""
    found = (rows[:, None] == X[None]).all(2)
    assert (found.sum(1) == 1).all()
    return TAGS[found.argmax(1)]


def scores_by_hand(model, folds, *, tagged):
    """Fit and rate each fold without scikit-learn's tools."""
    scores = []
    for train, test in folds:
        fitted = clone(model).fit(X[train], Y[train], sample_domain=TAGS[train])
        tags = {"sample_domain": TAGS[test]} if tagged else {}
        scores.append(fitted.score(X[test], Y[test], **tags))
    return scores


def split_scores(search, i=0):
    n_splits = search.n_splits_
    return [search.cv_results_[f"split{k}_test_score"][i] for k in range(n_splits)]


def pipeline_of(model, cls=Pipeline):
    return cls([("scale", StandardScaler()), ("adapt", model)])


def tags_for_pipeline(routing):
    """The keyword that takes tags through a plain Pipeline."""
    return {"sample_domain": TAGS} if routing else {"adapt__sample_domain": TAGS}


# direct calls -----------------------------------------------------------------------------------


def test_direct_fit(model, routing):
    model.fit(X, Y, sample_domain=TAGS)
    if isinstance(model, CKMDomainAdapter):
        other = clone(model).fit(X[SOURCE], Y[SOURCE], X_tgt=X[TARGET])
    else:
        other = clone(model).fit(X[SOURCE], Y[SOURCE], X_tgt=X[TARGET], y_tgt=Y[TARGET])
    assert_array_equal(model.cluster_centers_, other.cluster_centers_)
    with config_context(enable_metadata_routing=False):
        plain = clone(model).fit(X, Y, sample_domain=TAGS)
    assert_array_equal(model.cluster_centers_, plain.cluster_centers_)


def test_clone_keeps_a_request():
    with config_context(enable_metadata_routing=True):
        model = CKMDomainAdapter(**SMALL).set_fit_request(sample_domain="domain")
        pipeline = clone(pipeline_of(model)).fit(X, Y, domain=TAGS)
    assert len(pipeline[-1].labels_) == len(TARGET)


# pipelines --------------------------------------------------------------------------------------


def test_pipeline_takes_tags_under_the_name_of_the_step_or_routed(model, routing):
    pipeline = pipeline_of(model).fit(X, Y, **tags_for_pipeline(routing))
    expected = clone(model).fit(StandardScaler().fit_transform(X), Y, sample_domain=TAGS)
    assert_array_equal(pipeline[-1].cluster_centers_, expected.cluster_centers_)


def test_pipeline_refuses_the_other_name_today(routing):
    message = "not routed to any object" if routing else "does not accept the sample_domain param"
    with pytest.raises((TypeError, ValueError), match=message):
        pipeline_of(CKMDomainAdapter(**SMALL)).fit(X, Y, **tags_for_pipeline(not routing))


@pytest.mark.parametrize("name", ["sample_domain", "adapt__sample_domain", "nonsense"])
def test_score_of_a_pipeline_drops_tags_without_routing_today(model, name):
    pipeline = pipeline_of(model).fit(X, Y, adapt__sample_domain=TAGS)
    # neither passed on nor refused: the source's rows are rated too
    assert pipeline.score(X, Y, **{name: TAGS}) == pipeline.score(X, Y)


def test_score_of_a_pipeline_takes_tags_with_routing(model):
    pipeline = pipeline_of(model).fit(X, Y, adapt__sample_domain=TAGS)
    scaled = pipeline[0].transform(X)
    with config_context(enable_metadata_routing=True):
        score = pipeline.score(X, Y, sample_domain=TAGS)
    assert score == model.score(scaled, Y, sample_domain=TAGS)
    assert score != model.score(scaled, Y)


def test_pipeline_hands_on_the_second_array_unscaled_today(spy):
    # The steps transform X alone. If scikit-learn ever transforms X_tgt too, DomainPipeline is
    # superfluous for direct calls.
    pipeline_of(spy).fit(X[SOURCE], Y[SOURCE], adapt__X_tgt=X[TARGET])
    (call,) = Spy.fits
    assert_array_equal(call["X"], StandardScaler().fit_transform(X[SOURCE]))
    assert_array_equal(call["X_tgt"], X[TARGET])


def test_transform_input_cannot_take_the_second_array_along_today(spy):
    # scikit-learn's own means for validation sets would scale X_tgt like X, but it only takes
    # requested metadata, and only with routing; besides, the scaler would learn from X alone.
    pipeline = pipeline_of(spy).set_params(transform_input=["X_tgt"])
    with pytest.raises(ValueError, match="only be set if metadata routing is enabled"):
        pipeline.fit(X[SOURCE], Y[SOURCE], adapt__X_tgt=X[TARGET])
    with (
        config_context(enable_metadata_routing=True),
        pytest.raises(TypeError, match="not routed to any object"),
    ):
        pipeline.fit(X[SOURCE], Y[SOURCE], X_tgt=X[TARGET])


def test_domain_pipeline_takes_the_same_calls_with_and_without_routing(model, routing):
    pipeline = pipeline_of(model, DomainPipeline).fit(X, Y, sample_domain=TAGS)
    scaled = StandardScaler().fit_transform(X)
    expected = clone(model).fit(scaled, Y, sample_domain=TAGS)
    assert_array_equal(pipeline[-1].cluster_centers_, expected.cluster_centers_)
    score = pipeline.score(X, Y, sample_domain=TAGS)
    assert score == expected.score(scaled, Y, sample_domain=TAGS)


# searches ---------------------------------------------------------------------------------------


def test_grid_search_cuts_tags_with_the_rows(spy, routing):
    GridSearchCV(spy, GRID, cv=MIXED_FOLDS, error_score="raise").fit(X, Y, sample_domain=TAGS)
    assert [len(call["X"]) for call in Spy.fits] == [40, 40, 40, 40, 80]
    for call in Spy.fits:
        assert_array_equal(call["sample_domain"], true_tags(call["X"]))


def test_grid_search_rates_the_source_too_unless_tags_are_routed(model, routing):
    search = GridSearchCV(model, GRID, cv=MIXED_FOLDS).fit(X, Y, sample_domain=TAGS)
    for i, value in enumerate(GRID["lambda_clustering"]):
        candidate = clone(model).set_params(lambda_clustering=value)
        expected = scores_by_hand(candidate, MIXED_FOLDS, tagged=routing)
        assert split_scores(search, i) == expected
        assert expected != scores_by_hand(candidate, MIXED_FOLDS, tagged=not routing)


@pytest.mark.parametrize("tool", [GridSearchCV, RandomizedSearchCV])
def test_search_with_test_folds_of_target_rows_needs_no_routing(model, routing, tool):
    more = {"n_iter": 2, "random_state": 0} if tool is RandomizedSearchCV else {}
    search = tool(model, GRID, cv=TARGET_FOLDS, **more).fit(X, Y, sample_domain=TAGS)
    for i, candidate in enumerate(search.cv_results_["params"]):
        expected = scores_by_hand(clone(model).set_params(**candidate), TARGET_FOLDS, tagged=False)
        assert split_scores(search, i) == expected
    assert len(search.best_estimator_.labels_) == len(TARGET)


def test_named_scoring_counts_the_source_in_either_case_today(routing):
    model = CKMDomainAdapter(**SMALL)
    scoring = {"named": "rand_score", "target": make_target_scorer("rand")}
    result = cross_validate(
        model, X, Y, cv=MIXED_FOLDS, scoring=scoring, params={"sample_domain": TAGS}
    )
    for k, (train, test) in enumerate(MIXED_FOLDS):
        fitted = clone(model).fit(X[train], Y[train], sample_domain=TAGS[train])
        all_rows = rand_score(Y[test], fitted.predict(X[test]))
        test = test[TAGS[test] < 0]
        target_rows = rand_score(Y[test], fitted.predict(X[test]))
        assert all_rows != target_rows
        assert result["test_named"][k] == all_rows
        assert result["test_target"][k] == (target_rows if routing else all_rows)


@pytest.mark.parametrize("has_unnamed", [False, True])
def test_unlabelled_test_rows_count_as_wrong_without_tags_where_minus_one_is_a_class(
    routing, has_unnamed
):
    model = CKMSemiSupervisedAdapter(**{**SMALL, "n_clusters": 4 if has_unnamed else 2})
    few = np.where(np.arange(len(Y)) % 2, Y, -1)
    few[SOURCE] = Y[SOURCE]
    settings = {"cv": TARGET_FOLDS, "params": {"sample_domain": TAGS}}
    plain = cross_val_score(model, X, few, **settings)
    target = cross_val_score(model, X, few, scoring=make_target_scorer("accuracy"), **settings)
    for k, (train, test) in enumerate(TARGET_FOLDS):
        fitted = clone(model).fit(X[train], few[train], sample_domain=TAGS[train])
        is_right = fitted.predict(X[test]) == few[test]
        known = is_right[few[test] >= 0].mean()
        assert target[k] == known
        assert plain[k] == (is_right.mean() if has_unnamed and not routing else known)


def test_score_of_a_fitted_search_takes_tags_with_routing_only_today(model, routing):
    search = GridSearchCV(model, GRID, cv=TARGET_FOLDS).fit(X, Y, sample_domain=TAGS)
    if routing:
        score = search.score(X, Y, sample_domain=TAGS)
        assert score == search.best_estimator_.score(X, Y, sample_domain=TAGS)
    else:
        with pytest.raises(ValueError, match="only supported if enable_metadata_routing=True"):
            search.score(X, Y, sample_domain=TAGS)


def test_grid_search_cuts_the_second_array_like_the_first_today(spy):
    # A fit parameter with as many rows as X is taken for one of its columns. Here the source has
    # as many rows as the target, so the model is fitted on half of the target and nobody is told.
    n_source = len(SOURCE)
    assert n_source == len(TARGET)
    search = GridSearchCV(spy, {"n_clusters": [2]}, cv=KFold(2))
    search.fit(X[SOURCE], Y[SOURCE], X_tgt=X[TARGET])
    assert [len(call["X_tgt"]) for call in Spy.fits] == [n_source // 2, n_source // 2, n_source]
    # with one row less it arrives whole in every fold, but scores are those of source rows
    Spy.fits.clear()
    search.fit(X[SOURCE], Y[SOURCE], X_tgt=X[TARGET[1:]])
    assert [len(call["X_tgt"]) for call in Spy.fits] == [n_source - 1] * 3


def test_grid_search_refuses_the_second_array_with_routing(spy):
    with (
        config_context(enable_metadata_routing=True),
        pytest.raises(TypeError, match=r"unexpected argument\(s\) \{'X_tgt'\}"),
    ):
        GridSearchCV(spy, GRID).fit(X[SOURCE], Y[SOURCE], X_tgt=X[TARGET])


def test_default_folds_of_a_clusterer_cut_the_stack_in_its_order_today(routing):
    # KFold without shuffling: the first test fold of a stack holds source rows only. Without
    # routing it is rated all the same.
    search = GridSearchCV(CKMDomainAdapter(**SMALL), {"n_clusters": [2]}, cv=4, refit=False)
    if routing:
        with (
            pytest.warns(UserWarning, match="test scores are non-finite"),
            pytest.warns(UserWarning, match="Scoring failed"),
        ):
            search.fit(X, Y, sample_domain=TAGS)
        assert np.isnan(split_scores(search)).tolist() == [True, True, False, False]
    else:
        search.fit(X, Y, sample_domain=TAGS)
        assert np.isfinite(split_scores(search)).all()


@pytest.mark.parametrize("cls", [Pipeline, DomainPipeline])
def test_grid_search_over_a_pipeline(model, routing, cls):
    grid = {f"adapt__{name}": values for name, values in GRID.items()}
    tags = tags_for_pipeline(routing) if cls is Pipeline else {"sample_domain": TAGS}
    search = GridSearchCV(pipeline_of(model, cls), grid, cv=TARGET_FOLDS).fit(X, Y, **tags)
    for k, (train, test) in enumerate(TARGET_FOLDS):
        scaler = StandardScaler().fit(X[train])
        for i, value in enumerate(GRID["lambda_clustering"]):
            expected = clone(model).set_params(lambda_clustering=value)
            expected.fit(scaler.transform(X[train]), Y[train], sample_domain=TAGS[train])
            score = expected.score(scaler.transform(X[test]), Y[test])
            assert split_scores(search, i)[k] == score


def test_halving_search_draws_rows_of_either_domain_with_their_tags(spy, routing):
    search = HalvingGridSearchCV(
        spy, GRID, cv=TARGET_FOLDS, min_resources=40, factor=2, random_state=1, error_score="raise"
    )
    search.fit(X, Y, sample_domain=TAGS)
    assert search.n_resources_ == [40, 80]
    assert {len(call["X"]) for call in Spy.fits} == {30, 60, 80}
    for call in Spy.fits:
        assert_array_equal(call["sample_domain"], true_tags(call["X"]))
    # the share of the domains is left to chance
    assert {(call["sample_domain"] < 0).sum() for call in Spy.fits} != {10, 20, 40}


def test_halving_search_may_draw_no_row_of_a_domain_today(routing):
    few = np.r_[SOURCE, TARGET[:8]]  # eight target rows, of which a small draw may hold none
    folds = [(np.r_[0:42], np.r_[42:48]), (np.r_[0:40, 46:48], np.r_[40:46])]
    search = HalvingGridSearchCV(
        CKMDomainAdapter(**SMALL),
        GRID,
        cv=folds,
        min_resources=12,
        max_resources=24,
        random_state=0,
        error_score="raise",
    )
    with pytest.raises(ValueError, match=r"Expected target rows \(tags < 0\) in sample_domain"):
        search.fit(X[few], Y[few], sample_domain=TAGS[few])


def test_halving_search_over_epochs_keeps_all_rows(spy, routing):
    settings = {"resource": "max_epochs", "min_resources": 1, "max_resources": 2, "factor": 2}
    search = HalvingGridSearchCV(spy, GRID, cv=TARGET_FOLDS, random_state=0, **settings)
    search.fit(X, Y, sample_domain=TAGS)
    assert search.n_resources_ == [1, 2]
    assert [len(call["X"]) for call in Spy.fits] == [60] * 6 + [80]
    first = clone(search.estimator).set_params(**search.cv_results_["params"][0])
    assert split_scores(search) == scores_by_hand(first, TARGET_FOLDS, tagged=False)


# cross-validation -------------------------------------------------------------------------------


@pytest.mark.parametrize("folds", [TARGET_FOLDS, MIXED_FOLDS], ids=["target", "mixed"])
def test_cross_validation(model, routing, folds):
    params = {"sample_domain": TAGS}
    expected = scores_by_hand(model, folds, tagged=routing)
    assert cross_val_score(model, X, Y, cv=folds, params=params).tolist() == expected
    result = cross_validate(model, X, Y, cv=folds, params=params)
    assert result["test_score"].tolist() == expected


def test_cross_val_predict_needs_folds_that_hold_every_row_today(model, routing):
    params = {"sample_domain": TAGS}
    with pytest.raises(ValueError, match="only works for partitions"):
        cross_val_predict(model, X, Y, cv=TARGET_FOLDS, params=params)
    predicted = cross_val_predict(model, X, Y, cv=MIXED_FOLDS, params=params)
    for train, test in MIXED_FOLDS:
        fitted = clone(model).fit(X[train], Y[train], sample_domain=TAGS[train])
        assert_array_equal(predicted[test], fitted.predict(X[test]))


def test_cross_val_predict_of_probabilities_looks_for_all_classes_of_y_today(routing):
    settings = {"cv": MIXED_FOLDS, "params": {"sample_domain": TAGS}, "method": "predict_proba"}
    with pytest.raises(AttributeError, match="no attribute 'classes_'"):
        cross_val_predict(CKMDomainAdapter(**SMALL), X, Y, **settings)
    with pytest.warns(RuntimeWarning, match="does not match total number of classes"):
        p = cross_val_predict(CKMSemiSupervisedAdapter(**SMALL), X, Y, **settings)
    assert p.shape == (len(X), 4)
    assert (p[:, :2] == 0).all()  # those of the source


def test_nested_search_hands_tags_to_the_inner_folds(spy, routing):
    inner = StratifiedKFold(2)  # a label of its own for each domain keeps both in every fold
    search = GridSearchCV(spy, GRID, cv=inner, error_score="raise")
    params = {"sample_domain": TAGS}
    scores = cross_val_score(search, X, TAGS, cv=TARGET_FOLDS, params=params, error_score="raise")
    assert np.isfinite(scores).all()
    assert [len(call["X"]) for call in Spy.fits] == [30, 30, 30, 30, 60] * 2
    for call in Spy.fits:
        assert_array_equal(call["sample_domain"], true_tags(call["X"]))


def test_validation_curve(model, routing):
    values = GRID["lambda_clustering"]
    settings = {"param_name": "lambda_clustering", "param_range": values, "cv": TARGET_FOLDS}
    _, scores = validation_curve(model, X, Y, params={"sample_domain": TAGS}, **settings)
    for value, row in zip(values, scores, strict=True):
        candidate = clone(model).set_params(lambda_clustering=value)
        assert row.tolist() == scores_by_hand(candidate, TARGET_FOLDS, tagged=False)


def test_learning_curve_takes_the_first_rows_unless_shuffled_today(spy, routing):
    settings = {"cv": TARGET_FOLDS, "params": {"sample_domain": TAGS}, "error_score": "raise"}
    # the stack begins with the source: a third of the training rows holds no target row
    with pytest.raises(ValueError, match=r"Expected target rows \(tags < 0\) in sample_domain"):
        learning_curve(spy, X, Y, train_sizes=[0.4], **settings)
    Spy.fits.clear()
    settings.update(shuffle=True, random_state=0)
    learning_curve(spy, X, Y, train_sizes=[0.4, 1.0], **settings)
    assert [len(call["X"]) for call in Spy.fits] == [24, 60, 24, 60]
    for call in Spy.fits:
        assert_array_equal(call["sample_domain"], true_tags(call["X"]))


def test_permutation_test_shuffles_labels_within_domains_without_routing_only_today(spy, routing):
    settings = {"cv": TARGET_FOLDS, "n_permutations": 2, "params": {"sample_domain": TAGS}}
    if routing:
        with pytest.raises(ValueError, match="`groups` can only be passed if metadata routing"):
            permutation_test_score(spy, X, Y, groups=TAGS, **settings)
        permutation_test_score(spy, X, Y, **settings)  # source rows get the target's labels
    else:
        permutation_test_score(spy, X, Y, groups=TAGS, **settings)
    is_within = [((call["y"] < 2) == (call["sample_domain"] > 0)).all() for call in Spy.fits]
    assert is_within == [True, True] + [not routing] * 4


# the same with TargetSplit, as the page writes it ------------------------------------------------


def splitter_calls(routing):
    """Ways of telling the splitter and ``fit`` the tags: a splitter and further keywords."""
    calls = [(TargetSplit(2, sample_domain=TAGS, random_state=0), {})]
    return [*calls, (TargetSplit(2, random_state=0), {} if routing else {"groups": TAGS})]


@pytest.mark.parametrize("kind", [0, 1], ids=["constructor", "call"])
def test_target_split_in_searches(model, routing, kind):
    splitter, groups = splitter_calls(routing)[kind]
    folds = list(splitter.split(X, sample_domain=TAGS))
    expected = scores_by_hand(model, folds, tagged=False)
    grid = {"n_components": [3]}
    tools = [
        GridSearchCV(model, grid, cv=splitter),
        RandomizedSearchCV(model, grid, cv=splitter, n_iter=1),
        HalvingGridSearchCV(model, grid, cv=splitter, resource="max_epochs", max_resources=1),
    ]
    for search in tools:
        search.fit(X, Y, sample_domain=TAGS, **groups)
        assert split_scores(search) == expected
    grid = {"adapt__lambda_clustering": [0.1]}
    search = GridSearchCV(pipeline_of(model), grid, cv=splitter)
    search.fit(X, Y, **tags_for_pipeline(routing), **groups)
    both = GridSearchCV(pipeline_of(model, DomainPipeline), grid, cv=splitter)
    both.fit(X, Y, sample_domain=TAGS, **groups)
    assert split_scores(search) == split_scores(both)


@pytest.mark.parametrize("kind", [0, 1], ids=["constructor", "call"])
def test_target_split_in_cross_validation(model, routing, kind):
    splitter, groups = splitter_calls(routing)[kind]
    expected = scores_by_hand(model, splitter.split(X, sample_domain=TAGS), tagged=False)
    settings = {"cv": splitter, "params": {"sample_domain": TAGS}, **groups}
    assert cross_val_score(model, X, Y, **settings).tolist() == expected
    assert learning_curve(model, X, Y, train_sizes=[1.0], **settings)[2].tolist() == [expected]
    more = {"param_name": "lambda_clustering", "param_range": [0.1]}
    assert validation_curve(model, X, Y, **more, **settings)[1].tolist() == [expected]
    if groups:  # they keep the labels in their domains too
        score, _, _ = permutation_test_score(model, X, Y, n_permutations=1, **settings)
        assert score == np.mean(expected)


def test_target_split_in_a_nested_search(spy, routing):
    splitter = TargetSplit(2, random_state=0)
    search = GridSearchCV(spy, GRID, cv=splitter, error_score="raise")
    settings = {"groups": TAGS, "params": {"groups": TAGS, "sample_domain": TAGS}}
    if routing:
        settings = {"params": {"sample_domain": TAGS}}
    cross_val_score(search, X, Y, cv=splitter, error_score="raise", **settings)
    # all 40 source rows each time; 10 of the 20 target rows of the outer fold, then all of them
    assert [len(call["X"]) for call in Spy.fits] == [50, 50, 50, 50, 60] * 2
    for call in Spy.fits:
        assert_array_equal(call["sample_domain"], true_tags(call["X"]))


# transformers beside ----------------------------------------------------------------------------


def test_column_transformer_is_a_step_before(model, routing):
    columns = ColumnTransformer([("scale", StandardScaler(), ["a", "b"])], remainder="passthrough")
    expected = clone(model).fit(columns.fit_transform(FRAME), Y, sample_domain=TAGS)
    pipeline = Pipeline([("columns", clone(columns)), ("adapt", clone(model))])
    pipeline.fit(FRAME, Y, **tags_for_pipeline(routing))
    assert_array_equal(pipeline[-1].cluster_centers_, expected.cluster_centers_)
    both = DomainPipeline([("columns", clone(columns)), ("adapt", clone(model))])
    both.fit(FRAME, Y, sample_domain=TAGS)
    assert_array_equal(both[-1].cluster_centers_, expected.cluster_centers_)


@pytest.mark.parametrize("name", ["sample_domain", "embed__sample_domain"])
def test_column_transformer_hands_tags_on_with_routing_only_today(model, routing, name):
    columns = ColumnTransformer([("embed", model, [0, 1, 2])], remainder="passthrough")
    if routing and name == "sample_domain":
        Z = columns.fit_transform(X, Y, sample_domain=TAGS)
        expected = clone(model).fit(X[:, :3], Y, sample_domain=TAGS)
        assert_array_equal(Z, np.hstack([expected.transform(X[:, :3]), X[:, 3:]]))
    else:
        message = "not routed to any object" if routing else "only supported if enable_metadata_rou"
        with pytest.raises((TypeError, ValueError), match=message):
            columns.fit_transform(X, Y, **{name: TAGS})


def test_feature_union_hands_tags_to_all_members_or_to_those_that_ask_today(model, routing):
    union = FeatureUnion([("embed", model), ("scale", StandardScaler())])
    if routing:
        Z = union.fit_transform(X, Y, sample_domain=TAGS)
        expected = clone(model).fit(X, Y, sample_domain=TAGS).transform(X)
        assert_array_equal(Z, np.hstack([expected, StandardScaler().fit_transform(X)]))
    else:
        with pytest.raises(TypeError, match="unexpected keyword argument 'sample_domain'"):
            union.fit_transform(X, Y, sample_domain=TAGS)
    both = FeatureUnion([("one", clone(model)), ("two", clone(model).set_params(n_components=2))])
    assert both.fit_transform(X, Y, sample_domain=TAGS).shape == (len(X), 5)


# names ------------------------------------------------------------------------------------------


@pytest.mark.parametrize("library", [pd, pl])
@pytest.mark.parametrize("cls", [Pipeline, DomainPipeline])
def test_names_pass_through_a_search_over_a_pipeline(routing, library, cls):
    frame = library.DataFrame(dict(zip("abcd", X.T, strict=True)))
    pipeline = pipeline_of(CKMDomainAdapter(**SMALL), cls)
    pipeline.set_output(transform="pandas" if library is pd else "polars")
    tags = tags_for_pipeline(routing) if cls is Pipeline else {"sample_domain": TAGS}
    search = GridSearchCV(pipeline, {"adapt__n_clusters": [2]}, cv=TARGET_FOLDS)
    search.fit(frame, Y, **tags)
    assert_array_equal(search.feature_names_in_, list("abcd"))
    assert_array_equal(search.best_estimator_[-1].feature_names_in_, list("abcd"))
    Z = search.transform(frame)
    assert isinstance(Z, library.DataFrame)
    assert list(Z.columns) == [f"ckmdomainadapter{i}" for i in range(3)]
    for method in ("predict", "transform", "score"):
        with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
            getattr(search, method)(frame[list("dcba")])


def test_names_pass_through_a_search(model, routing):
    search = GridSearchCV(model, GRID, cv=TARGET_FOLDS).fit(FRAME, Y, sample_domain=TAGS)
    assert_array_equal(search.feature_names_in_, list("abcd"))
    with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
        search.predict(FRAME[list("dcba")])


# processes --------------------------------------------------------------------------------------


def test_two_processes_give_the_bits_of_one(routing):
    search = GridSearchCV(CKMDomainAdapter(**SMALL), GRID, cv=TARGET_FOLDS)
    alone = clone(search).fit(X, Y, sample_domain=TAGS)
    # sums depend on the number of threads, which is one here, and would not be in the workers
    with joblib.parallel_config("loky", n_jobs=2, inner_max_num_threads=1):
        together = clone(search).fit(X, Y, sample_domain=TAGS)
    for i in range(len(GRID["lambda_clustering"])):
        assert split_scores(together, i) == split_scores(alone, i)
    best = alone.best_estimator_.cluster_centers_
    assert_array_equal(together.best_estimator_.cluster_centers_, best)


# the page ---------------------------------------------------------------------------------------


def test_code_of_the_page_runs_alike_with_and_without_routing(routing):
    (block,) = re.findall(
        r"\.\. code-block:: python\n\n((?:    .*\n|\n)+)", PAGE.read_text("utf-8")
    )
    names = {"X_src": X[SOURCE], "y_src": Y[SOURCE], "X_tgt": X[TARGET]}
    exec(compile(textwrap.dedent(block), str(PAGE), "exec"), names)
    search = names["search"]
    with config_context(enable_metadata_routing=not routing):
        again = clone(search).fit(names["X"], names["y"], sample_domain=names["d"])
    assert split_scores(again) == split_scores(search)
    assert_array_equal(again.best_estimator_[-1].labels_, search.best_estimator_[-1].labels_)


# ensembles and calibration ----------------------------------------------------------------------


def make_few():
    """A stack whose target has eight labels a class, and a classifier that finds its classes."""
    X, y = make_blobs(n_samples=160, centers=8 * np.eye(5), random_state=0)
    shots = np.hstack([np.flatnonzero(y == c)[:8] for c in (3, 4)])
    y_few = np.where((y < 3) | np.isin(np.arange(len(y)), shots), y, -1)
    settings = {**SMALL, "n_clusters": None, "pretrain_epochs": 5, "max_epochs": 5}
    model = CKMSemiSupervisedAdapter(**settings)
    return X, y, y_few, np.where(y < 3, 1, -1), model


@pytest.mark.parametrize("make", [lambda m: VotingClassifier([("one", m)]), BaggingClassifier])
def test_ensembles_take_unlabelled_rows_for_a_class_today(make):
    X, y, y_few, tags, model = make_few()
    target = tags < 0
    alone = model.fit(X, y_few, sample_domain=tags)
    assert (alone.predict(X[target]) == y[target]).mean() > 0.95
    with config_context(enable_metadata_routing=True):
        ensemble = make(clone(model)).fit(X, y_few, sample_domain=tags)
        assert -1 in ensemble.predict(X[target])


def test_calibration_looks_for_all_classes_of_y_today():
    X, y, y_few, tags, model = make_few()
    folds = TargetSplit(2, sample_domain=tags, random_state=0)
    calibrated = CalibratedClassifierCV(model, cv=folds).fit(X, y_few, sample_domain=tags)
    assert calibrated.classes_.tolist() == [-1, 0, 1, 2, 3, 4]
    assert (calibrated.predict(X[tags < 0]) == y[tags < 0]).mean() < 0.7
    others = (tags < 0) & (y_few == -1)
    frozen = FrozenEstimator(model.fit(X, y_few, sample_domain=tags))
    calibrated = CalibratedClassifierCV(frozen).fit(X[others], y[others])
    assert calibrated.classes_.tolist() == [3, 4]
    assert (calibrated.predict(X[others]) == y[others]).mean() > 0.95
