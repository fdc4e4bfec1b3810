"""Whatever is thrown at a public method: an answer without a NaN, or an error of ours.

The slow run draws 2,000 examples, the fast one a few.
"""

import traceback
import warnings

import numpy as np
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from torch import nn

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans

DTYPES = ("float64", "float32", "float16", "uint8", "int64", "bool", "object")
LABELS = {
    "ints": lambda y: y,
    "negative ints": lambda y: y - 1,
    "floats": lambda y: y + 0.5,
    "strings": lambda y: np.array(list("abcd"))[y],
    "objects": lambda y: np.array([f"class {i}" for i in range(4)], object)[y],
    "bools": lambda y: y > 1,
}


def TinyEncoder(input_shape, n_components):
    return nn.Sequential(nn.Flatten(), nn.Linear(int(np.prod(input_shape)), n_components))


@st.composite
def rows(draw, n_features, sizes=(1, 2, 3, 5, 17, 64, 300, 2000)):
    """One domain: any scale, layout and dtype, with repeated rows and constant columns."""
    n_samples = draw(st.sampled_from(sizes))
    rng = np.random.default_rng(draw(st.integers(0, 2**32 - 1)))
    X = rng.normal(size=(n_samples, n_features))
    if draw(st.booleans()):
        X += 5 * rng.integers(0, 3, size=(n_samples, 1))
    X = X * 10.0 ** draw(st.sampled_from([0, 0, 0, 1, -3, 6, -30, 30]))
    X = X + draw(st.sampled_from([0, 0, 0, 1, -1e3, 1e6])) * draw(st.sampled_from([1.0, 1e-30]))
    if draw(st.booleans()):
        X = X[rng.integers(0, draw(st.integers(1, n_samples)), size=n_samples)]
    if draw(st.booleans()):
        X[:, draw(st.integers(0, n_features - 1))] = draw(st.sampled_from([0.0, 1.0, -7.0, 1e30]))
    if draw(st.integers(0, 9)) == 0:
        X[draw(st.integers(0, n_samples - 1)), 0] = draw(st.sampled_from([np.nan, np.inf, -np.inf]))
    with np.errstate(all="ignore"):
        X = np.asarray(X, draw(st.sampled_from(DTYPES)))
    layout = draw(st.sampled_from(["C", "F", "strided", "reversed", "read-only"]))
    if layout == "F":
        X = np.asfortranarray(X)
    elif layout == "strided":
        X = np.repeat(X, 2, axis=1)[:, ::2]
    elif layout == "reversed":
        X = X[::-1]
    X.setflags(write=layout != "read-only")
    return X


@st.composite
def calls(draw):
    """An estimator and what its fit is called with."""
    kind = draw(st.sampled_from([ConcreteKMeans, CKMDomainAdapter, CKMSemiSupervisedAdapter]))
    n_features = draw(st.sampled_from([1, 2, 6, 64]))
    params = {
        "n_clusters": draw(st.integers(1, 4)),
        "n_components": draw(st.sampled_from([1, 2, 4])),
        "objective": draw(st.sampled_from(["ckm", "dec", "dcn", "soft-kmeans"])),
        "augmentation": draw(st.sampled_from([None, "auto"])),
        "init": draw(st.sampled_from(["auto", "k-means", "whitened-k-means"])),
        "n_init": draw(st.sampled_from([1, 1, 2])),
        "encoder": TinyEncoder,
        "pretrain_epochs": draw(st.integers(0, 1)),
        "max_epochs": draw(st.integers(0, 2)),
        "batch_size": draw(st.sampled_from(["auto", 1, 7, 256])),
        "random_state": 0,
    }
    if params["batch_size"] == 1:  # thousands of batches teach nothing more than a few
        params["pretrain_epochs"] = 0
    if n_features == 64:
        params["image_shape"] = (1, 8, 8)
    if draw(st.integers(0, 3)) == 0:
        params["lr"] = draw(st.sampled_from([1e-30, 1.0, 1e30]))
    X_tgt = draw(rows(n_features))
    if kind is ConcreteKMeans:
        return kind(**params), (X_tgt,), {}
    params["source_in_pretraining"] = draw(st.sampled_from(["auto", "auto", True, False]))
    kinds = ["auto", "auto", "reconstruction", "classification"]
    params["pretraining"] = draw(st.sampled_from(kinds))
    params["lambda_source"] = draw(st.sampled_from([0.0, 1.0]))
    X_src = draw(rows(n_features))
    name = LABELS[draw(st.sampled_from(sorted(LABELS)))]
    rng = np.random.default_rng(0)
    y_src = name(rng.integers(0, 4, size=len(X_src)))
    y_tgt = np.full(len(X_tgt), None, dtype=object)
    n_labelled = min(draw(st.integers(0, 6)), len(X_tgt))
    y_tgt[:n_labelled] = list(name(rng.integers(0, draw(st.integers(1, 4)), size=n_labelled)))
    if draw(st.booleans()):
        kwargs = {"X_tgt": X_tgt}
        if kind is CKMSemiSupervisedAdapter:
            kwargs["y_tgt"] = y_tgt
        return kind(**params), (X_src, y_src), kwargs
    tags = np.repeat(
        [draw(st.sampled_from([0, 1, 5])), draw(st.sampled_from([-1, -3]))],
        [len(X_src), len(X_tgt)],
    )
    with np.errstate(all="ignore"):
        X = np.concatenate([X_src, X_tgt])
    y = np.concatenate([np.asarray(y_src, object), y_tgt])
    order = rng.permutation(len(X)) if draw(st.booleans()) else np.arange(len(X))
    return kind(**params), (X[order], y[order]), {"sample_domain": tags[order]}


def is_ours(error):
    """Whether an error was raised by a check, here or in scikit-learn, and says what to do."""
    where = traceback.extract_tb(error.__traceback__)[-1].filename
    return any(part in where for part in ("sklearn_ckm", "sklearn/utils", "sklearn/base"))


def attempt(function, *args, **kwargs):
    """Return what a call answers, or None where it raises a documented error."""
    try:
        return function(*args, **kwargs)
    except (ValueError, TypeError) as error:
        assert is_ours(error), "".join(traceback.format_exception(error))
        assert len(str(error)) > 20
        return None


def check(call, other):
    model, args, kwargs = call
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        if attempt(model.fit, *args, **kwargs) is None:
            assert not hasattr(model, "cluster_centers_")
            return
        assert np.isfinite(model.cluster_centers_).all()
        assert np.isfinite(model.temperature_)
        for record in model.history_:
            assert all(np.isfinite(v) for v in record.values() if isinstance(v, float)), record
        for X in (args[0], kwargs.get("X_tgt"), other):
            if X is not None:
                check_answers(model, X)


def check_answers(model, X):
    z = attempt(model.transform, X)
    probabilities = attempt(model.predict_proba, X)
    labels = attempt(model.predict, X)
    assert (z is None) == (probabilities is None) == (labels is None)
    if z is None:
        return
    assert len(z) == len(probabilities) == len(labels) == len(X)
    assert np.isfinite(z).all()
    assert np.isfinite(probabilities).all()
    np.testing.assert_allclose(probabilities.sum(1), 1, rtol=1e-5)
    if hasattr(model, "classes_"):
        assert set(labels.tolist()) <= set(model.classes_.tolist())
    else:
        assert ((labels >= 0) & (labels < model.n_clusters_)).all()
        score = attempt(model.score, X)
        assert score is None or np.isfinite(score)
    if hasattr(model, "predict_source") and model.max_epochs:
        attempt(model.predict_source, X)


OPTIONS = {"deadline": None, "suppress_health_check": list(HealthCheck)}


@settings(max_examples=40, derandomize=True, **OPTIONS)
@given(calls(), st.sampled_from([1, 2, 6]).flatmap(rows))
def test_any_input_is_answered_or_refused(call, other):
    check(call, other)


@pytest.mark.slow
@settings(max_examples=2000, **OPTIONS)
@given(calls(), st.sampled_from([1, 2, 6]).flatmap(rows))
def test_any_input_is_answered_or_refused_two_thousand_times(call, other):
    check(call, other)
