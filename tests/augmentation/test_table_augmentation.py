import pickle

import numpy as np
import pytest
import torch
from _oracles import to_numpy, torch_state_unchanged
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.testing import assert_allclose
from sklearn.base import clone

from sklearn_ckm.augmentation import TableAugmentation
from sklearn_ckm.utils._random import make_generator


def table(n_samples=6, n_features=3, *, seed=0, dtype=torch.float64, device="cpu"):
    x = np.random.default_rng(seed).normal(size=(n_samples, n_features))
    return torch.tensor(x, dtype=dtype, device=device)


def view_of(augmentation, x, seed=0):
    return augmentation(x, make_generator(seed, x.device))


# noise --------------------------------------------------------------------------------------------


def test_noise_is_a_share_of_the_deviation_of_the_feature(device):
    x = table(4000, device=device) * torch.tensor([1.0, 10.0, 0.1], device=device) + 5
    noise = to_numpy(view_of(TableAugmentation(noise=0.3, corruption=0), x) - x)
    deviation = 0.3 * to_numpy(x).std(0)
    assert_allclose(noise.std(0), deviation, rtol=0.05)
    assert_allclose(noise.mean(0) / deviation, 0, atol=0.06)
    assert_allclose((noise**4).mean(0) / deviation**4, 3, rtol=0.2)  # Gaussian
    assert np.abs(np.corrcoef(noise.T) - np.eye(3)).max() < 0.06


def test_noise_is_independent_between_rows():
    x = table(2000, 2)
    noise = to_numpy(view_of(TableAugmentation(corruption=0), x) - x)
    assert np.corrcoef(noise[:-1, 0], noise[1:, 0])[0, 1] == pytest.approx(0, abs=0.08)


def test_noise_by_hand():
    x = torch.tensor([[1.0, 0.0], [3.0, 0.0]])  # deviations 1 and 0
    view = view_of(TableAugmentation(noise=0.5, corruption=0), x)
    normal = torch.empty(2, 2).normal_(generator=make_generator(0, "cpu"))
    torch.testing.assert_close(view[:, 0], x[:, 0] + 0.5 * normal[:, 0])
    assert (view[:, 1] == 0).all()


@pytest.mark.parametrize("factor", [1e-3, 1e3])
def test_noise_follows_the_scale_of_the_data(factor):
    x, augmentation = table(), TableAugmentation()
    torch.testing.assert_close(
        view_of(augmentation, factor * x), factor * view_of(augmentation, x), rtol=1e-10, atol=0
    )


# replaced features --------------------------------------------------------------------------------


@pytest.mark.parametrize("corruption", [0.1, 0.6])
def test_corruption_replaces_that_share_by_values_of_the_same_feature(device, corruption):
    x = torch.arange(6000, device=device, dtype=torch.float64).view(3, 2000).T  # all differ
    view = view_of(TableAugmentation(noise=0, corruption=corruption), x)
    is_replaced = view != x
    assert_allclose(to_numpy(is_replaced.double().mean(0)), corruption, atol=0.04)
    assert torch.equal(view.div(2000, rounding_mode="floor"), x.div(2000, rounding_mode="floor"))
    # from anywhere in the batch
    origin = to_numpy(view % 2000)[to_numpy(is_replaced)]
    assert_allclose(np.quantile(origin / 2000, [0.1, 0.5, 0.9]), [0.1, 0.5, 0.9], atol=0.06)


def test_features_of_a_row_are_replaced_independently():
    x = torch.arange(4000.0)[:, None].expand(4000, 2)
    view = view_of(TableAugmentation(noise=0, corruption=0.5), x)
    is_replaced = (view != x).double()
    assert np.corrcoef(is_replaced.T)[0, 1] == pytest.approx(0, abs=0.06)
    both = is_replaced.all(1)
    assert both.double().mean() == pytest.approx(0.25, abs=0.04)
    assert (view[both, 0] != view[both, 1]).double().mean() > 0.99  # other rows for each
    assert np.corrcoef(view[both].T)[0, 1] == pytest.approx(0, abs=0.12)


def test_corruption_keeps_the_distribution_and_loosens_the_relation():
    x = table(4000, 1).expand(4000, 2)
    view = to_numpy(view_of(TableAugmentation(noise=0, corruption=0.3), x))
    assert_allclose(view.mean(0), to_numpy(x).mean(0), atol=0.05)
    assert_allclose(view.std(0), to_numpy(x).std(0), rtol=0.05)
    assert np.corrcoef(view.T)[0, 1] == pytest.approx(0.7**2, abs=0.04)


def test_noise_is_added_to_replaced_features_too():
    x = torch.arange(3000.0, dtype=torch.float64)[:, None]
    view = view_of(TableAugmentation(noise=1e-3, corruption=0.5), x)
    assert (view != view.round()).all()
    assert ((view - x).abs() > 100).double().mean() == pytest.approx(0.5, abs=0.08)


# what stays ---------------------------------------------------------------------------------------


@settings(max_examples=30, deadline=None)
@given(
    seed=st.integers(0, 10_000),
    n_samples=st.integers(1, 8),
    shape=st.sampled_from([(1,), (5,), (2, 4, 3)]),
    noise=st.floats(0, 10),
    corruption=st.floats(0, 0.99),
    dtype=st.sampled_from([torch.float32, torch.float64]),
)
def test_views_are_finite_with_shape_and_dtype_kept(
    seed, n_samples, shape, noise, corruption, dtype
):
    x = torch.randn(n_samples, *shape, generator=make_generator(seed, "cpu"), dtype=dtype)
    view = view_of(TableAugmentation(noise=noise, corruption=corruption), x, seed)
    assert view.shape == x.shape
    assert view.dtype == dtype
    assert torch.isfinite(view).all()


def test_zero_bounds_change_nothing(device):
    x = table(device=device)
    assert torch.equal(view_of(TableAugmentation(noise=0, corruption=0.0), x), x)


def test_a_feature_that_is_constant_stays_constant(device):
    x = table(device=device)
    x[:, 1] = 0.7
    view = view_of(TableAugmentation(noise=0.5, corruption=0.5), x)
    torch.testing.assert_close(view[:, 1], x[:, 1])
    assert (view[:, [0, 2]] != x[:, [0, 2]]).all()


def test_a_single_row_stays_as_it_is():
    x = table(1)
    assert torch.equal(view_of(TableAugmentation(noise=0.5, corruption=0.9), x), x)


def test_equal_rows_have_different_views():
    x = table()
    x[1] = x[0]
    view = view_of(TableAugmentation(corruption=0), x)
    assert (view[0] != view[1]).all()


def test_pixels_are_features():
    x = table(5, 12)
    view = view_of(TableAugmentation(), x)
    of_images = view_of(TableAugmentation(), x.view(5, 3, 2, 2))
    assert torch.equal(of_images.view(5, 12), view)


def test_does_not_change_its_input(device):
    x, augmentation = table(device=device), TableAugmentation(corruption=0.5)
    before = x.clone()
    view_of(augmentation, x)
    assert torch.equal(x, before)
    assert augmentation.get_params() == {"noise": 0.1, "corruption": 0.5}


# randomness ---------------------------------------------------------------------------------------


def test_same_seed_same_view(device):
    x, augmentation = table(device=device), TableAugmentation()
    assert torch.equal(view_of(augmentation, x, 3), view_of(augmentation, x, 3))
    assert not torch.equal(view_of(augmentation, x, 3), view_of(augmentation, x, 4))


@pytest.mark.parametrize("bounds", [{"noise": 0}, {"corruption": 0}])
def test_draws_come_from_the_generator_alone(bounds):
    x, generator = table(50), torch.Generator().manual_seed(0)
    augmentation = TableAugmentation(**bounds)
    with torch_state_unchanged():
        first, second = augmentation(x, generator), augmentation(x, generator)
    assert not torch.equal(first, second)


# settings -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("copy", [clone, lambda estimator: pickle.loads(pickle.dumps(estimator))])
def test_copies_give_the_same_views(copy):
    augmentation, x = TableAugmentation(noise=0.2, corruption=0.3), table()
    copied = copy(augmentation)
    assert copied is not augmentation
    assert copied.get_params() == {"noise": 0.2, "corruption": 0.3}
    assert torch.equal(view_of(copied, x), view_of(augmentation, x))
    assert not torch.equal(view_of(copied.set_params(noise=0.3), x), view_of(augmentation, x))


@pytest.mark.parametrize("name", ["noise", "corruption"])
@pytest.mark.parametrize("value", [-0.1, float("nan"), float("inf"), "0.1", None])
def test_settings_that_are_no_positive_numbers_raise(name, value):
    augmentation = TableAugmentation(**{name: value})
    with pytest.raises(ValueError, match=f"Expected '{name}' of TableAugmentation .*got {value!r}"):
        augmentation.check_settings()


def test_replacing_all_features_raises():
    with pytest.raises(ValueError, match=r"'corruption' .* below 1, got 1\.0"):
        TableAugmentation(corruption=1.0).check_settings()


@pytest.mark.parametrize("bounds", [{}, {"noise": 0, "corruption": 0}, {"noise": 5}])
def test_settings_that_make_sense_pass(bounds):
    TableAugmentation(**bounds).check_settings()


def test_noise_is_measured_on_the_features_as_they_were():
    x = torch.arange(50.0, dtype=torch.float64)[:, None] ** 3
    noisy = view_of(TableAugmentation(noise=0.1, corruption=0.9), x)
    generator = make_generator(0, x.device)
    is_replaced = torch.rand(x.shape, generator=generator) < 0.9
    rows = torch.randint(50, x.shape, generator=generator)
    plain = torch.where(is_replaced, x.gather(0, rows), x)
    normal = torch.empty_like(x).normal_(generator=generator)
    torch.testing.assert_close(noisy, plain + 0.1 * x.std(0, correction=0) * normal)
