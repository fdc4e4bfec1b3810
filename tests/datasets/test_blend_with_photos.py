import pickle
import tracemalloc

import numpy as np
import pytest
from sklearn.datasets import load_sample_images

from sklearn_ckm.datasets import _blend_with_photos, blend_with_photos

pytest.importorskip("PIL", reason="the photos are read by pillow")


@pytest.fixture
def X():
    return np.random.default_rng(0).integers(256, size=(20, 1, 28, 28), dtype=np.uint8)


def global_state():
    return pickle.dumps(np.random.get_state())  # noqa: NPY002


@pytest.mark.parametrize("color, n_channels", [(True, 3), (False, 1)])
@pytest.mark.parametrize("dtype", [np.uint8, np.float16, np.float64])
def test_shape_dtype_and_range(X, color, n_channels, dtype):
    X = X if dtype == np.uint8 else (X / 255).astype(dtype)
    before = X.copy()
    X_blended = blend_with_photos(X, color=color)
    assert X_blended.shape == (20, n_channels, 28, 28)
    assert X_blended.dtype == np.float32 and X_blended.flags["C_CONTIGUOUS"]
    assert X_blended.min() >= 0 and X_blended.max() <= 1
    np.testing.assert_array_equal(X, before)


def test_images_may_be_given_without_channel_in_other_sizes_and_as_floats(X):
    X_blended = blend_with_photos(X)
    np.testing.assert_array_equal(blend_with_photos(X[:, 0]), X_blended)
    np.testing.assert_array_equal(blend_with_photos(X / 255), X_blended)
    np.testing.assert_array_equal(blend_with_photos((X / 255).tolist()), X_blended)
    assert blend_with_photos(X[:, :, :5, :9]).shape == (20, 3, 5, 9)
    assert blend_with_photos(X[:0]).shape == (0, 3, 28, 28)
    assert blend_with_photos(np.zeros((1, 427, 640))).shape == (1, 3, 427, 640)


@pytest.mark.parametrize("color", [True, False])
def test_blend_is_the_difference_of_patch_and_digit(X, color):
    # Without ink the patches show themselves, as the draws do not depend on the images.
    patches = blend_with_photos(np.zeros_like(X), color=color)
    np.testing.assert_allclose(
        blend_with_photos(X, color=color), np.abs(patches - X / 255), atol=1e-6
    )
    np.testing.assert_allclose(
        blend_with_photos(np.ones(X.shape), color=color), 1 - patches, atol=1e-6
    )


def test_patches_are_crops_of_both_photos_at_full_contrast():
    patches = blend_with_photos(np.zeros((6, 28, 28)))
    photos = [np.moveaxis(photo, -1, 0) for photo in load_sample_images().images]
    found = set()
    for patch in np.rint(255 * patches).astype(np.uint8):
        for number, photo in enumerate(photos):
            windows = np.lib.stride_tricks.sliding_window_view(photo, (28, 28), axis=(1, 2))
            corners = np.argwhere((windows[..., 0, 0] == patch[:, :1, 0, None]).all(axis=0))
            if any(np.array_equal(windows[:, top, left], patch) for top, left in corners):
                found.add(number)
                break
        else:
            pytest.fail("a patch is of no photo")
    assert found == {0, 1}


def test_grey_patches_are_the_luminance_of_the_coloured_ones():
    X = np.zeros((5, 28, 28))
    red, green, blue = np.moveaxis(blend_with_photos(X), 1, 0)
    grey = blend_with_photos(X, color=False)[:, 0]
    np.testing.assert_allclose(grey, 0.299 * red + 0.587 * green + 0.114 * blue, atol=1e-6)
    assert not np.allclose(red, blue, atol=0.05)


def test_deterministic_in_the_random_state(X):
    first, same, other, instance = (
        blend_with_photos(X, random_state=random_state)
        for random_state in (0, 0, 1, np.random.RandomState(0))
    )
    np.testing.assert_array_equal(first, same)
    np.testing.assert_array_equal(first, instance)
    assert not np.array_equal(first, other)
    np.testing.assert_array_equal(first[:7], blend_with_photos(X[:7]))


@pytest.mark.parametrize("random_state", [0, None])
def test_global_state_is_left_alone(X, random_state):
    before = global_state()
    first, second = (blend_with_photos(X, random_state=random_state) for _ in range(2))
    assert np.array_equal(first, second) == (random_state == 0)
    assert global_state() == before


def test_memory_is_that_of_the_result():
    X = np.zeros((2000, 28, 28), dtype=np.uint8)
    photos = sum(photo.nbytes for photo in load_sample_images().images)
    tracemalloc.start()
    try:
        X_blended = blend_with_photos(X)
        peak = tracemalloc.get_traced_memory()[1]
    finally:
        tracemalloc.stop()
    assert peak < X_blended.nbytes + 3 * photos


@pytest.mark.parametrize(
    "X, message",
    [
        (np.zeros((5, 784)), r"grey images of shape .* got shape \(5, 784\); reshape the rows"),
        (np.zeros((5, 3, 28, 28)), r"Expected X as grey images .* got shape \(5, 3, 28, 28\)"),
        (np.zeros((5, 28, 28, 1)), r"Expected X as grey images .* got shape \(5, 28, 28, 1\)"),
        (np.zeros((5, 0, 28)), r"Expected X as grey images .* got shape \(5, 0, 28\)"),
        (np.zeros((1, 428, 28)), r"at most \(427, 640\) pixels, .* got \(428, 28\); pass smaller"),
        (np.zeros((1, 2, 2), int), "Expected X as uint8 or as floats from 0 to 1, got int64"),
        (np.zeros((1, 2, 2), bool), "Expected X as uint8 or as floats from 0 to 1, got bool"),
        (np.full((1, 2, 2), 255.0), "Expected X as floats from 0 to 1, got 255 to 255; divide"),
        (np.full((1, 2, 2), -0.5), "Expected X as floats from 0 to 1, got -0.5 to -0.5; divide"),
        (np.full((1, 2, 2), np.nan), "Expected X as floats from 0 to 1, got nan to nan; divide"),
    ],
)
def test_wrong_images_raise(X, message):
    with pytest.raises(ValueError, match=message):
        blend_with_photos(X)


def test_photos_are_read_once(X, monkeypatch):
    calls = []

    def load_and_count():
        calls.append(1)
        return load_sample_images()

    monkeypatch.setattr(_blend_with_photos, "load_sample_images", load_and_count)
    blend_with_photos(X)
    assert len(calls) == 1
