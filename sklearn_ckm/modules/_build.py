"""From the parameter ``encoder`` to an untrained autoencoder."""

import copy
from collections.abc import Callable
from math import prod
from typing import Any

import torch
from torch import nn

from ._convolutional import ConvEncoder
from ._dense import DenseDecoder, DenseEncoder

ENCODERS = ("auto", "mlp", "mlp-small", "conv")
_SMALL_HIDDEN = (256, 256)
_SMALL_TABLE = 256  # features up to which "auto" takes the smaller dense encoder


def build_autoencoder(
    encoder: str | Callable[..., Any], input_shape: tuple[int, ...], n_components: int
) -> tuple[nn.Module, nn.Module]:
    """Build an untrained encoder and its decoder from torch's global random state.

    Parameters
    ----------
    encoder : {"auto", "mlp", "mlp-small", "conv"} or callable
        A name, or a class or factory called as ``encoder(input_shape, n_components)``. Its module
        may bring its own mirror as ``build_decoder()``; else a dense decoder is used.
    input_shape : tuple of int
        ``(n_features,)`` or ``(channels, height, width)``.
    n_components : int
        Width of the code.

    Returns
    -------
    encoder, decoder : nn.Module
        Untrained, in float32.

    Raises
    ------
    TypeError
        If `encoder` is a module instance, or makes something else than a module.
    ValueError
        If the name is unknown, or the module's answer has the wrong shape.
    """
    built = _build_encoder(encoder, input_shape, n_components)
    if not isinstance(built, nn.Module):
        raise TypeError(
            f"Expected 'encoder' to return a torch.nn.Module when called with the input shape and "
            f"n_components, got {type(built).__name__}."
        )
    built = _copied(built)
    built.float()  # whatever torch's default dtype is
    for part in built.modules():  # such as the batch normalisation of a frozen part
        part.stays_in_eval = not part.training
    if hasattr(built, "build_decoder"):
        decoder = built.build_decoder()
        if not isinstance(decoder, nn.Module):
            raise TypeError(
                "Expected the encoder's build_decoder() to return a torch.nn.Module, got "
                f"{type(decoder).__name__}."
            )
    else:
        decoder = DenseDecoder(input_shape, n_components, _dense_hidden(input_shape)[::-1])
    decoder.float()
    _check_shapes(built, decoder, input_shape, n_components)
    return built, decoder


def _copied(built):
    """Return a copy, which shares nothing with a module that is bound in the factory."""
    try:
        return copy.deepcopy(built)
    except (RuntimeError, TypeError):
        # computed tensors, as of torch's old `weight_norm`, or a generator or open file inside
        return built


def _build_encoder(encoder, input_shape, n_components):
    if isinstance(encoder, nn.Module):
        raise TypeError(
            "Expected 'encoder' to be a name, a class or a factory, got an instance of "
            f"{type(encoder).__name__}. A fit must start from fresh weights: pass the class, or a "
            "function of (input_shape, n_components) that makes the module."
        )
    if callable(encoder):
        return encoder(input_shape, n_components)
    is_image = len(input_shape) == 3
    if encoder == "conv" or (encoder == "auto" and is_image and min(input_shape[1:]) >= 8):
        return ConvEncoder(input_shape, n_components)
    if encoder == "auto":
        return DenseEncoder(input_shape, n_components, _dense_hidden(input_shape))
    if encoder == "mlp":
        return DenseEncoder(input_shape, n_components)
    if encoder == "mlp-small":
        return DenseEncoder(input_shape, n_components, _SMALL_HIDDEN)
    raise ValueError(
        f"Expected 'encoder' among {ENCODERS}, or a class or factory; got {encoder!r}."
    )


def _dense_hidden(input_shape):
    return _SMALL_HIDDEN if prod(input_shape) <= _SMALL_TABLE else (500, 500, 2000)


@torch.no_grad()
@torch.autocast("cpu", enabled=False)
def _check_shapes(encoder, decoder, input_shape, n_components):
    """Run two blank samples through both and compare the shapes."""
    modes = [(part, part.training) for net in (encoder, decoder) for part in net.modules()]
    blank = torch.zeros(2, *input_shape, dtype=torch.float32)
    z = encoder.eval()(blank)
    if blank._version:
        raise ValueError(
            "Expected the encoder to leave its input as it is, but it works in place: the rows of "
            "the data would change. Let it begin with an operation that makes a new tensor, such "
            "as x * 2 in place of x.mul_(2)."
        )
    if not isinstance(z, torch.Tensor) or z.shape != (2, n_components):
        got = tuple(z.shape) if isinstance(z, torch.Tensor) else type(z).__name__
        raise ValueError(
            f"Expected the encoder to map inputs of shape (2, {', '.join(map(str, input_shape))}) "
            f"to codes of shape (2, {n_components}), got {got}."
        )
    if z.dtype != torch.float32:
        raise ValueError(
            f"Expected the encoder to answer in float32, got {str(z.dtype).removeprefix('torch.')}."
            " Let it end with .float(); precision='bfloat16' trains in less."
        )
    x = decoder.eval()(z)
    if not isinstance(x, torch.Tensor) or x.shape != (2, *input_shape):
        got = tuple(x.shape) if isinstance(x, torch.Tensor) else type(x).__name__
        raise ValueError(
            f"Expected the decoder to map codes back to the shape {(2, *input_shape)}, got {got}."
        )
    for part, mode in modes:
        part.training = mode
