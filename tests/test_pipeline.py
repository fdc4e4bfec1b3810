"""Pipelines of both domains: one meaning in every call, with metadata routing off and on."""

import pickle

import numpy as np
import pandas as pd
import polars as pl
import pytest
import scipy.sparse as sp
from numpy.testing import assert_allclose, assert_array_equal
from sklearn import config_context
from sklearn.base import BaseEstimator, TransformerMixin, clone
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.decomposition import PCA, TruncatedSVD
from sklearn.linear_model import LogisticRegression
from sklearn.model_selection import GridSearchCV, KFold
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import MinMaxScaler, StandardScaler
from sklearn.utils import estimator_html_repr

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans
from sklearn_ckm.pipeline import DomainPipeline, make_domain_pipeline
from sklearn_ckm.preprocessing import ImageFormatter
from sklearn_ckm.utils import stack_domains

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {
    "n_clusters": 2,
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 1,
    "max_epochs": 1,
    "random_state": 0,
}


def make_domains():
    """Source and target of four classes, the target on another scale and of another size."""
    X, y = make_blobs(n_samples=90, centers=8 * np.eye(4), cluster_std=3, random_state=0)
    X = X * [1, 2, 3, 4] + [0, 5, 0, -5]
    source, target = y < 2, y >= 2
    return X[source], y[source], 3 * X[target][:-5], y[target][:-5]


X_SRC, Y_SRC, X_TGT, Y_TGT = make_domains()
Y_FEW = np.where(np.arange(len(Y_TGT)) < 10, Y_TGT, -1)
ADAPTERS = [CKMDomainAdapter, CKMSemiSupervisedAdapter]


def labels_of(cls):
    """The labels of target rows that a class of estimators takes, as a keyword."""
    return {"y_tgt": Y_FEW} if cls is CKMSemiSupervisedAdapter else {}


def stacked(cls):
    return stack_domains(X_SRC, Y_SRC, X_TGT, **labels_of(cls))


@pytest.fixture(params=[False, True], ids=["routing-off", "routing-on"])
def routing(request):
    with config_context(enable_metadata_routing=request.param):
        yield request.param


@pytest.fixture(params=ADAPTERS, ids=lambda cls: cls.__name__)
def adapter(request):
    return request.param


def make(cls):
    return make_domain_pipeline(StandardScaler(), cls(**SMALL))


def by_hand(cls):
    """The same two steps without a pipeline and without routing."""
    X, y, tags = stacked(cls)
    scaler = StandardScaler().fit(X)
    with config_context(enable_metadata_routing=False):
        return scaler, cls(**SMALL).fit(scaler.transform(X), y, sample_domain=tags)


def assert_is(pipeline, scaler, model):
    assert_array_equal(pipeline[0].mean_, scaler.mean_)
    assert_array_equal(pipeline[-1].cluster_centers_, model.cluster_centers_)
    assert_array_equal(pipeline[-1].labels_, model.labels_)
    for method in ("predict", "predict_proba", "transform"):
        expected = getattr(model, method)(scaler.transform(X_TGT))
        assert_array_equal(getattr(pipeline, method)(X_TGT), expected)


def test_empty_pipeline_says_so():
    with pytest.raises(ValueError, match="at least one step, got an empty pipeline"):
        DomainPipeline([]).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


def test_sparse_rows_of_both_domains_pass_a_first_step_that_makes_them_dense(routing):
    pipeline = make_domain_pipeline(TruncatedSVD(3, random_state=0), CKMDomainAdapter(**SMALL))
    source, target = sp.csr_array(X_SRC), sp.csc_matrix(X_TGT)
    pipeline.fit(source, Y_SRC, X_tgt=target)
    dense = TruncatedSVD(3, random_state=0).fit_transform(np.vstack([X_SRC, X_TGT]))
    model = CKMDomainAdapter(**SMALL)
    model.fit(dense[: len(X_SRC)], Y_SRC, X_tgt=dense[len(X_SRC) :])
    assert_array_equal(pipeline.predict(target), model.labels_)


# what the last step answers besides -------------------------------------------------------------


@pytest.mark.parametrize("inner", [make_pipeline, make_domain_pipeline])
def test_answers_of_the_last_estimator_are_reached(adapter, inner):
    pipeline = make_domain_pipeline(MinMaxScaler(), inner(StandardScaler(), adapter(**SMALL)))
    pipeline.fit(X_SRC, Y_SRC, X_tgt=X_TGT, **labels_of(adapter))
    scaled = pipeline[1][0].transform(pipeline[0].transform(X_TGT))
    model = pipeline[1][1]
    assert_array_equal(pipeline.predict_source(X_TGT), model.predict_source(scaled))
    for method in ("predict_cluster", "predict_cluster_proba"):
        assert hasattr(pipeline, method) == hasattr(model, method)
        if hasattr(model, method):
            expected = getattr(model, method)(scaled)
            assert_array_equal(getattr(pipeline, method)(X_TGT), expected)
    assert not hasattr(make_domain_pipeline(StandardScaler(), KMeans(2)), "predict_source")


# one meaning in every call ----------------------------------------------------------------------


def test_two_arrays_equal_the_steps_done_by_hand_on_the_stack(adapter, routing):
    pipeline = make(adapter).fit(X_SRC, Y_SRC, X_tgt=X_TGT, **labels_of(adapter))
    assert_is(pipeline, *by_hand(adapter))
    assert len(pipeline[-1].labels_) == len(X_TGT)


def test_tags_equal_the_steps_done_by_hand_on_the_stack(adapter, routing):
    X, y, tags = stacked(adapter)
    assert_is(make(adapter).fit(X, y, sample_domain=tags), *by_hand(adapter))


def test_without_other_steps_the_pipeline_is_the_estimator(adapter, routing):
    pipeline = make_domain_pipeline(adapter(**SMALL))
    pipeline.fit(X_SRC, Y_SRC, X_tgt=X_TGT, **labels_of(adapter))
    model = adapter(**SMALL).fit(X_SRC, Y_SRC, X_tgt=X_TGT, **labels_of(adapter))
    assert_array_equal(pipeline[-1].cluster_centers_, model.cluster_centers_)
    assert_array_equal(pipeline[-1].labels_, model.labels_)
    X, y, tags = stack_domains(X_SRC, Y_SRC, X_TGT, Y_TGT)
    score = pipeline.score(X, y, sample_domain=tags)
    assert score == model.score(X, y, sample_domain=tags)


def test_every_step_sees_the_rows_of_both_domains(routing):
    pipeline = make_domain_pipeline(MinMaxScaler(), PCA(3), CKMDomainAdapter(**SMALL))
    pipeline.fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    both = np.concatenate([X_SRC, X_TGT])
    assert_array_equal(pipeline[0].data_max_, both.max(0))
    assert_array_equal(pipeline[1].mean_, MinMaxScaler().fit_transform(both).mean(0))
    assert pipeline[-1].n_features_in_ == 3


def test_fit_predict_labels_the_target_rows_of_two_arrays_and_all_rows_of_a_stack(routing):
    scaler, model = by_hand(CKMDomainAdapter)
    pipeline = make(CKMDomainAdapter)
    assert_array_equal(pipeline.fit_predict(X_SRC, Y_SRC, X_tgt=X_TGT), model.labels_)
    X, y, tags = stacked(CKMDomainAdapter)
    labels = pipeline.fit_predict(X, y, sample_domain=tags)
    assert_array_equal(labels, model.predict(scaler.transform(X)))


def test_fit_transform_gives_the_rows_of_the_first_argument(adapter, routing):
    scaler, model = by_hand(adapter)
    pipeline = make(adapter)
    Z = pipeline.fit_transform(X_SRC, Y_SRC, X_tgt=X_TGT, **labels_of(adapter))
    assert_allclose(Z, model.transform(scaler.transform(X_SRC)), rtol=1e-6)
    X, y, tags = stacked(adapter)
    Z = pipeline.fit_transform(X, y, sample_domain=tags)
    assert_array_equal(Z, model.transform(scaler.transform(X)))


@pytest.mark.parametrize("weighted", [False, True])
def test_score_with_tags_counts_target_rows_only(adapter, routing, weighted):
    scaler, model = by_hand(adapter)
    X, y, tags = stack_domains(X_SRC, Y_SRC, X_TGT, Y_TGT)
    weights = {"sample_weight": np.random.default_rng(0).uniform(size=len(X))} if weighted else {}
    pipeline = make(adapter)
    if weighted and routing:
        pipeline[-1].set_score_request(sample_weight=True)
    pipeline.fit(X_SRC, Y_SRC, X_tgt=X_TGT, **labels_of(adapter))
    expected = model.score(scaler.transform(X), y, sample_domain=tags, **weights)
    assert pipeline.score(X, y, sample_domain=tags, **weights) == expected
    expected = model.score(scaler.transform(X), y, **weights)
    assert pipeline.score(X, y, **weights) == expected
    assert expected < 1  # else rows, weights and scales would not matter


def test_score_of_an_unfitted_pipeline_raises(routing):
    X, y, tags = stacked(CKMDomainAdapter)
    with pytest.raises(ValueError, match="not fitted yet"):
        make(CKMDomainAdapter).score(X, y, sample_domain=tags)


@pytest.mark.parametrize("as_tags", [list, np.float64, pd.Series])
def test_tags_come_as_any_array(routing, as_tags):
    X, y, tags = stacked(CKMDomainAdapter)
    pipeline = make(CKMDomainAdapter).fit(X, y, sample_domain=as_tags(tags))
    assert_is(pipeline, *by_hand(CKMDomainAdapter))


@pytest.mark.parametrize("library", [pd, pl])
def test_frames_keep_their_names(routing, library):
    frames = [library.DataFrame(dict(zip("abcd", X.T, strict=True))) for X in (X_SRC, X_TGT)]
    pipeline = make(CKMDomainAdapter)
    pipeline.set_output(transform="pandas" if library is pd else "polars")
    Z = pipeline.fit_transform(frames[0], Y_SRC, X_tgt=frames[1])
    assert isinstance(Z, library.DataFrame)
    assert Z.shape == (len(X_SRC), 3)
    assert_array_equal(pipeline.feature_names_in_, list("abcd"))
    assert_array_equal(pipeline[-1].feature_names_in_, list("abcd"))
    assert_array_equal(pipeline.get_feature_names_out(), list(Z.columns))
    assert_array_equal(pipeline[-1].labels_, by_hand(CKMDomainAdapter)[1].labels_)
    with pytest.raises(ValueError, match="must be in the same order as they were in fit"):
        pipeline.predict(frames[1][list("dcba")])
    with pytest.raises(ValueError, match="Expected the same columns in the same order"):
        pipeline.fit(frames[0], Y_SRC, X_tgt=frames[1][list("dcba")])


def test_images_of_both_domains_pass_through_the_formatter(routing):
    rng = np.random.default_rng(0)
    X_src, X_tgt = (rng.integers(0, 255, (n, 1, 6, 6), dtype=np.uint8) for n in (24, 20))
    pipeline = make_domain_pipeline(ImageFormatter((1, 4, 4)), CKMDomainAdapter(**SMALL))
    pipeline.fit(X_src, np.arange(24) % 2, X_tgt=X_tgt)
    assert pipeline[-1].labels_.shape == (20,)
    assert pipeline.transform(X_tgt).shape == (20, 3)


def test_names_of_target_classes_may_be_strings(routing):
    names = np.array(["zero", "one", "two", "three", "unlabelled"])[Y_FEW]
    names = np.where(names == "unlabelled", "-1", names)
    pipeline = make(CKMSemiSupervisedAdapter).fit(X_SRC, Y_SRC, X_tgt=X_TGT, y_tgt=names)
    assert pipeline.classes_.tolist() == ["three", "two"]
    assert set(pipeline.predict(X_TGT)) <= {"three", "two"}


# scikit-learn's Pipeline where there are no domains ---------------------------------------------


@pytest.mark.parametrize("last", [LogisticRegression(), KMeans(2, n_init=1, random_state=0)])
def test_without_domains_it_is_the_pipeline_of_scikit_learn(routing, last):
    X, y = X_SRC, Y_SRC
    ours = make_domain_pipeline(StandardScaler(), clone(last)).fit(X, y)
    theirs = make_pipeline(StandardScaler(), clone(last)).fit(X, y)
    methods = [
        *["fit", "fit_predict", "fit_transform", "predict", "predict_proba", "transform"],
        *["decision_function", "score", "score_samples", "inverse_transform"],
    ]
    assert [hasattr(ours, m) for m in methods] == [hasattr(theirs, m) for m in methods]
    assert_array_equal(ours.predict(X), theirs.predict(X))
    assert ours.score(X, y) == theirs.score(X, y)
    for method in ("fit_predict", "fit_transform"):
        if hasattr(theirs, method):
            assert_array_equal(getattr(ours, method)(X, y), getattr(theirs, method)(X, y))


def test_parameters_of_steps_pass_through(routing):
    weight = np.arange(len(X_SRC)) % 3
    last = LogisticRegression()
    params = {"logisticregression__sample_weight": weight}
    if routing:
        last.set_fit_request(sample_weight=True).set_score_request(sample_weight=True)
        params = {"sample_weight": weight}
    pipeline = make_domain_pipeline(MinMaxScaler(), last).fit(X_SRC, Y_SRC, **params)
    expected = LogisticRegression().fit(MinMaxScaler().fit_transform(X_SRC), Y_SRC, weight)
    assert_array_equal(pipeline[-1].coef_, expected.coef_)
    score = pipeline.score(X_SRC, Y_SRC, weight)
    assert score == expected.score(MinMaxScaler().fit_transform(X_SRC), Y_SRC, weight)


def test_tags_may_still_be_given_to_the_step():
    X, y, tags = stacked(CKMDomainAdapter)
    pipeline = make(CKMDomainAdapter).fit(X, y, ckmdomainadapter__sample_domain=tags)
    assert_is(pipeline, *by_hand(CKMDomainAdapter))
    with pytest.raises(TypeError, match="multiple values for keyword argument"):
        pipeline.fit(X, y, sample_domain=tags, ckmdomainadapter__sample_domain=tags)


def test_single_domain_is_fitted_without_tags(routing):
    pipeline = make_domain_pipeline(StandardScaler(), ConcreteKMeans(**SMALL)).fit(X_TGT)
    expected = ConcreteKMeans(**SMALL).fit(StandardScaler().fit_transform(X_TGT))
    assert_array_equal(pipeline[-1].labels_, expected.labels_)


class TagReader(TransformerMixin, BaseEstimator):
    """A step before the last that asks for the tags."""

    __metadata_request__fit = {"sample_domain": True}

    def fit(self, X, y=None, *, sample_domain=None):
        self.tags_ = sample_domain
        return self

    def transform(self, X):
        return X


def test_steps_that_request_tags_get_them_with_routing_only(routing):
    pipeline = make_domain_pipeline(TagReader(), CKMDomainAdapter(**SMALL))
    pipeline.fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    if routing:
        assert_array_equal(pipeline[0].tags_, stacked(CKMDomainAdapter)[2])
    else:
        assert pipeline[0].tags_ is None


def test_requests_are_those_of_the_steps():
    with config_context(enable_metadata_routing=True):
        ours = make(CKMDomainAdapter).get_metadata_routing()
        theirs = make_pipeline(StandardScaler(), CKMDomainAdapter(**SMALL)).get_metadata_routing()
    assert str(ours) == str(theirs).replace("Pipeline", "DomainPipeline")
    assert not hasattr(DomainPipeline, "set_fit_request")


# errors -----------------------------------------------------------------------------------------


def test_both_ways_of_giving_domains_raise(routing):
    with pytest.raises(ValueError, match="Expected either X_tgt or sample_domain, got both"):
        make(CKMDomainAdapter).fit(X_SRC, Y_SRC, X_tgt=X_TGT, sample_domain=np.zeros(len(X_SRC)))


def test_target_labels_without_target_rows_raise(routing):
    with pytest.raises(ValueError, match="Expected y_tgt together with X_tgt, got y_tgt alone"):
        make(CKMSemiSupervisedAdapter).fit(X_SRC, Y_SRC, y_tgt=Y_FEW)


def test_target_labels_for_a_step_that_takes_none_raise(routing):
    match = r"whose fit takes y_tgt, got CKMDomainAdapter\(.*leave y_tgt out"
    with pytest.raises(TypeError, match="(?s)" + match):
        make(CKMDomainAdapter).fit(X_SRC, Y_SRC, X_tgt=X_TGT, y_tgt=Y_TGT)


@pytest.mark.parametrize("last", [KMeans(), "passthrough", make_pipeline(PCA(), KMeans())])
@pytest.mark.parametrize("method", ["fit", "fit_transform"])
def test_domains_for_a_step_that_takes_none_raise(routing, last, method):
    pipeline = DomainPipeline([("scale", StandardScaler()), ("last", last)])
    X, y, tags = stacked(CKMDomainAdapter)
    name = r"KMeans\(\)" if last != "passthrough" else "'passthrough'"
    match = f"whose fit takes sample_domain, got {name}.*leave sample_domain out"
    with pytest.raises(TypeError, match=match):
        getattr(pipeline, method)(X, y, sample_domain=tags)
    with pytest.raises(TypeError, match="leave X_tgt out"):
        getattr(pipeline, method)(X_SRC, Y_SRC, X_tgt=X_TGT)


def test_errors_of_the_estimator_come_through(routing):
    with pytest.raises(ValueError, match="Expected one domain tag per row"):
        make(CKMDomainAdapter).fit(X_SRC, Y_SRC, sample_domain=[0, -1])
    with pytest.raises(ValueError, match="at least one labelled target row"):
        make(CKMSemiSupervisedAdapter).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


# searches ---------------------------------------------------------------------------------------


def target_folds(tags):
    """Two folds that test on target rows and train on all others."""
    (target,) = np.nonzero(tags < 0)
    tests = [target[test] for _, test in KFold(2).split(target)]
    return [(np.setdiff1d(np.arange(len(tags)), test), test) for test in tests]


def test_search_equals_its_folds_by_hand(adapter, routing):
    X, y, tags = stack_domains(X_SRC, Y_SRC, X_TGT, Y_TGT)
    name = f"{adapter.__name__.lower()}__lambda_clustering"
    folds = target_folds(tags)
    search = GridSearchCV(make(adapter), {name: [0.01, 1.0]}, cv=folds, error_score="raise")
    search.fit(X, y, sample_domain=tags)
    for i, (train, test) in enumerate(folds):
        scaler = StandardScaler().fit(X[train])
        for j, value in enumerate([0.01, 1.0]):
            model = adapter(**SMALL, lambda_clustering=value)
            model.fit(scaler.transform(X[train]), y[train], sample_domain=tags[train])
            score = model.score(scaler.transform(X[test]), y[test])
            assert search.cv_results_[f"split{i}_test_score"][j] == score
    assert len(search.best_estimator_[-1].labels_) == len(X_TGT)


# life cycle -------------------------------------------------------------------------------------


def test_steps_are_named_as_in_scikit_learn():
    steps = [StandardScaler(), StandardScaler(), CKMDomainAdapter()]
    ours = make_domain_pipeline(*steps, memory="folder", verbose=True, transform_input=["V"])
    assert ours.steps == make_pipeline(*steps).steps
    assert (ours.memory, ours.verbose, ours.transform_input) == ("folder", True, ["V"])
    assert isinstance(ours, DomainPipeline)


def test_clone_pickle_and_parameters(routing):
    pipeline = make(CKMDomainAdapter).set_params(ckmdomainadapter__lambda_clustering=0.5)
    copied = clone(pipeline)
    assert type(copied) is DomainPipeline
    assert copied.get_params()["ckmdomainadapter__lambda_clustering"] == 0.5
    pipeline.fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    loaded = pickle.loads(pickle.dumps(pipeline))
    assert_array_equal(loaded.predict_proba(X_TGT), pipeline.predict_proba(X_TGT))
    copied.fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert_array_equal(copied.predict_proba(X_TGT), pipeline.predict_proba(X_TGT))
    assert "DomainPipeline" in repr(pipeline)
    assert "CKMDomainAdapter" in estimator_html_repr(pipeline)


def test_slices_are_pipelines(routing):
    pipeline = make(CKMDomainAdapter).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    first = pipeline[:-1]
    assert type(first) is DomainPipeline
    assert_array_equal(first.transform(X_TGT), pipeline[0].transform(X_TGT))
    assert_array_equal(pipeline[1:].predict(first.transform(X_TGT)), pipeline.predict(X_TGT))


def test_cached_transformers_change_no_bit(routing, tmp_path):
    for _ in range(2):  # the second time from the cache
        pipeline = make(CKMDomainAdapter).set_params(memory=str(tmp_path))
        assert_is(pipeline.fit(X_SRC, Y_SRC, X_tgt=X_TGT), *by_hand(CKMDomainAdapter))


def test_verbose_prints_the_steps(capsys):
    make(CKMDomainAdapter).set_params(verbose=True).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert "(step 2 of 2) Processing ckmdomainadapter" in capsys.readouterr().out


# pipelines in pipelines -------------------------------------------------------------------------


@pytest.mark.parametrize("inner", [make_pipeline, make_domain_pipeline])
def test_last_step_may_be_a_pipeline(adapter, routing, inner):
    pipeline = make_domain_pipeline(MinMaxScaler(), inner(StandardScaler(), adapter(**SMALL)))
    flat = make_domain_pipeline(MinMaxScaler(), StandardScaler(), adapter(**SMALL))
    X, y, tags = stacked(adapter)
    for params in [
        {"X": X_SRC, "y": Y_SRC, "X_tgt": X_TGT, **labels_of(adapter)},
        {"X": X, "y": y, "sample_domain": tags},
    ]:
        pipeline.fit(**params)
        flat.fit(**params)
        assert_array_equal(pipeline.predict_proba(X), flat.predict_proba(X))
    X, y, tags = stack_domains(X_SRC, Y_SRC, X_TGT, Y_TGT)
    score = pipeline.score(X, y, sample_domain=tags)
    assert score == flat.score(X, y, sample_domain=tags)


def test_it_may_be_a_step_of_a_pipeline(routing):
    X, y, tags = stacked(CKMDomainAdapter)
    inner = make(CKMDomainAdapter)
    name = "sample_domain" if routing else "domainpipeline__sample_domain"
    pipeline = make_pipeline(MinMaxScaler(), inner).fit(X, y, **{name: tags})
    expected = make(CKMDomainAdapter).fit(MinMaxScaler().fit_transform(X), y, sample_domain=tags)
    assert_array_equal(
        pipeline.predict_proba(X), expected.predict_proba(MinMaxScaler().fit_transform(X))
    )


def test_last_step_may_be_a_search(routing):
    folds = target_folds(stacked(CKMDomainAdapter)[2])
    search = GridSearchCV(CKMDomainAdapter(**SMALL), {"n_clusters": [2, 3]}, cv=folds)
    pipeline = make_domain_pipeline(StandardScaler(), search).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert len(pipeline[-1].best_estimator_.labels_) == len(X_TGT)
    assert np.isfinite(pipeline[-1].cv_results_["mean_test_score"]).all()


@pytest.mark.parametrize("name", ["X_tgt", "y_tgt"])
def test_target_for_a_step_is_refused(name):
    pipeline = make_domain_pipeline(StandardScaler(), CKMDomainAdapter(2))
    step = f"ckmdomainadapter__{name}"
    X = np.ones((5, 2))
    with pytest.raises(TypeError, match=f"got {step}, which would reach"):
        pipeline.fit(X, np.ones(5), **{step: X}, sample_domain=[1, 1, 1, -1, -1])
    with pytest.raises(TypeError, match=f"got {step}, which would reach"):
        pipeline.fit(X, np.ones(5), **{step: X})
