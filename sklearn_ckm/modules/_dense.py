"""Dense autoencoder."""

from itertools import pairwise
from math import prod

import torch
from torch import nn


def _dense_stack(widths):
    """Linear layers of the given widths with ReLU between them, none after the last."""
    layers = []
    for n_in, n_out in pairwise(widths):
        layers += [nn.Linear(n_in, n_out), nn.ReLU()]
    return layers[:-1]


class DenseEncoder(nn.Module):
    """Fully connected encoder with a linear code.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one input, ``(n_features,)`` or ``(channels, height, width)``.
    n_components : int
        Width of the code.
    hidden : tuple of int, default=(500, 500, 2000)
        Widths of the hidden layers.

    References
    ----------
    .. [1] J. Xie, R. Girshick, A. Farhadi. Unsupervised Deep Embedding for Clustering Analysis.
       ICML 2016 (the widths).
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_components: int,
        hidden: tuple[int, ...] = (500, 500, 2000),
    ) -> None:
        super().__init__()
        self.input_shape = tuple(input_shape)
        self.n_components = n_components
        self.hidden = tuple(hidden)
        widths = (prod(self.input_shape), *self.hidden, n_components)
        self.layers = nn.Sequential(nn.Flatten(), *_dense_stack(widths))

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map inputs to codes.

        Parameters
        ----------
        x : Tensor of shape (n_samples, \\*input_shape)
            Inputs.

        Returns
        -------
        z : Tensor of shape (n_samples, n_components)
            Codes.
        """
        return self.layers(x)

    def build_decoder(self) -> "DenseDecoder":
        """Return the mirrored decoder.

        Returns
        -------
        decoder : DenseDecoder
            Untrained.
        """
        return DenseDecoder(self.input_shape, self.n_components, self.hidden[::-1])


class DenseDecoder(nn.Module):
    """Fully connected decoder with a linear answer.

    Parameters
    ----------
    input_shape : tuple of int
        Shape of one input of the autoencoder, and so of one answer.
    n_components : int
        Width of the code.
    hidden : tuple of int, default=(2000, 500, 500)
        Widths of the hidden layers.
    """

    def __init__(
        self,
        input_shape: tuple[int, ...],
        n_components: int,
        hidden: tuple[int, ...] = (2000, 500, 500),
    ) -> None:
        super().__init__()
        widths = (n_components, *hidden, prod(input_shape))
        self.layers = nn.Sequential(*_dense_stack(widths), nn.Unflatten(1, tuple(input_shape)))

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map codes to answers.

        Parameters
        ----------
        z : Tensor of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        x : Tensor of shape (n_samples, \\*input_shape)
            Answers.
        """
        return self.layers(z)
