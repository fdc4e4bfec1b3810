"""Parts of adversarial alignment: gradient reversal and domain discriminators."""

from collections.abc import Sequence

import torch
from torch import nn


class _Reversed(torch.autograd.Function):
    @staticmethod
    def forward(ctx, x, weight):
        ctx.weight = weight
        return x.view_as(x)

    @staticmethod
    def backward(ctx, gradient):
        return -ctx.weight * gradient, None


def reverse_gradient(x: torch.Tensor, weight: float = 1.0) -> torch.Tensor:
    """Return `x` unchanged, and pass its gradient on negated and weighted.

    Parameters
    ----------
    x : Tensor
        Any tensor.
    weight : float, default=1.0
        Factor of the reversed gradient.

    Returns
    -------
    x : Tensor
        A view.

    References
    ----------
    .. [1] Y. Ganin, V. Lempitsky. Unsupervised Domain Adaptation by Backpropagation. ICML 2015.
    """
    return _Reversed.apply(x, weight)


class DomainDiscriminator(nn.Module):
    """Two dense layers that tell source from target by an embedding.

    Parameters
    ----------
    n_components : int
        Width of the embedding.
    n_hidden : int, default=100
        Width of the hidden layer.
    """

    def __init__(self, n_components: int, n_hidden: int = 100) -> None:
        super().__init__()
        self.layers = nn.Sequential(
            nn.Linear(n_components, n_hidden), nn.ReLU(), nn.Linear(n_hidden, 1)
        )

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Tell the domain of embeddings.

        Parameters
        ----------
        z : Tensor of shape (n_samples, n_components)
            Embeddings.

        Returns
        -------
        logits : Tensor of shape (n_samples,)
            Logits of "source".
        """
        return self.layers(z).squeeze(1)


class MultiLayerDiscriminator(nn.Module):
    """Tells source from target by several layers of a network at once.

    Each level reads the answer of the level before, made small by a gate, beside its own layer:
    :math:`d_l = D_l(\\sigma(\\gamma d_{l-1} \\oplus E_l(x)))` with concatenation as
    :math:`\\oplus`.

    Parameters
    ----------
    widths : sequence of int
        Width of each layer that is read, the deepest last.
    gate : float, default=0.1
        The factor gamma, in [0, 1].
    n_hidden : int, default=100
        Width of what a level hands to the next.

    References
    ----------
    .. [1] Z. Luo, Y. Zou, J. Hoffman, L. Fei-Fei. Label Efficient Learning of Transferable
       Representations across Domains and Tasks. NeurIPS 2017, section 3.2.
    """

    def __init__(self, widths: Sequence[int], gate: float = 0.1, n_hidden: int = 100) -> None:
        super().__init__()
        self.gate = gate
        n_before = [0] + [n_hidden] * (len(widths) - 1)
        n_answers = [n_hidden] * (len(widths) - 1) + [1]
        self.levels = nn.ModuleList(
            nn.Linear(n + width, n_answer)
            for n, width, n_answer in zip(n_before, widths, n_answers, strict=True)
        )

    def forward(self, layers: list[torch.Tensor]) -> torch.Tensor:
        """Tell the domain of rows by their layers.

        Parameters
        ----------
        layers : list of Tensor of shape (n_samples, width)
            Layers of the network, the deepest last.

        Returns
        -------
        logits : Tensor of shape (n_samples,)
            Logits of "source".
        """
        answer = layers[0].new_empty(len(layers[0]), 0)
        for level, layer in zip(self.levels, layers, strict=True):
            answer = level(torch.cat([self.gate * answer, layer], 1).relu())
        return answer.squeeze(1)


def last_layers(encoder: nn.Module, x: torch.Tensor) -> list[torch.Tensor]:
    """Return the last hidden layer and the code of an encoder, or the code alone.

    Parameters
    ----------
    encoder : nn.Module
        One with ``layers``, a ``Sequential`` that ends in the dense layer of the code, has a
        hidden layer to return; of another the code is all that can be read.
    x : Tensor of shape (n_samples, \\*input_shape)
        Inputs.

    Returns
    -------
    layers : list of Tensor of shape (n_samples, width)
        The code comes last.
    """
    stack = getattr(encoder, "layers", None)
    if not (isinstance(stack, nn.Sequential) and len(stack) > 1 and type(stack[-1]) is nn.Linear):
        return [encoder(x)]
    inputs = []
    handle = stack[-1].register_forward_pre_hook(lambda layer, args: inputs.append(args[0]))
    try:
        code = encoder(x)  # the whole of it: there may be more to an encoder than its layers
    finally:
        handle.remove()
    return [*(layer.flatten(1) for layer in inputs[-1:]), code]
