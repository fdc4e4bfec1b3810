"""Small random changes of images, drawn for each image."""

from math import inf, radians
from numbers import Real

import torch
from sklearn.base import BaseEstimator
from torch.nn.functional import affine_grid, conv2d, grid_sample, pad

_BLUR = (0.25, 0.5, 0.25)  # binomial, along each side
_PARAMS = ("rotation", "scale", "shear", "translation", "brightness", "contrast", "blur")


class ImageAugmentation(BaseEstimator):
    """Random affine maps, and changes of brightness, contrast and sharpness, of each image.

    Called as ``augmentation(x, generator)``. Every image gets draws of its own, uniform within
    the bounds below. Images are never mirrored: a mirrored digit or letter is another one.

    Parameters
    ----------
    rotation : float, default=15.0
        Largest angle, in degrees, either way.
    scale : float, default=0.15
        Largest relative change of the size of either side, below 1: a side of the view shows
        between ``1 - scale`` and ``1 + scale`` of that of the image.
    shear : float, default=15.0
        Largest angle of shear, in degrees, below 90.
    translation : float, default=0.1
        Largest shift, as a share of the side.
    brightness : float, default=0.0
        Largest value that is added to all pixels of an image, whose range is [0, 1].
    contrast : float, default=0.0
        Largest relative change of the contrast, at most 1: pixels are drawn to the mean of their
        image or away from it.
    blur : float, default=0.0
        Largest share of a version smoothed over 3x3 pixels, at most 1.

    Notes
    -----
    What comes in from outside has the median value of the image's edge, by channel, so that dark
    and bright backgrounds go on. All is computed on the device of the images, a few kernels a
    batch.

    Examples
    --------
    >>> import torch
    >>> from sklearn_ckm.augmentation import ImageAugmentation
    >>> x = torch.rand(4, 1, 16, 16)
    >>> ImageAugmentation(rotation=30.0)(x, torch.Generator().manual_seed(0)).shape
    torch.Size([4, 1, 16, 16])
    """

    def __init__(
        self,
        *,
        rotation: float = 15.0,
        scale: float = 0.15,
        shear: float = 15.0,
        translation: float = 0.1,
        brightness: float = 0.0,
        contrast: float = 0.0,
        blur: float = 0.0,
    ) -> None:
        self.rotation = rotation
        self.scale = scale
        self.shear = shear
        self.translation = translation
        self.brightness = brightness
        self.contrast = contrast
        self.blur = blur

    def check_settings(self) -> None:
        """Raise ``ValueError`` where a setting makes no sense.

        Raises
        ------
        ValueError
            If a bound is negative or no number, `scale` is 1 or more, `shear` 90 or more, or
            `blur` above 1.
        """
        limits = {"scale": 1.0, "shear": 90.0, "contrast": 1.0 + 1e-9, "blur": 1.0 + 1e-9}
        for name in _PARAMS:
            value = getattr(self, name)
            if not (isinstance(value, Real) and 0 <= value < limits.get(name, inf)):
                raise ValueError(
                    f"Expected {name!r} of ImageAugmentation to be a number of at least 0 (and "
                    "scale below 1, shear below 90, contrast at most 1, blur at most 1), got "
                    f"{value!r}."
                )

    def __call__(self, x: torch.Tensor, generator: torch.Generator) -> torch.Tensor:
        """Return a view of each image.

        Parameters
        ----------
        x : Tensor of shape (n_samples, channels, height, width)
            Images, in [0, 1].
        generator : torch.Generator
            On the device of `x`.

        Returns
        -------
        view : Tensor of the same shape
            Not clipped to [0, 1].
        """
        view = self._move(x, generator)
        if self.blur:
            share = self._draw(x, 0.0, self.blur, generator)[:, None, None, None]
            view = view.lerp(_smoothed(view), share)
        if self.contrast or self.brightness:
            gain, shift = (
                self._draw(x, -bound, bound, generator)[:, None, None, None]
                for bound in (self.contrast, self.brightness)
            )
            mean = view.mean((1, 2, 3), keepdim=True)
            view = mean + (1 + gain) * (view - mean) + shift
        return view

    def _move(self, x, generator):
        """Apply an affine map to each image."""
        if not (self.rotation or self.scale or self.shear or self.translation):
            return x
        bounds = (radians(self.rotation), self.scale, self.scale, radians(self.shear))
        angle, wide, high, shear = (self._draw(x, -b, b, generator) for b in bounds)
        # the grid runs from -1 to 1
        right, down = (
            self._draw(x, -2 * self.translation, 2 * self.translation, generator) for _ in range(2)
        )
        cos, sin, tan = angle.cos(), angle.sin(), shear.tan()
        wide, high = 1 + wide, 1 + high
        aspect = x.shape[2] / x.shape[3]  # the grid is as wide as high, the image may not be
        rows = (
            [cos * wide, (cos * tan - sin) * high * aspect, right],
            [sin * wide / aspect, (sin * tan + cos) * high, down],
        )
        theta = torch.stack([torch.stack(row, 1) for row in rows], 1)  # (n_samples, 2, 3)
        grid = affine_grid(theta, x.shape, align_corners=False)
        edge = _edge_median(x)
        return grid_sample(x - edge, grid, align_corners=False) + edge

    @staticmethod
    def _draw(x, low, high, generator):
        """Uniform numbers, one for each image."""
        uniform = torch.rand(len(x), generator=generator, device=x.device, dtype=x.dtype)
        return low + (high - low) * uniform


def _edge_median(x):
    """Median over the outermost pixels, (n_samples, channels, 1, 1)."""
    edge = torch.cat([x[:, :, 0], x[:, :, -1], x[:, :, :, 0], x[:, :, :, -1]], dim=2)
    middle = (edge.shape[2] - 1) // 2  # torch's median is not deterministic on CUDA
    return edge.sort(2).values[:, :, middle, None, None]


def _smoothed(x):
    """Images smoothed by a binomial filter over 3x3 pixels."""
    line = x.new_tensor(_BLUR)
    kernel = (line[:, None] * line)[None, None]  # (1, 1, 3, 3)
    flat = pad(x, (1, 1, 1, 1), mode="replicate").flatten(0, 1).unsqueeze(1)
    return conv2d(flat, kernel).view_as(x)
