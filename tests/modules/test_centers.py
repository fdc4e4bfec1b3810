import numpy as np
import pytest
import torch
from _oracles import loop_squared_distances, random_clusters
from hypothesis import given, settings
from hypothesis import strategies as st

from sklearn_ckm.losses import squared_distances
from sklearn_ckm.modules import Centers, margin_temperature


def test_margin_temperature_by_hand(device):
    # The gaps are 3, 6 and 90: their median is six nats at T = 1.
    distances = torch.tensor(
        [[1.0, 4.0, 50.0], [9.0, 3.0, 9.0], [100.0, 10.0, 101.0]], device=device
    )
    assert margin_temperature(distances).item() == 1.0


def test_median_margin_is_six_nats():
    z, centers = random_clusters(51)
    distances = loop_squared_distances(z, centers)
    temperature = margin_temperature(torch.tensor(distances)).item()
    logits = np.sort(-distances / temperature, axis=1)
    assert np.median(logits[:, -1] - logits[:, -2]) == pytest.approx(6, rel=1e-12)


def test_single_center_has_temperature_one(device):
    assert margin_temperature(torch.full((4, 1), 7.0, device=device)).item() == 1.0


def test_temperature_of_doubled_centers_is_positive():
    assert margin_temperature(torch.ones(4, 2)).item() > 0


@settings(max_examples=25, deadline=None)
@given(scale=st.floats(1e-3, 1e3), seed=st.integers(0, 1000))
def test_temperature_grows_with_the_square_of_the_scale(scale, seed):
    z, centers = map(torch.tensor, random_clusters(21, seed=seed))
    plain = margin_temperature(squared_distances(z, centers)).item()
    scaled = margin_temperature(squared_distances(scale * z, scale * centers)).item()
    assert scaled == pytest.approx(scale**2 * plain, rel=1e-9)


@pytest.mark.parametrize("scale", [1e-2, 7.0])
def test_calibration_follows_the_scale(device, scale):
    z, centers = (torch.tensor(a, device=device) for a in random_clusters(31))
    temperatures = []
    for factor in (1.0, scale):
        adaptive = Centers(factor * centers.float()).to(device)
        adaptive.calibrate(squared_distances(factor * z, factor * centers))
        temperatures.append(adaptive.temperature.item())
    assert temperatures[1] == pytest.approx(scale**2 * temperatures[0], rel=1e-6)


def test_follow_is_a_moving_average_that_reaches_a_new_scale(device):
    distances = torch.tensor([[0.0, 6.0], [0.0, 6.0], [0.0, 6.0]], device=device)
    centers = Centers(torch.zeros(2, 3)).to(device)
    centers.calibrate(distances)
    assert centers.temperature.item() == 1.0
    assert centers.follow(3 * distances).item() == pytest.approx(0.99 + 0.01 * 3)
    assert centers.follow(3 * distances).item() == pytest.approx(0.99 * 1.02 + 0.01 * 3)
    for _ in range(1500):
        centers.follow(3 * distances)
    assert centers.temperature.item() == pytest.approx(3, rel=1e-4)


def test_fixed_temperature_stays(device):
    centers = Centers(torch.zeros(2, 3), 2.5).to(device)
    distances = torch.tensor([[0.0, 600.0]], device=device)
    centers.calibrate(distances)
    assert centers.follow(distances).item() == 2.5
    assert centers.temperature.item() == 2.5


def test_positions_are_a_copy_and_the_only_parameter():
    start = torch.zeros(2, 3)
    centers = Centers(start)
    with torch.no_grad():
        centers.positions += 1
    assert (start == 0).all()
    assert [name for name, _ in centers.named_parameters()] == ["positions"]


def test_temperature_is_saved_with_the_centers():
    centers = Centers(torch.zeros(2, 3))
    centers.calibrate(torch.tensor([[0.0, 12.0]]))
    other = Centers(torch.ones(2, 3))
    other.load_state_dict(centers.state_dict())
    assert other.temperature.item() == 2.0


def test_views_of_rows_that_are_one_point_have_finite_logits():
    point = torch.tensor([[1.0, -2.0, 3.0]])
    centers = Centers(point.repeat(2, 1))
    centers.calibrate(squared_distances(point.repeat(5, 1), centers.positions))
    assert 0 < centers.temperature.item() < 1e-4
    logits = squared_distances(point + 0.1, centers.positions) / centers.temperature
    assert logits.isfinite().all()
    centers.follow(torch.zeros(5, 2))
    assert centers.temperature.item() > 0
