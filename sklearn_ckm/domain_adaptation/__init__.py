"""Clustering a target domain with what a labelled source domain of other classes teaches."""

from ._ckm_domain_adapter import CKMDomainAdapter

__all__ = ["CKMDomainAdapter"]
