"""Pictures and a report of a fitted model. matplotlib is imported only when something is drawn."""

from ._cluster_confusion_display import ClusterConfusionDisplay
from ._cluster_report import cluster_report
from ._cluster_sheet_display import ClusterSheetDisplay
from ._embedding_display import EmbeddingDisplay
from ._n_clusters_display import NClustersDisplay
from ._training_curve_display import TrainingCurveDisplay

__all__ = [
    "ClusterConfusionDisplay",
    "ClusterSheetDisplay",
    "EmbeddingDisplay",
    "NClustersDisplay",
    "TrainingCurveDisplay",
    "cluster_report",
]
