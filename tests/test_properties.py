"""Properties that hold for whatever data: a fit works with finite answers, or says why not."""

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from numpy.testing import assert_allclose, assert_array_equal

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
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
