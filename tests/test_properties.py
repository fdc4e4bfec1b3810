"""Properties that hold for whatever data: a fit works with finite answers, or says why not."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.filterwarnings("ignore:The features of the .* spread:UserWarning"),
]
FEW = settings(
    max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), derandomize=True
)


class Tiny(torch.nn.Module):
    """The smallest encoder that is not linear."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        n_features = int(np.prod(input_shape))
        self.layers = torch.nn.Sequential(
            torch.nn.Flatten(),
            torch.nn.Linear(n_features, 4),
            torch.nn.ReLU(),
            torch.nn.Linear(4, n_components),
        )

    def forward(self, x):
        return self.layers(x)


SMALL = {"encoder": Tiny, "n_components": 2, "pretrain_epochs": 1, "max_epochs": 1}
DTYPES = [np.float64, np.float32, np.float16, np.int64, np.int8, np.uint8, np.bool_]
MEMORY = {
    "C": np.ascontiguousarray,
    "Fortran": np.asfortranarray,
    "strided": lambda X: np.repeat(X, 2, axis=0)[::2],
    "backwards": lambda X: X[::-1][::-1],
    "read-only": lambda X: np.lib.stride_tricks.as_strided(X, writeable=False),
}


@st.composite
def tables(draw, min_rows=0):
    """Tables of any shape, dtype, memory order and scale, some of them with odd values."""
    shape = draw(st.integers(min_rows, 12)), draw(st.integers(1, 5))
    dtype = draw(st.sampled_from(DTYPES))
    scale = 10.0 ** draw(st.integers(-30, 30))
    shift = draw(st.sampled_from([0.0, 1.0, -1e3]))
    X = draw(arrays(np.float64, shape, elements=st.floats(-1, 1, width=32)))
    if np.issubdtype(dtype, np.floating):
        with np.errstate(over="ignore"):
            X = (X * scale + shift * scale).astype(dtype)  # may become infinite
    else:
        X = (100 * X).astype(np.int8).astype(dtype)
    return MEMORY[draw(st.sampled_from(sorted(MEMORY)))](X)


def is_usable(X, n_clusters):
    return len(X) >= n_clusters and np.isfinite(X.astype(np.float64)).all()


def assert_answers_agree(model, X):
    """Finite answers, one a row, that tell the same story."""
    labels, probabilities = model.predict(X), model.predict_proba(X)
    z = model.transform(X)
    assert labels.shape == (len(X),)
    assert z.shape == (len(X), 2)
    assert np.isfinite(z).all()
    assert np.isfinite(probabilities).all()
    assert (probabilities >= 0).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-9)
    chosen = np.take_along_axis(probabilities, labels[:, None], axis=1)[:, 0]
    assert_array_equal(chosen, probabilities.max(1))  # equal to the argmax but for ties
    is_tied = (probabilities == probabilities.max(1, keepdims=True)).sum(1) > 1
    assert_array_equal(labels[~is_tied], probabilities.argmax(1)[~is_tied])


@FEW
@given(X=tables(), n_clusters=st.integers(1, 4), seed=st.integers(0, 3))
def test_fit_of_any_table_works_or_tells_why_not(X, n_clusters, seed):
    before = X.copy()
    model = ConcreteKMeans(n_clusters, random_state=seed, **SMALL)
    if not is_usable(X, n_clusters):
        with pytest.raises((ValueError, TypeError), match=r".{20}"):
            model.fit(X)
        return
    model.fit(X)
    assert np.isfinite(model.cluster_centers_).all()
    assert np.isfinite(model.temperature_)
    assert_answers_agree(model, X)
    assert_array_equal(model.labels_, model.predict(X))
    assert_array_equal(X, before)


@FEW
@given(X=tables(min_rows=4), seed=st.integers(0, 3), data=st.data())
def test_fit_of_any_two_domains_works_or_tells_why_not(X, seed, data):
    n_source = data.draw(st.integers(0, len(X)))
    tags = np.array(data.draw(st.permutations([0] * n_source + [-1] * (len(X) - n_source))))
    label = st.sampled_from([0, 1, -1, None, float("nan")])
    y = data.draw(st.lists(label, min_size=len(X), max_size=len(X)))
    model = CKMDomainAdapter(2, random_state=seed, **SMALL)
    if not is_usable(X, 4) or n_source == 0 or len(X) - n_source < 2:
        with pytest.raises((ValueError, TypeError), match=r".{20}"):
            model.fit(X, y, sample_domain=tags)
        return
    model.fit(X, y, sample_domain=tags)
    assert_answers_agree(model, X)
    assert_array_equal(model.labels_, model.predict(X)[tags < 0])
    given_labels = {v for v, tag in zip(y, tags, strict=True) if tag >= 0 and v in (0, 1, -1)}
    assert_array_equal(model.source_classes_, sorted(given_labels))
    if given_labels:
        assert set(model.predict_source(X).tolist()) <= given_labels


@pytest.mark.filterwarnings("ignore:Expected n_clusters of at least:UserWarning")
@FEW
@given(X=tables(min_rows=4), n_clusters=st.none() | st.integers(1, 4), data=st.data())
def test_fit_of_any_few_labels_works_or_tells_why_not(X, n_clusters, data):
    n_source = data.draw(st.integers(0, len(X)))
    tags = np.array(data.draw(st.permutations([0] * n_source + [-1] * (len(X) - n_source))))
    label = st.sampled_from([0, 1, -1, None, float("nan")])
    y = data.draw(st.lists(label, min_size=len(X), max_size=len(X)))
    is_target = tags < 0
    named = sorted({v for v, target in zip(y, is_target, strict=True) if target and v in (0, 1)})
    n_centers = max(len(named), n_clusters or 0)
    model = CKMSemiSupervisedAdapter(n_clusters, random_state=0, **SMALL)
    is_possible = len(named) > 0 and n_centers <= is_target.sum() and n_source > 0
    if not is_usable(X, 4) or not is_possible:
        with pytest.raises((ValueError, TypeError), match=r".{20}"):
            model.fit(X, y, sample_domain=tags)
        return
    model.fit(X, y, sample_domain=tags)
    assert_array_equal(model.classes_, named + [-1] * (n_centers > len(named)))
    assert_array_equal(model.labels_, model.predict(X)[is_target])
    z, per_center = model.transform(X), model.predict_cluster_proba(X)
    assert z.shape == (len(X), 2)
    assert per_center.shape == (len(X), n_centers)
    probabilities = model.predict_proba(X)
    for answer in (z, probabilities, per_center):
        assert np.isfinite(answer).all()
    np.testing.assert_allclose(per_center.sum(1), 1, atol=1e-9)
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-9)
    clusters = model.predict_cluster(X)
    assert_array_equal(per_center[np.arange(len(X)), clusters], per_center.max(1))
    names = np.array(named + [-1] * (n_centers - len(named)))
    assert_array_equal(model.predict(X), names[clusters])
    truth = [v if v in (0, 1) else None for v in y]
    hits = [
        p == t
        for p, t, target in zip(model.predict(X), truth, is_target, strict=True)
        if target and t is not None
    ]
    assert model.score(X, y, sample_domain=tags) == pytest.approx(np.mean(hits), abs=1e-12)
    source = {v for v, target in zip(y, is_target, strict=True) if not target and v in (0, 1, -1)}
    assert_array_equal(model.source_classes_, sorted(source))


@FEW
@given(
    X=tables(min_rows=4),
    n_unnamed=st.integers(0, 2),
    is_text=st.booleans(),
    seed=st.integers(0, 3),
    data=st.data(),
)
def test_classifier_of_any_two_domains_works_or_tells_why_not(X, n_unnamed, is_text, seed, data):
    n_source = data.draw(st.integers(0, len(X)))
    tags = np.array(data.draw(st.permutations([0] * n_source + [-1] * (len(X) - n_source))))
    names = ["a", "b", "-1", None] if is_text else [0, 1, -1, None, float("nan")]
    y = data.draw(st.lists(st.sampled_from(names), min_size=len(X), max_size=len(X)))
    of_source, of_target = (
        {name for name, tag in zip(y, tags, strict=True) if (tag >= 0) == is_source}
        for is_source in (True, False)
    )
    named = sorted(of_target.intersection(names[:2]))
    n_clusters = len(named) + n_unnamed
    model = CKMSemiSupervisedAdapter(max(n_clusters, 1), random_state=seed, **SMALL)
    has_both = 0 < n_source < len(X) and len(X) - n_source >= n_clusters
    if not (is_usable(X, 4) and has_both and named):
        with pytest.raises((ValueError, TypeError), match=r".{20}"):
            model.fit(X, y, sample_domain=tags)
        return
    model.fit(X, y, sample_domain=tags)
    unknown = [("unknown" if is_text else -1)] * (n_unnamed > 0)
    assert model.classes_.tolist() == named + unknown
    assert model.source_classes_.tolist() == sorted(of_source.intersection(names[:3]))

    clusters, per_center = model.predict_cluster(X), model.predict_cluster_proba(X)
    assert per_center.shape == (len(X), n_clusters)
    chosen = np.take_along_axis(per_center, clusters[:, None], axis=1)[:, 0]
    assert_array_equal(chosen, per_center.max(1))
    probabilities = model.predict_proba(X)
    assert_array_equal(probabilities[:, : len(named)], per_center[:, : len(named)])
    np.testing.assert_allclose(probabilities.sum(1), 1, atol=1e-9)
    columns = [model.classes_.tolist().index(name) for name in model.predict(X).tolist()]
    assert_array_equal(probabilities[np.arange(len(X)), columns], probabilities.max(1))
    assert_array_equal(model.labels_, model.predict(X)[tags < 0])


@FEW
@given(
    X=arrays(np.float32, (9, 2), elements=st.floats(-5, 5, width=32)),
    value=st.sampled_from([0.0, 1e300, -1e300, 1e-300, 1e38]),
    seed=st.integers(0, 3),
)
def test_prediction_of_far_rows_is_finite(X, value, seed):
    model = ConcreteKMeans(2, random_state=seed, **SMALL).fit(X)
    assert_answers_agree(model, np.full((3, 2), value))


@FEW
@given(X=tables(min_rows=6), order=st.randoms(use_true_random=False))
def test_answers_follow_the_rows(X, order):
    if not is_usable(X, 2):
        return
    model = ConcreteKMeans(2, random_state=0, **SMALL).fit(X)
    rows = np.array(order.sample(range(len(X)), len(X)))
    assert_array_equal(model.predict(X[rows]), model.predict(X)[rows])
    # some matrix kernels round a row by where it stands in its block: the last bit may differ
    assert_allclose(model.transform(X[rows]), model.transform(X)[rows], rtol=1e-6, atol=1e-6)


@FEW
@given(
    shape=st.tuples(st.integers(1, 3), st.integers(1, 9), st.integers(1, 9)),
    dtype=st.sampled_from([np.uint8, np.float32, np.float64, np.int32]),
    n_rows=st.integers(3, 8),
    seed=st.integers(0, 99),
)
def test_images_of_any_shape_equal_their_flattened_rows(shape, dtype, n_rows, seed):
    X = np.random.default_rng(seed).integers(0, 256, (n_rows, *shape)).astype(dtype)
    flat = X.reshape(n_rows, -1)
    four = ConcreteKMeans(2, random_state=0, **SMALL).fit(X)
    two = ConcreteKMeans(2, random_state=0, image_shape=shape, **SMALL).fit(flat)
    assert four.n_features_in_ == np.prod(shape)
    assert_array_equal(four.transform(X), two.transform(flat))
    assert_array_equal(four.labels_, two.labels_)
    assert_answers_agree(four, X)
