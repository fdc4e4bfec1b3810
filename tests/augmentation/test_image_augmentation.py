import pickle

import numpy as np
import pytest
import torch
from _oracles import to_numpy, torch_state_unchanged
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from scipy import ndimage
from sklearn.base import clone

from sklearn_ckm.augmentation import ImageAugmentation
from sklearn_ckm.utils._random import make_generator

STILL = {"rotation": 0.0, "scale": 0.0, "shear": 0.0, "translation": 0.0}
ALL = {"brightness": 0.2, "contrast": 0.3, "blur": 0.5}
SHARES = st.floats(0, 0.9)


class UpperEnd(ImageAugmentation):
    """Every draw is its upper bound."""

    @staticmethod
    def _draw(x, low, high, generator):
        return x.new_full((len(x),), high)


class LowerEnd(ImageAugmentation):
    """Every draw is its lower bound."""

    @staticmethod
    def _draw(x, low, high, generator):
        return x.new_full((len(x),), low)


ENDS = [(UpperEnd, 1), (LowerEnd, -1)]


def images(n_samples=3, channels=2, size=(9, 9), *, seed=0, dtype=torch.float64, device="cpu"):
    x = np.random.default_rng(seed).uniform(size=(n_samples, channels, *size))
    return torch.tensor(x, dtype=dtype, device=device)


def with_frame(x, value, width=1):
    """The images with an edge of one value."""
    framed = torch.full_like(x, value)
    inner = slice(width, -width)
    framed[:, :, inner, inner] = x[:, :, inner, inner]
    return framed


def view_of(augmentation, x, seed=0):
    return augmentation(x, make_generator(seed, x.device))


def scipy_affine(x, rotation=0.0, scale=0.0, shear=0.0, translation=0.0):
    """Each output pixel is read at the turned, sheared, scaled and shifted place, by scipy."""
    angle, shear = np.radians([rotation, shear])
    turn = np.array([[np.cos(angle), -np.sin(angle)], [np.sin(angle), np.cos(angle)]])
    matrix = (1 + scale) * turn @ np.array([[1, np.tan(shear)], [0, 1]])  # right, down
    matrix = matrix[::-1, ::-1]  # row, column
    size = np.array(x.shape[2:])
    middle = (size - 1) / 2
    offset = middle - matrix @ middle + translation * size
    view = np.empty_like(x)
    for i, j in np.ndindex(x.shape[:2]):
        image = x[i, j]
        edge = np.concatenate([image[0], image[-1], image[:, 0], image[:, -1]])
        background = np.sort(edge)[(len(edge) - 1) // 2]
        view[i, j] = ndimage.affine_transform(
            image, matrix, offset, order=1, mode="grid-constant", cval=background
        )
    return view


def drawn_maps(augmentation, n_samples, size=(21, 21), seed=0):
    """The map of each image and its shift in pixels: views of images that hold their positions.

    What lies between pixels of a slope is exact.
    """
    down, right = torch.meshgrid(*(torch.arange(n) - n // 2 for n in size), indexing="ij")
    x = torch.stack([right, down]).to(torch.float64).expand(n_samples, 2, *size)
    view = view_of(augmentation, x, seed)
    row, column = (n // 2 for n in size)
    shift = view[:, :, row, column]
    matrix = torch.stack([view[:, :, row, column + 1], view[:, :, row + 1, column]], 2)
    return to_numpy(matrix - shift[:, :, None]), to_numpy(shift)


def assert_uniform(values, bound):
    assert np.abs(values).max() <= bound * (1 + 1e-9)
    assert_allclose(
        np.quantile(values, [0.01, 0.25, 0.5, 0.75, 0.99]) / bound,
        [-0.98, -0.5, 0, 0.5, 0.98],
        atol=0.1,
    )


# the affine map -----------------------------------------------------------------------------------


@pytest.mark.parametrize(("end", "sign"), ENDS)
@pytest.mark.parametrize(
    "bounds",
    [
        {"rotation": 20.0},
        {"scale": 0.3},
        {"shear": 25.0},
        {"translation": 0.13},
        {"rotation": 15.0, "scale": 0.15, "shear": 10.0, "translation": 0.1},
    ],
)
@pytest.mark.parametrize("size", [(9, 9), (12, 7)])
def test_affine_map_equals_scipy(device, end, sign, bounds, size):
    x = images(size=size, device=device)
    signed = {name: sign * bound for name, bound in bounds.items()}
    got = to_numpy(view_of(end(**{**STILL, **bounds}), x))
    assert_allclose(got, scipy_affine(to_numpy(x), **signed), atol=1e-12)
    assert np.abs(got - to_numpy(x)).max() > 0.1


@pytest.mark.parametrize(("end", "sign"), ENDS)
@pytest.mark.parametrize("quarters", [1, 2, 4])
def test_quarter_turns_are_exact(end, sign, quarters):
    x = images()
    view = view_of(end(**{**STILL, "rotation": 90.0 * quarters}), x)
    torch.testing.assert_close(view, torch.rot90(x, sign * quarters, (2, 3)), rtol=0, atol=1e-12)


def test_half_a_turn_of_an_image_that_is_no_square_is_exact():
    x = images(size=(6, 11))
    view = view_of(UpperEnd(**{**STILL, "rotation": 180.0}), x)
    torch.testing.assert_close(view, x.flip(2, 3), rtol=0, atol=1e-12)


@pytest.mark.parametrize(("end", "sign"), ENDS)
def test_translation_by_whole_pixels_is_exact(device, end, sign):
    x = with_frame(images(size=(8, 8), device=device), 0.25, width=2)
    view = view_of(end(**{**STILL, "translation": 0.25}), x)
    expected = x.roll((-2 * sign, -2 * sign), dims=(2, 3))  # only the frame comes round
    torch.testing.assert_close(view, expected, rtol=0, atol=1e-14)


def test_shear_of_half_a_right_angle_shifts_each_row_by_its_height():
    x = with_frame(images(size=(9, 9)), 0.0, width=4)
    x[:, :, 3:6, 4] = torch.tensor([0.2, 0.5, 0.8], dtype=x.dtype)
    view = view_of(UpperEnd(**{**STILL, "shear": 45.0}), x)
    expected = torch.zeros_like(x)
    for row, column, value in [(3, 5, 0.2), (4, 4, 0.5), (5, 3, 0.8)]:
        expected[:, :, row, column] = value
    torch.testing.assert_close(view, expected, rtol=0, atol=1e-12)


# the draws ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("size", [(21, 21), (31, 17)])
def test_affine_draws_are_uniform_within_their_bounds(size):
    bounds = {"rotation": 20.0, "scale": 0.3, "shear": 25.0, "translation": 0.1}
    matrix, shift = drawn_maps(ImageAugmentation(**bounds), 1000, size)
    angle = np.arctan2(matrix[:, 1, 0], matrix[:, 0, 0])
    wide = np.hypot(matrix[:, 0, 0], matrix[:, 1, 0])
    high = np.linalg.det(matrix) / wide
    sheared = (matrix[:, :, 0] * matrix[:, :, 1]).sum(1) / (wide * high)
    assert_uniform(np.degrees(angle), 20.0)
    assert_uniform(wide - 1, 0.3)
    assert_uniform(high - 1, 0.3)
    assert_uniform(np.degrees(np.arctan(sheared)), 25.0)
    assert_uniform(shift[:, 0], 0.1 * size[1])
    assert_uniform(shift[:, 1], 0.1 * size[0])
    draws = np.stack([angle, wide, high, sheared, *shift.T])
    assert np.abs(np.corrcoef(draws) - np.eye(6)).max() < 0.12  # independent of each other


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    rotation=st.floats(0, 720),
    scale=st.floats(0, 0.95),
    shear=st.floats(0, 75),
    translation=st.floats(0, 0.1),
)
def test_never_mirrors(seed, rotation, scale, shear, translation):
    augmentation = ImageAugmentation(
        rotation=rotation, scale=scale, shear=shear, translation=translation
    )
    matrix, _ = drawn_maps(augmentation, 8, (41, 41), seed)
    area = np.linalg.det(matrix)
    assert (area > 0).all()
    assert ((1 - scale) ** 2 * (1 - 1e-6) <= area).all()
    assert (area <= (1 + scale) ** 2 * (1 + 1e-6)).all()


def test_a_mirrored_map_would_be_seen():
    class Mirrored(ImageAugmentation):
        def __call__(self, x, generator):
            return super().__call__(x, generator).flip(3)

    assert (np.linalg.det(drawn_maps(Mirrored(), 8)[0]) < 0).all()


@pytest.mark.parametrize(("name", "bound"), [("brightness", 0.2), ("contrast", 0.6)])
def test_color_draws_are_uniform_within_their_bounds(name, bound):
    x = images(1, 1, (4, 4)).expand(1000, 1, 4, 4)
    view = view_of(ImageAugmentation(**STILL, **{name: bound}), x)
    if name == "brightness":
        drawn = (view - x).mean((1, 2, 3))
    else:
        drawn = view.std((1, 2, 3)) / x.std((1, 2, 3)) - 1
    assert_uniform(to_numpy(drawn), bound)


def test_blur_draws_are_uniform_from_none_to_the_bound():
    x = images(1, 1, (5, 5)).expand(1000, 1, 5, 5)
    smoothed = view_of(UpperEnd(**STILL, blur=1.0), x)
    view = view_of(ImageAugmentation(**STILL, blur=0.6), x)
    share = ((view - x) / (smoothed - x)).mean((1, 2, 3))
    assert share.min() >= 0
    assert_uniform(to_numpy(share) - 0.3, 0.3)


# colour -------------------------------------------------------------------------------------------


def test_blur_equals_scipy(device):
    x = images(device=device)
    kernel = np.outer([1, 2, 1], [1, 2, 1]) / 16
    smoothed = ndimage.convolve(to_numpy(x), kernel[None, None], mode="nearest")
    for blur in (0.4, 1.0):
        view = view_of(UpperEnd(**STILL, blur=blur), x)
        expected = (1 - blur) * to_numpy(x) + blur * smoothed
        assert_allclose(to_numpy(view), expected, atol=1e-14)


@pytest.mark.parametrize(("end", "sign"), ENDS)
def test_contrast_and_brightness_by_hand(end, sign):
    x = torch.tensor([[[[0.2, 0.4]], [[0.6, 0.8]]]], dtype=torch.float64)  # mean 0.5
    contrast = view_of(end(**STILL, contrast=0.5), x)
    brightness = view_of(end(**STILL, brightness=0.3), x)
    both = view_of(end(**STILL, contrast=0.5, brightness=0.3), x)
    torch.testing.assert_close(contrast, 0.5 + (1 + 0.5 * sign) * (x - 0.5))
    torch.testing.assert_close(brightness, x + 0.3 * sign)
    torch.testing.assert_close(both, contrast + 0.3 * sign)


def test_contrast_is_changed_after_the_smoothing():
    x = images()
    view = view_of(UpperEnd(**STILL, blur=1.0, contrast=0.5, brightness=0.1), x)
    smoothed = view_of(UpperEnd(**STILL, blur=1.0), x)
    expected = view_of(UpperEnd(**STILL, contrast=0.5, brightness=0.1), smoothed)
    torch.testing.assert_close(view, expected)


# what stays ---------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    size=st.tuples(st.integers(1, 12), st.integers(1, 12)),
    channels=st.integers(1, 4),
    rotation=st.floats(0, 360),
    shares=st.tuples(*[SHARES] * 5),
    shear=st.floats(0, 89),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_views_are_finite_with_shape_and_dtype_kept(
    seed, size, channels, rotation, shares, shear, dtype
):
    x = images(4, channels, size, seed=seed, dtype=dtype)
    names = ("scale", "translation", *ALL)
    bounds = dict(zip(names, shares, strict=True))
    view = view_of(ImageAugmentation(rotation=rotation, shear=shear, **bounds), x, seed)
    assert view.shape == x.shape
    assert view.dtype == dtype
    assert torch.isfinite(view).all()


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    scale=SHARES,
    translation=st.floats(0, 2),
    blur=SHARES,
    contrast=SHARES,
)
def test_views_stay_within_the_values_of_the_image(seed, scale, translation, blur, contrast):
    x = images(4, seed=seed)
    augmentation = ImageAugmentation(scale=scale, translation=translation, blur=blur)
    view = view_of(augmentation, x, seed)
    assert (view.amax((2, 3)) <= x.amax((2, 3)) + 1e-12).all()
    assert (view.amin((2, 3)) >= x.amin((2, 3)) - 1e-12).all()
    mean = view_of(augmentation.set_params(contrast=contrast), x, seed).mean((1, 2, 3))
    torch.testing.assert_close(mean, view.mean((1, 2, 3)))


@pytest.mark.parametrize("still", [STILL, {**STILL, "blur": 0.0, "contrast": 0, "brightness": 0}])
def test_zero_bounds_change_nothing(device, still):
    x = images(device=device)
    assert torch.equal(view_of(ImageAugmentation(**still), x), x)


@pytest.mark.parametrize("name", [*STILL, *ALL])
def test_tiny_bounds_change_nearly_nothing(name):
    x = images()
    view = view_of(ImageAugmentation(**{**STILL, name: 1e-9}), x)
    torch.testing.assert_close(view, x, rtol=0, atol=1e-7)
    assert not torch.equal(view, x)


@pytest.mark.parametrize("value", [0.0, 0.37, 1.0])
def test_constant_images_stay_as_they_are(device, value):
    x = torch.full((5, 3, 9, 9), value, device=device)
    view = view_of(ImageAugmentation(rotation=180.0, translation=1.0, contrast=0.5, blur=1.0), x)
    torch.testing.assert_close(view, x, rtol=0, atol=1e-6)


@pytest.mark.parametrize("background", [0.0, 1.0])
def test_background_goes_on_where_pixels_come_in(device, background):
    x = with_frame(images(20, 1, (12, 12), device=device), background)
    view = view_of(ImageAugmentation(**{**STILL, "translation": 0.3}), x)
    moved = (view - background).abs().sum((1, 2, 3)) - (x - background).abs().sum((1, 2, 3))
    assert (moved < 1e-9).all()  # nothing new, and what leaves is lost
    assert (view[:, 0, [0, 0, -1, -1], [0, -1, 0, -1]] == background).any(1).all()


def test_background_is_that_of_the_channel_and_of_the_image():
    background = torch.tensor([[0.0, 1.0], [0.5, 0.25]], dtype=torch.float64)
    x = torch.zeros(2, 2, 8, 8, dtype=torch.float64) + background[:, :, None, None]
    x[:, :, 3:5, 3:5] = 0.7
    view = view_of(UpperEnd(**{**STILL, "translation": 2.0}), x)
    torch.testing.assert_close(view, background[:, :, None, None].expand_as(x))


def test_background_does_not_hang_on_a_few_pixels_of_the_edge():
    x = torch.ones(1, 1, 8, 8)
    x[0, 0, 0, :7] = 0.0
    view = view_of(UpperEnd(**{**STILL, "translation": 2.0}), x)
    assert torch.equal(view, torch.ones_like(x))


# randomness ---------------------------------------------------------------------------------------


def test_same_seed_same_view(device):
    x, augmentation = images(device=device), ImageAugmentation(**ALL)
    assert torch.equal(view_of(augmentation, x, 3), view_of(augmentation, x, 3))
    assert not torch.equal(view_of(augmentation, x, 3), view_of(augmentation, x, 4))


@pytest.mark.parametrize("name", [*STILL, *ALL])
def test_draws_come_from_the_generator_alone(name):
    x, generator = images(), torch.Generator().manual_seed(0)
    augmentation = ImageAugmentation(**{**STILL, name: 0.4})
    with torch_state_unchanged():
        first, second = augmentation(x, generator), augmentation(x, generator)
    assert not torch.equal(first, second)


@pytest.mark.parametrize("name", [*STILL, *ALL])
def test_each_image_has_draws_of_its_own(name):
    x = images(1).expand(4, 2, 9, 9)
    view = view_of(ImageAugmentation(**{**STILL, name: 0.4}), x)
    assert len(torch.unique(view.flatten(1), dim=0)) == 4


def test_an_image_does_not_change_the_views_of_the_others():
    x, augmentation = images(5), ImageAugmentation(**ALL)
    changed = x.clone()
    changed[2] = 1 - 3 * x[2]
    same = (view_of(augmentation, x) == view_of(augmentation, changed)).all(3).all(2).all(1)
    assert same.tolist() == [True, True, False, True, True]


def test_all_channels_of_an_image_move_alike():
    x = images(4, 1).expand(4, 3, 9, 9)
    view = view_of(ImageAugmentation(**ALL), x)
    torch.testing.assert_close(view, view[:, :1].expand_as(view))


def test_does_not_change_its_input(device):
    x, augmentation = images(device=device), ImageAugmentation(**ALL)
    before = x.clone()
    view_of(augmentation, x)
    assert torch.equal(x, before)
    assert augmentation.get_params() == ImageAugmentation(**ALL).get_params()


# settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [clone, lambda estimator: pickle.loads(pickle.dumps(estimator))])
def test_copies_give_the_same_views(copy):
    augmentation, x = ImageAugmentation(rotation=40.0, scale=0.3, **ALL), images()
    copied = copy(augmentation)
    assert copied is not augmentation
    assert copied.get_params() == augmentation.get_params()
    assert torch.equal(view_of(copied, x), view_of(augmentation, x))
    assert not torch.equal(view_of(copied.set_params(rotation=41.0), x), view_of(augmentation, x))


@pytest.mark.parametrize("name", [*STILL, *ALL])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "0.1", None])
def test_bounds_that_are_no_positive_numbers_raise(name, value):
    augmentation = ImageAugmentation(**{name: value})
    with pytest.raises(ValueError, match=f"Expected '{name}' of ImageAugmentation .*got {value!r}"):
        augmentation.check_settings()


@pytest.mark.parametrize(
    ("name", "value", "limit"),
    [("scale", 1.0, "below 1"), ("shear", 90, "below 90"), ("blur", 1.01, "at most 1")],
)
def test_bounds_that_are_too_large_raise(name, value, limit):
    with pytest.raises(ValueError, match=f"'{name}' .*{name} {limit}.*, got {value!r}"):
        ImageAugmentation(**{name: value}).check_settings()


@pytest.mark.parametrize(
    "bounds",
    [{}, STILL, ALL, {"blur": 1}, {"scale": 0.99}, {"shear": 89.9}, {"rotation": 360}],
)
def test_bounds_that_make_sense_pass(bounds):
    ImageAugmentation(**bounds).check_settings()
