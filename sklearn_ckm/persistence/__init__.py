"""Fitted estimators in files: saved without pickle, and exported to run without this package."""

from ._export import to_exported_program, to_onnx
from ._load import load

__all__ = ["load", "to_exported_program", "to_onnx"]
