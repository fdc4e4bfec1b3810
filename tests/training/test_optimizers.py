from functools import partial

import pytest
import torch

from sklearn_ckm._training._optimizers import (
    load_named_state,
    named_state,
    resolve_optimizer,
)


@pytest.mark.parametrize(
    ("name", "kind"),
    [("adam", torch.optim.Adam), ("adamw", torch.optim.AdamW), ("sgd", torch.optim.SGD)],
)
def test_names(device, name, kind):
    make = resolve_optimizer(name, device)
    weight = torch.nn.Parameter(torch.ones(3, device=device))
    optimizer = make([weight], lr=0.1)
    assert type(optimizer) is kind
    assert optimizer.defaults["lr"] == 0.1
    weight.grad = torch.ones_like(weight)
    optimizer.step()
    plain = torch.nn.Parameter(torch.ones(3, device=device))
    plain.grad = torch.ones_like(plain)
    kind([plain], lr=0.1).step()  # neither fused nor resolved
    torch.testing.assert_close(weight.detach(), plain.detach())


@pytest.mark.parametrize(
    "optimizer", [torch.optim.RMSprop, partial(torch.optim.SGD, momentum=0.9), lambda p, lr: None]
)
def test_callables_pass_through(optimizer):
    assert resolve_optimizer(optimizer, torch.device("cpu")) is optimizer


@pytest.mark.parametrize("optimizer", ["Adam", "lbfgs", "", 3, None])
def test_unknown_optimizer_raises(optimizer):
    message = r"Expected 'optimizer' among \['adam', 'adamw', 'sgd'\] or .*, got"
    with pytest.raises(ValueError, match=message):
        resolve_optimizer(optimizer, torch.device("cpu"))


@pytest.mark.parametrize("make", [torch.optim.Adam, torch.optim.SGD])
def test_loaded_state_continues_as_one_optimizer_would(make):
    kwargs = {"lr": 0.1} | ({"momentum": 0.9} if make is torch.optim.SGD else {})
    models = [torch.nn.Linear(2, 1) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    optimizers = [make(model.parameters(), **kwargs) for model in models]

    def step(model, optimizer):
        optimizer.zero_grad()
        model(torch.ones(3, 2)).square().sum().backward()
        optimizer.step()

    for model, optimizer in zip(models, optimizers, strict=True):
        step(model, optimizer)
    successor = make(models[1].parameters(), **kwargs)
    load_named_state(successor, models[1], named_state(optimizers[1], models[1]))
    step(models[0], optimizers[0])
    step(models[1], successor)
    assert torch.equal(models[0].weight, models[1].weight)


def test_state_of_unknown_parameters_is_left_out():
    model = torch.nn.Sequential(torch.nn.Linear(2, 2), torch.nn.Linear(2, 1))
    optimizer = torch.optim.Adam(model.parameters(), lr=0.1)
    load_named_state(optimizer, model, {"gone.weight": {"step": torch.tensor(1.0)}})
    assert not optimizer.state


def test_loaded_state_follows_the_memory_layout_of_the_parameters():
    models = [torch.nn.Conv2d(3, 4, 3).to(memory_format=torch.channels_last) for _ in range(2)]
    models[1].load_state_dict(models[0].state_dict())
    make = resolve_optimizer("adam", torch.device("cpu"))
    optimizers = [make(model.parameters(), lr=0.1) for model in models]
    x = torch.arange(75.0).view(1, 3, 5, 5)

    def step(model, optimizer):
        optimizer.zero_grad()
        model(x).square().sum().backward()
        optimizer.step()

    for model, optimizer in zip(models, optimizers, strict=True):
        step(model, optimizer)
    state = {
        name: {key: value.contiguous() for key, value in values.items()}  # as a cache returns them
        for name, values in named_state(optimizers[1], models[1]).items()
    }
    successor = make(models[1].parameters(), lr=0.1)
    load_named_state(successor, models[1], state)
    step(models[0], optimizers[0])
    step(models[1], successor)
    torch.testing.assert_close(models[1].weight, models[0].weight, rtol=0, atol=0)
