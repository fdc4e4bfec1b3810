"""Transformers that bring data of several domains to one form."""

from ._image_formatter import ImageFormatter

__all__ = ["ImageFormatter"]
