from functools import partial

import numpy as np
import pytest
import torch
from torch import nn

from sklearn_ckm import ConcreteKMeans
from sklearn_ckm.modules import (
    ClusteringModel,
    ConvDecoder,
    ConvEncoder,
    DenseDecoder,
    DenseEncoder,
    build_autoencoder,
)

IMAGES = [(1, 8, 8), (1, 9, 13), (1, 28, 28), (3, 32, 32), (2, 64, 40), (1, 8, 300)]


def n_parameters(module):
    return sum(p.numel() for p in module.parameters())


class Plain(nn.Module):
    """An encoder without a mirror of its own."""

    def __init__(self, input_shape, n_components):
        super().__init__()
        self.layers = nn.Sequential(nn.Flatten(), nn.LazyLinear(n_components))

    def forward(self, x):
        return self.layers(x)


class Mirrored(Plain):
    """An encoder with a mirror of its own."""

    def __init__(self, input_shape, n_components):
        super().__init__(input_shape, n_components)
        self.shapes = input_shape, n_components

    def build_decoder(self):
        decoder = DenseDecoder(*self.shapes, hidden=())
        decoder.is_own = True
        return decoder


class WrongDecoder(Mirrored):
    def build_decoder(self):
        return nn.Identity()


# shapes -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("shape", IMAGES)
def test_conv_shapes(shape):
    encoder = ConvEncoder(shape, 7, n_hidden=20)
    decoder = encoder.build_decoder()
    assert isinstance(decoder, ConvDecoder)
    z = encoder(torch.rand(2, *shape))
    assert z.shape == (2, 7)
    assert decoder(z).shape == (2, *shape)


@pytest.mark.parametrize("shape", [*IMAGES, (3, 224, 224)])
def test_conv_dense_layer_reads_a_small_map(shape):
    height, width = ConvEncoder(shape, 3, n_hidden=4).sizes[-1]
    assert min(height, width) >= 1
    assert min(height, width) <= 8


def test_conv_has_the_widths_of_lenet():
    encoder = ConvEncoder((1, 28, 28), 10)
    n_expected = (25 * 20 + 20) + (25 * 20 * 50 + 50) + (50 * 7 * 7 * 500 + 500) + (500 * 10 + 10)
    assert n_parameters(encoder) == n_expected


@pytest.mark.parametrize("shape", [(1, 7, 28), (3, 28, 4), (64,), (28, 28)])
def test_conv_wants_an_image_that_is_large_enough(shape):
    with pytest.raises(ValueError, match=r"at least 8x8 pixels.*ImageFormatter.*encoder='mlp'"):
        ConvEncoder(shape, 3)


@pytest.mark.parametrize("shape", [(1,), (30,), (2, 5, 3)])
@pytest.mark.parametrize("hidden", [(), (4,), (6, 5)])
def test_dense_shapes(shape, hidden):
    encoder = DenseEncoder(shape, 3, hidden)
    z = encoder(torch.rand(4, *shape))
    assert z.shape == (4, 3)
    decoder = encoder.build_decoder()
    assert decoder(z).shape == (4, *shape)
    widths = [layer.out_features for layer in decoder.layers if isinstance(layer, nn.Linear)]
    assert widths[:-1] == list(hidden[::-1])


def test_dense_code_and_answer_are_linear():
    encoder = DenseEncoder((5,), 2, (4,))
    assert isinstance(encoder.layers[-1], nn.Linear)
    assert isinstance(encoder.build_decoder().layers[-2], nn.Linear)


def test_model_maps_inputs_to_codes_and_reconstructions():
    encoder, decoder = nn.Linear(4, 2), nn.Linear(2, 4)
    model = ClusteringModel(encoder, decoder)
    x = torch.rand(3, 4)
    z, reconstruction = model(x)
    assert torch.equal(z, encoder(x))
    assert torch.equal(reconstruction, decoder(encoder(x)))


# from a parameter to an autoencoder ---------------------------------------------------------------


@pytest.mark.parametrize(
    ("encoder", "shape", "kind"),
    [
        ("auto", (1, 8, 8), ConvEncoder),
        ("auto", (1, 7, 8), DenseEncoder),
        ("auto", (10,), DenseEncoder),
        ("conv", (1, 12, 12), ConvEncoder),
        ("mlp", (1, 12, 12), DenseEncoder),
        ("mlp-small", (1, 12, 12), DenseEncoder),
    ],
)
def test_names(encoder, shape, kind):
    built, decoder = build_autoencoder(encoder, shape, 4)
    assert type(built) is kind
    assert decoder(built(torch.rand(2, *shape))).shape == (2, *shape)


@pytest.mark.parametrize(
    ("encoder", "n_features", "hidden"),
    [
        ("auto", 256, (256, 256)),
        ("auto", 257, (500, 500, 2000)),
        ("mlp", 10, (500, 500, 2000)),
        ("mlp-small", 1000, (256, 256)),
    ],
)
def test_dense_widths(encoder, n_features, hidden):
    assert build_autoencoder(encoder, (n_features,), 2)[0].hidden == hidden


@pytest.mark.parametrize("shape", [(6,), (1, 3, 4)])
def test_custom_encoder_with_its_own_decoder(shape):
    encoder, decoder = build_autoencoder(Mirrored, shape, 3)
    assert type(encoder) is Mirrored
    assert decoder.is_own


@pytest.mark.parametrize("shape", [(6,), (1, 3, 4)])
def test_custom_encoder_without_a_decoder_gets_a_dense_one(shape):
    encoder, decoder = build_autoencoder(Plain, shape, 3)
    assert type(encoder) is Plain
    assert isinstance(decoder, DenseDecoder)
    assert decoder(encoder(torch.rand(2, *shape))).shape == (2, *shape)


def test_factory_is_called_with_shape_and_width():
    calls = []

    def factory(*args):
        calls.append(args)
        return Plain(*args)

    build_autoencoder(factory, (6,), 3)
    assert calls == [((6,), 3)]


def test_modules_are_left_in_training_mode_and_unchanged():
    torch.manual_seed(0)
    encoder, decoder = build_autoencoder(with_batch_norm, (6,), 3)
    assert encoder.training
    assert decoder.training
    assert encoder[1].num_batches_tracked == 0


def with_batch_norm(input_shape, n_components):
    return nn.Sequential(nn.Linear(input_shape[0], n_components), nn.BatchNorm1d(n_components))


def test_equal_seeds_build_equal_weights():
    def weights(seed):
        torch.manual_seed(seed)
        return build_autoencoder("mlp-small", (5,), 2)[0].layers[1].weight

    with torch.random.fork_rng(devices=[]):
        assert torch.equal(weights(0), weights(0))
        assert not torch.equal(weights(0), weights(1))


def test_trained_instance_raises():
    with pytest.raises(
        TypeError, match=r"got an instance of Linear.*fresh weights: pass the class"
    ):
        build_autoencoder(nn.Linear(6, 3), (6,), 3)


def test_factory_of_something_else_raises():
    with pytest.raises(TypeError, match=r"to return a torch.nn.Module.*got ndarray"):
        build_autoencoder(lambda shape, n: torch.zeros(3).numpy(), (6,), 3)


def test_unknown_name_raises():
    with pytest.raises(ValueError, match=r"Expected 'encoder' among .*'conv'.*got 'resnet'"):
        build_autoencoder("resnet", (6,), 3)


def test_wrong_code_shape_raises():
    with pytest.raises(ValueError, match=r"codes of shape \(2, 3\), got \(2, 4\)"):
        build_autoencoder(lambda shape, n: Plain(shape, n + 1), (6,), 3)


def test_code_that_is_no_tensor_raises():
    class Pair(Plain):
        def forward(self, x):
            return self.layers(x), x

    with pytest.raises(ValueError, match=r"codes of shape \(2, 3\), got tuple"):
        build_autoencoder(Pair, (6,), 3)


def test_wrong_reconstruction_shape_raises():
    with pytest.raises(ValueError, match=r"back to the shape \(2, 6\), got \(2, 3\)"):
        build_autoencoder(WrongDecoder, (6,), 3)


def test_conv_on_a_table_raises():
    with pytest.raises(ValueError, match=r"Expected an image.*got the shape \(64,\)"):
        build_autoencoder("conv", (64,), 3)


def test_module_that_is_bound_in_a_factory_is_copied():
    backbone = nn.Linear(6, 4)
    encoder, _ = build_autoencoder(partial(on_top_of, backbone=backbone), (6,), 3)
    assert torch.equal(encoder[0].weight, backbone.weight)
    with torch.no_grad():
        encoder[0].weight.zero_()
    assert backbone.weight.abs().sum() > 0


def on_top_of(input_shape, n_components, *, backbone):
    return nn.Sequential(backbone, nn.Linear(4, n_components))


class OtherType(Plain):
    def forward(self, x):
        return super().forward(x).double()


def test_code_of_another_type_raises():
    with pytest.raises(ValueError, match=r"to answer in float32, got float64\. Let it end with"):
        build_autoencoder(OtherType, (6,), 3)


class TupleDecoder(Mirrored):
    def build_decoder(self):
        class Decoder(nn.Module):
            def forward(self, z):
                return z, z

        return Decoder()


def test_reconstruction_that_is_no_tensor_raises():
    with pytest.raises(ValueError, match=r"back to the shape \(2, 6\), got tuple"):
        build_autoencoder(TupleDecoder, (6,), 3)


def frozen_normalisation(input_shape, n_components):
    layers = nn.Sequential(nn.Linear(*input_shape, 4), nn.BatchNorm1d(4), nn.Dropout())
    layers[1].requires_grad_(False).eval()
    return nn.Sequential(layers, nn.Linear(4, n_components))


def test_parts_in_evaluation_mode_stay_there():
    encoder, _ = build_autoencoder(frozen_normalisation, (6,), 3)
    modes = {name: part.training for name, part in encoder.named_modules()}
    assert not modes.pop("0.1") and all(modes.values())
    X = np.random.default_rng(0).normal(size=(60, 6)).astype(np.float32)
    for objective in ("ckm", "dcn"):
        model = ConcreteKMeans(
            2, encoder=frozen_normalisation, objective=objective, pretrain_epochs=1, max_epochs=2
        )
        normalisation = model.fit(X)._net.module_.encoder[0][1]
        assert not normalisation.running_mean.any() and not normalisation.num_batches_tracked


def test_encoder_that_works_in_place_on_its_input_is_refused():
    class InPlace(nn.Linear):
        def forward(self, x):
            return super().forward(x.mul_(2))

    with pytest.raises(ValueError, match="leave its input as it is"):
        build_autoencoder(lambda shape, n_components: InPlace(*shape, n_components), (5,), 2)
