import numpy as np
import pytest
import torch
from _oracles import loop_squared_distances, random_clusters, to_numpy
from torch import nn

from sklearn_ckm._training._inference import (
    block_rows,
    distances_in_blocks,
    embed,
    forward_in_blocks,
)
from sklearn_ckm.modules import ClusteringModel, build_autoencoder


def make_encoder(shape, device):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(0)
        encoder = build_autoencoder("auto", shape, 5)[0]
    return encoder.eval().to(device)


@pytest.fixture(params=[1, 2])
def n_threads(request):
    before = torch.get_num_threads()
    torch.set_num_threads(request.param)
    yield
    torch.set_num_threads(before)


@pytest.mark.usefixtures("n_threads")
@pytest.mark.parametrize("shape", [(13,), (1, 8, 8)])
def test_rows_do_not_depend_on_the_rows_around_them(device, shape):
    encoder = make_encoder(shape, device)
    X = torch.randn(600, *shape, generator=torch.Generator().manual_seed(0))
    whole = forward_in_blocks(encoder, X, device)
    for rows in ([0], [599], [3, 3], [17, 400, 255, 256], list(range(599, -1, -1))):
        assert torch.equal(forward_in_blocks(encoder, X[rows], device), whole[rows])


def test_equals_one_pass(device):
    encoder = make_encoder((13,), device)
    X = torch.randn(600, 13, generator=torch.Generator().manual_seed(0)).to(device)
    blocks = forward_in_blocks(encoder, X, device)
    with torch.inference_mode():
        torch.testing.assert_close(blocks, encoder(X), rtol=1e-4, atol=1e-5)
    assert blocks.device.type == device.type
    assert not blocks.requires_grad


def test_all_blocks_have_one_shape():
    shapes = []

    def function(x):
        shapes.append(tuple(x.shape))
        return x[:, :1]

    X = torch.arange(1200.0).reshape(600, 2)
    output = forward_in_blocks(function, X, torch.device("cpu"))
    assert torch.equal(output, X[:, :1])
    assert len(shapes) == 3
    assert set(shapes) == {(block_rows("cpu", 2), 2)}


def test_bytes_become_floats(device):
    X = torch.tensor([[0, 51, 255]], dtype=torch.uint8)
    output = forward_in_blocks(lambda x: x, X, device)
    np.testing.assert_allclose(to_numpy(output), [[0, 0.2, 1]], rtol=1e-6)
    assert X.tolist() == [[0, 51, 255]]


def test_block_rows_are_few_for_wide_rows():
    assert block_rows("cpu", 10) == 256
    assert block_rows("cpu", 2**22) == 1
    assert block_rows("cpu", 2**40) == 1
    assert block_rows("cuda", 10) == 4096


def test_distances_in_blocks_equal_the_loop(device, monkeypatch):
    from sklearn_ckm._training import _inference

    monkeypatch.setitem(_inference._BLOCK_ELEMENTS, "cpu", 40)  # three rows a block
    z, centers = random_clusters(17)
    distances = distances_in_blocks(
        torch.tensor(z, device=device), torch.tensor(centers, device=device)
    )
    np.testing.assert_allclose(to_numpy(distances), loop_squared_distances(z, centers), rtol=1e-12)


def test_embedding_is_taken_in_eval_mode():
    encoder = nn.Sequential(nn.Linear(4, 3), nn.Dropout(0.5))
    model = ClusteringModel(encoder, nn.Linear(3, 4)).train()
    X = torch.ones(300, 4)
    z = embed(model, X, torch.device("cpu"))
    assert torch.equal(z, embed(model, X, torch.device("cpu")))
    assert (z == z[0]).all()
