"""Deep clustering for domain adaptation with disjoint classes."""

from ._version import __version__
from .cluster import ConcreteKMeans
from .domain_adaptation import CKMDomainAdapter, CKMSemiSupervisedAdapter
from .persistence import load

__all__ = [
    "CKMDomainAdapter",
    "CKMSemiSupervisedAdapter",
    "ConcreteKMeans",
    "__version__",
    "load",
]
