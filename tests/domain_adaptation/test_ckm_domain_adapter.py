import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from _oracles import early_balance
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_blobs
from skorch.callbacks import Callback
from torch.nn.functional import cross_entropy

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans, _networks
from sklearn_ckm._training import _counting, _finetuning, _phases, _rivals
from sklearn_ckm.metrics import clustering_accuracy, neighborhood_agreement_score

SMALL = {
    "n_clusters": 2,
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 3,
    "max_epochs": 3,
    "batch_size": 256,
    "random_state": 0,
}


def make_domains():
    """Three classes of the source and two others of the target, one at each corner of a simplex."""
    X, y = make_blobs(n_samples=100, centers=8 * np.eye(5), random_state=0)
    order = np.argsort(y >= 3, kind="stable")
    X, y = X[order], y[order]
    return X[y < 3], y[y < 3], X[y >= 3], y[y >= 3]


X_SRC, Y_SRC, X_TGT, Y_TGT = make_domains()
X = np.vstack([X_SRC, X_TGT])
Y = np.hstack([Y_SRC, Y_TGT])
TAGS = np.repeat([0, -1], [len(X_SRC), len(X_TGT)])


def adapter(**params):
    return CKMDomainAdapter(**{**SMALL, **params})


def assert_same_model(first, second):
    assert_array_equal(first.labels_, second.labels_)
    assert_array_equal(first.cluster_centers_, second.cluster_centers_)
    assert first.history_ == second.history_


@pytest.fixture(scope="module")
def fitted():
    return adapter().fit(X_SRC, Y_SRC, X_tgt=X_TGT)


LONG = {"pretrain_epochs": 5, "max_epochs": 20, "batch_size": 10}


@pytest.fixture(scope="module")
def long_fitted():
    """Trained for long enough to have learned the source's classes."""
    return adapter(**LONG).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


# domains ----------------------------------------------------------------------------------------


def test_two_arrays_and_stacked_rows_give_the_same_model(fitted):
    assert_same_model(adapter().fit(X, Y, sample_domain=TAGS), fitted)


def test_rows_of_the_domains_may_be_interleaved(fitted):
    is_source = np.random.default_rng(0).permutation(TAGS) >= 0
    rows = np.empty(len(X), dtype=int)  # shuffled, but in order within each domain
    rows[is_source], rows[~is_source] = np.flatnonzero(TAGS >= 0), np.flatnonzero(TAGS < 0)
    stacked = adapter().fit(X[rows], Y[rows], sample_domain=TAGS[rows])
    assert_same_model(stacked, fitted)


@pytest.mark.parametrize(
    ("source_tags", "target_tags"), [([0], [-1]), ([0, 1, 2], [-1]), ([7], [-1, -5])]
)
@pytest.mark.parametrize("container", [np.array, list, pd.Series, lambda d: d.astype(float)])
def test_several_domains_on_a_side_count_as_one(fitted, source_tags, target_tags, container):
    tags = np.hstack([np.resize(source_tags, len(X_SRC)), np.resize(target_tags, len(X_TGT))])
    assert_same_model(adapter().fit(X, Y, sample_domain=container(tags)), fitted)


def test_class_called_minus_one_is_a_source_class(fitted):
    y = Y_SRC - 1
    two_arrays = adapter().fit(X_SRC, y, X_tgt=X_TGT)
    stacked = adapter().fit(X, np.hstack([y, Y_TGT]), sample_domain=TAGS)
    for model in (two_arrays, stacked):
        assert_same_model(model, fitted)
        assert_array_equal(model.source_classes_, [-1, 0, 1])


def test_without_source_it_is_concrete_kmeans():
    model = adapter().fit(X_TGT)
    assert_same_model(model, ConcreteKMeans(**SMALL).fit(X_TGT))
    assert len(model.source_classes_) == 0


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_without_domains_labelled_rows_are_source_and_target():
    images = (16 * X).clip(0, 255).astype(np.uint8)  # bytes, whose scaling needs no statistics
    params = {"image_shape": (1, 1, X.shape[1])}
    model = adapter(**params).fit(images, Y)
    assert_same_model(model, adapter(**params).fit(images, Y, X_tgt=images))
    assert_array_equal(model.source_classes_, np.unique(Y))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_without_domains_unlabelled_rows_are_target_only():
    images = (16 * X).clip(0, 255).astype(np.uint8)
    y = np.where(Y < 3, Y, np.nan)
    params = {"image_shape": (1, 1, X.shape[1])}
    model = adapter(**params).fit(images, y)
    assert_same_model(model, adapter(**params).fit(images[Y < 3], Y[Y < 3], X_tgt=images))
    assert len(model.labels_) == len(images)


def test_source_matters(fitted):
    assert not np.array_equal(fitted.cluster_centers_, adapter().fit(X_TGT).cluster_centers_)
    unlabelled = adapter().fit(X_SRC, X_tgt=X_TGT)
    assert not np.array_equal(fitted.cluster_centers_, unlabelled.cluster_centers_)


# labels -----------------------------------------------------------------------------------------

N_TGT = len(X_TGT)
GARBAGE = {
    "other ints": list(range(1000, 1000 + N_TGT)),
    "objects": [object() for _ in range(N_TGT)],
    "None": [None] * N_TGT,
    "NaN": [np.nan] * N_TGT,
    "strings": ["a", "b"] * (N_TGT // 2),
    "dicts and ints": [{}, 1] * (N_TGT // 2),
    "infinities": [np.inf] * N_TGT,
    "fractions": list(np.linspace(0, 1, N_TGT)),
}


@pytest.mark.parametrize("garbage", GARBAGE.values(), ids=GARBAGE)
@pytest.mark.parametrize("container", [list, lambda y: np.array(y, object), pd.Series])
def test_labels_of_target_rows_are_never_read(fitted, garbage, container):
    model = adapter().fit(X, container([*Y_SRC.tolist(), *garbage]), sample_domain=TAGS)
    assert_same_model(model, fitted)
    assert_array_equal(model.source_classes_, [0, 1, 2])


def some_missing(missing):
    """Labels of the source with every third one missing."""
    return [missing if i % 3 == 0 else label for i, label in enumerate(Y_SRC.tolist())]


MISSING = {
    "float array": np.array(some_missing(np.nan)),
    "list with NaN": some_missing(np.nan),
    "list with None": some_missing(None),
    "object array": np.array(some_missing(None), dtype=object),
    "pandas nullable": pd.Series(some_missing(pd.NA), dtype="Int64"),
    "pandas categorical": pd.Series(some_missing(None), dtype="category"),
    "polars": pl.Series(some_missing(None)),
}


@pytest.mark.parametrize("y", MISSING.values(), ids=MISSING)
def test_missing_labels_mean_the_same_in_every_container(y):
    model = adapter().fit(X_SRC, y, X_tgt=X_TGT)
    assert_same_model(model, adapter().fit(X_SRC, MISSING["list with None"], X_tgt=X_TGT))
    assert_array_equal(model.source_classes_, [0, 1, 2])
    assert model.source_classes_.dtype.kind == "i"


@pytest.mark.parametrize("missing", [None, np.nan])
def test_unlabelled_source_is_the_same_as_no_labels(missing):
    model = adapter().fit(X_SRC, [missing] * len(X_SRC), X_tgt=X_TGT)
    assert_same_model(model, adapter().fit(X_SRC, X_tgt=X_TGT))
    assert len(model.source_classes_) == 0
    assert "classification" not in model.history_[-1]


def halved(x, generator):
    """A view that can be told beforehand."""
    return x / 2


@pytest.mark.parametrize("augmentation", [None, halved])
def test_unlabelled_source_rows_take_part_in_the_reconstruction_only(augmentation):
    # One batch holds everything and nothing moves, so the recorded losses are those of the model.
    y = np.array(some_missing(np.nan))
    frozen = {"lr": 1e-20, "pretrain_epochs": 0, "max_epochs": 1, "source_sampling": "natural"}
    model = adapter(augmentation=augmentation, **frozen).fit(X_SRC, y, X_tgt=X_TGT)
    module, record = model._net.module_, model.history_[0]
    with torch.no_grad():
        x_source, x_target = model._scaler.to_tensor(X_SRC), model._scaler.to_tensor(X_TGT)
        if augmentation is not None:  # the source takes part in a view alone
            x_source = augmentation(x_source, None)
        x = torch.cat([x_source, x_target])
        z, reconstruction = module(x)
        squares = (x - reconstruction).square().sum(1).numpy()
        logits = module.classifier(z[: len(X_SRC)])
        is_labelled = np.isfinite(y)
        entropy = cross_entropy(logits[is_labelled], torch.from_numpy(y[is_labelled]).long())
    source, target = squares[: len(X_SRC)], squares[len(X_SRC) :]
    assert record["reconstruction"] == pytest.approx(squares.mean(), rel=1e-5)
    without_unlabelled = np.hstack([source[is_labelled], target]).mean()
    assert record["reconstruction"] != pytest.approx(without_unlabelled, rel=1e-3)
    assert record["classification"] == pytest.approx(float(entropy), rel=1e-5)


NAMES = {
    "int": ([-3, 0, 9], None),
    "str": (["ant", "bee", "cow"], None),
    "object": (["ant", "bee", "cow"], object),
    "unsigned": ([1, 2, 250], np.uint8),
    "whole float": ([0.0, 1.0, 2.0], float),
    "categorical": (["ant", "bee", "cow"], "category"),
    "pandas string": (["ant", "bee", "cow"], "string"),
}


@pytest.mark.parametrize(("names", "dtype"), NAMES.values(), ids=NAMES)
def test_names_of_source_classes_do_not_matter_and_come_back(fitted, names, dtype):
    y = np.array(names)[Y_SRC]
    y = pd.Series(y, dtype=dtype) if dtype in ("category", "string") else y.astype(dtype or y.dtype)
    model = adapter().fit(X_SRC, y, X_tgt=X_TGT)
    assert_same_model(model, fitted)
    assert_array_equal(model.source_classes_, names)
    assert_array_equal(model.predict_source(X), np.array(names)[fitted.predict_source(X)])


def test_boolean_labels_are_two_classes():
    model = adapter().fit(X_SRC, Y_SRC > 0, X_tgt=X_TGT)
    assert_array_equal(model.source_classes_, [False, True])
    assert_same_model(model, adapter().fit(X_SRC, (Y_SRC > 0).astype(int), X_tgt=X_TGT))
    assert model.predict_source(X).dtype == bool


def test_labels_may_come_as_a_column(fitted):
    assert_same_model(adapter().fit(X_SRC, Y_SRC[:, None], X_tgt=X_TGT), fitted)


def test_source_of_one_row_works():
    model = adapter().fit(X_SRC[:1], ["only"], X_tgt=X_TGT)
    assert_array_equal(model.source_classes_, ["only"])
    assert_array_equal(model.predict_source(X_TGT), ["only"] * len(X_TGT))
    assert np.isfinite(model.cluster_centers_).all()


def test_source_classifier_learns_the_source_classes(long_fitted):
    assert (long_fitted.predict_source(X_SRC) == Y_SRC).mean() > 0.95
    untrained = adapter(**LONG, lambda_classification=0.0).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert (untrained.predict_source(X_SRC) == Y_SRC).mean() < 0.95


def test_balanced_sampling_weighs_rare_classes_as_much_as_frequent_ones():
    rows = np.hstack([np.flatnonzero(Y_SRC == 0), np.flatnonzero(Y_SRC == 1)[:2]])
    params = {"lr": 1e-20, "pretrain_epochs": 0, "max_epochs": 300, "tol": 0.0}
    params["augmentation"] = None  # the losses are those of the rows as they are
    losses, expected = {}, {}
    for sampling in ("balanced", "natural"):
        model = adapter(source_sampling=sampling, **params)
        model.fit(X_SRC[rows], Y_SRC[rows], X_tgt=X_TGT)
        losses[sampling] = np.mean([record["classification"] for record in model.history_])
        z = torch.from_numpy(model.transform(X_SRC[rows]).astype(np.float32))
        with torch.no_grad():
            logits = model._net.module_.classifier(z)
            each = cross_entropy(logits, torch.from_numpy(Y_SRC[rows]), reduction="none").numpy()
    expected["natural"] = each.mean()
    expected["balanced"] = (each[Y_SRC[rows] == 0].mean() + each[Y_SRC[rows] == 1].mean()) / 2
    assert abs(expected["natural"] - expected["balanced"]) > 0.05
    assert losses["natural"] == pytest.approx(expected["natural"], rel=1e-4)
    assert losses["balanced"] == pytest.approx(expected["balanced"], abs=0.01)


# prediction -------------------------------------------------------------------------------------


@pytest.mark.parametrize("rows", [slice(0, 1), slice(50, 70), slice(None)])
def test_methods_answer_one_row_per_row_whatever_the_domain(fitted, rows):
    n_rows = len(X[rows])
    assert fitted.predict(X[rows]).shape == (n_rows,)
    assert fitted.predict_proba(X[rows]).shape == (n_rows, 2)
    assert fitted.transform(X[rows]).shape == (n_rows, 3)
    assert fitted.predict_source(X[rows]).shape == (n_rows,)


def test_labels_are_the_predictions_of_the_target_rows(long_fitted):
    assert len(np.unique(long_fitted.labels_)) == 2
    assert_array_equal(long_fitted.labels_, long_fitted.predict(X_TGT))


def test_labels_are_those_of_the_target_rows_in_their_order():
    order = np.random.default_rng(0).permutation(len(X))
    model = adapter().fit(X[order], Y[order], sample_domain=TAGS[order])
    assert_array_equal(model.labels_, model.predict(X[order])[TAGS[order] < 0])
    assert clustering_accuracy(Y[order][TAGS[order] < 0], model.labels_) == 1.0


def test_fit_predict_answers_by_style(fitted):
    two_arrays = adapter().fit_predict(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert_array_equal(two_arrays, fitted.labels_)
    model = adapter()
    stacked = model.fit_predict(X, Y, sample_domain=TAGS)
    assert_array_equal(stacked, fitted.predict(X))
    assert_array_equal(stacked[TAGS < 0], model.labels_)
    assert_array_equal(model.source_classes_, [0, 1, 2])
    assert_array_equal(adapter().fit_predict(X_TGT), adapter().fit(X_TGT).labels_)


def test_score_is_the_agreement_of_the_clusters_with_input_neighbourhoods(fitted):
    score = fitted.score(X, sample_domain=TAGS)
    assert type(score) is float
    scaled = fitted._scaler.to_tensor(X_TGT).numpy()
    expected = neighborhood_agreement_score(scaled, fitted.labels_, sample_size=None)
    assert score == pytest.approx(expected, abs=1e-12)


@pytest.fixture(scope="module")
def imperfect():
    """One whose clusters are not all those of the inputs."""
    return adapter(augmentation=None).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


def test_score_needs_no_labels_and_counts_target_rows_only(imperfect):
    fitted = imperfect
    score = fitted.score(X, sample_domain=TAGS)
    assert score == fitted.score(X_TGT)
    assert score != fitted.score(X)
    for y in (Y, Y[::-1], np.full(len(X), "x"), [None] * len(X)):
        assert fitted.score(X, y, sample_domain=TAGS) == score


def test_score_weights_rows(imperfect):
    fitted = imperfect
    weight = np.random.default_rng(0).uniform(size=len(X))
    assert fitted.score(X, sample_weight=np.ones(len(X))) == pytest.approx(fitted.score(X))
    assert fitted.score(X, sample_weight=weight) != fitted.score(X)
    dropped = np.where(TAGS < 0, 1.0, 0.0)
    assert fitted.score(X, sample_weight=dropped) == pytest.approx(fitted.score(X_TGT))
    both = fitted.score(X, sample_weight=weight, sample_domain=TAGS)
    assert both == fitted.score(X_TGT, sample_weight=weight[TAGS < 0])


# inputs -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("frame", [pd.DataFrame, pl.DataFrame])
def test_frames_give_names_and_the_same_model(fitted, frame):
    columns = ["a", "b", "c", "d", "e"]
    X_src = frame(dict(zip(columns, X_SRC.T, strict=True)))
    X_tgt = frame(dict(zip(columns, X_TGT.T, strict=True)))
    model = adapter().fit(X_src, Y_SRC, X_tgt=X_tgt)
    assert_same_model(model, fitted)
    assert_array_equal(model.feature_names_in_, columns)
    assert_array_equal(model.predict_source(X_src), fitted.predict_source(X_SRC))


def test_source_columns_in_another_order_raise():
    X_src = pd.DataFrame(X_SRC, columns=list("abcde"))
    X_tgt = pd.DataFrame(X_TGT, columns=list("edcba"))
    with pytest.raises(ValueError, match="in X_src and X_tgt, got another order"):
        adapter().fit(X_src, Y_SRC, X_tgt=X_tgt)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_images_equal_flattened_images_with_their_shape():
    rng = np.random.default_rng(0)
    images = rng.random((100, 2, 8, 8)) + (np.arange(100) % 2)[:, None, None, None]
    params = {"encoder": "conv", "pretrain_epochs": 1, "max_epochs": 1}
    four = adapter(**params).fit(images[:50], Y_SRC[:50], X_tgt=images[50:])
    flat = images.reshape(100, -1)
    two = adapter(image_shape=(2, 8, 8), **params).fit(flat[:50], Y_SRC[:50], X_tgt=flat[50:])
    assert_same_model(four, two)
    assert_array_equal(four.transform(images), two.transform(flat))
    assert four.n_features_in_ == two.n_features_in_ == 2 * 8 * 8


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_scale_of_the_inputs_is_learned_from_both_domains():
    # One common shift and scale changes nothing; a shift of one domain alone does.
    both = adapter().fit(10 * X_SRC + 3, Y_SRC, X_tgt=10 * X_TGT + 3)
    alone = adapter().fit(10 * X_SRC + 3, Y_SRC, X_tgt=X_TGT)
    plain = adapter().fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert_allclose(both.cluster_centers_, plain.cluster_centers_, rtol=1e-3, atol=1e-4)
    assert not np.allclose(alone.cluster_centers_, plain.cluster_centers_, rtol=1e-2, atol=1e-2)


# history ----------------------------------------------------------------------------------------

LOSSES = {"reconstruction", "clustering", "classification", "consistency", "balance"}


def test_history_holds_every_loss_term(fitted):
    assert [record["phase"] for record in fitted.history_] == ["pretrain"] * 3 + ["finetune"] * 3
    assert [record["epoch"] for record in fitted.history_] == [1, 2, 3, 1, 2, 3]
    for record in fitted.history_[:3]:
        assert set(record) == {"phase", "epoch", "loss", "reconstruction"}
    assert set(fitted.history_[3]) > {"phase", "epoch", "loss", *LOSSES}


@pytest.mark.parametrize("lambdas", [(0.1, 1.0), (2.0, 0.3), (0.0, 0.0)])
def test_loss_without_views_is_the_weighted_sum_of_its_terms(lambdas):
    params = {"lambda_clustering": lambdas[0], "lambda_classification": lambdas[1]}
    model = adapter(augmentation=None, **params)
    for record in model.fit(X_SRC, Y_SRC, X_tgt=X_TGT).history_[3:]:
        expected = (
            record["reconstruction"]
            + lambdas[0] * record["clustering"]
            + lambdas[1] * record["classification"]
        )
        assert record["loss"] == pytest.approx(expected, rel=1e-5)


VIEW_WEIGHTS = [  # of the source at last
    (0.1, 1.0, 10.0, 10.0, 1.0),
    (2.0, 0.3, 0.5, 0.2, 2.0),
    (0.2, 2.0, 5.0, 7.0, 0.0),
    (0, 0, 0, 3.0, 0.3),
]


def assert_loss_is_the_weighted_sum(weights, **params):
    terms = ("clustering", "classification", "consistency", "balance", "source")
    model = adapter(**{f"lambda_{t}": w for t, w in zip(terms, weights, strict=True)}, **params)
    clustering, classification, consistency, balance, source = weights
    for i, record in enumerate(model.fit(X_SRC, Y_SRC, X_tgt=X_TGT).history_[3:]):
        early = early_balance(i, model.max_epochs)
        of_domains = [(1.0, "")]
        if source:
            of_domains.append((source, "source_"))
        assert ("source_balance" in record) == ("source_consistency" in record) == (source > 0)
        expected = record.get("reconstruction", 0.0) + clustering * record["clustering"]
        expected += classification * record["classification"]
        for weight, domain in of_domains:
            expected += weight * consistency * record[f"{domain}consistency"]
            expected += weight * balance * early * record[f"{domain}balance"]
        assert record["loss"] == pytest.approx(expected, rel=1e-5)


@pytest.mark.parametrize("weights", VIEW_WEIGHTS)
def test_loss_with_views_is_the_weighted_sum_of_its_terms(weights):
    assert_loss_is_the_weighted_sum(weights)


# the source's classes first ----------------------------------------------------------------------

CLASSES = {"pretraining": "classification"}


@pytest.fixture(scope="module")
def follower():
    return adapter(**CLASSES).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


def test_history_of_a_network_that_learns_classes_first(follower):
    for record in follower.history_[:3]:
        assert set(record) == {"phase", "epoch", "loss", "classification"}
        assert record["loss"] == record["classification"]
    terms = {"consistency", "balance", "source_consistency", "source_balance", "classification"}
    for record in follower.history_[3:]:
        assert set(record) > {"phase", "epoch", "loss", "clustering", *terms}
        assert "reconstruction" not in record


@pytest.mark.parametrize("weights", VIEW_WEIGHTS)
def test_loss_with_classes_first_is_the_weighted_sum_of_its_terms(weights):
    assert_loss_is_the_weighted_sum(weights, **CLASSES)


def test_classes_first_without_views_leaves_clustering_and_classification():
    model = adapter(**CLASSES, augmentation=None).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    for record in model.history_[3:]:
        assert "source_consistency" not in record
        expected = 0.1 * record["clustering"] + record["classification"]
        assert record["loss"] == pytest.approx(expected, rel=1e-5)


def test_pretraining_on_classes_reads_the_labels_and_views_of_the_source():
    def pretraining(y=Y_SRC, **params):
        model = adapter(**CLASSES, max_epochs=0, **params).fit(X_SRC, y, X_tgt=X_TGT)
        return [record["loss"] for record in model.history_]

    losses = pretraining()
    assert losses == pretraining(lambda_clustering=3.0, n_clusters=3)
    assert losses != pretraining(np.roll(Y_SRC, 1))
    assert losses != pretraining(augmentation=None)
    rare = np.r_[0, 20, np.arange(40, 60)]  # one row of each of two classes
    one, other = (
        adapter(**CLASSES, max_epochs=0, source_sampling=sampling).fit(
            X_SRC[rare], Y_SRC[rare], X_tgt=X_TGT
        )
        for sampling in ("balanced", "natural")
    )
    assert one.history_ != other.history_


def test_target_has_no_part_in_the_pretraining_on_classes():
    def losses(X_tgt, **params):
        model = adapter(max_epochs=0, augmentation=None, **params).fit(X_SRC, Y_SRC, X_tgt=X_tgt)
        return [record["loss"] for record in model.history_]

    mirrored = 2 * X_TGT.mean(0) - X_TGT  # as far and wide, which is what the input scale reads
    assert losses(X_TGT, **CLASSES) == pytest.approx(losses(mirrored, **CLASSES), rel=1e-4)
    assert losses(X_TGT) != pytest.approx(losses(mirrored), rel=1e-4)


def test_decoder_is_not_trained_with_classes_first(follower):
    fresh = adapter(**CLASSES, pretrain_epochs=0, max_epochs=0).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    decoders = [model._net.module_.decoder.state_dict() for model in (follower, fresh)]
    for name, weight in decoders[0].items():
        assert torch.equal(weight, decoders[1][name])
    assert not np.array_equal(follower.transform(X_TGT), fresh.transform(X_TGT))


def test_temperature_is_fitted_once_with_classes_first(follower):
    temperatures = {record["temperature"] for record in follower.history_[3:]}
    assert temperatures == {follower.temperature_}
    start = adapter(**CLASSES, max_epochs=0, init=follower.init_).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert start.temperature_ == follower.temperature_ != 1
    more = adapter(**CLASSES, warm_start=True).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert more.fit(X_SRC, Y_SRC, X_tgt=X_TGT).temperature_ == follower.temperature_
    given = adapter(**CLASSES, temperature=2.5).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert given.temperature_ == 2.5


def test_one_network_competes_with_classes_first(monkeypatch):
    rows = make_nuisance(0)
    kwargs = {**CLASSES, "batch_size": 32, "max_epochs": 6, "tol": 0.0}
    trained, pretrained = [], []

    def train_best(*args, **kwargs):
        trained.append(_rivals.train_best(*args, **kwargs))
        return trained[-1]

    def pretrain(*args, **kwargs):
        pretrained.append(kwargs["has_source"])
        return _phases.pretrain(*args, **kwargs)

    monkeypatch.setattr(_finetuning, "train_best", train_best)
    monkeypatch.setattr(_networks, "pretrain", pretrain)
    model = adapter(**kwargs).fit(*rows[:2], X_tgt=rows[2])
    assert (len(trained), pretrained) == (1, [True])
    assert model.source_in_pretraining_ is True
    alone = adapter(**kwargs, init=model.init_).fit(*rows[:2], X_tgt=rows[2])
    assert_same_model(model, alone)


def test_unlabelled_source_rows_have_no_part_in_the_pretraining_on_classes(monkeypatch):
    drawn = []

    def pretrain(model, data, *args, **kwargs):
        drawn.append((data.source.numpy().copy(), data.y_source.tolist()))
        return _phases.pretrain(model, data, *args, **kwargs)

    monkeypatch.setattr(_networks, "pretrain", pretrain)
    few = np.where(np.arange(len(Y_SRC)) % 20 == 0, Y_SRC, np.nan)
    model = adapter(**CLASSES, **LONG, lambda_source=1.0).fit(X_SRC, few, X_tgt=X_TGT)
    ((rows, labels),) = drawn
    assert labels == Y_SRC[::20].tolist()
    assert_allclose(rows, model._scaler.to_tensor(X_SRC[::20]).numpy(), rtol=1e-5, atol=1e-6)
    assert all(record["classification"] > 0 for record in model.history_[:5])


def test_callbacks_get_the_gradients_that_there_are():
    class Norms(Callback):
        def on_grad_computed(self, net, named_parameters, **kwargs):
            self.norms = {name: float(p.grad.norm()) for name, p in named_parameters}
            names.update(self.norms)

    names = set()
    adapter(**CLASSES, callbacks=[Norms()]).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert {name.split(".")[0] for name in names} == {"encoder", "classifier", "centers"}


@pytest.mark.filterwarnings("ignore::UserWarning")
def test_counting_follows_the_classes_too(monkeypatch):
    seen = []

    def start_finetuning(model, *args, criterion, **kwargs):
        seen.append((criterion.follows_classes, model.centers.is_adaptive))
        return _phases.start_finetuning(model, *args, criterion=criterion, **kwargs)

    monkeypatch.setattr(_counting, "start_finetuning", start_finetuning)
    images = np.random.default_rng(0).uniform(size=(60, 1, 8, 8)).astype(np.float32)
    params = {"n_clusters": "auto", "pretrain_epochs": 1, "max_epochs": 1}
    adapter(**CLASSES, **params).fit(images[:30], np.arange(30) % 2, X_tgt=images[30:])
    assert set(seen) == {(True, False)}
    seen.clear()
    adapter(**params).fit(images[:30], np.arange(30) % 2, X_tgt=images[30:])
    assert set(seen) == {(False, True)}


def test_classes_first_with_counting_memory_and_warm_start(tmp_path, follower):
    cached = [
        adapter(**CLASSES, memory=str(tmp_path)).fit(X_SRC, Y_SRC, X_tgt=X_TGT) for _ in range(2)
    ]
    for model in cached:
        assert_same_model(model, follower)
    swapped = adapter(**CLASSES, memory=str(tmp_path)).fit(X_SRC, np.roll(Y_SRC, 1), X_tgt=X_TGT)
    assert swapped.history_[:3] != follower.history_[:3]
    no_views = {**CLASSES, "augmentation": None}
    one, other = (
        adapter(**no_views, memory=m).fit(X_SRC, Y_SRC, X_tgt=X_TGT) for m in (None, str(tmp_path))
    )
    assert_same_model(one, other)
    counted = adapter(**CLASSES, n_clusters="auto").fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert counted.n_clusters_ >= 2
    more = adapter(**CLASSES, warm_start=True).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    more.set_params(source_in_pretraining=False).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert [record["phase"] for record in more.history_] == ["finetune"] * 3
    assert "source_consistency" in more.history_[0]


@pytest.mark.parametrize(
    ("params", "y", "message"),
    [
        ({}, None, "at least two labelled classes for pretraining='classification', got 0"),
        ({}, np.zeros(len(X_SRC)), "at least two labelled classes .*, got 1"),
        ({"source_in_pretraining": False}, Y_SRC, "the source in both phases .* got source_in_pre"),
        ({"source_in_finetuning": False}, Y_SRC, "the source in both phases"),
    ],
)
def test_source_that_classes_cannot_be_learned_from_raises(params, y, message):
    model = adapter(**CLASSES, **params)
    with pytest.raises(ValueError, match=message):
        model.fit(X_SRC, y, X_tgt=X_TGT)
    assert not hasattr(model, "labels_")


def make_nuisance(seed):
    """Domains whose classes lie in two features, and whose other four vary widely within them."""
    rng = np.random.default_rng(seed)
    angle = np.pi * np.arange(5) / 2.5
    y = rng.integers(5, size=900)
    signal = np.c_[np.cos(angle[y]), np.sin(angle[y])] + 0.1 * rng.normal(size=(900, 2))
    rows = np.c_[signal, 4 * rng.choice([-1, 1], size=(900, 4)) + 0.4 * rng.normal(size=(900, 4))]
    return rows[y < 3], y[y < 3], rows[y >= 3], y[y >= 3]


def nuisance_accuracy(seed, **params):
    X_src, y_src, X_tgt, y_tgt = make_nuisance(seed)
    kwargs = {"pretrain_epochs": 20, "max_epochs": 20, "batch_size": 64, "random_state": seed}
    model = CKMDomainAdapter(2, encoder="mlp-small", **kwargs, **params)
    return clustering_accuracy(y_tgt, model.fit(X_src, y_src, X_tgt=X_tgt).labels_)


def test_classes_of_the_source_teach_what_not_to_divide_by():
    seeds = range(3)
    assert np.mean([nuisance_accuracy(seed) for seed in seeds]) < 0.75
    assert np.mean([nuisance_accuracy(seed, **CLASSES) for seed in seeds]) > 0.9


# behaviour --------------------------------------------------------------------------------------


def make_planted(seed):
    """Five target and five source classes, curved into 40 features by one random network."""
    rng = np.random.default_rng(seed)
    centers = 2 * rng.normal(size=(10, 4))
    z, y = make_blobs(n_samples=600, centers=centers, cluster_std=0.7, random_state=seed)
    first, second = rng.normal(size=(4, 30)) / np.sqrt(4), rng.normal(size=(30, 40)) / np.sqrt(30)
    rows = np.tanh(np.tanh(z @ first) @ second) + 0.05 * rng.normal(size=(600, 40))
    return rows[y < 5], y[y < 5], rows[y >= 5], y[y >= 5]


def planted_accuracy(seed, lambda_clustering):
    X_src, y_src, X_tgt, y_tgt = make_planted(seed)
    model = CKMDomainAdapter(
        n_clusters=5,
        n_components=5,
        encoder="mlp-small",
        augmentation=None,  # the views' terms alone keep the clusters as well
        lambda_clustering=lambda_clustering,
        lambda_classification=10.0,
        pretrain_epochs=5,
        max_epochs=60,
        tol=0.0,
        batch_size=64,
        random_state=seed,
    )
    return clustering_accuracy(y_tgt, model.fit(X_src, y_src, X_tgt=X_tgt).labels_)


@pytest.mark.slow
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_clustering_term_keeps_the_clusters_while_the_source_moves_the_embedding():
    # Seen: 0.81, 0.99, 0.87, 0.75, 0.68 with the term (mean 0.82); 0.54, 0.80, 0.60, 0.52, 0.52
    # without it (mean 0.60), where the embedding drifts away from centres that stand still.
    whole = np.array([planted_accuracy(seed, lambda_clustering=1.0) for seed in range(5)])
    broken = np.array([planted_accuracy(seed, lambda_clustering=0.0) for seed in range(5)])
    assert whole.mean() > 0.72 > broken.mean()
    assert whole.mean() > broken.mean() + 0.1
    assert (whole > broken).sum() >= 4


def test_score_with_tags_rates_target_rows_only():
    """A model that only tells the domains apart scores high without tags, and 0 with them."""
    far = X_TGT + 40
    rows = np.vstack([X_SRC, far])
    model = adapter(max_epochs=0).fit(X_SRC, Y_SRC, X_tgt=far)
    with torch.no_grad():
        z = torch.from_numpy(model.transform(rows)).float()
        centers = torch.stack([z[TAGS >= 0].mean(0), z[TAGS < 0].mean(0)])
        model._net.module_.centers.positions.copy_(centers)
    assert model.score(rows, sample_domain=TAGS) == model.score(far) == 0
    assert model.score(rows) > 0.9


# source in the pretraining alone ----------------------------------------------------------------


@pytest.fixture(scope="module")
def target_tuned():
    return adapter(source_in_finetuning=False).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


@pytest.mark.parametrize(
    "y",
    [None, Y_SRC[::-1], Y_SRC + 5, np.array(["a", "b", "c"])[Y_SRC], some_missing(None), Y_SRC * 0],
    ids=["none", "reversed", "renamed", "strings", "some missing", "one class"],
)
def test_source_labels_have_no_influence_where_only_the_target_is_tuned(target_tuned, y):
    model = adapter(source_in_finetuning=False).fit(X_SRC, y, X_tgt=X_TGT)
    assert_same_model(model, target_tuned)
    assert_array_equal(model.transform(X), target_tuned.transform(X))


@pytest.mark.parametrize(
    "params", [{"lambda_classification": 9.0}, {"source_sampling": "natural"}, {"warm_start": True}]
)
def test_parameters_of_the_source_have_no_influence_where_only_the_target_is_tuned(
    target_tuned, params
):
    model = adapter(source_in_finetuning=False, **params).fit(X, Y, sample_domain=TAGS)
    assert_same_model(model, target_tuned)


def test_pretraining_is_that_of_both_domains_where_only_the_target_is_tuned(fitted, target_tuned):
    params = {"source_in_finetuning": False, "max_epochs": 0}
    model = adapter(**params).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    assert_same_model(model, adapter(max_epochs=0).fit(X_SRC, Y_SRC, X_tgt=X_TGT))
    assert target_tuned.history_[:3] == fitted.history_[:3]
    assert model.history_ != adapter(**params).fit(X_TGT).history_
    assert not np.array_equal(target_tuned.cluster_centers_, fitted.cluster_centers_)
    unlabelled = adapter().fit(X_SRC, X_tgt=X_TGT)  # reconstructs the source in both phases
    assert not np.array_equal(target_tuned.cluster_centers_, unlabelled.cluster_centers_)


def test_losses_are_those_of_the_target_where_only_the_target_is_tuned():
    frozen = {"lr": 1e-20, "pretrain_epochs": 0, "max_epochs": 1}
    model = adapter(source_in_finetuning=False, **frozen).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
    with torch.no_grad():
        x = model._scaler.to_tensor(X_TGT)
        expected = (x - model._net.module_(x)[1]).square().sum(1).mean().item()
    record = model.history_[-1]
    assert record["reconstruction"] == pytest.approx(expected, rel=1e-5)
    assert "classification" not in record
    both = adapter(**frozen).fit(X_SRC, Y_SRC, X_tgt=X_TGT).history_[-1]
    assert record["reconstruction"] != pytest.approx(both["reconstruction"], rel=1e-3)


def test_there_is_no_source_classifier_where_only_the_target_is_tuned(target_tuned):
    match = r"labelled source rows for predict_source, got none. Set source_in_finetuning=True"
    with pytest.raises(ValueError, match=match):
        target_tuned.predict_source(X)


def test_warm_start_goes_on_where_only_the_target_is_tuned(target_tuned):
    model = adapter(source_in_finetuning=False, warm_start=True)
    for y in (Y_SRC + 5, Y_SRC):  # labels are not read, so that others do not matter
        model.fit(X_SRC, y, X_tgt=X_TGT)
    assert [record["phase"] for record in model.history_] == ["finetune"] * 3
    assert not np.array_equal(model.cluster_centers_, target_tuned.cluster_centers_)
    with pytest.raises(ValueError, match="number of source classes"):
        model.set_params(source_in_finetuning=True).fit(X_SRC, Y_SRC, X_tgt=X_TGT)
