"""Clustering objectives: what pulls the target's embeddings to their centres."""

from ._base import BaseClusteringObjective, ClusteringStep
from ._concrete_kmeans import ConcreteKMeansObjective
from ._dcn import DCNObjective
from ._dec import DECObjective
from ._soft_kmeans import SoftKMeansObjective

__all__ = [
    "BaseClusteringObjective",
    "ClusteringStep",
    "ConcreteKMeansObjective",
    "DCNObjective",
    "DECObjective",
    "SoftKMeansObjective",
]
