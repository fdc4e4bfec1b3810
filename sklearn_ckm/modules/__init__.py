"""Network modules: encoders, decoders and centres."""

from ._build import build_autoencoder
from ._centers import Centers, margin_temperature
from ._clustering_model import ClusteringModel
from ._convolutional import ConvDecoder, ConvEncoder
from ._dense import DenseDecoder, DenseEncoder

__all__ = [
    "Centers",
    "ClusteringModel",
    "ConvDecoder",
    "ConvEncoder",
    "DenseDecoder",
    "DenseEncoder",
    "build_autoencoder",
    "margin_temperature",
]
