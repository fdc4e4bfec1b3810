import pickle

import numpy as np
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st
from sklearn import config_context
from sklearn.base import clone
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline
from sklearn.preprocessing import StandardScaler
from sklearn.utils import get_tags
from sklearn.utils.estimator_checks import (
    check_estimator_cloneable,
    check_estimator_repr,
    check_estimator_tags_renamed,
    check_get_params_invariance,
    check_no_attributes_set_in_init,
    check_parameters_default_constructible,
    check_set_params,
    check_valid_tag_types,
)

from sklearn_ckm.preprocessing import ImageFormatter, _image_formatter


@pytest.fixture
def rng():
    return np.random.default_rng(0)


def global_state():
    return pickle.dumps(np.random.get_state())  # noqa: NPY002


def triangle_resize(image, size):
    """Antialiased bilinear resize from its definition, one output pixel after the other."""

    def weights(n_in, n_out):
        scale = n_in / n_out
        support = max(1.0, scale)
        matrix = np.zeros((n_out, n_in))
        for i in range(n_out):
            center = (i + 0.5) * scale
            for j in range(n_in):
                matrix[i, j] = max(0.0, 1 - abs(j + 0.5 - center) / support)
            matrix[i] /= matrix[i].sum()
        return matrix

    return weights(image.shape[0], size[0]) @ image @ weights(image.shape[1], size[1]).T


@pytest.mark.parametrize(
    "size", [(4, 4), (5, 9), (16, 16), (31, 3), (1, 1), (8, 24), (5, 1), (30, 1), (1, 7)]
)
@pytest.mark.parametrize("image_size", [(12, 10), (9, 1), (1, 9)])
def test_resize_equals_its_definition(rng, size, image_size):
    images = rng.uniform(size=(2, *image_size))
    out = ImageFormatter((1, *size)).transform(images)
    for image, resized in zip(images, out[:, 0], strict=True):
        np.testing.assert_allclose(resized, triangle_resize(image, size), atol=2e-6)


def test_by_hand_halving_without_border():
    # Triangle of half width 2 around the middle of pixels 1 and 2: (1, 3, 3, 1) / 8 of the row.
    row = np.array([[[0.0, 0.0, 0.8, 0.0, 0.0, 0.0]]])
    out = ImageFormatter((1, 1, 3)).transform(row)
    np.testing.assert_allclose(out[0, 0, 0, 1], 0.8 * 3 / 8, atol=1e-6)


def test_same_size_is_not_interpolated(rng):
    images = rng.uniform(size=(3, 1, 7, 5)).astype(np.float32)
    out = ImageFormatter((1, 7, 5)).transform(images)
    np.testing.assert_array_equal(out, images)
    assert not np.shares_memory(out, images)


@pytest.mark.parametrize(
    "shape, image_format",
    [
        ((4, 9, 6), "auto"),
        ((4, 1, 9, 6), "auto"),
        ((4, 3, 9, 6), "auto"),
        ((4, 4, 9, 6), "auto"),
        ((4, 9, 6, 1), "auto"),
        ((4, 9, 6, 3), "auto"),
        ((4, 9, 6, 4), "auto"),
        ((4, 3, 9, 3), "channels_first"),
        ((4, 3, 9, 3), "channels_last"),
    ],
)
@pytest.mark.parametrize("n_channels", [1, 3])
def test_every_layout_gives_the_common_shape(rng, shape, image_format, n_channels):
    X = rng.uniform(size=shape)
    formatter = ImageFormatter((n_channels, 8, 5), image_format=image_format)
    out = formatter.transform(X)
    assert out.shape == (4, n_channels, 8, 5)
    assert out.dtype == np.float32
    assert out.min() >= 0 and out.max() <= 1
    # A tensor, a list of its images and the array are one input.
    np.testing.assert_array_equal(formatter.transform(torch.from_numpy(X)), out)
    np.testing.assert_allclose(formatter.transform(list(X)), out, atol=1e-7)
    flat = clone(formatter).set_params(flatten=True).transform(X)
    np.testing.assert_array_equal(flat, out.reshape(4, -1))


def test_channels_last_equals_channels_first(rng):
    X = rng.uniform(size=(5, 3, 9, 6))
    formatter = ImageFormatter((3, 4, 4))
    np.testing.assert_array_equal(
        formatter.transform(np.moveaxis(X, 1, -1)), formatter.transform(X)
    )


def test_image_format_decides_an_ambiguous_shape(rng):
    X = rng.uniform(size=(2, 3, 4, 3))
    first = ImageFormatter((3, 4, 3), image_format="channels_first").transform(X)
    last = ImageFormatter((3, 3, 4), image_format="channels_last").transform(X)
    np.testing.assert_array_equal(first, X.astype(np.float32))
    np.testing.assert_array_equal(last, np.moveaxis(X, -1, 1).astype(np.float32))


@pytest.mark.parametrize(
    "values, expected",
    [
        (np.array([0, 51, 255], np.uint8), [0, 0.2, 1]),
        (np.array([0, 13107, 65535], np.uint16), [0, 0.2, 1]),
        (np.array([0, 13107, 65535], ">u2"), [0, 0.2, 1]),
        (np.array([False, True, True]), [0, 1, 1]),
        (np.array([0, 0.2, 1], np.float64), [0, 0.2, 1]),
        (np.array([0, 0.25, 1], np.float16), [0, 0.25, 1]),
        (torch.tensor([0, 51, 255], dtype=torch.uint8), [0, 0.2, 1]),
        (torch.tensor([0, 13107, 65535], dtype=torch.uint16), [0, 0.2, 1]),
        (torch.tensor([0, 0.25, 1], dtype=torch.bfloat16), [0, 0.25, 1]),
        (torch.tensor([0, 0.25, 1], requires_grad=True), [0, 0.25, 1]),
        (torch.tensor([False, True, True]), [0, 1, 1]),
        (np.array([-1e-7, 0.5, 1 + 1e-7]), [0, 0.5, 1]),
    ],
    ids=str,
)
def test_dtypes_by_hand(values, expected):
    out = ImageFormatter((1, 1, 3)).transform(values.reshape(1, 1, 3))
    np.testing.assert_allclose(out[0, 0, 0], expected, atol=1e-7)
    assert out.min() >= 0 and out.max() <= 1


@pytest.mark.parametrize("dtype", [np.float32, np.int64, np.int8, np.uint8, np.uint16])
def test_value_range_by_hand(dtype):
    values = np.array([[[0, 4, 16]]], dtype=dtype)
    out = ImageFormatter((1, 1, 3), value_range=(0, 16)).transform(values)
    np.testing.assert_allclose(out[0, 0, 0], [0, 0.25, 1], atol=1e-7)


def test_value_range_may_be_negative_and_does_not_touch_bool():
    formatter = ImageFormatter((1, 1, 2), value_range=(-1, 1))
    np.testing.assert_array_equal(formatter.transform([[[-1.0, 0.0]]])[0, 0, 0], [0, 0.5])
    np.testing.assert_array_equal(formatter.transform([[[False, True]]])[0, 0, 0], [0, 1])


def test_luminance_by_hand_and_alpha_is_dropped():
    red_green_blue = np.eye(3).reshape(1, 3, 1, 3)
    expected = [0.299, 0.587, 0.114]
    formatter = ImageFormatter((1, 1, 3), image_format="channels_first")
    np.testing.assert_allclose(formatter.transform(red_green_blue)[0, 0, 0], expected, atol=1e-7)
    with_alpha = np.concatenate([red_green_blue, np.full((1, 1, 1, 3), 0.5)], axis=1)
    np.testing.assert_allclose(formatter.transform(with_alpha)[0, 0, 0], expected, atol=1e-7)
    colour = formatter.set_params(image_shape=(3, 1, 3)).transform(with_alpha)
    np.testing.assert_array_equal(colour, red_green_blue)


def test_grey_to_colour_and_back_is_the_same_grey(rng):
    grey = rng.uniform(size=(4, 1, 6, 6)).astype(np.float32)
    colour = ImageFormatter((3, 6, 6)).transform(grey)
    np.testing.assert_array_equal(colour, np.repeat(grey, 3, axis=1))
    np.testing.assert_allclose(ImageFormatter((1, 6, 6)).transform(colour), grey, atol=1e-6)


@settings(deadline=None, max_examples=40)
@given(
    st.integers(0, 255),
    st.tuples(st.sampled_from([1, 3, 4]), st.integers(5, 40), st.integers(5, 40)),
    st.tuples(st.sampled_from([1, 3]), st.integers(1, 40), st.integers(1, 40)),
)
def test_constant_images_stay_constant(value, shape, image_shape):
    X = np.full((2, *shape), value, dtype=np.uint8)
    out = ImageFormatter(image_shape).transform(X)
    np.testing.assert_allclose(out, np.full((2, *image_shape), value / 255), atol=1e-6)
    assert out.max() <= 1


@settings(deadline=None, max_examples=40)
@given(st.integers(0, 10**6), st.tuples(st.integers(1, 30), st.integers(1, 30)))
def test_stays_within_the_values_of_the_image_and_commutes_with_flips(seed, size):
    X = np.random.default_rng(seed).uniform(0.2, 0.7, size=(2, 11, 8))
    formatter = ImageFormatter((1, *size))
    out = formatter.transform(X)
    assert out.min() >= X.min() - 1e-6 and out.max() <= X.max() + 1e-6
    np.testing.assert_allclose(
        formatter.transform(X[:, ::-1, ::-1]), out[..., ::-1, ::-1], atol=1e-6
    )


def test_upscaled_then_downscaled_smooth_image_comes_back():
    rows, columns = np.meshgrid(np.linspace(0, 1, 16), np.linspace(0, 1, 16), indexing="ij")
    X = ((rows + columns) / 2)[np.newaxis]
    large = ImageFormatter((1, 64, 64)).transform(X)
    assert large.shape == (1, 1, 64, 64)
    small = ImageFormatter((1, 16, 16)).transform(large)
    np.testing.assert_allclose(small[0, 0, 2:-2, 2:-2], X[0, 2:-2, 2:-2], atol=2e-3)


def test_list_of_unlike_images_equals_each_on_its_own(rng):
    images = [
        rng.integers(256, size=(28, 28), dtype=np.uint8),
        rng.uniform(size=(3, 40, 30)),
        torch.from_numpy(rng.uniform(size=(16, 16, 4))),
        rng.integers(2, size=(1, 10, 12)).astype(bool),
        [[0.0, 0.5], [1.0, 0.25]],
    ]
    formatter = ImageFormatter((3, 20, 20))
    out = formatter.transform(images)
    assert out.shape == (5, 3, 20, 20)
    for image, expected in zip(images, out, strict=True):
        np.testing.assert_array_equal(formatter.transform([image])[0], expected)
    np.testing.assert_array_equal(formatter.transform(tuple(images)), out)


@pytest.mark.parametrize("n_values", [1, 500, 1300])
def test_blocks_do_not_change_the_result(rng, monkeypatch, n_values):
    X = rng.uniform(size=(7, 3, 12, 12))
    formatter = ImageFormatter((1, 9, 9))
    expected = formatter.transform(X)
    monkeypatch.setattr(_image_formatter, "_MAX_BLOCK_VALUES", n_values)
    np.testing.assert_allclose(formatter.transform(X), expected, atol=1e-7)


def test_no_side_effects(rng):
    X = rng.uniform(size=(3, 8, 8)).astype(np.float32)
    X.flags.writeable = False
    before, torch_before = global_state(), torch.get_rng_state()
    image_shape = [1, 4, 4]
    formatter = ImageFormatter(image_shape)
    out = formatter.fit_transform(X)
    assert out.flags.writeable and not np.shares_memory(out, X)
    assert formatter.get_params()["image_shape"] is image_shape and image_shape == [1, 4, 4]
    assert global_state() == before
    assert torch.equal(torch.get_rng_state(), torch_before)


def test_reads_a_memory_map(rng, tmp_path):
    X = rng.integers(256, size=(5, 16, 16), dtype=np.uint8)
    np.save(tmp_path / "X.npy", X)
    out = ImageFormatter().transform(np.load(tmp_path / "X.npy", mmap_mode="r"))
    np.testing.assert_array_equal(out, ImageFormatter().transform(X))


@pytest.mark.parametrize(
    "check",
    [
        check_estimator_cloneable,
        check_estimator_repr,
        check_estimator_tags_renamed,
        check_get_params_invariance,
        check_no_attributes_set_in_init,
        check_parameters_default_constructible,
        check_set_params,
        check_valid_tag_types,
    ],
    ids=lambda check: check.__name__,
)
def test_estimator_contract_that_needs_no_table(check):
    # scikit-learn's other checks pass tables, which are no images.
    check("ImageFormatter", ImageFormatter())


def test_tags():
    tags = get_tags(ImageFormatter())
    assert not tags.requires_fit
    assert tags.input_tags.three_d_array and not tags.input_tags.two_d_array


def test_clone_pickle_and_pipeline(rng):
    X = rng.integers(256, size=(12, 10, 10), dtype=np.uint8)
    formatter = ImageFormatter((1, 6, 6), flatten=True)
    expected = formatter.transform(X)
    assert formatter.fit(X) is formatter
    for copy in (clone(formatter), pickle.loads(pickle.dumps(formatter))):
        assert copy.get_params() == formatter.get_params()
        np.testing.assert_array_equal(copy.transform(X), expected)
    pipeline = make_pipeline(formatter, StandardScaler(), PCA(2)).fit(X)
    other_size = rng.uniform(size=(4, 20, 30))
    assert pipeline.transform(other_size).shape == (4, 2)
    # A pipeline of nothing fitted transforms as well.
    np.testing.assert_array_equal(
        make_pipeline(ImageFormatter((1, 6, 6))).transform(X)[:, 0, 0, 0], expected[:, 0]
    )


def test_feature_names_and_set_output(rng):
    pandas = pytest.importorskip("pandas", reason="set_output is tested with pandas")
    X = rng.uniform(size=(3, 8, 8))
    formatter = ImageFormatter((3, 2, 2), flatten=True)
    names = formatter.get_feature_names_out()
    assert names[:5].tolist() == [
        f"pixel_{i}" for i in ("0_0_0", "0_0_1", "0_1_0", "0_1_1", "1_0_0")
    ]
    assert len(names) == 12 and names[-1] == "pixel_2_1_1"
    frame = clone(formatter).set_output(transform="pandas").transform(X)
    assert isinstance(frame, pandas.DataFrame) and list(frame.columns) == list(names)
    np.testing.assert_array_equal(frame, formatter.transform(X))


def test_images_have_no_feature_names_and_stay_arrays(rng):
    X = rng.uniform(size=(3, 8, 8))
    formatter = ImageFormatter((1, 2, 2))
    with pytest.raises(AttributeError, match="has no attribute 'get_feature_names_out'"):
        formatter.get_feature_names_out()
    with config_context(transform_output="pandas"):
        assert formatter.fit_transform(X).shape == (3, 1, 2, 2)


@pytest.mark.parametrize(
    "params, message",
    [
        ({"image_shape": (28, 28)}, r"Expected image_shape as .*, got \(28, 28\); set"),
        ({"image_shape": (2, 28, 28)}, r"1 or 3 channels .* got \(2, 28, 28\)"),
        ({"image_shape": (1, 0, 28)}, r"sizes of at least 1, got \(1, 0, 28\)"),
        ({"image_shape": (1, 2.5, 28)}, r"sizes of at least 1, got \(1, 2.5, 28\)"),
        ({"image_shape": 28}, "Expected image_shape as .*, got 28; set"),
        ({"image_format": "nchw"}, "Expected image_format 'auto', .* got 'nchw'; set"),
        ({"flatten": "yes"}, "Expected flatten True or False, got 'yes'; set"),
        ({"value_range": (1, 0)}, r"pair \(low, high\) .* got \(1, 0\); set"),
        ({"value_range": (0, np.inf)}, r"pair \(low, high\) of finite numbers .* got \(0, inf\)"),
        ({"value_range": 255}, r"pair \(low, high\) .* got 255; set"),
        ({"value_range": ("a", "b")}, r"pair \(low, high\) .* got \('a', 'b'\)"),
    ],
)
def test_invalid_parameters_raise_in_fit_and_transform(params, message):
    formatter = ImageFormatter(**params)
    with pytest.raises(ValueError, match=message):
        formatter.fit()
    with pytest.raises(ValueError, match=message):
        formatter.transform(np.zeros((2, 8, 8)))


NAN_IMAGES = np.zeros((4, 8, 8))
NAN_IMAGES[2, 1, 1] = np.nan


@pytest.mark.parametrize(
    "X, params, error, message",
    [
        (np.zeros((2, 64)), {}, ValueError, r"got 2 dimensions, shape \(2, 64\); reshape"),
        (np.zeros((2, 1, 1, 8, 8)), {}, ValueError, "got 5 dimensions"),
        (torch.zeros(5), {}, ValueError, r"got 1 dimensions, shape \(5,\)"),
        ([np.zeros((8, 8)), np.zeros(8)], {}, ValueError, r"got 1 dimensions.* in X\[1\]"),
        ([np.zeros((2, 1, 8, 8))], {}, ValueError, "got 4 dimensions.* pass an array instead"),
        (np.zeros((0, 8, 8)), {}, ValueError, "at least one image in X, got none"),
        ([], {}, ValueError, "at least one image in X, got none"),
        (np.zeros((2, 0, 8)), {}, ValueError, r"at least one pixel, got shape \(1, 0, 8\) in X;"),
        (np.zeros((2, 3, 8, 3)), {}, ValueError, r"both ends of \(3, 8, 3\) in X; set image_form"),
        (np.zeros((2, 8, 8, 8)), {}, ValueError, r"neither end of \(8, 8, 8\) in X; set image_for"),
        ([np.zeros((8, 8)), np.zeros((3, 8, 4))], {}, ValueError, r"both ends .* in X\[1\]"),
        (
            np.zeros((2, 8, 8, 3)),
            {"image_format": "channels_first"},
            ValueError,
            "Expected 1, 3 or 4 channels, got 8 in X",
        ),
        (NAN_IMAGES, {}, ValueError, r"got NaN or infinity in X\[2\]"),
        (np.full((2, 8, 8), np.inf), {}, ValueError, r"got NaN or infinity in X\[0\]"),
        (list(NAN_IMAGES), {}, ValueError, r"got NaN or infinity in X\[2\]"),
        (
            np.stack([np.ones((8, 8)), np.full((8, 8), 255.0)]),
            {},
            ValueError,
            r"values in \[0, 1\], got values from 255 to 255 in X\[1\]; rescale the images, or set",
        ),
        (np.full((1, 8, 8), -0.1), {}, ValueError, "got values from -0.1 to -0.1"),
        (np.zeros((12, 9, 3)), {}, ValueError, r"\(12, 9, 3\), which seems to be a single colour"),
        (np.zeros((8, 8, 4), np.uint8), {}, ValueError, "single colour image: put it into a list"),
        (
            np.full((1, 8, 8), 17, np.uint8),
            {"value_range": (0, 16)},
            ValueError,
            r"values in \[0, 16\], got values from 17 to 17",
        ),
        (np.zeros((2, 8, 8), int), {}, ValueError, r"got int64 from X\[0\] on.* set value_range"),
        (np.zeros((2, 8, 8), complex), {}, TypeError, "Expected X of .* got dtype .*complex128"),
        (np.full((2, 8, 8), "a"), {}, TypeError, "Expected X of bool, integer or real values"),
        ([np.full((8, 8), None)], {}, TypeError, r"Expected X\[0\] of .* got dtype .*'O'"),
    ],
)
def test_invalid_images_raise(X, params, error, message):
    with pytest.raises(error, match=message):
        ImageFormatter(**params).transform(X)


@pytest.mark.parametrize("value_range", [(0, 255), (0, 1e-3)])
def test_tolerance_is_relative_to_the_range(value_range):
    low, high = value_range
    formatter = ImageFormatter((1, 1, 2), value_range=value_range)
    inside = np.array([[[low - 5e-7 * high, high + 5e-7 * high]]])
    np.testing.assert_array_equal(formatter.transform(inside)[0, 0, 0], [0, 1])
    with pytest.raises(ValueError, match="Expected values in"):
        formatter.transform(np.array([[[low, high * (1 + 5e-6)]]]))
