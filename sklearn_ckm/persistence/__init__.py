"""Fitted estimators in files: saved without pickle, and exported to run without this package."""

from ._load import load

__all__ = ["load"]
