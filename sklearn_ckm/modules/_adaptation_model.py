"""Encoder and heads of the methods that train without a decoder."""

import torch
from torch import nn


class AdaptationModel(nn.Module):
    """Encoder and source classifier, with room for further heads.

    Parameters
    ----------
    encoder : nn.Module
        Maps inputs to codes (n_samples, n_components).
    classifier : nn.Module
        Maps codes to the logits of the source classes.
    **heads : nn.Module
        Further parts by name.
    """

    def __init__(self, encoder: nn.Module, classifier: nn.Module, **heads: nn.Module) -> None:
        super().__init__()
        self.encoder = encoder
        self.classifier = classifier
        self.centers = None
        for name, head in heads.items():
            setattr(self, name, head)

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
        return self.encoder(x)
