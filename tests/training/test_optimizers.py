from functools import partial

import pytest
import torch

from sklearn_ckm._training._optimizers import resolve_optimizer


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
