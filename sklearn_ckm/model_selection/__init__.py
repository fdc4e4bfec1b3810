"""Choosing settings for a target: splitters, scorers, and a search that needs no target label."""

from ._hidden_classes import HiddenClasses
from ._label_free_search import LabelFreeSearchCV
from ._leave_one_target_domain_out import LeaveOneTargetDomainOut
from ._scorers import make_label_free_scorer, make_target_scorer
from ._target_split import TargetSplit

__all__ = [
    "HiddenClasses",
    "LabelFreeSearchCV",
    "LeaveOneTargetDomainOut",
    "TargetSplit",
    "make_label_free_scorer",
    "make_target_scorer",
]
