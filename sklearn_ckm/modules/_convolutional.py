"""Convolutional autoencoder of the LeNet shape."""

from math import ceil, log2

import torch
from torch import nn

_FIRST_WIDTHS = (20, 50)
_LARGEST_MAP = 8  # pixels a side of the map that the dense layer reads
_SMALLEST_IMAGE = 8


def _stage_widths(height, width):
    """Channels per stage: LeNet's 20 and 50, then doubled while the map is large."""
    n_wanted = max(2, ceil(log2(max(height, width) / _LARGEST_MAP)))
    n_stages = min(n_wanted, int(log2(min(height, width))))  # the short side keeps one pixel
    extra = (min(_FIRST_WIDTHS[-1] * 2 ** (i + 1), 400) for i in range(n_stages - 2))
    return (*_FIRST_WIDTHS, *extra)


def _map_sizes(height, width, n_stages):
    """Height and width before each pooling and after the last."""
    sizes = [(height, width)]
    for _ in range(n_stages):
        height, width = height // 2, width // 2
        sizes.append((height, width))
    return sizes


class ConvEncoder(nn.Module):
    """Convolutional encoder with a linear code.

    Two stages of a 5x5 convolution (20, then 50 channels), ReLU and 2x2 pooling, a dense layer of
    500 ReLU units and a linear code. Images above 32 pixels get further stages, so that the dense
    layer reads a map of at most about 8x8.

    Parameters
    ----------
    input_shape : tuple of int
        ``(channels, height, width)``, at least 8 pixels a side.
    n_components : int
        Width of the code.
    n_hidden : int, default=500
        Width of the dense layer.

    Raises
    ------
    ValueError
        If `input_shape` is no image or an image smaller than 8x8.

    References
    ----------
    .. [1] E. Tzeng, J. Hoffman, K. Saenko, T. Darrell. Adversarial Discriminative Domain
       Adaptation. CVPR 2017 (the widths).
    """

    def __init__(
        self, input_shape: tuple[int, ...], n_components: int, n_hidden: int = 500
    ) -> None:
        super().__init__()
        if len(input_shape) != 3 or min(input_shape[1:]) < _SMALLEST_IMAGE:
            raise ValueError(
                "Expected an image of shape (channels, height, width) with at least "
                f"{_SMALLEST_IMAGE}x{_SMALLEST_IMAGE} pixels for the convolutional encoder, got "
                f"the shape {tuple(input_shape)!r}. Enlarge the images with ImageFormatter, or "
                "use encoder='mlp'."
            )
        self.input_shape = tuple(input_shape)
        self.n_components = n_components
        self.n_hidden = n_hidden
        channels, height, width = self.input_shape
        self.widths = _stage_widths(height, width)
        self.sizes = _map_sizes(height, width, len(self.widths))
        layers = []
        for n_in, n_out in zip((channels, *self.widths), self.widths, strict=False):
            layers += [nn.Conv2d(n_in, n_out, 5, padding=2), nn.ReLU(), nn.MaxPool2d(2)]
        n_flat = self.widths[-1] * self.sizes[-1][0] * self.sizes[-1][1]
        self.layers = nn.Sequential(
            *layers,
            nn.Flatten(),
            nn.Linear(n_flat, n_hidden),
            nn.ReLU(),
            nn.Linear(n_hidden, n_components),
        )
        self.to(memory_format=torch.channels_last)  # the layout in which convolutions are fastest

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        """Map images to codes.

        Parameters
        ----------
        x : Tensor of shape (n_samples, channels, height, width)
            Images.

        Returns
        -------
        z : Tensor of shape (n_samples, n_components)
            Codes.
        """
        return self.layers(x)

    def build_decoder(self) -> "ConvDecoder":
        """Return the mirrored decoder.

        Returns
        -------
        decoder : ConvDecoder
            Untrained.
        """
        return ConvDecoder(self.input_shape, self.n_components, self.n_hidden)


class ConvDecoder(nn.Module):
    """Mirror of :class:`ConvEncoder`: dense layers, then upsampling and 5x5 convolutions.

    Parameters
    ----------
    input_shape : tuple of int
        ``(channels, height, width)`` of the answer.
    n_components : int
        Width of the code.
    n_hidden : int, default=500
        Width of the dense layer.
    """

    def __init__(
        self, input_shape: tuple[int, ...], n_components: int, n_hidden: int = 500
    ) -> None:
        super().__init__()
        channels, height, width = input_shape
        widths = _stage_widths(height, width)
        sizes = _map_sizes(height, width, len(widths))
        smallest = (widths[-1], *sizes[-1])
        layers = [
            nn.Linear(n_components, n_hidden),
            nn.ReLU(),
            nn.Linear(n_hidden, smallest[0] * smallest[1] * smallest[2]),
            nn.ReLU(),
            nn.Unflatten(1, smallest),
        ]
        outputs = (*widths[-2::-1], channels)
        for n_in, n_out, size in zip(widths[::-1], outputs, sizes[-2::-1], strict=True):
            layers += [nn.Upsample(size=size), nn.Conv2d(n_in, n_out, 5, padding=2), nn.ReLU()]
        self.layers = nn.Sequential(*layers[:-1])
        self.to(memory_format=torch.channels_last)

    def forward(self, z: torch.Tensor) -> torch.Tensor:
        """Map codes to images.

        Parameters
        ----------
        z : Tensor of shape (n_samples, n_components)
            Codes.

        Returns
        -------
        x : Tensor of shape (n_samples, channels, height, width)
            Images.
        """
        return self.layers(z)
