"""Fitted estimators as graphs that run without this package: torch.export and ONNX."""

import copy
import importlib
import json
import os
from os import PathLike
from typing import Any

import numpy as np
import torch
from sklearn.utils.validation import check_is_fitted
from torch import nn

from .._deep_clusterer import BaseDeepClusterer
from .._version import __version__
from ..domain_adaptation._feature_clusterer import BaseFeatureClusterer
from ..domain_adaptation._few_shot_classifier import BaseFewShotClassifier
from ..losses import squared_distances
from ..utils._input import _FARTHEST, _fits_float32
from ..utils._warnings import ignored_warnings

_OPSET = 18
_EXAMPLE_ROWS = 2
_MISSING = "Expected onnx and onnxscript for to_onnx: pip install onnx onnxscript."


class _ScaledInput(nn.Module):
    """What ``InputScaler`` does to float32 or uint8 rows."""

    def __init__(self, scaler):
        super().__init__()
        self.input_shape = scaler.input_shape
        self.is_uint8 = scaler.is_uint8_
        dtype = np.float32 if _fits_float32(scaler.scale_) else np.float64
        self.register_buffer("offset", torch.from_numpy(np.array(scaler.offset_, dtype)))
        self.register_buffer("scale", torch.from_numpy(np.array(scaler.scale_, dtype)))

    def forward(self, X):
        if self.is_uint8:
            x = X.to(torch.float32) * (1 / 255)
        else:
            x = (X.to(self.offset.dtype) - self.offset) / self.scale
            x = x.clamp(-_FARTHEST, _FARTHEST).to(torch.float32)
        return x.reshape(-1, *self.input_shape)


class _NearestCenters(nn.Module):
    """Labels of embeddings by their nearest centre, without probabilities."""

    def __init__(self, estimator):
        super().__init__()
        centers = estimator._net.module_.centers
        self.register_buffer("positions", centers.positions.detach().cpu().clone())

    def forward(self, z):
        return (squared_distances(z, self.positions).argmin(1),)


class _CenterProbabilities(_NearestCenters):
    """The same with probabilities; unnamed centres, which come last, are one class."""

    def __init__(self, estimator):
        super().__init__(estimator)
        temperature = estimator._net.module_.centers.temperature
        self.register_buffer("temperature", temperature.detach().cpu().clone())
        self.objective = copy.deepcopy(estimator._objective)
        self.n_classes = len(getattr(estimator, "classes_", self.positions))

    def forward(self, z):
        distances = squared_distances(z, self.positions)
        logits = self.objective.log_probabilities(distances.double(), self.temperature)
        probabilities = logits.softmax(1)
        if self.n_classes < len(self.positions):
            last = self.n_classes - 1
            unnamed = probabilities[:, last:].sum(1, keepdim=True)
            probabilities = torch.cat([probabilities[:, :last], unnamed], 1)
        labels = distances.argmin(1).clamp(max=self.n_classes - 1)
        return labels, probabilities.float()


class _Classifier(nn.Module):
    """Labels and probabilities by a classifier of the target's classes."""

    def __init__(self, estimator):
        super().__init__()
        head = estimator._net.module_.target_classifier
        self.head = copy.deepcopy(head).cpu().double()

    def forward(self, z):
        logits = self.head(z.double())
        return logits.argmax(1), logits.softmax(1).float()


_HEADS = {
    BaseDeepClusterer: _CenterProbabilities,
    BaseFeatureClusterer: _NearestCenters,
    BaseFewShotClassifier: _Classifier,
}


class _Assignment(nn.Module):
    """From raw rows to labels, probabilities if there are any, and embedding."""

    def __init__(self, estimator):
        super().__init__()
        self.scaled = _ScaledInput(estimator._scaler)
        encoder = copy.deepcopy(estimator._net.module_.encoder).cpu().float()
        self.encoder = encoder.to(memory_format=torch.contiguous_format)
        self.head = next(
            head(estimator) for base, head in _HEADS.items() if isinstance(estimator, base)
        )

    def forward(self, X):
        z = self.encoder(self.scaled(X)).float()
        return (*self.head(z), z)


def to_exported_program(estimator: Any) -> torch.export.ExportedProgram:
    """Export what a fitted estimator answers as a graph of ``torch.export``.

    The graph reads raw rows and holds the input scaling, the encoder and the assignment. It runs
    wherever torch does, without this package, and can be saved by ``torch.export.save``, compiled
    by ``torch.compile`` or ahead of time.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package.

    Returns
    -------
    program : torch.export.ExportedProgram
        On the CPU. ``program.module()(X)`` maps a tensor ``X`` of any number of rows to a tuple:

        - labels of shape (n_samples,), int64: indices of clusters, or of elements of ``classes_``;
        - probabilities of shape (n_samples, n_clusters) or (n_samples, n_classes), float32, where
          the estimator has ``predict_proba``;
        - embedding of shape (n_samples, n_components), float32.

    Raises
    ------
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is not an estimator of this package, such as a pipeline around one.

    See Also
    --------
    to_onnx : The same in a file for ONNX runtimes.

    Notes
    -----
    ``X`` is float32 of shape (n_samples, n_features), or (n_samples, channels, height, width)
    where the estimator was fitted on images and without `image_shape`; images that were bytes in
    ``fit`` are uint8. Nothing is checked: neither NaN nor a range other than in ``fit`` raises.

    Labels are those of ``predict`` on float32 rows, except where two centres are equally near up
    to the rounding of float32. Probabilities and embedding agree up to rounding, which a
    `temperature_` that is small against the squared distances makes larger in the former. float64
    rows are rounded before they are scaled, which tells in columns that are large against their
    spread.

    An encoder of the user's own must be one that ``torch.export`` can trace.

    Examples
    --------
    >>> import numpy as np, torch
    >>> from sklearn_ckm import ConcreteKMeans
    >>> from sklearn_ckm.persistence import to_exported_program
    >>> X = np.random.default_rng(0).normal(size=(50, 4)).astype(np.float32)
    >>> model = ConcreteKMeans(2, pretrain_epochs=2, max_epochs=2, random_state=0).fit(X)
    >>> labels, probabilities, embedding = to_exported_program(model).module()(torch.tensor(X))
    >>> np.array_equal(labels, model.predict(X))
    True
    """
    check_is_fitted(estimator)
    if not isinstance(estimator, tuple(_HEADS)):
        raise TypeError(
            f"Expected an estimator of sklearn_ckm, got {type(estimator).__name__}. Export the "
            "estimator in it: best_estimator_ of a search, the last step of a pipeline."
        )
    with torch.inference_mode(False), torch.no_grad():
        model = _Assignment(estimator).requires_grad_(False).eval()
        rows = torch.export.Dim("n_samples", min=1)
        return torch.export.export(
            model, (_example_rows(estimator),), dynamic_shapes={"X": {0: rows}}
        )


def _example_rows(estimator):
    """Rows of the shape and dtype that the graph reads."""
    scaler = estimator._scaler
    shape = (estimator.n_features_in_,) if estimator._is_flat else scaler.input_shape
    dtype = torch.uint8 if scaler.is_uint8_ else torch.float32
    return torch.zeros(_EXAMPLE_ROWS, *shape, dtype=dtype)


def to_onnx(estimator: Any, path: str | PathLike[str]) -> None:
    """Write what a fitted estimator answers into an ONNX file.

    Parameters
    ----------
    estimator : object
        A fitted estimator of this package.
    path : str or os.PathLike
        Of the file, in opset 18. An existing one is replaced.

    Raises
    ------
    ImportError
        If onnx or onnxscript is not installed (the extra ``export``).
    NotFittedError
        If the estimator is not fitted.
    TypeError
        If it is not an estimator of this package, such as a pipeline around one.

    See Also
    --------
    to_exported_program : The same for torch; its notes on the rows and the answers hold here too.

    Notes
    -----
    The input is called ``X``; the outputs ``labels``, ``probabilities`` (where the estimator has
    ``predict_proba``) and ``embedding``; all have any number of rows. The metadata of the model
    tell the ``estimator``, the ``sklearn_ckm_version`` and, of classifiers, the ``classes``: a JSON
    list of the names to which the labels are indices.

    Examples
    --------
    .. code-block:: python

        to_onnx(model, "model.onnx")
        session = onnxruntime.InferenceSession("model.onnx")
        labels, probabilities, embedding = session.run(None, {"X": X.astype("float32")})
        names = json.loads(session.get_modelmeta().custom_metadata_map["classes"])
    """
    for name in ("onnx", "onnxscript"):
        try:
            importlib.import_module(name)
        except ImportError as error:
            raise ImportError(_MISSING) from error
    program = to_exported_program(estimator)
    outputs = ["labels", "probabilities", "embedding"]
    if not hasattr(estimator, "predict_proba"):
        outputs.remove("probabilities")
    # torch, of its own code
    message = r"`isinstance\(treespec, LeafSpec\)` is deprecated"
    with ignored_warnings(FutureWarning, message):
        graph = torch.onnx.export(
            program,
            dynamo=True,
            input_names=["X"],
            output_names=outputs,
            opset_version=_OPSET,
            verbose=False,
        )
    graph.model.metadata_props.update(_metadata(estimator))
    graph.save(os.fspath(path))


def _metadata(estimator):
    metadata = {"estimator": type(estimator).__name__, "sklearn_ckm_version": __version__}
    if hasattr(estimator, "classes_"):
        metadata["classes"] = json.dumps(estimator.classes_.tolist(), default=str)
    return metadata
