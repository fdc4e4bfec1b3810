"""From files to an estimator."""

from collections.abc import Callable
from os import PathLike
from typing import Any

import torch

from .._base import BaseDeepEstimator
from ..objectives._resolve import resolve_objective
from ..utils._device import resolve_device
from ..utils._warnings import warn_user
from ._files import as_described, read_files
from ._network import CPU, NetworkMismatchError, build_network, make_net
from ._save import ESTIMATORS, names_to_mention
from ._values import decode


@torch.inference_mode(False)
def load(
    folder: str | PathLike[str],
    *,
    encoder: Callable[..., Any] | None = None,
    device: str | torch.device | None = None,
    **params: Any,
) -> BaseDeepEstimator:
    """Load an estimator that its method ``save`` wrote into a folder.

    Nothing in the folder is executed: weights and arrays are safetensors, all else is JSON, and of
    the names in it only classes of this package are looked up. Code of the user's own is not in
    the folder and has to be given again, see Notes.

    Parameters
    ----------
    folder : str or os.PathLike
        The folder.
    encoder : callable, default=None
        Class or factory of the encoder, where the estimator was fitted with one of the user's own.
        It is called as ``encoder(input_shape, n_components)`` and gets the stored weights.
    device : str or torch.device, default=None
        The parameter `device` of the estimator, and where its network goes. By default that of the
        saved estimator, of which ``"auto"`` is CUDA where there is one; a device that this machine
        lacks is replaced by the CPU, with a warning.
    **params : dict
        Parameters of the estimator that could not be stored, or that shall be others than when it
        was saved, such as ``callbacks``, ``memory`` or ``objective__noise``.

    Returns
    -------
    estimator : object
        Of the class that was saved, with the same parameters, learned attributes and answers. On
        another kind of device or with another version of torch these may differ in the last bits.

    Raises
    ------
    FileNotFoundError
        If the folder or one of its two files is missing.
    ValueError
        If a file was changed or cut off, the format is newer than this version of the package, the
        encoder or the objective is missing or does not fit, a device that is asked for does not
        exist, or a parameter is unknown.
    TypeError
        If `encoder` is a module instead of what makes one.

    Warns
    -----
    UserWarning
        If parameters that training depends on could not be stored and are not given again, or the
        saved device does not exist here.

    See Also
    --------
    sklearn_ckm.persistence.to_onnx : Writes a model that answers without this package.

    Notes
    -----
    Functions, and objects of other classes than the package's, cannot be stored. Without an
    encoder of the user's own there are no answers, nor are there probabilities without an
    objective of the user's own: load asks for them (``encoder=``, ``objective=``). The parameters
    `optimizer`, `augmentation` and `callbacks`, and functions as settings of an objective, matter
    to a further fit alone: they come back as their defaults, with a warning, unless they are given
    again. So do a joblib cache as `memory` and a generator as `random_state`, without a warning.

    What was learned by a module of the user's own must be in its ``state_dict``; other attributes
    are those that the class or factory sets.

    Pickle, joblib and skops know no such limits, at a price: the first two run what stands in the
    file, and skops does where the encoder is the user's own (the type ``FineTuningNet`` or
    ``PhaseNet``, which it then asks to trust, holds a pickle).

    The digests in the folder tell damage from what was saved. They are no signature: whoever can
    write to the folder can store another model there, though no code.

    Examples
    --------
    >>> from tempfile import TemporaryDirectory
    >>> import numpy as np
    >>> from sklearn_ckm import ConcreteKMeans, load
    >>> X = np.random.default_rng(0).normal(size=(50, 4))
    >>> model = ConcreteKMeans(2, pretrain_epochs=2, max_epochs=2, random_state=0).fit(X)
    >>> with TemporaryDirectory() as folder:
    ...     model.save(folder)
    ...     loaded = load(folder)
    >>> np.array_equal(loaded.predict_proba(X), model.predict_proba(X))
    True
    """
    document, tensors = read_files(folder)
    with as_described("estimator", document):
        left_out = dict(document["left_out"])
        own_encoder = _own_encoder(document)
        weights, arrays = _split(tensors)
        estimator, attributes = _decode_estimator(document, arrays)
    _check_given(left_out, own_encoder, encoder, params, folder)
    given = dict(params)
    if "encoder" in left_out:
        given["encoder"] = encoder
    if device is not None:
        given["device"] = device
    estimator.set_params(**given)
    _warn_of_defaults(estimator, set(left_out) - set(given))
    resolved_device = _find_device(estimator, is_asked_for=device is not None)
    try:
        model = build_network(document, weights, encoder)
    except NetworkMismatchError as error:
        raise ValueError(
            f"Expected the network that was saved in {folder}, with an encoder of the class "
            f"{own_encoder or 'that it names'!r}, but {error}. Pass the encoder of the fit."
        ) from error
    vars(estimator).update(attributes)
    if "_objective" in left_out:
        estimator._objective = resolve_objective(estimator.objective)
    estimator._net = make_net(model, resolved_device)
    return estimator


def _own_encoder(document):
    """Name of the user's encoder without which the network cannot be built, or None."""
    described = document["network"]["encoder"]
    name = None if described["class"] else described["name"]
    return name or document["left_out"].get("encoder")


def _check_given(left_out, own_encoder, encoder, params, folder):
    """Raise ``ValueError`` where code is missing without which there are no answers."""
    if own_encoder is not None and encoder is None:
        raise ValueError(
            f"Expected the encoder of the fit, {own_encoder!r}, whose code is not in {folder}. "
            "Pass the class or factory: load(folder, encoder=...)."
        )
    if own_encoder is None and encoder is not None:
        raise ValueError(
            f"Expected no encoder for {folder}, whose network is the package's own, got "
            f"{encoder!r}. Leave it out, and use set_params(encoder=...) before another fit."
        )
    if "_objective" in left_out and "objective" not in params:
        raise ValueError(
            f"Expected the objective of the fit, {left_out['_objective']!r}, whose code is not in "
            f"{folder}. Pass an instance: load(folder, objective=...)."
        )


def _split(tensors):
    """Weights of the network, and the other arrays."""
    parts = {"network": {}, "values": {}}
    for name, value in tensors.items():
        kind, _, rest = name.partition(".")
        parts[kind][rest] = value
    return parts["network"], parts["values"]


def _decode_estimator(document, arrays):
    """The estimator with its stored parameters, and its attributes."""
    cls = ESTIMATORS[document["estimator"]]
    estimator = cls(**decode(document["params"], arrays))
    attributes = {name: decode(value, arrays) for name, value in document["attributes"].items()}
    if any(hasattr(cls, name) for name in attributes):
        raise ValueError("an attribute has the name of a method")
    if document["metadata_request"] is not None:
        _set_requests(estimator, document["metadata_request"])
    return estimator, attributes


def _set_requests(estimator, stored):
    requests = estimator._get_metadata_request()
    for method, aliases in stored.items():
        for name, alias in aliases.items():
            getattr(requests, method).add_request(param=name, alias=alias)
    estimator._metadata_request = requests


def _warn_of_defaults(estimator, left_out):
    missed = names_to_mention(left_out)
    if missed:
        warn_user(
            f"{type(estimator).__name__} was saved without {', '.join(missed)}, which JSON cannot "
            "hold: a further fit would use the defaults. Pass them to load() again, or the "
            "defaults, as keyword arguments.",
        )


def _find_device(estimator, *, is_asked_for):
    """Device of the network: the CPU where that of the fit does not exist here."""
    try:
        return resolve_device(estimator.device)
    except ValueError:
        if is_asked_for:
            raise
    warn_user(
        f"The estimator was saved with device={str(estimator.device)!r}, which does not exist "
        "here: it answers on the CPU. Pass device='auto' or 'cpu' to load() for further fits.",
    )
    return CPU
