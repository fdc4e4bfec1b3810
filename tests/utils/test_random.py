import pickle

import numpy as np
import pytest
import torch
from _oracles import torch_state_unchanged
from hypothesis import given
from hypothesis import strategies as st

from sklearn_ckm.utils._random import check_seed, make_generator, phase_seed, torch_seed

CPU = torch.device("cpu")


def numpy_state():
    return pickle.dumps(np.random.get_state())  # noqa: NPY002


def test_seed_of_an_int_is_fixed():
    assert check_seed(3) == check_seed(3)
    assert check_seed(3) != check_seed(4)


def test_seed_of_a_random_state_advances_it():
    state = np.random.RandomState(0)
    first, second = check_seed(state), check_seed(state)
    assert first == check_seed(np.random.RandomState(0))
    assert first != second


def test_none_draws_afresh_and_leaves_the_global_state_alone():
    before = numpy_state()
    assert check_seed(None) != check_seed(None)
    assert numpy_state() == before


@pytest.mark.parametrize("bad", ["0", -1, 1.5])
def test_bad_random_state_raises(bad):
    with pytest.raises(ValueError):
        check_seed(bad)


@given(st.integers(0, 2**32 - 1), st.text(max_size=10), st.integers(0, 100))
def test_phase_seed_is_a_function_of_its_arguments(seed, phase, repeat):
    value = phase_seed(seed, phase, repeat)
    assert value == phase_seed(seed, phase, repeat)
    assert 0 <= value < 2**31
    assert value != phase_seed(seed, phase, repeat + 1)
    assert value != phase_seed(seed, phase + "x", repeat)


def test_phase_seed_does_not_depend_on_the_order_of_the_phases():
    phases = ["weights", "pretrain", "finetune"]
    forward = {phase: phase_seed(5, phase) for phase in phases}
    backward = {phase: phase_seed(5, phase) for phase in reversed(phases)}
    assert forward == backward
    assert len(set(forward.values())) == 3


def test_torch_seed_seeds_the_block_and_restores_the_state(device):
    draws = []
    with torch_state_unchanged():
        for seed in (1, 1, 2):
            with torch_seed(seed, device):
                draws.append((torch.rand(4), torch.rand(4, device=device).cpu()))
    assert torch.equal(torch.stack(draws[0]), torch.stack(draws[1]))
    assert not torch.equal(draws[0][0], draws[2][0])
    assert not torch.equal(draws[0][1], draws[2][1])


def test_torch_seed_restores_the_state_after_an_exception():
    with torch_state_unchanged(), pytest.raises(RuntimeError, match="inside"):  # noqa: SIM117
        with torch_seed(1, CPU):
            torch.rand(3)
            raise RuntimeError("inside")


def test_generator_is_of_its_own(device):
    with torch_state_unchanged():
        generator = make_generator(3, device)
        first = torch.rand(5, generator=generator, device=device)
    again = torch.rand(5, generator=make_generator(3, device), device=device)
    assert torch.equal(first, again)
