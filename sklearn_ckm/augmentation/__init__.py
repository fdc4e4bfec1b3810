"""Views: random changes of a batch that leave the class of each row as it is."""

from ._image_augmentation import ImageAugmentation
from ._table_augmentation import TableAugmentation

__all__ = ["ImageAugmentation", "TableAugmentation"]
