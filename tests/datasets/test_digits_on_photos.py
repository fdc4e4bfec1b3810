import pickle

import numpy as np
import pytest
from sklearn.datasets import load_digits
from sklearn.linear_model import LogisticRegression
from sklearn.neighbors import KNeighborsClassifier

from sklearn_ckm.datasets import _digits_on_photos, load_digits_on_photos

pytest.importorskip("PIL", reason="the photos are read by pillow")


def global_state():
    return pickle.dumps(np.random.get_state())  # noqa: NPY002


def plain_digits(classes):
    digits = load_digits()
    rows = np.isin(digits.target, classes)
    return digits.images[rows] / 16, digits.target[rows]


@pytest.mark.parametrize("color, n_channels", [(False, 1), (True, 3)])
def test_shapes_dtypes_and_range(color, n_channels):
    data = load_digits_on_photos(color=color)
    assert data.X_src.shape == (901, n_channels, 8, 8)
    assert data.X_tgt.shape == (896, n_channels, 8, 8)
    for X, y in [(data.X_src, data.y_src), (data.X_tgt, data.y_tgt)]:
        assert X.dtype == np.float32 and y.dtype == np.int64
        assert y.shape == (len(X),)
        assert X.flags["C_CONTIGUOUS"]
        assert X.min() >= 0 and X.max() <= 1
    assert set(data.y_src) == {0, 1, 2, 3, 4} and set(data.y_tgt) == {5, 6, 7, 8, 9}
    assert "load_sample_images" in data.DESCR


@pytest.mark.parametrize("color", [False, True])
def test_target_is_the_plain_digits_in_their_order(color):
    images, y = plain_digits([5, 6, 7, 8, 9])
    data = load_digits_on_photos(color=color)
    np.testing.assert_array_equal(data.y_tgt, y)
    for channel in np.moveaxis(data.X_tgt, 1, 0):
        np.testing.assert_array_equal(channel, images.astype(np.float32))


def test_source_without_ink_is_the_patch_and_full_ink_inverts_it():
    # |p - 0| = p is out of middle grey, so that |p - 1| = 1 - p is on its other side.
    images, y = plain_digits([0, 1, 2, 3, 4])
    data = load_digits_on_photos()
    np.testing.assert_array_equal(data.y_src, y)
    source = data.X_src[:, 0]
    is_bright = np.array(
        [x[image == 0].mean() > 0.5 for x, image in zip(source, images, strict=True)]
    )
    assert 0.2 < is_bright.mean() < 0.8
    for is_side, sign in [(is_bright, 1), (~is_bright, -1)]:
        paper, ink = source[is_side][images[is_side] == 0], source[is_side][images[is_side] == 1]
        assert np.all(sign * (paper - 0.5) >= 0.09) and np.all(sign * (ink - 0.5) <= -0.09)


def test_patches_have_texture_and_colour():
    images, _ = plain_digits([0, 1, 2, 3, 4])
    data = load_digits_on_photos(color=True)
    is_paper = images == 0
    spreads = [x[0][paper].std() for x, paper in zip(data.X_src, is_paper, strict=True)]
    assert np.median(spreads) > 0.01
    assert np.ptp(data.X_src, axis=1).mean() > 0.03


def test_digits_stay_learnable_and_the_domains_differ():
    data = load_digits_on_photos()
    X_src, y_src = data.X_src.reshape(901, -1), data.y_src
    images, _ = plain_digits([0, 1, 2, 3, 4])
    plain = images.reshape(901, -1)
    # A classifier of the same digits without photos, tested on other rows over photos.
    shifted = LogisticRegression(max_iter=500).fit(plain[::2], y_src[::2])
    assert shifted.score(plain[1::2], y_src[1::2]) > 0.95
    assert shifted.score(X_src[1::2], y_src[1::2]) < 0.75
    learned = KNeighborsClassifier(1).fit(X_src[::2], y_src[::2])
    assert learned.score(X_src[1::2], y_src[1::2]) > 0.85


def test_deterministic_in_the_random_state():
    data, same, other, instance = (
        load_digits_on_photos(random_state=random_state)
        for random_state in (0, 0, 1, np.random.RandomState(0))
    )
    np.testing.assert_array_equal(data.X_src, same.X_src)
    np.testing.assert_array_equal(data.X_src, instance.X_src)
    assert not np.array_equal(data.X_src, other.X_src)
    np.testing.assert_array_equal(data.X_tgt, other.X_tgt)


def test_no_random_state_draws_anew_and_leaves_the_global_state():
    before = global_state()
    first, second = (load_digits_on_photos(random_state=None).X_src for _ in range(2))
    assert not np.array_equal(first, second)
    assert global_state() == before


def test_classes_are_chosen_and_their_order_does_not_matter():
    data = load_digits_on_photos(source_classes=[9, 3], target_classes=np.array([0]))
    same = load_digits_on_photos(source_classes=(3, 9), target_classes=(0,))
    assert set(data.y_src) == {3, 9} and set(data.y_tgt) == {0}
    np.testing.assert_array_equal(data.X_src, same.X_src)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"source_classes": ()}, r"Expected source_classes as different digits .* got \(\)"),
        ({"source_classes": (0, 10)}, r"digits from 0 to 9, at least one, got \(0, 10\)"),
        ({"target_classes": (7, 7)}, r"Expected target_classes as different .* got \(7, 7\)"),
        ({"target_classes": "56"}, "Expected target_classes as different digits .* got '56'"),
        ({"target_classes": (4, 5)}, r"without a common digit, got \[4\] in both"),
    ],
)
def test_invalid_classes_raise(params, message):
    with pytest.raises(ValueError, match=message):
        load_digits_on_photos(**params)


def test_dark_patches_become_darker_and_bright_ones_brighter():
    patches = np.array([0.2, 0.8])[:, None, None, None] * np.ones((2, 8, 8, 1))
    away = _digits_on_photos._away_from_grey(patches)
    np.testing.assert_allclose(away[:, 0, 0, 0], [0.08, 0.92])
