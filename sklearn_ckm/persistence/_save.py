"""From a fitted estimator to files."""

import platform
from os import PathLike, fspath

import numpy as np
import sklearn
import torch
from sklearn.utils.validation import check_is_fitted

from .. import cluster, domain_adaptation
from .._version import __version__
from ..utils._warnings import warn_user
from ._files import write_files
from ._network import describe_network, weights_of
from ._values import Encoder, UnstorableError

ESTIMATORS = {
    name: getattr(module, name)
    for module in (cluster, domain_adaptation)
    for name in module.__all__
}
_CALLBACKS = ("_skl_callbacks", "_skl_callbacks_to_teardown", "_callback_fit_ctx")
_APART = ("_net", "_metadata_request", "_parent_callback_ctx", *_CALLBACKS)
_OF_NO_ACCOUNT = ("memory", "random_state")  # left out without a word


def save_estimator(estimator, folder):
    """Write a fitted estimator into a folder; see :meth:`BaseDeepEstimator.save`."""
    name = type(estimator).__name__
    if ESTIMATORS.get(name) is not type(estimator):
        raise TypeError(
            f"Expected an estimator among {sorted(ESTIMATORS)}, got {name}: code of other classes "
            "cannot be stored. Use pickle, joblib or skops."
        )
    check_is_fitted(estimator)
    encoder = Encoder()
    params, left_out = _encode_params(estimator, encoder)
    attributes, lost = _encode_attributes(estimator, encoder)
    description = describe_network(
        estimator._net.module_, estimator._input_shape, estimator._n_features_out
    )
    weights = weights_of(estimator._net.module_)
    tensors = {
        **{f"network.{name}": value for name, value in weights.items()},
        **{f"values.{name}": value for name, value in encoder.tensors.items()},
    }
    left_out = {**left_out, **dict.fromkeys(encoder.left_out, "function"), **lost}
    content = {
        "estimator": name,
        "versions": {
            "sklearn-ckm": __version__,
            "python": platform.python_version(),
            "torch": str(torch.__version__),
            "scikit-learn": sklearn.__version__,
            "numpy": np.__version__,
        },
        "params": params,
        "left_out": left_out,
        "attributes": attributes,
        "metadata_request": _encode_requests(estimator),
        "network": description,
    }
    write_files(folder, content, tensors)
    missed = names_to_mention(left_out)
    if missed:
        warn_user(
            f"{name} was saved without {', '.join(missed)}, which JSON cannot hold. Predictions do "
            "not depend on that; load() takes parameters again, as keyword arguments.",
        )


def names_to_mention(left_out):
    """Of what was left out, what a further fit or the history would miss, sorted.

    The encoder, and the objective of the fit, are not among them: ``load`` asks for them. Settings
    of the fit's own copy of an objective are those of the parameter.
    """
    silent = {"encoder", "_objective", *_OF_NO_ACCOUNT}
    if "_objective" in left_out:
        silent.add("objective")
    return sorted(
        name for name in left_out if name not in silent and not name.startswith("_objective__")
    )


def _encode_params(estimator, encoder):
    """Parameters that plain values can hold, and the types of the others by name."""
    params, left_out = {}, {}
    for name, value in estimator.get_params(deep=False).items():
        if isinstance(value, PathLike):
            value = fspath(value)
        try:
            params[name] = encoder.encode(value, name)
        except UnstorableError as error:
            left_out[name] = error.type_name
    return params, left_out


def _encode_attributes(estimator, encoder):
    """Learned attributes; of the history, what is no plain value is left out."""
    attributes, left_out = {}, {}
    names = set(vars(estimator)) - set(estimator.get_params(deep=False)) - set(_APART)
    for name in sorted(names):
        value = getattr(estimator, name)
        try:
            if name == "history_":
                attributes[name] = [
                    _encode_record(record, i, encoder, left_out) for i, record in enumerate(value)
                ]
            else:
                attributes[name] = encoder.encode(value, name)
        except UnstorableError as error:
            if name != "_objective":
                raise TypeError(
                    f"Expected plain values in the attribute {name!r}, got "
                    f"{error.type_name}, which JSON cannot hold. Use class names that are "
                    "numbers or text, or pickle."
                ) from error
            left_out[name] = error.type_name
    return attributes, left_out


def _encode_record(record, i, encoder, left_out):
    """One epoch of the history, without what a callback may have recorded beside numbers."""
    kept = dict(record)
    for key, value in record.items():
        try:
            Encoder().encode(value, key)
        except UnstorableError as error:
            left_out[f"history_[{key!r}]"] = error.type_name
            del kept[key]
    return encoder.encode(kept, f"history_.{i}")


def _encode_requests(estimator):
    """Metadata requests that were set on the instance."""
    if not hasattr(estimator, "_metadata_request"):
        return None
    return estimator._metadata_request._serialize()
