"""Loss functions: tensors in, a scalar tensor out."""

from ._classification import classification_loss
from ._concrete_kmeans import (
    concrete_kmeans_loss,
    standard_gumbel_like,
    straight_through_assignment,
)
from ._distances import squared_distances
from ._reconstruction import reconstruction_loss

__all__ = [
    "classification_loss",
    "concrete_kmeans_loss",
    "reconstruction_loss",
    "squared_distances",
    "standard_gumbel_like",
    "straight_through_assignment",
]
