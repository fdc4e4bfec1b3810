"""Deep clustering for domain adaptation with disjoint classes."""

from ._version import __version__
from .cluster import ConcreteKMeans
from .domain_adaptation import CKMDomainAdapter

__all__ = ["CKMDomainAdapter", "ConcreteKMeans", "__version__"]
