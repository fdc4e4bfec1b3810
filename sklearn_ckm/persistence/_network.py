"""The network of a fitted estimator: its layers as plain values, and back."""

import copy
from functools import partial

import torch
from torch import nn

from .._training._nets import PhaseNet
from .._training._phases import strip_net
from ..modules import (
    AdaptationModel,
    Centers,
    ClusteringModel,
    ConvEncoder,
    DenseEncoder,
    build_autoencoder,
)
from ..utils._device import resolve_kept_device
from ..utils._random import layers_seed
from ._files import as_described

CPU = torch.device("cpu")
# Parts that answer after the fit, or that a warm start goes on with. What else a method trained
# with, such as a discriminator of the domains, is left out.
_HEADS = ("classifier", "target_classifier")
_KEPT = ("encoder", "decoder", "centers", "source_encoder", *_HEADS)


class NetworkMismatchError(ValueError):
    """The weights do not fit the network."""


def weights_of(model):
    """Weights and buffers of what is kept, on the CPU, contiguous and each with its own memory.

    Parameters
    ----------
    model : ClusteringModel or AdaptationModel
        Of a fitted estimator.

    Returns
    -------
    weights : dict of str to Tensor

    Raises
    ------
    TypeError
        If a module has a state that is no tensor.
    """
    weights = {}
    for name, value in model.state_dict().items():
        if name.split(".")[0] not in _KEPT:
            continue
        if not torch.is_tensor(value):
            raise TypeError(
                f"Expected tensors in the state of the network, got {name!r} of type "
                f"{type(value).__name__}, which cannot be stored without pickle."
            )
        weights[name] = value.detach().to(CPU, copy=True, memory_format=torch.contiguous_format)
    return weights


def describe_network(model, input_shape, n_components):
    """Return the architecture of a network as plain values.

    Parameters
    ----------
    model : ClusteringModel or AdaptationModel
        Of a fitted estimator.
    input_shape : tuple of int
        Shape of one sample.
    n_components : int
        Width of the embedding.

    Returns
    -------
    description : dict
        For :func:`build_network`. A user's own encoder is only named.

    Raises
    ------
    TypeError
        If a head is made of unknown layers.
    """
    centers = model.centers
    heads = {name: getattr(model, name, None) for name in _HEADS}
    return {
        "input_shape": list(input_shape),
        "n_components": int(n_components),
        "encoder": _describe_encoder(model.encoder),
        "has_decoder": hasattr(model, "decoder"),
        "has_source_encoder": hasattr(model, "source_encoder"),
        "centers": None
        if centers is None
        else {"shape": list(centers.positions.shape), "is_adaptive": bool(centers.is_adaptive)},
        "heads": {name: _describe_layers(head) for name, head in heads.items() if head is not None},
    }


def is_of_package(encoder):
    """Whether an encoder can be built from plain values."""
    return type(encoder) in (DenseEncoder, ConvEncoder)


def _describe_encoder(encoder):
    if type(encoder) is DenseEncoder:
        return {"class": "DenseEncoder", "settings": {"hidden": list(encoder.hidden)}}
    if type(encoder) is ConvEncoder:
        return {"class": "ConvEncoder", "settings": {"n_hidden": encoder.n_hidden}}
    return {"class": None, "name": type(encoder).__qualname__}


def _describe_layers(module):
    if type(module) is nn.Linear:
        return {"class": "Linear", "widths": [module.in_features, module.out_features]}
    if type(module) is nn.Sigmoid:
        return {"class": "Sigmoid"}
    if type(module) is nn.Sequential:
        return {"class": "Sequential", "layers": [_describe_layers(layer) for layer in module]}
    raise TypeError(f"Expected a head of linear layers, got {type(module).__name__}.")


def build_network(document, weights, encoder=None):
    """Build a network and give it its weights.

    Parameters
    ----------
    document : dict
        With the result of :func:`describe_network` as ``"network"``.
    weights : dict of str to Tensor
        From :func:`weights_of`.
    encoder : callable, default=None
        Makes the encoder, where it is not the package's.

    Returns
    -------
    model : ClusteringModel or AdaptationModel
        On the CPU, in eval mode.

    Raises
    ------
    NetworkMismatchError
        If names or shapes of the weights are not those of the network.
    ValueError
        If a layer is unknown.
    """
    with as_described("network", document):
        description = document["network"]
        factory = _encoder_factory(description["encoder"], encoder)
        shape = tuple(map(int, description["input_shape"])), int(description["n_components"])
    # whatever the layers start with is overwritten: ours draw nothing, and wait for no other thread
    is_ours = factory is not encoder
    with torch.device("meta") if is_ours else layers_seed(0):
        built = build_autoencoder(factory, *shape)
        with as_described("network", document):
            model = _assemble(description, *built).float()
    if is_ours:
        model.to_empty(device=CPU)
    _load_weights(model, weights)
    return model.eval()


def _encoder_factory(described, encoder):
    if described["class"] == "DenseEncoder":
        return partial(DenseEncoder, hidden=tuple(described["settings"]["hidden"]))
    if described["class"] == "ConvEncoder":
        return partial(ConvEncoder, n_hidden=described["settings"]["n_hidden"])
    if described["class"] is not None:
        raise ValueError(f"Expected a known encoder, got {described['class']!r}.")
    return encoder


def _assemble(description, encoder, decoder):
    heads = {name: _build_layers(head) for name, head in description["heads"].items()}
    if not set(heads) <= set(_HEADS):
        raise ValueError(f"Expected heads among {_HEADS}, got {sorted(heads)}.")
    classifier = heads.pop("classifier", None)
    if description["has_decoder"]:
        model = ClusteringModel(encoder, decoder, classifier)
    else:
        model = AdaptationModel(encoder, classifier)
    for name, head in heads.items():
        setattr(model, name, head)
    if description["has_source_encoder"]:
        model.source_encoder = copy.deepcopy(encoder).requires_grad_(False)
    if description["centers"] is not None:
        model.centers = Centers(torch.zeros(description["centers"]["shape"]))
        model.centers.is_adaptive = description["centers"]["is_adaptive"]
    return model


def _build_layers(described):
    if described["class"] == "Linear":
        return nn.Linear(*described["widths"])
    if described["class"] == "Sigmoid":
        return nn.Sigmoid()
    if described["class"] == "Sequential":
        return nn.Sequential(*map(_build_layers, described["layers"]))
    raise ValueError(f"Expected a known layer, got {described['class']!r}.")


def _load_weights(model, weights):
    """Copy the weights into the layers, whose layout in memory stays as they were built."""
    own = {name: tuple(value.shape) for name, value in model.state_dict().items()}
    stored = {name: tuple(value.shape) for name, value in weights.items()}
    if own != stored:
        differing = sorted(set(own.items()) ^ set(stored.items()))[0][0]
        raise NetworkMismatchError(
            f"the weights {differing!r} have the shape {stored.get(differing)} in the file and "
            f"{own.get(differing)} in the network"
        )
    model.load_state_dict(weights)


def make_net(model, device):
    """Return a skorch net that holds a trained model, as after a fit.

    Parameters
    ----------
    model : nn.Module
        Moved to the device.
    device : torch.device
        Where to predict.

    Returns
    -------
    net : PhaseNet
    """
    net = PhaseNet(model, nn.Identity, device=str(device), verbose=0)
    return strip_net(net.initialize())


def pack_net(net, input_shape, n_components):
    """Return a net as plain values and arrays, for pickle, joblib and skops.

    skorch's own state of a net is bytes of another pickle, which skops would store unseen and run
    when it loads them.

    Parameters
    ----------
    net : PhaseNet
        Of a fitted estimator.
    input_shape : tuple of int
        Shape of one sample.
    n_components : int
        Width of the embedding.

    Returns
    -------
    packed : dict or PhaseNet
        The net as it is where its encoder is the user's own: only pickle holds code by reference.
    """
    model = net.module_
    if not is_of_package(model.encoder):
        return net
    return {
        "network": describe_network(model, input_shape, n_components),
        "weights": {name: value.numpy() for name, value in weights_of(model).items()},
        "device": str(net.device),
    }


def unpack_net(packed):
    """Return the net of :func:`pack_net`, on another device where that of the fit is missing."""
    if not isinstance(packed, dict):
        return packed
    weights = {name: torch.from_numpy(value) for name, value in packed["weights"].items()}
    return make_net(build_network(packed, weights), resolve_kept_device(packed["device"]))
