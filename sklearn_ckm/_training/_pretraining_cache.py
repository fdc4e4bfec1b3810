"""Pretraining that is computed once per data, encoder, settings and seed."""

import os

import numpy as np
import torch
from sklearn.utils.validation import check_memory

from ._hash import hash_fit
from ._phases import pretrain
from ._state import set_trained_parameters, trained_parameters


def cached_pretraining(memory, model, data, settings, *, encoder, criterion=None, **kwargs):
    """Pretrain `model` in place, or load the weights that an equal call computed before.

    Parameters
    ----------
    memory : str, path or joblib.Memory
        Where results are kept.
    model : ClusteringModel
        Freshly built.
    data : TrainingData
        Both domains.
    settings : TrainingSettings
        Settings of the fit.
    encoder : str or callable
        The parameter that `model` was built from.
    criterion : nn.Module, default=None
        As for :func:`pretrain`; what it is made of is part of the key.
    **kwargs : dict
        Further parameters of :func:`pretrain`.

    Returns
    -------
    history : list of dict
        One per epoch.
    optimizer_state : dict of str to dict
        State of the optimiser, by parameter.

    Raises
    ------
    ValueError
        If the encoder, the optimiser or the callbacks cannot be hashed.
    OSError
        If there is no folder to write to.

    Notes
    -----
    Callbacks are not called when the result comes from the cache.
    """
    key = _key(model, data, settings, encoder, criterion)
    run = _cached(memory, _pretrained, ignore=["model", "data", "settings", "criterion"])
    weights, is_trained, history, optimizer_state = run(
        key, model=model, data=data, settings=settings, criterion=criterion, **kwargs
    )
    model.load_state_dict(_as_tensors(weights))
    set_trained_parameters(model, is_trained)
    return history, {name: _as_tensors(values) for name, values in optimizer_state.items()}


def _cached(memory, function, *, ignore):
    """Return the function with its results kept; joblib makes the folder here."""
    if isinstance(memory, os.PathLike):
        memory = os.fspath(memory)
    try:
        return check_memory(memory).cache(function, ignore=ignore)
    except OSError as error:
        raise OSError(
            f"Expected a folder that can be written to in memory, got {memory!r} ({error}). Choose "
            "another one, or memory=None."
        ) from error


def _pretrained(key, *, model, data, settings, criterion, **kwargs):
    """Weights and optimiser state as numpy arrays, what is trained, and the history."""
    history, state = pretrain(model, data, settings, criterion=criterion, **kwargs)
    optimizer_state = {name: _as_arrays(values) for name, values in state.items()}
    weights = _as_arrays(model.state_dict())
    return weights, trained_parameters(model), history, optimizer_state


def _as_arrays(values):
    return {k: v.cpu().numpy() if torch.is_tensor(v) else v for k, v in values.items()}


def _as_tensors(values):
    is_array = (np.ndarray, np.generic)
    return {
        k: torch.as_tensor(v.copy()) if isinstance(v, is_array) else v for k, v in values.items()
    }


def _key(model, data, settings, encoder, criterion):
    """Hash of everything that the weights depend on."""
    parts = {
        "weights": _as_arrays(model.state_dict()),
        "target": data.target.cpu().numpy(),
        "source": None if data.source is None else data.source.cpu().numpy(),
        "settings": (settings.lr, settings.batch_size, settings.precision, settings.device.type),
    }
    given = {
        "encoder": encoder,
        "optimizer": settings.optimizer,
        "callbacks": settings.callbacks,
    }
    if criterion is not None:
        parts["y_source"] = data.y_source.cpu().numpy()
        given["augmentation"] = criterion.augmentation
    return hash_fit(parts, given, types=map(type, model.modules()), parameter="memory")
