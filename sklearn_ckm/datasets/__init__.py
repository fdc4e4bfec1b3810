"""Data with a domain shift and disjoint classes; nothing is downloaded."""

from ._digit_files import load_mnist, load_usps
from ._digits_on_photos import load_digits_on_photos

__all__ = ["load_digits_on_photos", "load_mnist", "load_usps"]
