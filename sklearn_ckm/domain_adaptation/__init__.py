"""Estimators for a target domain whose classes are not those of the source.

The two adapters of the package come first; the others are the methods they are compared with.
"""

from ._ckm_domain_adapter import CKMDomainAdapter
from ._ckm_semi_supervised_adapter import CKMSemiSupervisedAdapter
from ._common_factor_classifier import CommonFactorClassifier
from ._domain_adversarial_clusterer import DomainAdversarialClusterer
from ._label_efficient_transfer import LabelEfficientTransfer
from ._progressive_clusterer import ProgressiveClusterer

__all__ = [
    "CKMDomainAdapter",
    "CKMSemiSupervisedAdapter",
    "CommonFactorClassifier",
    "DomainAdversarialClusterer",
    "LabelEfficientTransfer",
    "ProgressiveClusterer",
]
