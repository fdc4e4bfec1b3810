import numpy as np
import pytest

from sklearn_ckm._training._diagnosis import find_center_problems


def three_clusters(n_samples=300):
    """Rows around three centres, and the centres."""
    rng = np.random.default_rng(0)
    centers = np.array([[0.0, 0.0], [6.0, 0.0], [0.0, 6.0]])
    z = np.repeat(centers, n_samples // 3, axis=0) + rng.normal(scale=0.7, size=(n_samples, 2))
    return z.astype(np.float32), centers.astype(np.float32)


def problems_of(z, centers):
    distances = np.square(z[:, None] - centers[None]).sum(-1)
    return find_center_problems(z, centers, distances.argmin(1))


@pytest.mark.parametrize("scale", [1e-4, 1.0, 1e4])
@pytest.mark.parametrize("shift", [0.0, 5.0])
def test_healthy_centers_have_no_problem(scale, shift):
    z, centers = three_clusters()
    assert problems_of(scale * (z + shift), scale * (centers + shift)) == []


def test_dead_center():
    z, centers = three_clusters()
    centers = np.vstack([centers, [[40.0, 40.0]]])
    (problem,) = problems_of(z, centers)
    assert "1 of 4 centres are dead (centres [3] hold [0] of 300 rows)" in problem


def test_nearly_dead_center():
    z, centers = three_clusters()
    z[0] = 20.0
    (problem,) = problems_of(z, np.vstack([centers, [[20.0, 20.0]]]))
    assert "centres [3] hold [1] of 300 rows" in problem


def test_doubled_centers():
    z, centers = three_clusters()
    centers = np.vstack([centers, centers[1] + 0.05])
    (problem,) = problems_of(z, centers)
    assert "1 pairs of centres are doubled (centres 1 and 3 are 0.005 apart" in problem


def test_collapsed_centers():
    z, centers = three_clusters()
    collapsed = z.mean(0) + 0.15 * (centers - centers.mean(0))
    problems = problems_of(z, collapsed)
    assert any("the centres have collapsed (their spread is" in problem for problem in problems)


def test_runaway_center():
    z, centers = three_clusters()
    centers[2] = [0.0, 10.8]  # far away, and still the nearest of its rows
    (problem,) = problems_of(z, centers)
    assert "centre 2 has left the data" in problem


def test_dead_center_besides_a_runaway_is_named_by_its_index():
    z, centers = three_clusters()
    centers[2] = [0.0, 10.8]
    problems = problems_of(z, np.vstack([[[90.0, 90.0]], centers]))
    assert any("centres [0] hold [0]" in problem for problem in problems)
    assert any("centre 3 has left the data" in problem for problem in problems)


def test_one_center_is_never_a_problem():
    z, centers = three_clusters()
    assert problems_of(z, centers[:1]) == []


def test_constant_data_are_a_collapse():
    problems = problems_of(np.ones((10, 2)), np.ones((3, 2)))
    assert any("collapsed" in problem for problem in problems)
    assert any("doubled" in problem for problem in problems)


def test_as_many_centers_as_rows():
    z = np.array([[0.0, 0.0], [5.0, 0.0], [0.0, 5.0]])
    assert problems_of(z, z.copy()) == []


def test_does_not_change_its_inputs():
    z, centers = three_clusters()
    copies = z.copy(), centers.copy()
    problems_of(z, centers)
    np.testing.assert_array_equal(z, copies[0])
    np.testing.assert_array_equal(centers, copies[1])
