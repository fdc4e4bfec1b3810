"""Exported graphs answer as the estimators do, without the package."""

import importlib
import json
import os
import pickle
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from numpy.testing import assert_allclose, assert_array_equal
from sklearn.datasets import make_blobs
from sklearn.exceptions import NotFittedError
from sklearn.pipeline import make_pipeline
from torch import nn

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter, ConcreteKMeans, __version__
from sklearn_ckm.domain_adaptation import (
    CommonFactorClassifier,
    DomainAdversarialClusterer,
    LabelEfficientTransfer,
    ProgressiveClusterer,
)
from sklearn_ckm.objectives import DECObjective
from sklearn_ckm.persistence import to_exported_program, to_onnx

pytestmark = pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")

SMALL = {"n_components": 3, "encoder": "mlp-small", "pretrain_epochs": 1, "max_epochs": 2}
X64, Y = make_blobs(n_samples=60, centers=8 * np.eye(5), random_state=0)
X = X64.astype(np.float32)
TAGS = np.where(Y < 3, 0, -1)
NAMES = np.array(["a", "b", "c", "Ärger", "e"])[Y]
UNITS = np.array([1.0, 1000.0, 0.01, 1e5, 1.0], dtype=np.float32)


def make_images():
    """Noise, and one bright corner of four."""
    images = 0.3 * np.random.default_rng(0).random((40, 2, 8, 9))
    for i, image in enumerate(images):
        top, left = 4 * (i % 2), 5 * (i // 2 % 2)
        image[:, top : top + 4, left : left + 4] += 0.7
    return images.astype(np.float32)


IMAGES = make_images()
AS_BYTES = (255 * IMAGES).astype(np.uint8)


class Own(nn.Module):
    """Batch statistics, dropout and a skip connection."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        width = int(np.prod(input_shape))
        self.norm, self.dropout = nn.BatchNorm1d(width), nn.Dropout(0.5)
        self.skip, self.code = nn.Linear(width, width), nn.Linear(width, n_components)

    def forward(self, x):
        x = self.norm(x.flatten(1))
        return self.code(self.dropout(x + self.skip(x).relu()))


def make(cls, **params):
    if "n_clusters" in cls._parameter_constraints and cls is not CKMSemiSupervisedAdapter:
        params = {"n_clusters": 3, **params}
    return cls(**{**SMALL, "random_state": 0, **params})


def fit(cls, X=X, y=NAMES, tags=TAGS, **params):
    model = make(cls, **params)
    return model.fit(X) if cls is ConcreteKMeans else model.fit(X, y, sample_domain=tags)


def split(images):
    """Images of two domains, and few labels."""
    y = np.arange(len(images)) % 4
    return images, y, np.where(y < 2, 0, -1)


MODELS = {
    **{
        cls.__name__: lambda cls=cls: (fit(cls), X)
        for cls in (
            ConcreteKMeans,
            CKMDomainAdapter,
            CKMSemiSupervisedAdapter,
            DomainAdversarialClusterer,
            ProgressiveClusterer,
            LabelEfficientTransfer,
            CommonFactorClassifier,
        )
    },
    "unnamed centres": lambda: (fit(CKMSemiSupervisedAdapter, n_clusters=5, temperature=0.1), X),
    "own encoder": lambda: (fit(CKMDomainAdapter, encoder=Own), X),
    "Student's t": lambda: (fit(CKMDomainAdapter, objective=DECObjective(alpha=2.0)), X),
    "one cluster": lambda: (fit(ConcreteKMeans, n_clusters=1), X),
    "columns of different units": lambda: (fit(ConcreteKMeans, X=X * UNITS), X * UNITS),
    "tiny columns": lambda: (fit(ConcreteKMeans, X=X * np.float32(1e-35)), X * np.float32(1e-35)),
    "conv": lambda: (fit(ConcreteKMeans, X=IMAGES, encoder="conv"), IMAGES),
    "conv of bytes": lambda: (
        fit(CKMSemiSupervisedAdapter, *split(AS_BYTES), encoder="conv"),
        AS_BYTES,
    ),
    "flattened images": lambda: (
        fit(ConcreteKMeans, X=IMAGES.reshape(40, -1), encoder="conv", image_shape=(2, 8, 9)),
        IMAGES.reshape(40, -1),
    ),
    "own encoder of bytes": lambda: (fit(ConcreteKMeans, X=AS_BYTES, encoder=Own), AS_BYTES),
}
QUICK = {
    "ConcreteKMeans",
    "ProgressiveClusterer",
    "LabelEfficientTransfer",
    "unnamed centres",
    "own encoder",
    "conv of bytes",
}


@pytest.fixture(
    scope="module",
    params=[pytest.param(name, marks=() if name in QUICK else pytest.mark.slow) for name in MODELS],
)
def case(request):
    return MODELS[request.param]()


def expected_labels(model, X):
    """Indices where ``predict`` gives names."""
    labels = model.predict(X)
    if hasattr(model, "classes_"):
        names = model.classes_.tolist()
        return np.array([names.index(name) for name in labels.tolist()])
    return labels


def assert_answers(answers, model, X):
    assert len(answers) == 2 + hasattr(model, "predict_proba")
    labels, embedding = answers[0], answers[-1]
    assert labels.dtype == np.int64
    assert_array_equal(labels, expected_labels(model, X))
    assert embedding.dtype == np.float32
    z = model.transform(X)
    assert_allclose(embedding, z, rtol=1e-5, atol=1e-5 * np.abs(z).max())
    if hasattr(model, "predict_proba"):
        assert answers[1].dtype == np.float32
        assert_allclose(answers[1], model.predict_proba(X), atol=1e-5)


def test_program_answers_as_the_estimator(case):
    model, X = case
    program = to_exported_program(model).module()
    for rows in (X, X[:1], X[3:10]):
        answers = [answer.numpy() for answer in program(torch.from_numpy(rows))]
        assert_answers(answers, model, rows)


def test_onnx_answers_as_the_estimator(case, tmp_path):
    model, X = case
    path = tmp_path / "model.onnx"
    to_onnx(model, path)
    onnx.checker.check_model(path, full_check=True)
    assert [path.name for path in tmp_path.iterdir()] == ["model.onnx"]
    session = onnxruntime.InferenceSession(path)
    for rows in (X, X[:1], X[3:10]):
        assert_answers(session.run(None, {"X": rows}), model, rows)
    outputs = ["labels", "probabilities", "embedding"]
    if not hasattr(model, "predict_proba"):
        outputs.remove("probabilities")
    assert [output.name for output in session.get_outputs()] == outputs
    (opset,) = {entry.version for entry in onnx.load(path).opset_import if not entry.domain}
    assert opset == 18


def test_class_names_are_in_the_metadata(tmp_path):
    for y, n_clusters, expected in (
        (NAMES, 3, ["e", "Ärger", "unknown"]),
        (Y > 3, None, [False, True]),
    ):
        model = fit(CKMSemiSupervisedAdapter, y=y, n_clusters=n_clusters, max_epochs=0)
        to_onnx(model, tmp_path / "model.onnx")  # again and again
        session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
        metadata = session.get_modelmeta().custom_metadata_map
        assert json.loads(metadata.pop("classes")) == expected
        assert metadata == {
            "estimator": "CKMSemiSupervisedAdapter",
            "sklearn_ckm_version": __version__,
        }
        labels = session.run(["labels"], {"X": X})[0]
        assert [expected[label] for label in labels] == model.predict(X).tolist()


def test_clusterers_have_no_classes(tmp_path):
    to_onnx(fit(ConcreteKMeans, max_epochs=0), str(tmp_path / "model.onnx"))
    session = onnxruntime.InferenceSession(tmp_path / "model.onnx")
    assert "classes" not in session.get_modelmeta().custom_metadata_map


SCRIPT = """
import sys
import torch
program = torch.export.load("model.pt2").module()
labels = program(torch.load("X.pt"))[0]
assert not any(name.startswith(("sklearn", "skorch")) for name in sys.modules)
sys.stdout.write(str(labels.tolist()))
"""


def test_saved_program_runs_without_the_package(tmp_path):
    model = fit(CKMDomainAdapter, encoder=Own)
    torch.export.save(to_exported_program(model), tmp_path / "model.pt2")
    torch.save(torch.from_numpy(X), tmp_path / "X.pt")
    run = subprocess.run(
        [sys.executable, "-c", SCRIPT],
        cwd=tmp_path,
        capture_output=True,
        text=True,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
    )
    assert run.returncode == 0, run.stderr
    assert json.loads(run.stdout) == model.predict(X).tolist()


def test_export_changes_nothing(tmp_path):
    model = fit(CKMDomainAdapter, encoder=Own)
    before = pickle.dumps(model), torch.get_rng_state().tolist()
    strides = [weight.stride() for weight in model._net.module_.parameters()]
    to_onnx(model, tmp_path / "model.onnx")
    assert (pickle.dumps(model), torch.get_rng_state().tolist()) == before
    assert [weight.stride() for weight in model._net.module_.parameters()] == strides
    assert all(weight.requires_grad for weight in model._net.module_.parameters())


def test_graph_keeps_what_it_was_made_of():
    model = fit(ConcreteKMeans, warm_start=True)
    program = to_exported_program(model)
    expected = model.predict(X)
    model.set_params(max_epochs=5).fit(X[::-1] * 1.5)
    assert_array_equal(program.module()(torch.from_numpy(X))[0], expected)


@pytest.mark.parametrize("missing", ["onnx", "onnxscript"])
def test_missing_library_is_named(missing, monkeypatch, tmp_path):
    model = fit(ConcreteKMeans, max_epochs=0)
    import_module = importlib.import_module

    def fail(name, *args):
        if name == missing:
            raise ImportError(name)
        return import_module(name, *args)

    monkeypatch.setattr(importlib, "import_module", fail)
    with pytest.raises(ImportError, match="pip install onnx onnxscript"):
        to_onnx(model, tmp_path / "model.onnx")


def test_what_cannot_be_exported_is_refused(tmp_path):
    with pytest.raises(NotFittedError):
        to_exported_program(ConcreteKMeans())
    with pytest.raises(NotFittedError):
        to_onnx(CommonFactorClassifier(), tmp_path / "model.onnx")
    pipeline = make_pipeline(make(ConcreteKMeans)).fit(X)
    with pytest.raises(TypeError, match=r"Expected an estimator of sklearn_ckm, got Pipeline"):
        to_exported_program(pipeline)
    assert list(tmp_path.iterdir()) == []


def test_rows_of_the_fit_are_exported_whatever_image_shape_is_set_afterwards():
    flat = IMAGES.reshape(40, -1)
    model = fit(ConcreteKMeans, X=flat, encoder="conv", image_shape=(2, 8, 9))
    expected = model.predict(flat)
    for image_shape in (None, (1, 8, 18)):
        model.set_params(image_shape=image_shape)
        assert_array_equal(model.predict(flat), expected)
        labels, *_ = to_exported_program(model).module()(torch.from_numpy(flat))
        assert_array_equal(labels.numpy(), expected)


def test_far_rows_are_bounded_as_by_the_estimator():
    model = fit(ConcreteKMeans)
    rows = X.copy()
    rows[0] *= 1e20
    answers = [a.numpy() for a in to_exported_program(model).module()(torch.from_numpy(rows))]
    assert_answers(answers, model, rows)
