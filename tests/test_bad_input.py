"""What is wrong raises and says what was expected; what is merely odd has a defined result."""

import re
from functools import partial

import numpy as np
import pandas as pd
import pytest
import scipy.sparse
import torch
from numpy.testing import assert_array_equal
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning, NotFittedError
from sklearn.utils._param_validation import InvalidParameterError
from skorch.callbacks import BatchScoring, Callback, Checkpoint, EarlyStopping, EpochScoring

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans
from sklearn_ckm.augmentation import ImageAugmentation
from sklearn_ckm.objectives import BaseClusteringObjective, ConcreteKMeansObjective

SMALL = {
    "n_clusters": 2,
    "n_components": 3,
    "encoder": "mlp-small",
    "pretrain_epochs": 3,
    "max_epochs": 2,
    "random_state": 0,
}

X, Y = make_blobs(n_samples=100, centers=8 * np.eye(5), random_state=0)
TAGS = np.where(Y < 3, 0, -1)
X_SRC, Y_SRC, X_TGT = X[TAGS >= 0], Y[TAGS >= 0], X[TAGS < 0]
CLUSTERERS = [ConcreteKMeans, CKMDomainAdapter]
ALL = [*CLUSTERERS, CKMSemiSupervisedAdapter]


def adapter(**params):
    return CKMDomainAdapter(**{**SMALL, **params})


@pytest.fixture(params=ALL, ids=lambda cls: cls.__name__)
def make(request):
    """A function that makes an estimator of one class."""
    return lambda **params: request.param(**{**SMALL, **params})


@pytest.fixture(params=CLUSTERERS, ids=lambda cls: cls.__name__)
def make_clusterer(request):
    """A function that makes an estimator of a class that scores without labels."""
    return lambda **params: request.param(**{**SMALL, **params})


def some_labels(rows):
    """The last of the groups above against the others, or else every other row."""
    if isinstance(rows, np.ndarray) and rows.ndim == 2 and rows.shape[1] >= 5:
        return (rows[:, :5].argmax(1) == 4).astype(int)
    return np.arange(rows.shape[0] if hasattr(rows, "shape") else len(rows)) % 2


def fit(model, rows):
    """Fit on one domain, with labels where the estimator needs them."""
    if isinstance(model, CKMSemiSupervisedAdapter):
        return model.fit(rows, some_labels(rows))
    return model.fit(rows)


def answer(model, method, rows):
    """What a method of the estimator says to the rows, with labels where it needs them."""
    if method == "score" and isinstance(model, CKMSemiSupervisedAdapter):
        return model.score(rows, some_labels(rows))
    return getattr(model, method)(rows)


METHODS = ["predict", "predict_proba", "transform", "score"]


def one_image_set(n_samples=40, shape=(1, 8, 8)):
    return np.random.default_rng(0).uniform(size=(n_samples, *shape))


# values -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_missing_and_infinite_values_raise(make, value):
    rows = X.copy()
    rows[3, 1] = value
    found = "NaN" if np.isnan(value) else "infinity"
    with pytest.raises(ValueError, match=f"Input X contains {found}"):
        fit(make(), rows)
    model = fit(make(), X_TGT)
    for method in METHODS:
        with pytest.raises(ValueError, match=f"Input X contains {found}"):
            answer(model, method, rows)


@pytest.mark.parametrize(("which", "name"), [("X_tgt", "X_tgt"), ("X", "X_src")])
@pytest.mark.parametrize("value", [np.nan, np.inf])
def test_message_names_the_domain_with_the_missing_value(which, name, value):
    arrays = {"X": X_SRC.copy(), "X_tgt": X_TGT.copy()}
    arrays[which][3, 1] = value
    with pytest.raises(ValueError, match=f"Input {name} contains (NaN|infinity)"):
        adapter().fit(arrays["X"], Y_SRC, X_tgt=arrays["X_tgt"])


@pytest.mark.parametrize(
    ("rows", "error", "match"),
    [
        (scipy.sparse.csr_matrix(X), TypeError, "Sparse data was passed.*dense data is required"),
        (X + 1j, ValueError, "Complex data not supported"),
        (np.full((20, 2), "a"), ValueError, "could not convert string to float"),
        (X[:, 0], ValueError, "Expected 2D array, got 1D array"),
        (X.reshape(20, 5, 5), ValueError, r"dim 3 in X, of shape \(20, 5, 5\).*take X\[:, None\]"),
        (X.reshape(20, 5, 5, 1, 1), ValueError, "array with dim 5"),
        (X[:0], ValueError, r"0 sample\(s\)"),
        (X[:, :0], ValueError, r"0 feature\(s\)"),
    ],
    ids=["sparse", "complex", "strings", "1-D", "3-D", "5-D", "no rows", "no columns"],
)
def test_rows_of_a_wrong_kind_raise(make, rows, error, match):
    with pytest.raises(error, match=re.compile(match, re.DOTALL)):
        fit(make(), rows)
    model = fit(make(), X_TGT)
    with pytest.raises(error, match="features|" + match):
        model.predict(rows)


@pytest.mark.parametrize("n_clusters", [2, 3, 8])
def test_fewer_rows_than_clusters_raise(make, n_clusters):
    n_rows = n_clusters - 1
    wanted = f"as many target rows as clusters, got n_samples={n_rows} and n_clusters={n_clusters}"
    with pytest.raises(ValueError, match=wanted):
        fit(make(n_clusters=n_clusters), X[:n_rows])


def test_target_with_fewer_rows_than_clusters_raises():
    with pytest.raises(ValueError, match="got n_samples=2 and n_clusters=3"):
        adapter(n_clusters=3).fit(X_SRC, Y_SRC, X_tgt=X_TGT[:2])


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_as_many_rows_as_clusters_work(make):
    model = fit(make(n_clusters=3), X[:3])
    assert np.isfinite(model.cluster_centers_).all()
    single = fit(make(n_clusters=1), X[:1])
    assert_array_equal(single.labels_, [0])
    assert_array_equal(single.predict_proba(X), np.ones((len(X), 1)))


@pytest.mark.parametrize("constant", [0.0, 3.7, -1e20])
def test_constant_columns_change_nothing_that_matters(make, constant):
    rows = np.hstack([X_TGT, np.full((len(X_TGT), 2), constant)])
    model = fit(make(), rows)
    for answer in (model.transform(rows), model.predict_proba(rows), model.cluster_centers_):
        assert np.isfinite(answer).all()
    assert all(np.isfinite(record["loss"]) for record in model.history_)
    z = model.transform(np.hstack([X_TGT, np.zeros((len(X_TGT), 2)) + constant]))
    assert_array_equal(z, model.transform(rows))


@pytest.mark.parametrize("value", [0.0, 5.0, 1e30, -1e-30])
def test_data_without_variation_give_finite_answers_and_a_warning(make, value):
    rows = np.full((20, 3), value)
    with pytest.warns(ConvergenceWarning, match=r"1 of 2 centres are dead|collapsed|doubled"):
        model = fit(make(), rows)
    for answer in (model.transform(rows), model.predict_proba(rows), model.cluster_centers_):
        assert np.isfinite(answer).all()
    assert model.stop_reason_ == "collapsed"
    assert len(np.unique(model.labels_)) == 1


def test_duplicated_rows_share_their_cluster(make):
    rows = np.repeat(X_TGT, 3, axis=0)
    model = fit(make(), rows)
    labels = model.labels_.reshape(-1, 3)
    assert (labels == labels[:, :1]).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize("scale", [1e-30, 1e-10, 1e10, 1e30])
def test_very_small_and_very_large_values_give_finite_answers(make, scale):
    model = fit(make(), scale * X_TGT)
    for answer in (model.transform(scale * X_TGT), model.predict_proba(scale * X_TGT)):
        assert np.isfinite(answer).all()
    far = model.transform(np.full((2, 5), 1e300))
    assert np.isfinite(far).all()


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_batches_of_one_row_work(make):
    model = fit(make(batch_size=1), X_TGT[:12])
    assert all(np.isfinite(record["loss"]) for record in model.history_)


@pytest.mark.filterwarnings(
    "ignore:Training diverged.*went back:sklearn.exceptions.ConvergenceWarning"
)
def test_divergence_is_told_with_its_losses(make):
    with pytest.raises(ValueError, match=r"Training diverged in epoch \d.*'pretrain'.*Lower 'lr'"):
        fit(make(lr=1e30), X_TGT)


class Inflates(Callback):
    """Leaves an embedding that overflows after the last epoch of a phase."""

    def __init__(self, phase):
        self.phase = phase

    def on_train_end(self, net, **kwargs):
        if net.phase == self.phase:
            with torch.no_grad():
                list(net.module_.encoder.parameters())[-1].fill_(1e30)


@pytest.mark.parametrize("phase", ["pretrain", "finetune"])
def test_divergence_that_shows_after_the_last_epoch_is_told_alike(make, phase):
    advice = "Lower 'lr' (now 0.002)" + (" or the lambdas." if phase == "finetune" else ".")
    message = (
        f"Training diverged in the last epoch of the phase '{phase}': the embedding of the target "
        f"overflows. {advice}"
    )
    with pytest.raises(ValueError, match=re.escape(message) + "$"):
        fit(make(lr=2e-3, callbacks=[Inflates(phase)]), X_TGT)


def test_divergence_that_shows_in_the_estimate_is_told_alike():
    model = ConcreteKMeans(**{**SMALL, "n_clusters": "auto"}, callbacks=[Inflates("pretrain")])
    with pytest.raises(ValueError, match="Training diverged in the last epoch of the phase 'pret"):
        model.fit(X_TGT)


# prediction -------------------------------------------------------------------------------------


@pytest.mark.parametrize("method", METHODS)
def test_answers_before_fit_raise(make, method):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        answer(make(), method, X)


@pytest.mark.parametrize("method", ["predict_cluster", "predict_cluster_proba", "predict_source"])
def test_further_answers_of_the_classifier_before_fit_raise(method):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        getattr(CKMSemiSupervisedAdapter(), method)(X)


def test_names_before_fit_raise(make):
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        make().get_feature_names_out()


def test_source_answers_before_fit_raise():
    with pytest.raises(NotFittedError, match="is not fitted yet"):
        adapter().predict_source(X)


@pytest.mark.parametrize("y", [None, [None] * len(X_SRC), np.full(len(X_SRC), np.nan)])
def test_source_answers_without_labels_raise(y):
    model = adapter().fit(X_SRC, y, X_tgt=X_TGT)
    with pytest.raises(ValueError, match=r"labelled source rows for predict_source, got none"):
        model.predict_source(X)


def test_other_number_of_features_raises(make):
    model = fit(make(), X_TGT)
    for method in METHODS:
        with pytest.raises(ValueError, match=r"X has 4 features, but .* is expecting 5 features"):
            answer(model, method, X[:, :4])


def test_score_of_two_rows_raises(make_clusterer):
    with pytest.raises(ValueError, match="at least 3 rows"):
        make_clusterer().fit(X_TGT).score(X[:2])


@pytest.mark.parametrize(
    ("weight", "match"),
    [
        (-np.ones(100), "non-negative"),
        (np.ones(7), "sample_weight"),
        (np.zeros(100), "at least one"),
    ],
)
def test_wrong_weights_raise(make_clusterer, weight, match):
    with pytest.raises(ValueError, match=match):
        make_clusterer().fit(X_TGT).score(X, sample_weight=weight)


# domains ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tags", "match"),
    [
        (np.zeros(100, int), r"Expected target rows \(tags < 0\).*only the tags \[0\]"),
        (-np.ones(100, int), r"Expected source rows \(tags >= 0\).*only the tags \[-1\]"),
        (TAGS[:-1], "one domain tag per row, got 99 tags in sample_domain for 100 rows"),
        (TAGS + 0.5, r"Expected integers in sample_domain.*got .*0\.5"),
        (np.where(TAGS < 0, np.nan, 0), r"Expected integers in sample_domain.*got .*nan"),
        (np.where(TAGS < 0, -np.inf, 0), r"Expected integers in sample_domain.*got .*-inf"),
        (TAGS < 0, r"Expected integers in sample_domain.*the dtype bool"),
        (np.where(TAGS < 0, "t", "s"), r"Expected integers in sample_domain.*the dtype <U1"),
        ([None] * 100, r"Expected integers in sample_domain.*the dtype object"),
        (np.zeros((100, 2), int), "sample_domain"),
        (-1, "sample_domain"),
    ],
    ids=[
        "no target",
        "no source",
        "length",
        "fractions",
        "NaN",
        "infinity",
        "bool",
        "str",
        "None",
        "two columns",
        "scalar",
    ],
)
def test_wrong_tags_raise(tags, match):
    with pytest.raises(ValueError, match=match):
        adapter().fit(X, Y, sample_domain=tags)
    if match.startswith("Expected source"):
        return  # a score needs no source
    with pytest.raises(ValueError, match=match):
        adapter().fit(X_TGT).score(X, sample_domain=tags)


def test_both_styles_at_once_raise():
    with pytest.raises(ValueError, match="either X_tgt or sample_domain, got both"):
        adapter().fit(X_SRC, Y_SRC, X_tgt=X_TGT, sample_domain=TAGS)


@pytest.mark.parametrize(("n_source", "n_target"), [(0, 40), (60, 0)])
def test_empty_domain_raises(n_source, n_target):
    with pytest.raises(ValueError, match=r"0 sample\(s\)"):
        adapter().fit(X_SRC[:n_source], Y_SRC[:n_source], X_tgt=X_TGT[:n_target])


def test_domains_of_different_width_raise():
    with pytest.raises(ValueError, match=r"X_src with 4 features and X_tgt with 5 features"):
        adapter().fit(X_SRC[:, :4], Y_SRC, X_tgt=X_TGT)


def test_domains_with_other_columns_raise():
    X_src = pd.DataFrame(X_SRC, columns=list("abcde"))
    X_tgt = pd.DataFrame(X_TGT, columns=list("abcdf"))
    with pytest.raises(ValueError, match=r"\['e'\] in X_src alone and \['f'\] in X_tgt alone"):
        adapter().fit(X_src, Y_SRC, X_tgt=X_tgt)
    with pytest.raises(ValueError, match="X_src and X_tgt, got another order"):
        adapter().fit(X_src, Y_SRC, X_tgt=X_src[list("edcba")])


@pytest.mark.parametrize("callback", [1, "early", ("early", 1)])
def test_callback_that_is_none_raises(callback):
    with pytest.raises(ValueError, match=r"Expected 'callbacks' to hold callbacks of skorch.*got"):
        adapter(callbacks=[callback]).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


@pytest.mark.parametrize("kind", [EpochScoring, BatchScoring])
def test_callback_that_scores_predictions_raises(kind):
    callback = ("scores", kind(lambda net, X, y: 0.0, name="score"))
    with pytest.raises(ValueError, match=f"without {kind.__name__}, .* in history_, where"):
        adapter(callbacks=[callback]).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


@pytest.mark.parametrize(
    ("callback", "advice"),
    [
        (EarlyStopping(), r"EarlyStopping\(monitor='train_loss'\)"),
        (("kept", Checkpoint()), r"Checkpoint\(monitor='train_loss_best'\)"),
    ],
)
def test_callback_that_monitors_a_validation_raises(callback, advice):
    with pytest.raises(ValueError, match=f"there is no validation set. Use {advice}"):
        adapter(callbacks=[callback]).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


def test_list_of_images_of_several_shapes_raises(make):
    images = [np.zeros((1, 8, 8)), np.zeros((1, 8, 4))]
    with pytest.raises(ValueError, match=r"one shape in X, got a list.*ImageFormatter brings"):
        make().fit(images, [0, 1])


def test_optimiser_that_wants_the_loss_several_times_raises():
    for optimizer in (torch.optim.LBFGS, partial(torch.optim.LBFGS, history_size=3)):
        with pytest.raises(ValueError, match="got LBFGS, which computes the loss several times"):
            adapter(optimizer=optimizer).fit(X_SRC, Y_SRC, X_tgt=X_TGT)


def test_three_dimensional_target_raises_by_its_name():
    with pytest.raises(ValueError, match=r"dim 3 in X_tgt, of shape \(8, 5, 5\)"):
        adapter().fit(X_SRC, Y_SRC, X_tgt=X_TGT.reshape(8, 5, 5))


def test_swapped_arguments_raise():
    with pytest.raises(ValueError, match="Expected 2D array, got 1D array"):
        adapter().fit(Y_SRC, X_SRC)
    with pytest.raises(ValueError, match=r"Expected y_src to have shape \(n_samples,\), got"):
        adapter().fit(X_SRC, X_SRC, X_tgt=X_TGT)


def test_forgotten_labels_are_an_unlabelled_source():
    model = adapter().fit(X_SRC, X_tgt=X_TGT)
    assert len(model.labels_) == len(X_TGT)
    assert len(model.source_classes_) == 0


# labels -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("y", "error", "match"),
    [
        ([1, "a"] * 30, TypeError, r"to be of one type, got \['int', 'str'\]. Convert them"),
        (np.linspace(0, 1, 60), ValueError, "Unknown label type: continuous"),
        (Y_SRC[:-1], ValueError, "one label per row in y_src, got 59 labels for 60 rows"),
        (np.zeros((60, 2)), ValueError, r"y_src to have shape \(n_samples,\), got \(60, 2\)"),
        (3, ValueError, r"y_src to have shape \(n_samples,\), got \(\)"),
    ],
    ids=["mixed", "continuous", "length", "two columns", "scalar"],
)
def test_wrong_labels_raise(y, error, match):
    with pytest.raises(error, match=match):
        adapter().fit(X_SRC, y, X_tgt=X_TGT)


def test_infinite_labels_raise():
    with pytest.raises(ValueError, match="class names in the source's labels, got infinity"):
        adapter().fit(X_SRC, np.where(Y_SRC == 0, np.inf, Y_SRC), X_tgt=X_TGT)


def test_wrong_number_of_stacked_labels_raises():
    with pytest.raises(ValueError, match="one label per row in y, got 99 labels for 100 rows"):
        adapter().fit(X, Y[:-1], sample_domain=TAGS)


def test_mixed_labels_of_target_rows_do_not_matter():
    y = [label if tag >= 0 else "?" for label, tag in zip(Y.tolist(), TAGS, strict=True)]
    assert_array_equal(adapter().fit(X, y, sample_domain=TAGS).source_classes_, [0, 1, 2])


# images -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("rows", "image_shape", "match"),
    [
        (one_image_set(), (1, 4, 16), r"image_shape=\(1, 4, 16\).*shape \(1, 8, 8\)"),
        (one_image_set(), (64,), r"image_shape=\(64,\).*shape \(1, 8, 8\)"),
        (X, (1, 8, 8), r"Expected 64 features for image_shape=\(1, 8, 8\), got X with 5"),
        (X, (1, 5), "three|positive ints"),
        (X, (1, 1, 1, 5), "three|positive ints"),
        (X, (1, 0, 5), "positive ints"),
        (X, (-1, -1, 5), "positive ints"),
        (X, (1, 1.5, 5), "positive ints"),
        (X, ("a", 1, 5), "positive ints"),
    ],
)
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_wrong_image_shape_raises(make, rows, image_shape, match):
    with pytest.raises(ValueError, match=match):
        fit(make(image_shape=image_shape), rows)


@pytest.mark.parametrize("shape", [(1, 7, 20), (3, 20, 7), (1, 1, 1)])
def test_image_too_small_for_convolutions_raises(make, shape):
    wanted = re.escape(f"got the shape {shape!r}")
    with pytest.raises(ValueError, match=f"at least 8x8 pixels.*{wanted}.*encoder='mlp'"):
        fit(make(encoder="conv"), one_image_set(shape=shape))


def test_table_is_no_image_for_convolutions(make):
    with pytest.raises(ValueError, match=r"Expected an image of shape.*got the shape \(5,\)"):
        fit(make(encoder="conv"), X)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_small_image_is_fine_for_the_automatic_encoder(make):
    model = fit(make(encoder="auto"), one_image_set(shape=(1, 4, 4)))
    assert model.n_features_in_ == 16


DIFFERENT = {
    "shape": (one_image_set(shape=(1, 4, 16)), r"shape \(1, 8, 8\), got .* \(1, 4, 16\)"),
    "channels": (one_image_set(shape=(3, 8, 8)), r"shape \(1, 8, 8\), got .* \(3, 8, 8\)"),
    "dtype": ((255 * one_image_set()).astype(np.uint8), "one dtype|float images as in fit"),
    "range": (255 * one_image_set(), "images on one scale"),
}


@pytest.mark.parametrize(("images", "match"), DIFFERENT.values(), ids=DIFFERENT)
def test_domains_of_different_images_raise(images, match):
    with pytest.raises(ValueError, match=match):
        adapter().fit(images, np.arange(40) % 2, X_tgt=one_image_set())


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
@pytest.mark.parametrize(("images", "match"), DIFFERENT.values(), ids=DIFFERENT)
def test_prediction_of_different_images_raises(make, images, match):
    model = fit(make(), one_image_set())
    for method in METHODS:
        with pytest.raises(ValueError, match=match):
            answer(model, method, images)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_prediction_of_float_images_with_a_model_of_bytes_raises(make):
    images = (255 * one_image_set()).astype(np.uint8)
    model = fit(make(), images)
    with pytest.raises(ValueError, match="Expected uint8 images as in fit, got X of dtype float64"):
        model.predict(images / 255)


def test_prediction_of_images_with_a_model_of_tables_raises(make):
    model = fit(make(), X)
    with pytest.raises(ValueError, match=r"shape \(5,\).*got images of shape \(1, 1, 5\)"):
        model.predict(X.reshape(100, 1, 1, 5))


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_nested_lists_of_images_equal_arrays(make):
    images = one_image_set(12)
    assert_array_equal(fit(make(), images.tolist()).labels_, fit(make(), images).labels_)


# encoders ---------------------------------------------------------------------------------------


def not_a_module(input_shape, n_components):
    return "network"


class WrongWidth(torch.nn.Linear):
    def __init__(self, input_shape, n_components):
        super().__init__(input_shape[0], n_components + 1)


class Tuple(torch.nn.Linear):
    def __init__(self, input_shape, n_components):
        super().__init__(input_shape[0], n_components)

    def forward(self, x):
        return super().forward(x), x


class WrongDecoder(torch.nn.Linear):
    def __init__(self, input_shape, n_components):
        super().__init__(input_shape[0], n_components)

    def build_decoder(self):
        return torch.nn.Linear(3, 7)


@pytest.mark.parametrize(
    ("encoder", "error", "match"),
    [
        (torch.nn.Linear(5, 3), TypeError, "got an instance of Linear.*fresh weights"),
        (not_a_module, TypeError, "return a torch.nn.Module.*got str"),
        (WrongWidth, ValueError, r"to codes of shape \(2, 3\), got \(2, 4\)"),
        (Tuple, ValueError, r"to codes of shape \(2, 3\), got tuple"),
        (WrongDecoder, ValueError, r"codes back to the shape \(2, 5\), got \(2, 7\)"),
        ("resnet", ValueError, r"'encoder' among .*'mlp'.*got 'resnet'"),
    ],
    ids=["instance", "no module", "width", "tuple", "decoder", "name"],
)
def test_wrong_encoder_raises(make, encoder, error, match):
    with pytest.raises(error, match=match):
        fit(make(encoder=encoder), X)


# parameters -------------------------------------------------------------------------------------


class NotAnObjective:
    def step(self):
        pass


class Unfinished(BaseClusteringObjective):
    pass


@pytest.mark.parametrize(
    ("params", "error", "match"),
    [
        ({"objective": "kmeans"}, ValueError, "'objective' among .*'ckm'.*got 'kmeans'"),
        ({"objective": NotAnObjective()}, TypeError, "instance of BaseClusteringObjective"),
        ({"objective": Unfinished()}, NotImplementedError, "Unfinished does not define 'step'"),
        (
            {"objective": ConcreteKMeansObjective(form="C")},
            ValueError,
            r"'form' among \('A', 'B'\), got 'C'",
        ),
        (
            {"objective": ConcreteKMeansObjective(estimator="em")},
            ValueError,
            "'estimator' among .*'gumbel'.*got 'em'",
        ),
        (
            {"objective": ConcreteKMeansObjective(relaxation=0.0)},
            ValueError,
            r"'relaxation' to be a finite number \(positive\).*got 0.0",
        ),
        (
            {"objective": ConcreteKMeansObjective(noise=(1.0, -1.0))},
            ValueError,
            r"'noise' to be a finite number \(at least 0\).*got \(1.0, -1.0\)",
        ),
        ({"optimizer": "lbfgs"}, ValueError, r"'optimizer' among \['adam', 'adamw', 'sgd'\]"),
        ({"augmentation": "flip"}, ValueError, "'augmentation' among .*got 'flip'"),
        ({"augmentation": "affine"}, ValueError, "Expected images for augmentation='affine', got"),
        (
            {"augmentation": ImageAugmentation(rotation=-1)},
            ValueError,
            "'rotation' of ImageAugmentation .*got -1",
        ),
        ({"device": "abacus"}, ValueError, "'device' to be 'auto', 'cpu', 'cuda'.*got 'abacus'"),
        ({"device": "cuda:99"}, ValueError, "Expected an available device, got 'cuda:99'"),
        ({"device": "meta"}, ValueError, "device"),
        ({"device": "xla"}, ValueError, "device"),
    ],
)
def test_unknown_names_and_wrong_objects_raise(make, params, error, match):
    with pytest.raises(error, match=match):
        fit(make(**params), X)


OUT_OF_RANGE = {
    "n_clusters": [0, -1, 2.0, "2", None],
    "n_components": [0, 1.5],
    "encoder": [3, None],
    "image_shape": [28, "28x28"],
    "objective": [3, None],
    "augmentation": [3, True],
    "lambda_consistency": [-0.1, "1", None],
    "lambda_balance": [-0.1, "1", np.inf],
    "lambda_source": [-0.1, "1", np.inf, np.nan],
    "lambda_clustering": [-0.1, np.nan, np.inf, "0.1"],
    "temperature": [0, -1.0, "high", None, np.inf],
    "init": ["k-means++", None],
    "n_init": [0, "auto"],
    "pretrain_epochs": [-1, 1.5],
    "max_epochs": [-1, None],
    "tol": [-1e-3],
    "n_iter_no_change": [0],
    "batch_size": [0, 16.0],
    "lr": [0, -1, np.nan, np.inf],
    "optimizer": [1],
    "device": [0, None],
    "precision": ["float16", 32],
    "memory": [3],
    "checkpoint": [3],
    "warm_start": ["yes"],
    "callbacks": ["disable", 3],
    "verbose": ["loud", -1],
    "random_state": ["a", 1.5, -1],
    "lambda_classification": [-0.1, "1"],
    "lambda_kshot": [-0.1, "1", None],
    "unknown_label": [],
    "source_sampling": ["uniform", None],
    "pretraining": [None, "labels", True],
    "source_in_pretraining": [None, "yes", 2],
    "source_in_finetuning": [None, "yes"],
}


@pytest.mark.parametrize(
    ("cls", "name", "value"),
    [
        (cls, name, value)
        for cls in ALL
        for name in cls().get_params(deep=False)
        for value in OUT_OF_RANGE[name]
        if (cls, name, value) != (CKMSemiSupervisedAdapter, "n_clusters", None)  # its default
    ],
)
def test_parameter_out_of_range_raises(cls, name, value):
    with pytest.raises(
        InvalidParameterError, match=f"The '{name}' parameter of {cls.__name__} must be"
    ):
        fit(cls(**{**SMALL, name: value}), X)


@pytest.mark.parametrize("cls", ALL)
def test_every_parameter_has_a_range(cls):
    assert set(cls._parameter_constraints) == set(cls().get_params(deep=False))
