"""Small random changes of the rows of a table."""

from numbers import Real

import torch
from sklearn.base import BaseEstimator


class TableAugmentation(BaseEstimator):
    """Noise on each feature, and features that are taken from another row of the batch.

    Called as ``augmentation(x, generator)``.

    Parameters
    ----------
    noise : float, default=0.1
        Standard deviation of Gaussian noise, in standard deviations of the feature over the
        batch.
    corruption : float, default=0.1
        Probability that a feature of a row is replaced by that of a random row of the batch, so
        that it keeps its distribution and loses its relation to the others; below 1.

    References
    ----------
    .. [1] D. Bahri, H. Jiang, Y. Tay, D. Metzler. SCARF: Self-Supervised Contrastive Learning
       using Random Feature Corruption. ICLR 2022 (the replacement).

    Examples
    --------
    >>> import torch
    >>> from sklearn_ckm.augmentation import TableAugmentation
    >>> x = torch.rand(4, 3)
    >>> TableAugmentation(noise=0.05)(x, torch.Generator().manual_seed(0)).shape
    torch.Size([4, 3])
    """

    def __init__(self, *, noise: float = 0.1, corruption: float = 0.1) -> None:
        self.noise = noise
        self.corruption = corruption

    def check_settings(self) -> None:
        """Raise ``ValueError`` where a setting makes no sense.

        Raises
        ------
        ValueError
            If `noise` is negative or no number, or `corruption` not in [0, 1).
        """
        for name, limit in (("noise", float("inf")), ("corruption", 1.0)):
            value = getattr(self, name)
            if not (isinstance(value, Real) and 0 <= value < limit):
                raise ValueError(
                    f"Expected {name!r} of TableAugmentation to be a number of at least 0 and "
                    f"below {limit:g}, got {value!r}."
                )

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a view of each row.

        Parameters
        ----------
        x : Tensor of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of one domain.
        generator : torch.Generator
            On the device of `x`.

        Returns
        -------
        view : Tensor of the same shape
        """
        view = x
        if self.corruption:
            kwargs = {"generator": generator, "device": x.device}
            is_replaced = torch.rand(x.shape, **kwargs) < self.corruption
            rows = torch.randint(len(x), x.shape, **kwargs)
            view = torch.where(is_replaced, x.gather(0, rows), x)
        if self.noise:
            deviation = x.std(0, correction=0)
            normal = torch.empty_like(x).normal_(generator=generator)
            view = view + self.noise * deviation * normal
        return view
