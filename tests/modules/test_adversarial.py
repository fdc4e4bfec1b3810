import pytest
import torch
from torch import nn
from torch.nn.functional import normalize

from sklearn_ckm.modules import (
    ConvEncoder,
    DenseEncoder,
    DomainDiscriminator,
    MultiLayerDiscriminator,
    last_layers,
    reverse_gradient,
)


@pytest.fixture(autouse=True)
def seeded():
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        yield


# gradient reversal ------------------------------------------------------------------------------


@pytest.mark.parametrize("weight", [0.0, 0.3, 1.0, 2.5])
def test_reversal_passes_values_on_and_gradients_negated_and_weighted(device, weight):
    x = torch.randn(4, 3, device=device, requires_grad=True)
    arriving = torch.randn(4, 3, device=device)
    y = reverse_gradient(x, weight)
    assert torch.equal(y, x)
    (gradient,) = torch.autograd.grad(y, x, arriving)
    torch.testing.assert_close(gradient, -weight * arriving, rtol=0, atol=0)


def test_reversal_is_whole_by_default_and_twice_is_none():
    x = torch.randn(4, requires_grad=True)
    arriving = torch.randn(4)
    (once,) = torch.autograd.grad(reverse_gradient(x), x, arriving)
    (twice,) = torch.autograd.grad(reverse_gradient(reverse_gradient(x)), x, arriving)
    assert torch.equal(once, -arriving)
    assert torch.equal(twice, arriving)


def test_reversal_turns_only_what_lies_before_it():
    x = torch.randn(5, 3)
    before, after = nn.Linear(3, 2), nn.Linear(2, 1)
    plain = torch.autograd.grad(after(before(x)).sum(), [before.weight, after.weight])
    turned = torch.autograd.grad(
        after(reverse_gradient(before(x), 0.5)).sum(), [before.weight, after.weight]
    )
    torch.testing.assert_close(turned[0], -0.5 * plain[0])
    assert torch.equal(turned[1], plain[1])


# discriminators ---------------------------------------------------------------------------------


def test_discriminator_is_one_hidden_layer(device):
    discriminator = DomainDiscriminator(3, n_hidden=4).to(device)
    z = torch.randn(5, 3, device=device)
    first, _, second = discriminator.layers
    hidden = (z @ first.weight.T + first.bias).clamp_min(0)
    expected = (hidden @ second.weight.T + second.bias)[:, 0]
    assert discriminator(z).shape == (5,)
    torch.testing.assert_close(discriminator(z), expected)


def random_layers(widths, n_samples=5):
    return [torch.randn(n_samples, width) for width in widths]


@pytest.mark.parametrize("gate", [0.0, 0.1, 1.0])
def test_levels_read_their_layer_beside_the_gated_answer_before(gate):
    widths = (6, 4, 3)
    discriminator = MultiLayerDiscriminator(widths, gate, n_hidden=7)
    layers = random_layers(widths)
    first, second, third = discriminator.levels
    answer = layers[0].clamp_min(0) @ first.weight.T + first.bias
    for level, layer in ((second, layers[1]), (third, layers[2])):
        # the answer's weights come first, those of the layer after them
        of_answer, of_layer = level.weight[:, :7], level.weight[:, 7:]
        answer = (
            (gate * answer).clamp_min(0) @ of_answer.T
            + layer.clamp_min(0) @ of_layer.T
            + level.bias
        )
    assert answer.shape == (5, 1)
    torch.testing.assert_close(discriminator(layers), answer[:, 0])


@pytest.mark.parametrize("gate", [0.0, 0.1])
def test_closed_gate_takes_the_influence_of_earlier_layers_away(gate):
    widths = (6, 4, 3)
    discriminator = MultiLayerDiscriminator(widths, gate)
    layers = random_layers(widths)
    expected = discriminator(layers)
    for i in (0, 1):
        changed = [*layers]
        changed[i] = 100 * torch.randn_like(layers[i])
        assert torch.equal(discriminator(changed), expected) == (gate == 0)
    changed = [*layers[:2], torch.randn_like(layers[2])]
    assert not torch.equal(discriminator(changed), expected)


def test_one_layer_is_enough():
    discriminator = MultiLayerDiscriminator([3])
    (layer,) = random_layers([3])
    (level,) = discriminator.levels
    torch.testing.assert_close(discriminator([layer]), level(layer.relu())[:, 0])


def test_another_number_of_layers_raises():
    discriminator = MultiLayerDiscriminator((6, 3))
    with pytest.raises(ValueError, match="shorter than"):
        discriminator(random_layers([6]))


# last layers ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder", "width"),
    [(DenseEncoder((6,), 3, (5, 4)), 4), (ConvEncoder((1, 8, 8), 3, n_hidden=9), 9)],
    ids=["dense", "conv"],
)
def test_last_hidden_layer_and_code_of_the_packages_encoders(device, encoder, width):
    encoder.to(device)
    x = torch.randn(5, *encoder.input_shape, device=device)
    hidden, code = last_layers(encoder, x)
    assert hidden.shape == (5, width)
    assert (hidden >= 0).all()  # after the ReLU
    assert torch.equal(code, encoder(x))
    torch.testing.assert_close(encoder.layers[-1](hidden), code)


def test_gradients_reach_the_encoder_from_both_layers():
    encoder = DenseEncoder((6,), 3, (5, 4))
    hidden, code = last_layers(encoder, torch.randn(5, 6))
    first, last = encoder.layers[1].weight, encoder.layers[-1].weight
    of_hidden = torch.autograd.grad(
        hidden.sum(), [first, last], allow_unused=True, retain_graph=True
    )
    of_code = torch.autograd.grad(code.sum(), [first, last])
    assert (of_hidden[0] != 0).any()
    assert of_hidden[1] is None
    assert all((gradient != 0).any() for gradient in of_code)


def test_encoder_is_left_as_it_was():
    encoder = DenseEncoder((6,), 3, (5, 4))
    last_layers(encoder, torch.randn(5, 6))
    assert not encoder.layers[-1]._forward_pre_hooks
    with pytest.raises(RuntimeError, match="mat1 and mat2"):
        last_layers(encoder, torch.randn(5, 7))
    assert not encoder.layers[-1]._forward_pre_hooks


class Normalized(nn.Module):
    """One that does more than its stack of layers does."""

    def __init__(self, layers):
        super().__init__()
        self.layers = layers

    def forward(self, x):
        return normalize(self.layers(x + 1))


class Unused(nn.Module):
    """One whose ``layers`` take no part in the code."""

    def __init__(self):
        super().__init__()
        self.layers = nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3))
        self.code = nn.Linear(6, 3)

    def forward(self, x):
        return self.code(x)


def test_code_is_that_of_the_encoder_where_it_is_more_than_its_layers():
    encoder = Normalized(nn.Sequential(nn.Linear(6, 5), nn.ReLU(), nn.Linear(5, 3)))
    x = torch.randn(4, 6)
    hidden, code = last_layers(encoder, x)
    assert torch.equal(code, encoder(x))
    assert torch.equal(hidden, encoder.layers[:2](x + 1))


@pytest.mark.parametrize(
    "encoder",
    [
        nn.Linear(6, 3),
        nn.Sequential(nn.Linear(6, 5), nn.Linear(5, 3)),
        Normalized(nn.Linear(6, 3)),
        Normalized(nn.Sequential(nn.Linear(6, 3))),
        Normalized(nn.Sequential(nn.Linear(6, 3), nn.ReLU())),
        Unused(),
    ],
    ids=["linear", "sequential", "no stack", "one layer", "other last layer", "unused layers"],
)
def test_of_other_encoders_the_code_alone_is_read(encoder):
    x = torch.randn(4, 6)
    (code,) = last_layers(encoder, x)
    assert torch.equal(code, encoder(x))
