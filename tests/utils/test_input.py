import re
import warnings

import numpy as np
import pandas as pd
import polars as pl
import pytest
import torch
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_ckm.utils._input import InputScaler, as_rows, check_image_shape, check_layout

RNG = np.random.default_rng(0)


def fit_table(*parts):
    return InputScaler((parts[0].shape[1],)).fit(list(parts), ["the target", "the source"])


def scale_table(*parts):
    """Scaled rows of all parts, float64."""
    scaler = fit_table(*parts)
    return torch.cat([scaler.to_tensor(part) for part in parts]).double().numpy()


def image_scaler(*parts, shape=(1, 2, 3)):
    return InputScaler(shape).fit(list(parts), ["the target", "the source"])


def random_images(low, high, n_samples=5, dtype=np.float32):
    """Flattened 1x2x3 images that reach both ends of their range."""
    X = RNG.uniform(low, high, size=(n_samples, 6))
    X[0, 0], X[0, 1] = low, high
    return X.astype(dtype)


# tables -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_of_one_order_share_their_scale(dtype):
    X = (RNG.normal(size=(200, 3)) * [1, 2, 3] + [4, -3, 0]).astype(dtype)
    std = X.astype(np.float64).std(0)
    expected = (X - X.mean(0, dtype=np.float64)) / np.sqrt(np.mean(std**2))
    np.testing.assert_allclose(scale_table(X), expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_features_of_different_units_have_their_own_scales(dtype):
    X = (RNG.normal(size=(200, 3)) * [1, 2, 1000] + [4, -3, 70]).astype(dtype)
    scaled = scale_table(X)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-6)
    np.testing.assert_allclose(scaled.std(0), 1, rtol=1e-5)


@pytest.mark.parametrize(("ratio", "is_common"), [(9.9, True), (10.1, False)])
def test_one_order_means_ten_times_the_median(ratio, is_common):
    X = np.array([[1.0], [-1.0]]) * [1.0, 1.0, ratio]
    std = scale_table(X).std(0)
    assert (std[2] > 1.1 * std[0]) == is_common


def test_features_of_one_order_are_cut_down_to_twice_the_median():
    X = RNG.normal(size=(500, 5))
    X = (X - X.mean(0)) / X.std(0) * [0.5, 1, 1, 1.5, 8]
    expected = np.array([0.5, 1, 1, 1.5, 2])
    expected = expected / np.sqrt(np.mean(expected**2))
    np.testing.assert_allclose(scale_table(X).std(0), expected, rtol=1e-5)
    more = scale_table(X * [1, 1, 1, 1, 1.2])  # how far above does not matter
    np.testing.assert_allclose(more, scale_table(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("factor", [19.0, 21.0, 1e30])
@pytest.mark.parametrize("is_source", [True, False])
def test_tables_in_different_units_are_warned_of(factor, is_source):
    X = RNG.normal(size=(300, 4))
    X = (X - X.mean(0)) / X.std(0)
    parts = (X, factor * X) if is_source else (factor * X, X)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit_table(*parts)
    names = ["source", "target"] if is_source else ["target", "source"]
    number = re.escape(f"{factor:.3g}")
    expected = f"The features of the {names[0]} spread {number} times .* the {names[1]}, and"
    assert len(caught) == (factor > 20)
    for warning in caught:
        assert re.match(expected, str(warning.message))
        assert warning.filename == __file__


def test_units_of_a_constant_table_or_of_a_few_rows_are_unknown():
    X = RNG.normal(size=(30, 4))
    fit_table(X, np.ones((30, 4)))
    fit_table(X, np.full((30, 4), 0.1) / 3)  # whose mean is rounded
    fit_table(X, 100 * X[:9])
    with pytest.warns(UserWarning, match="features of the source spread"):
        fit_table(X, 100 * X[:10])


@pytest.mark.parametrize(
    ("shape", "is_suspect"),
    [((28, 28, 1), True), ((8, 9, 3), True), ((3, 28, 28), False), ((28, 4, 3), False)],
)
def test_channels_that_come_last_are_warned_of(shape, is_suspect):
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        check_layout(shape, "X_tgt")
    assert [str(w.message).split(".transpose")[0][-5:] for w in caught] == ["X_tgt"] * is_suspect


def test_scale_is_learned_from_both_domains():
    target, source = RNG.normal(size=(50, 2)), RNG.normal(5, 3, size=(80, 2))
    scaled = scale_table(target, source)
    np.testing.assert_allclose(scaled.mean(0), 0, atol=1e-6)
    assert np.square(scaled).mean() == pytest.approx(1, rel=1e-5)
    alone = fit_table(target).to_tensor(target).double().numpy()
    assert np.abs(scaled[:50] - alone).max() > 0.1


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("constant", [0.0, 0.1, -1e6])
def test_constant_columns_become_zero(dtype, constant):
    X = RNG.normal(size=(30, 3)).astype(dtype)
    X[:, 1] = constant
    scaled = scale_table(X)
    np.testing.assert_allclose(scaled[:, 1], 0, atol=1e-12)
    assert (scaled[:, [0, 2]].std(0) > 0.5).all()


def test_constant_data_become_zero():
    assert (scale_table(np.full((4, 2), 7.0)) == 0).all()
    assert (scale_table(np.zeros((4, 2), dtype=np.float32)) == 0).all()


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize("scale", [1e-30, 1e30])
def test_extreme_units_do_not_matter(dtype, scale):
    X = RNG.normal(size=(60, 3)) + 2
    np.testing.assert_allclose(
        scale_table((scale * X).astype(dtype)), scale_table(X), rtol=1e-4, atol=1e-5
    )


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_extreme_units_side_by_side(dtype):
    X = RNG.normal(size=(60, 3))
    scaled = scale_table((X * [1e-30, 1.0, 1e30]).astype(dtype))
    np.testing.assert_allclose(scaled, (X - X.mean(0)) / X.std(0), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("offset", [1e3, -1e6])
def test_large_offsets_are_removed(offset):
    X = RNG.normal(size=(60, 3))
    np.testing.assert_allclose(scale_table(X + offset), scale_table(X), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_single_row_becomes_zero(dtype):
    assert (scale_table(np.array([[3.0, -1.0]], dtype=dtype)) == 0).all()


def test_bytes_in_a_table_are_numbers():
    X = RNG.integers(0, 256, size=(50, 3), dtype=np.uint8)
    np.testing.assert_array_equal(scale_table(X), scale_table(X.astype(np.float64)))


def test_far_outliers_are_bounded():
    scaler = fit_table(RNG.normal(size=(60, 2)))
    with np.errstate(over="raise"):
        tensor = scaler.to_tensor(np.array([[1e300, -1e300]]))
    assert tensor.tolist() == [[1e6, -1e6]]


@settings(max_examples=30, deadline=None)
@given(
    scale=st.floats(1e-6, 1e6),
    shift=st.floats(-100, 100),
    n_features=st.integers(1, 5),
    seed=st.integers(0, 1000),
)
def test_units_and_origin_of_the_whole_table_do_not_matter(scale, shift, n_features, seed):
    X = np.random.default_rng(seed).normal(size=(20, n_features))
    moved = scale_table(scale * (X + shift))
    np.testing.assert_allclose(moved, scale_table(X), rtol=1e-4, atol=1e-5)
    assert np.abs(moved.mean(0)).max() < 1e-5


def test_rows_are_scaled_alike_alone_and_among_others():
    X = RNG.normal(size=(3000, 40)) * 5 + 3
    scaler = fit_table(X)
    whole = scaler.to_tensor(X)
    assert whole.dtype == torch.float32
    for rows in ([0], [2999], [5, 1000, 7]):
        assert torch.equal(scaler.to_tensor(X[rows]), whole[rows])


# images -------------------------------------------------------------------------------------------


def test_bytes_stay_bytes():
    X = RNG.integers(0, 256, size=(5, 6), dtype=np.uint8)
    scaler = image_scaler(X)
    tensor = scaler.to_tensor(X)
    assert scaler.is_uint8_
    assert tensor.dtype == torch.uint8
    np.testing.assert_array_equal(tensor.numpy(), X.reshape(5, 1, 2, 3))


@pytest.mark.parametrize("dtype", [np.float32, np.float64])
@pytest.mark.parametrize(("low", "high"), [(0, 1), (-1, 1), (0, 255), (3, 3.5), (-1e-30, 1e30)])
def test_floats_are_mapped_to_the_unit_interval(dtype, low, high):
    X = random_images(low, high, dtype=dtype)
    tensor = image_scaler(X).to_tensor(X)
    assert tensor.dtype == torch.float32
    assert tensor.shape == (5, 1, 2, 3)
    expected = (X.astype(np.float64) - low) / (high - low)
    np.testing.assert_allclose(tensor.flatten(1).numpy(), expected, atol=1e-5)


def test_range_is_that_of_both_domains():
    parts = random_images(0, 1), random_images(-1, 3)
    scaler = image_scaler(*parts)
    assert scaler.range_ == (-1, 3)
    assert scaler.to_tensor(parts[0]).max().item() == pytest.approx(0.5)


def test_constant_images_become_zero():
    X = np.full((3, 6), 4.0)
    assert (image_scaler(X).to_tensor(X) == 0).all()


def test_domains_of_different_dtypes_raise():
    images = random_images(0, 1), RNG.integers(0, 256, size=(5, 6), dtype=np.uint8)
    with pytest.raises(ValueError, match=r"the target of float32 and the source of uint8.*Imag"):
        image_scaler(*images)


@pytest.mark.parametrize(("first", "second"), [((0, 1), (0, 255)), ((-200, 5), (-1, 1))])
def test_domains_of_different_ranges_raise(first, second):
    parts = random_images(*first), random_images(*second)
    with pytest.raises(ValueError, match=r"Expected images on one scale, got the .* with values"):
        image_scaler(*parts)


@pytest.mark.parametrize("factor", [16.0, 1 / 16, 6.0])
def test_images_that_may_be_in_other_units_are_warned_of(factor):
    brighter = ("source", "target")[factor < 1]
    with pytest.warns(UserWarning, match=f"The images of the {brighter} reach .*If their units"):
        image_scaler(random_images(0, 1), random_images(0, factor))


@pytest.mark.parametrize("factor", [4.0, 0.25, 0.0])
def test_images_that_are_merely_darker_are_not_warned_of(factor):
    image_scaler(random_images(0, 1), factor * random_images(0, 1))


def test_float32_and_float64_images_go_together():
    image_scaler(random_images(0, 1), random_images(0, 1, dtype=np.float64))


def test_check_refuses_another_dtype():
    bytes_, floats = RNG.integers(0, 256, size=(5, 6), dtype=np.uint8), random_images(0, 1)
    with pytest.raises(ValueError, match="Expected uint8 images as in fit, got X of dtype float32"):
        image_scaler(bytes_).check(floats)
    with pytest.raises(ValueError, match="Expected float images as in fit, got X_new of dtype ui"):
        image_scaler(floats).check(bytes_, "X_new")


def test_check_refuses_another_range():
    scaler = image_scaler(random_images(0, 1))
    with pytest.raises(ValueError, match=r"the data of fit with values from 0 to 1 and X with"):
        scaler.check(random_images(0, 255))


def test_check_accepts_a_similar_range_and_bytes():
    image_scaler(random_images(0, 1)).check(random_images(-0.2, 1.5))
    image_scaler(random_images(0, 1)).check(np.zeros((2, 6)))
    bytes_ = RNG.integers(0, 256, size=(5, 6), dtype=np.uint8)
    image_scaler(bytes_).check(bytes_ // 100)


def test_check_leaves_tables_alone():
    fit_table(RNG.normal(size=(9, 2))).check(1e9 * np.ones((2, 2)))


# memory -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
def test_read_only_memory_maps(tmp_path, dtype):
    X = RNG.integers(0, 256, size=(7, 6)).astype(dtype)
    np.save(tmp_path / "X.npy", X)
    mapped = np.load(tmp_path / "X.npy", mmap_mode="r")
    for shape in ((1, 2, 3), (6,)):
        scaler = InputScaler(shape).fit([mapped], ["X"])
        assert torch.equal(scaler.to_tensor(mapped), scaler.to_tensor(X))


@pytest.mark.parametrize("dtype", [np.uint8, np.float32, np.float64])
@pytest.mark.parametrize("shape", [(1, 2, 3), (6,)])
def test_views_of_any_order_and_inputs_left_as_they_are(dtype, shape):
    X = RNG.integers(0, 256, size=(8, 6)).astype(dtype)
    before = X.copy()
    scaler = InputScaler(shape).fit([X], ["X"])
    for view in (X[::-1], X[::2], np.asfortranarray(X)):
        assert torch.equal(scaler.to_tensor(view), scaler.to_tensor(np.ascontiguousarray(view)))
    np.testing.assert_array_equal(X, before)


# shapes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [np.asarray, torch.from_numpy])
def test_images_become_rows(kind):
    images = np.arange(48.0).reshape(2, 2, 3, 4)
    rows, shape = as_rows(kind(images), None)
    assert shape == (2, 3, 4)
    np.testing.assert_array_equal(rows, images.reshape(2, 24))


def test_gradients_of_torch_inputs_are_left_behind():
    rows, _ = as_rows(torch.ones(2, 3, requires_grad=True), None)
    assert isinstance(rows, np.ndarray)


@pytest.mark.parametrize(
    "X", [np.ones((2, 6)), [[1.0] * 6] * 2, pd.DataFrame(np.ones((2, 6))), pl.DataFrame({"a": [1]})]
)
def test_tables_pass_through(X):
    rows, shape = as_rows(X, None)
    np.testing.assert_array_equal(np.asarray(rows), np.asarray(X))
    assert shape is None
    assert as_rows(X, [1, 2, 3])[1] == (1, 2, 3)


def test_image_shape_that_contradicts_the_images_raises():
    with pytest.raises(ValueError, match=r"image_shape=\(1, 4, 4\), got X_new with images of sha"):
        as_rows(np.ones((2, 1, 3, 3)), (1, 4, 4), "X_new")


def test_three_dimensions_raise():
    with pytest.raises(ValueError, match=r"dim 3 in X, of shape \(2, 3, 3\).*X\[:, None\]"):
        as_rows(np.ones((2, 3, 3)), None)


def test_five_dimensions_raise():
    with pytest.raises(ValueError, match=r"dim 5 in X, of shape \(2, 3, 3, 1, 1\).* your data\.$"):
        as_rows(np.ones((2, 3, 3, 1, 1)), None)


@pytest.mark.parametrize("shape", [(3, 3), (1, 3, 3, 1), (1, 3, -3), (1, 3, 3.0), "abc"])
def test_image_shape_of_three_positive_ints(shape):
    with pytest.raises(ValueError, match=r"Expected image_shape=\(channels, height, width\)"):
        check_image_shape(shape, 9)


def test_image_shape_must_fit_the_features():
    check_image_shape((1, 3, 3), 9)
    check_image_shape([1, np.int64(3), 3], 9)
    with pytest.raises(ValueError, match=r"Expected 9 features for image_shape=\(1, 3, 3\), got X"):
        check_image_shape((1, 3, 3), 10)


def test_two_features_of_different_units_have_their_own_scales():
    X = RNG.normal(size=(200, 2)) * [1, 1000]
    np.testing.assert_allclose(scale_table(X).std(0), 1, rtol=1e-5)


@pytest.mark.parametrize("constant", [0.0, 0.3])
def test_constant_features_do_not_change_the_scale_of_the_others(constant):
    X = RNG.normal(size=(1000, 3))
    wide = np.column_stack([X, np.full((1000, 4), constant)])  # its mean is not exact
    np.testing.assert_allclose(scale_table(wide)[:, :3], scale_table(X), rtol=1e-5)


def test_check_takes_dark_images_and_refuses_bright_ones():
    scaler = image_scaler(random_images(0, 1))
    scaler.check(random_images(0, 1 / 50))  # a few that are dark
    with pytest.raises(ValueError, match=r"the data of fit with values from 0 to 1 and X with"):
        scaler.check(random_images(0, 50))
