"""Deep clustering of a single data set."""

from ._concrete_kmeans import ConcreteKMeans

__all__ = ["ConcreteKMeans"]
