"""Data with a domain shift and disjoint classes.

The loaders read a folder of the user's own, or what scikit-learn brings; `fetch_digits` alone
downloads, into the folder it is given.
"""

from ._blend_with_photos import blend_with_photos
from ._digits_on_photos import load_digits_on_photos
from ._fetch_digits import fetch_digits
from ._keep_few_labels import keep_few_labels
from ._mnist import load_mnist
from ._svhn import load_svhn
from ._usps import load_usps

__all__ = [
    "blend_with_photos",
    "fetch_digits",
    "keep_few_labels",
    "load_digits_on_photos",
    "load_mnist",
    "load_svhn",
    "load_usps",
]
