"""The whole network of a fit."""

import torch
from torch import nn

from ._centers import Centers


class ClusteringModel(nn.Module):
    """Encoder, decoder, source classifier and centres under one roof.

    Parameters
    ----------
    encoder : nn.Module
        Maps inputs to codes (n_samples, n_components).
    decoder : nn.Module
        Maps codes to inputs.
    classifier : nn.Module or None, default=None
        Maps codes to the logits of the source classes.
    centers : Centers or None, default=None
        Cluster centres; they exist once the autoencoder is pretrained.
    """

    def __init__(
        self,
        encoder: nn.Module,
        decoder: nn.Module,
        classifier: nn.Module | None = None,
        centers: Centers | None = None,
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.decoder = decoder
        self.classifier = classifier
        self.centers = centers

    def forward(
        self, x: torch.Tensor, n_decoded: int | None = None
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Map inputs to codes, and codes back to inputs.

        Parameters
        ----------
        x : Tensor of shape (n_samples, \\*input_shape)
            Inputs.
        n_decoded : int, default=None
            How many of the first codes are mapped back; all by default.

        Returns
        -------
        z : Tensor of shape (n_samples, n_components)
            Codes.
        x_decoded : Tensor of shape (n_decoded, \\*input_shape)
            Answers of the decoder.
        """
        z = self.encoder(x)
        return z, self.decoder(z[:n_decoded])
