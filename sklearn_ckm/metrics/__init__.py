"""Measures of a clustering that scikit-learn lacks."""

from ._clustering_accuracy import clustering_accuracy
from ._neighborhood_agreement import neighborhood_agreement_score
from ._probabilities import (
    information_maximization_score,
    nuclear_norm_score,
    soft_neighborhood_density_score,
)

__all__ = [
    "clustering_accuracy",
    "information_maximization_score",
    "neighborhood_agreement_score",
    "nuclear_norm_score",
    "soft_neighborhood_density_score",
]
