import pytest
from hypothesis import given
from hypothesis import strategies as st

from sklearn_ckm.objectives._schedules import scheduled

positive = st.floats(1e-4, 1e4)


@given(positive, positive, st.booleans())
def test_pair_starts_and_ends_at_its_values(start, end, geometric):
    assert scheduled((start, end), 0.0, geometric=geometric) == pytest.approx(start, rel=1e-12)
    assert scheduled((start, end), 1.0, geometric=geometric) == pytest.approx(end, rel=1e-9)


@given(positive, positive, st.floats(0, 1), st.floats(0, 1), st.booleans())
def test_pair_is_monotone(start, end, first, second, geometric):
    first, second = sorted((first, second))
    low = scheduled((start, end), first, geometric=geometric)
    high = scheduled((start, end), second, geometric=geometric)
    if start > end:
        low, high = high, low
    assert low <= high * (1 + 1e-12)


def test_interpolation_by_hand():
    assert scheduled((1.0, 0.01), 0.5, geometric=True) == pytest.approx(0.1)
    assert scheduled((1.0, 0.0), 0.25) == 0.75
    assert scheduled([2, 4], 0.5) == 3.0


@given(positive, st.floats(0, 1), st.booleans())
def test_constant_is_constant(value, progress, geometric):
    assert scheduled(value, progress, geometric=geometric) == value


def test_callable_gets_the_progress():
    assert scheduled(lambda progress: 3 - progress, 0.25) == 2.75
