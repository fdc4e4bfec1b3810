"""Estimators among the tools of skada, whose convention for domain tags they share.

Skipped where skada is not installed. Tests named ``..._today`` record behaviour of skada that users
have to know, not behaviour that we want.
"""

import warnings

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn import config_context, get_config, set_config
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV, cross_val_score, cross_validate
from sklearn.preprocessing import StandardScaler

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans
from sklearn_ckm.datasets import keep_few_labels
from sklearn_ckm.model_selection import LeaveOneTargetDomainOut, TargetSplit
from sklearn_ckm.pipeline import make_domain_pipeline
from sklearn_ckm.utils import stack_domains, unstack_domains

CONFIG_BEFORE = get_config()
with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    pytest.importorskip("skada")
    from skada import CORALAdapter, PerDomain, SelectTarget, make_da_pipeline
    from skada.datasets import make_shifted_datasets
    from skada.metrics import PredictionEntropyScorer, SupervisedScorer
    from skada.model_selection import (
        DomainShuffleSplit,
        LeaveOneDomainOut,
        SourceTargetShuffleSplit,
        StratifiedDomainShuffleSplit,
    )
    from skada.utils import check_X_y_domain, source_target_split
CONFIG_AFTER = get_config()
set_config(**CONFIG_BEFORE)  # other test modules are collected after this one

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore::DeprecationWarning:skada"),  # pack_lodo's own
]

SMALL = {
    "n_clusters": 2,
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 1,
    "max_epochs": 1,
    "random_state": 0,
}
SHAPE = {"n_samples_source": 8, "n_samples_target": 8, "shift": "covariate_shift"}
DATASET = make_shifted_datasets(**SHAPE, random_state=0, return_dataset=True)
DOMAINS = {"as_sources": ["s"], "as_targets": ["t"]}
ADAPTERS = [CKMDomainAdapter, CKMSemiSupervisedAdapter]


@pytest.fixture(autouse=True)
def routing():
    """What importing skada leaves behind, for the time of one test."""
    with config_context(enable_metadata_routing=True):
        yield


@pytest.fixture(params=ADAPTERS, ids=lambda cls: cls.__name__)
def model(request):
    return request.param(**SMALL)


def data_for(model):
    """Rows, the labels that a model may know, and tags, as skada packs them."""
    X, y, tags = DATASET.pack(**DOMAINS, mask_target_labels=isinstance(model, CKMDomainAdapter))
    if isinstance(model, CKMSemiSupervisedAdapter):
        y[tags < 0] = keep_few_labels(y[tags < 0], 8, random_state=0)
    return X, y, tags


def true_labels():
    return DATASET.pack(**DOMAINS, mask_target_labels=False)[1]


def scores_by_hand(model, folds, X, y, tags):
    scores = []
    for train, test in folds:
        fitted = clone(model).fit(X[train], y[train], sample_domain=tags[train])
        scores.append(fitted.score(X[test], y[test], sample_domain=tags[test]))
    return scores


# data -------------------------------------------------------------------------------------------


def test_import_enables_metadata_routing_for_all_today():
    assert CONFIG_AFTER["enable_metadata_routing"] is True
    assert {**CONFIG_AFTER, "enable_metadata_routing": False} == CONFIG_BEFORE


def test_packed_data_are_fitted_as_they_are(model):
    X, y, tags = data_for(model)
    assert set(tags) == {1, -2}
    X_src, X_tgt, y_src, y_tgt = source_target_split(X, y, sample_domain=tags)
    two_arrays = {"X_tgt": X_tgt}
    if isinstance(model, CKMSemiSupervisedAdapter):
        two_arrays["y_tgt"] = y_tgt
    expected = clone(model).fit(X_src, y_src, **two_arrays)
    model.fit(X, y, sample_domain=tags)
    assert_array_equal(model.cluster_centers_, expected.cluster_centers_)
    assert_array_equal(model.labels_, expected.labels_)


def test_our_stack_is_data_of_skada_and_back():
    X, y, tags = DATASET.pack(**DOMAINS, mask_target_labels=True)
    X_src, X_tgt, y_src, y_tgt = source_target_split(X, y, sample_domain=tags)
    for ours, theirs in zip(unstack_domains(X, y, tags), (X_src, y_src, X_tgt, y_tgt), strict=True):
        assert_array_equal(ours, theirs)
    stack = stack_domains(X_src, y_src, X_tgt)
    for ours, checked in zip(stack, check_X_y_domain(*stack), strict=True):
        assert_array_equal(ours, checked)
    assert_array_equal(stack[0], X)
    assert_array_equal(stack[1], y)  # -1 masks labels in both packages
    assert_array_equal(stack[2] < 0, tags < 0)


# splitters --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "splitter",
    [
        SourceTargetShuffleSplit(2, test_size=0.3, random_state=0),
        DomainShuffleSplit(2, test_size=0.3, random_state=0),
        StratifiedDomainShuffleSplit(2, test_size=0.3, random_state=0),
    ],
    ids=lambda splitter: type(splitter).__name__,
)
def test_splitters_in_searches(model, splitter):
    X, y, tags = data_for(model)
    folds = list(splitter.split(X, y, sample_domain=tags))
    expected = scores_by_hand(model, folds, X, y, tags)
    scores = cross_val_score(model, X, y, cv=splitter, params={"sample_domain": tags})
    assert scores.tolist() == expected
    search = GridSearchCV(model, {"n_components": [3]}, cv=splitter)
    search.fit(X, y, sample_domain=tags)
    assert [search.cv_results_[f"split{k}_test_score"][0] for k in range(2)] == expected
    assert len(search.best_estimator_.labels_) == (tags < 0).sum()


def test_splitters_need_routing_today():
    X, y, tags = DATASET.pack(**DOMAINS, mask_target_labels=True)
    splitter = SourceTargetShuffleSplit(2)
    model = CKMDomainAdapter(**SMALL)
    with (
        config_context(enable_metadata_routing=False),
        pytest.raises(TypeError, match="unexpected keyword argument 'groups'"),
    ):
        cross_validate(model, X, y, cv=splitter, params={"sample_domain": tags})


def test_leave_one_domain_out_takes_each_domain_as_target():
    X, y, tags = DATASET.pack_lodo()
    assert set(tags) == {-2, -1, 1, 2}  # each domain twice
    splitter = LeaveOneDomainOut(2, test_size=0.3, random_state=0)
    model = CKMDomainAdapter(**SMALL)
    expected = scores_by_hand(model, splitter.split(X, y, sample_domain=tags), X, y, tags)
    scores = cross_val_score(model, X, y, cv=splitter, params={"sample_domain": tags})
    assert scores.tolist() == expected


def test_our_splitters_on_packed_data():
    X, y, tags = DATASET.pack_lodo()
    for splitter in (TargetSplit(2, random_state=0), LeaveOneTargetDomainOut()):
        folds = list(splitter.split(X, y, sample_domain=tags))
        model = CKMDomainAdapter(**SMALL)
        scores = cross_val_score(model, X, y, cv=splitter, params={"sample_domain": tags})
        assert scores.tolist() == scores_by_hand(model, folds, X, y, tags)


# pipelines --------------------------------------------------------------------------------------


def test_pipeline_of_skada_equals_the_steps_done_by_hand(model):
    X, y, tags = data_for(model)
    pipeline = make_da_pipeline(StandardScaler(), model, mask_target_labels=False)
    pipeline.fit(X, y, sample_domain=tags)
    scaled = StandardScaler().fit_transform(X)
    expected = clone(model).fit(scaled, y, sample_domain=tags)
    fitted = pipeline[-1].get_estimator()
    assert_array_equal(fitted.cluster_centers_, expected.cluster_centers_)
    assert_array_equal(fitted.labels_, expected.labels_)
    for method in ("predict", "predict_proba"):
        answer = getattr(pipeline, method)(X, sample_domain=tags, allow_source=True)
        assert_array_equal(answer, getattr(expected, method)(scaled))
    score = pipeline.score(X, true_labels(), sample_domain=tags)
    assert score == expected.score(scaled, true_labels(), sample_domain=tags)
    ours = make_domain_pipeline(StandardScaler(), model).fit(X, y, sample_domain=tags)
    assert_array_equal(ours[-1].cluster_centers_, expected.cluster_centers_)


def test_pipeline_of_skada_in_a_search():
    model = CKMDomainAdapter(**SMALL)
    X, y, tags = data_for(model)
    grid = {"ckmdomainadapter__lambda_clustering": [0.1, 1.0]}
    splitter = SourceTargetShuffleSplit(2, test_size=0.3, random_state=0)
    search = GridSearchCV(make_da_pipeline(StandardScaler(), model), grid, cv=splitter)
    search.fit(X, y, sample_domain=tags)
    ours = GridSearchCV(make_domain_pipeline(StandardScaler(), model), grid, cv=splitter)
    ours.fit(X, y, sample_domain=tags)
    scores = search.cv_results_["mean_test_score"]
    assert np.isfinite(scores).all()
    assert_array_equal(scores, ours.cv_results_["mean_test_score"])


def test_pipeline_of_skada_masks_target_labels_in_place_today():
    X, y, tags = DATASET.pack(**DOMAINS, mask_target_labels=False)
    pipeline = make_da_pipeline(StandardScaler(), CKMDomainAdapter(**SMALL))
    pipeline.fit(X, y, sample_domain=tags)
    assert (y[tags < 0] == -1).all()  # the caller's own array
    model = CKMSemiSupervisedAdapter(**SMALL)
    X, y, tags = data_for(model)
    with pytest.raises(ValueError, match="Expected at least one labelled target row"):
        make_da_pipeline(StandardScaler(), model).fit(X, y, sample_domain=tags)


def test_pipeline_of_skada_forgets_when_cloned_that_labels_are_not_masked_today():
    model = CKMSemiSupervisedAdapter(**SMALL)
    X, y, tags = data_for(model)
    pipeline = make_da_pipeline(StandardScaler(), model, mask_target_labels=False)
    splitter = SourceTargetShuffleSplit(2, test_size=0.3, random_state=0)
    settings = {"cv": splitter, "params": {"sample_domain": tags}, "error_score": "raise"}
    with pytest.raises(ValueError, match="Expected at least one labelled target row"):
        cross_val_score(pipeline, X, y.copy(), **settings)
    # this package's pipeline, or scikit-learn's, is the way
    ours = make_domain_pipeline(StandardScaler(), model)
    assert np.isfinite(cross_val_score(ours, X, y, **settings)).all()


@pytest.mark.parametrize("step", [CORALAdapter(), PerDomain(StandardScaler())])
def test_steps_of_skada_before_ours(step):
    model = CKMDomainAdapter(**SMALL)
    X, y, tags = data_for(model)
    pipeline = make_da_pipeline(step, model).fit(X, y, sample_domain=tags)
    plain = clone(model).fit(X, y, sample_domain=tags)
    labels, centers = (
        getattr(pipeline[-1].get_estimator(), name) for name in ("labels_", "cluster_centers_")
    )
    assert len(labels) == (tags < 0).sum()
    assert (centers != plain.cluster_centers_).any()  # the step did something


def test_clusterer_of_the_target_alone_takes_the_rows_that_skada_selects():
    X, y, tags = DATASET.pack(**DOMAINS, mask_target_labels=True)
    pipeline = make_da_pipeline(SelectTarget(ConcreteKMeans(**SMALL)))
    pipeline.fit(X, y, sample_domain=tags)
    expected = ConcreteKMeans(**SMALL).fit(X[tags < 0])
    assert_array_equal(pipeline[-1].get_estimator().labels_, expected.labels_)


# scorers ----------------------------------------------------------------------------------------


def test_supervised_scorer_rates_target_rows():
    model = CKMSemiSupervisedAdapter(**SMALL)
    X, y, tags = data_for(model)
    truth = true_labels()
    splitter = SourceTargetShuffleSplit(2, test_size=0.3, random_state=0)
    params = {"sample_domain": tags, "target_labels": truth}
    scores = cross_val_score(model, X, y, cv=splitter, scoring=SupervisedScorer(), params=params)
    for (train, test), score in zip(splitter.split(X, y, tags), scores, strict=True):
        fitted = clone(model).fit(X[train], y[train], sample_domain=tags[train])
        test = test[(tags[test] < 0) & (y[test] == -1)]  # rows whose label was not there to learn
        assert score == fitted.score(X[test], truth[test])


def test_scorers_that_hand_tags_to_predict_need_a_pipeline_of_skada_today():
    model = CKMDomainAdapter(**SMALL)
    X, y, tags = data_for(model)
    splitter = SourceTargetShuffleSplit(2, test_size=0.3, random_state=0)
    settings = {"cv": splitter, "params": {"sample_domain": tags}, "error_score": "raise"}
    settings["scoring"] = PredictionEntropyScorer()
    with pytest.raises(TypeError, match="unexpected keyword argument 'sample_domain'"):
        cross_val_score(model, X, y, **settings)
    assert np.isfinite(cross_val_score(make_da_pipeline(model), X, y, **settings)).all()
