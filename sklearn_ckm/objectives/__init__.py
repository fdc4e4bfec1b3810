"""Clustering objectives: what pulls the target's embeddings to their centres."""

from ._base import BaseClusteringObjective, ClusteringStep
from ._concrete_kmeans import ConcreteKMeansObjective

__all__ = ["BaseClusteringObjective", "ClusteringStep", "ConcreteKMeansObjective"]
