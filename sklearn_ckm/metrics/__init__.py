"""Measures of a clustering that scikit-learn lacks."""

from ._clustering_accuracy import clustering_accuracy
from ._neighborhood_agreement import neighborhood_agreement_score

__all__ = ["clustering_accuracy", "neighborhood_agreement_score"]
