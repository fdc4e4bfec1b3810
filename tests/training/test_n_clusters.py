"""The number of clusters of an embedding, alone and as ``n_clusters="auto"`` of the estimators."""

import numpy as np
import pytest
from numpy.testing import assert_array_equal
from sklearn.base import clone
from sklearn.cluster import KMeans
from sklearn.datasets import make_blobs
from sklearn.metrics import silhouette_score
from sklearn.mixture import GaussianMixture

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans
from sklearn_ckm._training._n_clusters import estimate_n_clusters

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
    with pytest.warns(UserWarning, match=r"estimate of n_clusters, 2, is the largest .*\(25\)"):
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
