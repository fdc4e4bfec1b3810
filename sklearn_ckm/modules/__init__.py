"""Network modules: encoders, decoders and centres."""

from ._adaptation_model import AdaptationModel
from ._adversarial import (
    DomainDiscriminator,
    MultiLayerDiscriminator,
    last_layers,
    reverse_gradient,
)
from ._build import build_autoencoder
from ._centers import Centers, margin_temperature
from ._clustering_model import ClusteringModel
from ._convolutional import ConvDecoder, ConvEncoder
from ._dense import DenseDecoder, DenseEncoder

__all__ = [
    "AdaptationModel",
    "Centers",
    "ClusteringModel",
    "ConvDecoder",
    "ConvEncoder",
    "DenseDecoder",
    "DenseEncoder",
    "DomainDiscriminator",
    "MultiLayerDiscriminator",
    "build_autoencoder",
    "last_layers",
    "margin_temperature",
    "reverse_gradient",
]
