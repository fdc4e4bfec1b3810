"""Loss functions: tensors in, a scalar tensor out."""

from ._adversarial import domain_confusion_loss, domain_discrimination_loss
from ._classification import classification_loss
from ._concrete_kmeans import (
    concrete_kmeans_loss,
    standard_gumbel_like,
    straight_through_assignment,
)
from ._deep_embedded_clustering import (
    deep_embedded_clustering_loss,
    student_t_log_probabilities,
    target_distribution,
)
from ._distances import squared_distances
from ._factorization import factorization_loss, graph_loss
from ._reconstruction import reconstruction_loss
from ._similarity import entropy_loss, support_similarity
from ._soft_kmeans import soft_kmeans_loss
from ._views import balance_loss, class_consistency_loss, view_consistency_loss

__all__ = [
    "balance_loss",
    "class_consistency_loss",
    "classification_loss",
    "concrete_kmeans_loss",
    "deep_embedded_clustering_loss",
    "domain_confusion_loss",
    "domain_discrimination_loss",
    "entropy_loss",
    "factorization_loss",
    "graph_loss",
    "reconstruction_loss",
    "soft_kmeans_loss",
    "squared_distances",
    "standard_gumbel_like",
    "straight_through_assignment",
    "student_t_log_probabilities",
    "support_similarity",
    "target_distribution",
    "view_consistency_loss",
]
