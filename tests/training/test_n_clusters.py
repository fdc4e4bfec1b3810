"""The number of clusters of an embedding, alone and as ``n_clusters="auto"`` of the estimators."""

import warnings

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.exceptions import ConvergenceWarning
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture
from skorch.callbacks import Callback

from sklearn_ckm import (
    CKMDomainAdapter,
    CKMSemiSupervisedAdapter,
    ConcreteKMeans,
)
from sklearn_ckm._training import _counting, _n_clusters
from sklearn_ckm._training._n_clusters import count_by_views, estimate_n_clusters

SMALL = {
    "n_components": 4,
    "encoder": "mlp-small",
    "pretrain_epochs": 5,
    "max_epochs": 1,
    "random_state": 0,
}


def blobs(n_clusters, n_samples=300, seed=0, **kwargs):
    centers = 10 * np.eye(max(4, n_clusters))[:n_clusters]
    return make_blobs(n_samples, centers=centers, random_state=seed, **kwargs)


X, Y = blobs(7, 420)
SOURCE = Y < 3


def fit(model, y_tgt=None):
    if isinstance(model, ConcreteKMeans):
        return model.fit(X[~SOURCE])
    if isinstance(model, CKMDomainAdapter):
        return model.fit(X[SOURCE], Y[SOURCE], X_tgt=X[~SOURCE])
    if y_tgt is None:
        y_tgt = np.where(Y[~SOURCE] < 5, Y[~SOURCE], -1)
    return model.fit(X[SOURCE], Y[SOURCE], X_tgt=X[~SOURCE], y_tgt=y_tgt)


@pytest.fixture(params=[ConcreteKMeans, CKMDomainAdapter, CKMSemiSupervisedAdapter])
def make(request):
    return lambda **params: request.param(**{**SMALL, "n_clusters": "auto", **params})


# the estimate ------------------------------------------------------------------------------------


@pytest.mark.parametrize("n_clusters", [2, 3, 5, 8])
def test_separate_blobs_are_counted(n_clusters):
    z, _ = blobs(n_clusters, 600)
    assert estimate_n_clusters(z, seed=0)[0] == n_clusters


def by_hand(z, seed):
    """The best number of clusters by either criterion in each draw, without the principal axes."""
    rng = np.random.default_rng(seed)
    n_rows = min(len(z), int(np.clip(len(z) // 2, 100, 500)))
    numbers = range(2, min(20, n_rows // 10) + 1)
    best = []
    for _ in range(5):
        rows = np.sort(rng.choice(len(z), n_rows, replace=False))
        draw, state = z[rows] - z[rows].mean(axis=0), int(rng.integers(2**31))
        kmeans = [KMeans(k, n_init=3, random_state=state).fit(draw) for k in numbers]
        bic = []
        for fitted in kmeans:
            mixture = GaussianMixture(
                fitted.n_clusters,
                reg_covar=1e-3 * draw.var(axis=0).mean(),
                means_init=fitted.cluster_centers_,
                random_state=state,
            )
            bic.append(-mixture.fit(draw).bic(draw))
        silhouette = [silhouette_score(draw, fitted.labels_) for fitted in kmeans]
        best.append([numbers[np.argmax(bic)], numbers[np.argmax(silhouette)]])
    return np.array(best)


def test_estimate_is_the_mean_over_draws_of_what_two_criteria_prefer():
    # blobs that overlap, where the criteria differ from draw to draw
    z, _ = make_blobs(600, centers=6, n_features=3, cluster_std=2.5, random_state=0)
    best = by_hand(z, seed=1)
    assert len(np.unique(best)) > 2
    count, curve = estimate_n_clusters(z, seed=1)
    assert curve["silhouette"].max() < 0.5
    assert count == round(best.mean())


def test_silhouette_decides_alone_on_clear_clusters():
    z, _ = blobs(8, 600)  # with too few rows in a draw for the parameters of the mixture
    best = by_hand(z, seed=0)
    assert (best[:, 0] < 8).all()
    count, curve = estimate_n_clusters(z, seed=0)
    assert curve["silhouette"].max() > 0.5
    assert count == 8
    # two pairs of touching blobs are two clear clusters
    centers = np.array([[0, 0, 0], [4, 0, 0], [60, 0, 0], [64, 0, 0]])
    z, _ = make_blobs(600, centers=centers, random_state=0)
    assert estimate_n_clusters(z, seed=0)[0] == 2


@pytest.mark.parametrize(
    ("n_samples", "most"), [(20, 2), (29, 2), (30, 3), (100, 10), (250, 12), (400, 20), (2000, 20)]
)
def test_candidates_end_at_twenty_and_at_a_tenth_of_the_rows_drawn(n_samples, most):
    z, _ = blobs(2, n_samples)
    _, curve = estimate_n_clusters(z, seed=0)
    assert_array_equal(curve["n_clusters"], np.arange(2, most + 1))
    assert len(curve["bic"]) == len(curve["silhouette"]) == most - 1


def test_same_seed_gives_the_same_bits_and_leaves_the_rows():
    z, _ = blobs(4, 1500)
    before = z.copy()
    first, second = estimate_n_clusters(z, seed=3), estimate_n_clusters(z, seed=3)
    assert first[0] == second[0]
    for name, values in first[1].items():
        assert_array_equal(values, second[1][name])
    assert_array_equal(z, before)
    other = estimate_n_clusters(z, seed=4)[1]  # looks at other rows
    assert not np.array_equal(other["bic"], first[1]["bic"])


def test_scale_and_place_of_the_embedding_do_not_matter():
    z, _ = blobs(5)
    count, curve = estimate_n_clusters(z, seed=0)
    for factor in (1e-6, 1e6):
        scaled, moved = estimate_n_clusters(factor * (z + 3), seed=0)
        assert scaled == count
        np.testing.assert_allclose(moved["silhouette"], curve["silhouette"], rtol=1e-6)


def test_wide_embedding_is_looked_at_in_ten_directions():
    z, _ = blobs(5, 600)
    wide = np.random.default_rng(0).normal(scale=0.1, size=(600, 60))
    wide[:, :5] += z
    assert estimate_n_clusters(wide, seed=0)[0] == 5


def test_embedding_that_is_one_point_has_an_estimate():
    count, curve = estimate_n_clusters(np.ones((50, 3)), seed=0)
    assert count >= 2
    assert_array_equal(curve["silhouette"], -1.0)


# by views -----------------------------------------------------------------------------------------


def counted(information, n_rows=2000):
    """Answer of the search, and the numbers it asked for."""
    asked = []

    def shared_information(n_clusters):
        asked.append(n_clusters)
        return information(n_clusters)

    return count_by_views(shared_information, n_rows), asked


@pytest.mark.parametrize("n_classes", [2, 3, 7, 12])
@pytest.mark.parametrize("share", [0.3, 0.9])
def test_number_past_which_little_is_added_is_found(n_classes, share):
    # each cluster up to the number of classes adds a share of what it could, others a tenth of it
    def information(k):
        return share * (np.log(min(k, n_classes)) + 0.1 * np.log(max(k / n_classes, 1)))

    (count, curve), asked = counted(information)
    assert count == n_classes
    assert asked == list(range(2, n_classes + 5))  # and four more
    assert_array_equal(curve["n_clusters"], asked)
    np.testing.assert_allclose(curve["mutual_information"], [information(k) for k in asked])
    expected = [information(k) - 0.75 * share * np.log(k) for k in asked]
    np.testing.assert_allclose(curve["gain"], expected, atol=1e-6)


def test_search_by_views_goes_past_a_dip_and_ends_at_the_candidates():
    shares = {2: 0.9, 3: 0.8, 4: 0.75, 5: 0.75, 6: 0.88, 7: 0.6}
    (count, _), _ = counted(lambda k: shares.get(k, 0.5) * np.log(k))
    assert count == 6
    (count, _), asked = counted(np.log)
    assert (count, asked[-1]) == (20, 20)
    (count, _), asked = counted(np.log, n_rows=55)
    assert (count, asked[-1]) == (5, 5)
    assert counted(lambda k: 0.0)[0][0] == 2  # no view tells anything


def images(n_classes, n_rows, seed=0):
    """Small images: a bright bar at an angle of its class, or a dot, with noise."""
    rng = np.random.default_rng(seed)
    y = np.arange(n_rows) % n_classes
    shapes = np.zeros((4, 8, 8))
    shapes[0, 3:5, 1:7] = shapes[1, 1:7, 3:5] = shapes[2, 2:6, 2:6] = 1.0
    shapes[3, [1, 1, 6, 6], [1, 6, 1, 6]] = 1.0
    return (shapes[y] + rng.normal(scale=0.05, size=(n_rows, 8, 8)))[:, None].clip(0, 1), y


IMAGES, IMAGE_CLASSES = images(3, 240)
IMAGE_SETTINGS = {"encoder": "mlp-small", "pretrain_epochs": 8, "max_epochs": 12, "random_state": 0}


def test_estimators_count_images_by_views():
    model = ConcreteKMeans("auto", **IMAGE_SETTINGS).fit(IMAGES)
    curve = model.n_clusters_curve_
    assert model.n_clusters_ == curve["n_clusters"][curve["gain"].argmax()] == 3
    assert model.cluster_centers_.shape[0] == 3
    given = ConcreteKMeans(3, **IMAGE_SETTINGS).fit(IMAGES)
    assert_array_equal(given.cluster_centers_, model.cluster_centers_)  # counting changes no draw
    again = ConcreteKMeans("auto", **IMAGE_SETTINGS).fit(IMAGES)
    for name, values in curve.items():
        assert_array_equal(values, again.n_clusters_curve_[name])

    y_tgt = np.where(IMAGE_CLASSES < 2, IMAGE_CLASSES, -1)
    source = IMAGES[:40, :, ::-1], IMAGE_CLASSES[:40]
    adapter = CKMDomainAdapter("auto", **IMAGE_SETTINGS).fit(*source, X_tgt=IMAGES)
    few = CKMSemiSupervisedAdapter("auto", **IMAGE_SETTINGS)
    few.fit(*source, X_tgt=IMAGES, y_tgt=y_tgt)
    for other in (adapter, few):
        assert other.n_clusters_ == 3
        assert set(other.n_clusters_curve_) == {"n_clusters", "mutual_information", "gain"}
    assert few.classes_.tolist() == [0, 1, -1]


@pytest.mark.parametrize(
    "params",
    [
        {"augmentation": None},
        {"augmentation": "noise"},
        {"lambda_consistency": 0.0, "lambda_balance": 0.0},
        {"max_epochs": 0},
    ],
)
def test_images_without_fine_tuning_by_views_are_counted_in_the_embedding(params):
    model = ConcreteKMeans("auto", **{**IMAGE_SETTINGS, **params}).fit(IMAGES)
    assert set(model.n_clusters_curve_) == {"n_clusters", "bic", "silhouette"}


def test_count_depends_on_neither_objective_nor_weights():
    few = {**IMAGE_SETTINGS, "max_epochs": 2}
    expected = ConcreteKMeans("auto", **few).fit(IMAGES).n_clusters_curve_["mutual_information"]
    others = {"objective": "dec", "lambda_balance": 3.0, "lambda_clustering": 0.0}
    curve = ConcreteKMeans("auto", **few, **others).fit(IMAGES).n_clusters_curve_
    assert_array_equal(curve["mutual_information"], expected)


class Uncopyable(torch.nn.Sequential):
    """Holds what neither ``copy.deepcopy`` nor pickle knows."""

    def __init__(self, input_shape, n_components):
        n_features = int(np.prod(input_shape))
        super().__init__(torch.nn.Flatten(), torch.nn.Linear(n_features, n_components))
        self.rows = (row for row in ())


def test_encoder_that_cannot_be_copied_fits_but_is_not_counted_with():
    settings = {**IMAGE_SETTINGS, "encoder": Uncopyable}
    assert ConcreteKMeans(3, **settings).fit(IMAGES).labels_.shape == (240,)
    with pytest.raises(TypeError, match=r"copies of it, got Uncopyable: .*Pass a number"):
        ConcreteKMeans("auto", **settings).fit(IMAGES)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_images_that_are_all_alike_are_two_clusters():
    model = ConcreteKMeans("auto", **IMAGE_SETTINGS).fit(np.full((40, 1, 8, 8), 0.5))
    assert model.n_clusters_ == 2
    assert (model.n_clusters_curve_["mutual_information"] == 0).all()


def test_number_whose_trial_diverges_tells_nothing(monkeypatch):
    set_centers = _counting.set_centers

    def spoiling(model, z, positions, temperature):
        labels = set_centers(model, z, positions, temperature)
        if len(positions) == 5:
            with torch.no_grad():
                model.centers.positions.fill_(np.nan)
        return labels

    monkeypatch.setattr(_counting, "set_centers", spoiling)
    with pytest.warns(ConvergenceWarning, match="went back to the epoch before"):
        model = ConcreteKMeans("auto", **IMAGE_SETTINGS).fit(IMAGES)
    curve = model.n_clusters_curve_
    assert model.n_clusters_ == 3
    assert_array_equal(curve["n_clusters"][curve["mutual_information"] == 0], [5])


@pytest.mark.parametrize("make", [ConcreteKMeans, CKMDomainAdapter, CKMSemiSupervisedAdapter])
@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warning_of_few_images_points_here(make):
    X, y = images(3, 25)
    data = {"X_tgt": X} if make is CKMDomainAdapter else {}
    with pytest.warns(
        UserWarning, match=r"2, is the largest number that is looked at on 25"
    ) as seen:
        make("auto", **{**IMAGE_SETTINGS, "max_epochs": 1}).fit(X, y, **data)
    (warning,) = [w for w in seen if "largest number" in str(w.message)]
    assert warning.filename == __file__


def test_start_that_leaves_clusters_empty_is_not_preferred():
    params = {**IMAGE_SETTINGS, "n_components": 4, "pretrain_epochs": 5, "max_epochs": 16}
    params.update(lambda_balance=0.0, tol=0.0, random_state=1)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)
        model = ConcreteKMeans(3, n_init=3, **params).fit(images(3, 120)[0])
    assert_array_equal(np.sort(np.bincount(model.labels_, minlength=3)), [40, 40, 40])


def test_counting_by_views_leaves_callbacks_alone_and_looks_at_a_sample(monkeypatch):
    seen = []

    class Sees(Callback):
        def on_epoch_end(self, net, **kwargs):
            seen.append(net.phase)

    rows = []
    count = _counting.count_by_views

    def counting(information, n_rows):
        rows.append(n_rows)
        return count(information, n_rows)

    monkeypatch.setattr(_counting, "count_by_views", counting)
    monkeypatch.setattr(_counting, "COUNTED_ROWS", 100)
    ConcreteKMeans("auto", **{**IMAGE_SETTINGS, "max_epochs": 2}, callbacks=[Sees()]).fit(IMAGES)
    assert seen == ["pretrain"] * 8 + ["finetune"] * 2
    assert rows == [100]


# as a parameter ----------------------------------------------------------------------------------


def test_estimators_count_and_cluster(make):
    model = fit(make())
    assert model.n_clusters_ == 4
    assert model.cluster_centers_.shape == (4, 4)
    assert model.n_clusters == "auto"
    candidates = model.n_clusters_curve_["n_clusters"]
    assert_array_equal(candidates, np.arange(2, 13))
    given = fit(make(n_clusters=4))
    assert_array_equal(given.cluster_centers_, model.cluster_centers_)  # counting changes no draw
    assert given.n_clusters_ == 4
    assert not hasattr(given, "n_clusters_curve_")


def test_fit_with_a_number_forgets_the_curve(make):
    model = fit(make())
    fit(model.set_params(n_clusters=3))
    assert not hasattr(model, "n_clusters_curve_")


def test_estimate_does_not_depend_on_the_lambdas(make):
    curves = [fit(make(lambda_clustering=value)).n_clusters_curve_ for value in (0.01, 1.0)]
    assert_array_equal(curves[0]["bic"], curves[1]["bic"])


def test_cache_gives_the_same_estimate(make, tmp_path):
    expected = fit(make()).n_clusters_curve_
    for _ in range(2):
        cached = fit(make(memory=str(tmp_path)))
        assert_array_equal(cached.n_clusters_curve_["bic"], expected["bic"])


def test_warm_start_keeps_the_number(make):
    model = fit(make(warm_start=True))
    curve = model.n_clusters_curve_
    fit(model)
    assert model.n_clusters_ == 4
    assert model.n_clusters_curve_ is curve


def test_estimate_at_the_end_of_the_candidates_warns():
    with pytest.warns(
        UserWarning, match=r"estimate of n_clusters, 2, is the largest .* on 25 rows"
    ):
        ConcreteKMeans("auto", **SMALL).fit(X[~SOURCE][:25])


def test_clone_keeps_the_word(make):
    assert clone(make()).n_clusters == "auto"


def test_too_few_rows_to_count_raise(make):
    model = make()
    y = {"y_tgt": Y[~SOURCE][:19]} if isinstance(model, CKMSemiSupervisedAdapter) else {}
    with pytest.raises(ValueError, match=r"at least 20 target rows for n_clusters='auto', got 19"):
        if isinstance(model, ConcreteKMeans):
            model.fit(X[:19])
        else:
            model.fit(X[SOURCE], Y[SOURCE], X_tgt=X[~SOURCE][:19], **y)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_warm_start_counts_nothing_and_takes_few_rows():
    model = ConcreteKMeans("auto", warm_start=True, **SMALL).fit(X)
    n_clusters = model.n_clusters_
    assert model.fit(X[:15]).n_clusters_ == n_clusters


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_estimate_that_says_nothing_is_warned_of(monkeypatch):
    monkeypatch.setattr(_counting, "shared_information", lambda *args, **kwargs: 0.0)
    images = np.random.default_rng(0).random((40, 1, 8, 8))
    model = ConcreteKMeans("auto", **{**SMALL, "max_epochs": 1})
    with pytest.warns(ConvergenceWarning, match="The estimate of n_clusters, 2, says nothing") as w:
        model.fit(images)
    assert w[0].filename == __file__


def test_other_words_raise(make):
    with pytest.raises(ValueError, match="The 'n_clusters' parameter"):
        fit(make(n_clusters="many"))


def test_labelled_classes_are_the_least_and_the_others_are_unknown():
    model = fit(CKMSemiSupervisedAdapter("auto", **SMALL))
    assert model.n_clusters_ == 4
    assert model.classes_.tolist() == [3, 4, -1]
    assert set(model.predict(X[~SOURCE])) == {3, 4, -1}
    # more names than clusters: each class has two names
    y = 2 * Y[~SOURCE] + np.arange(len(Y[~SOURCE])) % 2
    model = fit(CKMSemiSupervisedAdapter("auto", **{**SMALL, "max_epochs": 0}), y)
    assert model.n_clusters_ == 8
    assert len(model.classes_) == 8


def test_warm_start_of_a_classifier_that_counted_checks_its_classes():
    model = fit(CKMSemiSupervisedAdapter("auto", **SMALL, warm_start=True))
    with pytest.raises(ValueError, match="Expected the target classes"):
        fit(model, np.where(Y[~SOURCE] < 6, Y[~SOURCE], -1))
    assert model.classes_.tolist() == [3, 4, -1]


@pytest.mark.filterwarnings(
    "ignore:The estimate of n_clusters", "ignore::sklearn.exceptions.ConvergenceWarning"
)
def test_batches_of_the_counting_are_those_of_the_sample(monkeypatch):
    seen = []

    def shared_information(pretrained, target, settings, *args, **kwargs):
        seen.append((len(target), settings.batch_size))
        return float(np.log(args[-1]))

    monkeypatch.setattr(_counting, "shared_information", shared_information)
    monkeypatch.setattr(_counting, "resolve_batch_size", lambda batch_size, n_rows: n_rows // 2)
    monkeypatch.setattr(_counting, "COUNTED_ROWS", 100)
    ConcreteKMeans("auto", **{**IMAGE_SETTINGS, "max_epochs": 1}).fit(IMAGES)
    assert set(seen) == {(100, 50)}


def test_at_most_ten_directions_are_looked_at():
    z = np.random.default_rng(0).normal(size=(100, 60))
    assert _n_clusters._principal_directions(z).shape == (100, 10)


@pytest.mark.filterwarnings(
    "ignore:The estimate of n_clusters", "ignore::sklearn.exceptions.ConvergenceWarning"
)
@pytest.mark.parametrize(("max_epochs", "expected"), [(3, 3), (40, 30)])
def test_numbers_are_tried_for_at_most_thirty_epochs(monkeypatch, max_epochs, expected):
    seen = []

    def shared_information(*args, max_epochs, **kwargs):
        seen.append(max_epochs)
        return float(np.log(args[-1]))

    monkeypatch.setattr(_counting, "shared_information", shared_information)
    settings = {**IMAGE_SETTINGS, "max_epochs": max_epochs, "pretrain_epochs": 1}
    ConcreteKMeans("auto", **settings).fit(IMAGES)
    assert set(seen) == {expected}
