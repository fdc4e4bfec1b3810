import numpy as np
import pytest
import torch
from _oracles import loop_squared_distances, random_clusters, to_numpy
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra.numpy import arrays
from scipy.spatial.distance import cdist
from scipy.stats import ortho_group

from sklearn_ckm.losses import squared_distances

coordinates = st.floats(-1e6, 1e6, allow_subnormal=False)
sizes = st.integers(1, 6)


@st.composite
def points(draw):
    n_samples, n_clusters, n_components = draw(sizes), draw(sizes), draw(sizes)
    z = draw(arrays(np.float64, (n_samples, n_components), elements=coordinates))
    return z, draw(arrays(np.float64, (n_clusters, n_components), elements=coordinates))


@settings(max_examples=50, deadline=None)
@given(points())
def test_equals_scipy_and_is_not_negative(pair):
    z, centers = pair
    distances = squared_distances(torch.tensor(z), torch.tensor(centers)).numpy()
    assert (distances >= 0).all()
    np.testing.assert_allclose(distances, cdist(z, centers, "sqeuclidean"), rtol=1e-12, atol=0)


def test_equals_loop(device):
    z, centers = random_clusters()
    distances = squared_distances(
        torch.tensor(z, device=device), torch.tensor(centers, device=device)
    )
    np.testing.assert_allclose(to_numpy(distances), loop_squared_distances(z, centers), rtol=1e-13)


def test_by_hand():
    distances = squared_distances(torch.tensor([[1.0, 2.0]]), torch.tensor([[1.0, 2.0], [4.0, 6]]))
    assert distances.tolist() == [[0.0, 25.0]]


@settings(max_examples=25, deadline=None)
@given(seed=st.integers(0, 1000), scale=st.floats(1e-3, 1e3))
def test_translation_rotation_and_scale(seed, scale):
    z, centers = random_clusters(seed=seed)
    rotation = ortho_group.rvs(3, random_state=seed)
    plain = squared_distances(torch.tensor(z), torch.tensor(centers)).numpy()
    shift = np.array([3.0, -2.0, 5.0])
    moved = squared_distances(
        torch.tensor(scale * z @ rotation + shift), torch.tensor(scale * centers @ rotation + shift)
    )
    np.testing.assert_allclose(moved.numpy(), scale**2 * plain, rtol=1e-9, atol=1e-11)


def test_keeps_digits_far_from_the_origin():
    # The expansion |z|^2 - 2 z.m + |m|^2, the broken variant, has none of them left.
    z = torch.tensor([[1000.0, 1000.0]])
    centers = z + torch.tensor([[0.125, 0.0], [0.0, 0.25]])
    expanded = z.square().sum() - 2 * z @ centers.T + centers.square().sum(1)
    expected = [[0.125**2, 0.25**2]]
    assert squared_distances(z, centers).tolist() == expected
    assert expanded.tolist() != expected


@pytest.mark.parametrize("dtype", [torch.float16, torch.bfloat16])
def test_half_precision_is_raised_before_squaring(device, dtype):
    z = torch.full((2, 3), 300.0, dtype=dtype, device=device)  # squares overflow float16
    distances = squared_distances(z, torch.zeros(1, 3, dtype=dtype, device=device))
    assert distances.dtype == torch.float32
    assert distances.flatten().tolist() == [270_000.0, 270_000.0]


def test_autocast_does_not_lower_the_precision(device):
    z = torch.tensor([[1.0009765625, 0.0]], device=device)  # no bfloat16
    with torch.autocast(device.type, dtype=torch.bfloat16):
        distances = squared_distances(z, torch.zeros(1, 2, device=device))
    assert distances.dtype == torch.float32
    assert distances.item() == np.float32(1.0009765625) ** 2


def test_gradcheck():
    z, centers = random_clusters(5, 3, 2)
    inputs = torch.tensor(z, requires_grad=True), torch.tensor(centers, requires_grad=True)
    assert torch.autograd.gradcheck(squared_distances, inputs)


def test_does_not_change_its_inputs():
    z, centers = map(torch.tensor, random_clusters())
    copies = z.clone(), centers.clone()
    squared_distances(z, centers)
    assert torch.equal(z, copies[0])
    assert torch.equal(centers, copies[1])
