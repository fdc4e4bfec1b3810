import importlib
from dataclasses import replace
from functools import partial

import joblib
import numpy as np
import pytest
import torch
from skorch.callbacks import Freezer, LRScheduler
from torch import nn

from sklearn_ckm import ConcreteKMeans
from sklearn_ckm._training import _hash, _pretraining_cache
from sklearn_ckm._training._phases import TrainingData, TrainingSettings, pretrain
from sklearn_ckm._training._pretraining_cache import cached_pretraining
from sklearn_ckm.modules import ClusteringModel, DenseEncoder, build_autoencoder

CPU = torch.device("cpu")
SETTINGS = TrainingSettings(CPU, lr=1e-2, batch_size=16, optimizer=torch.optim.Adam)


def normalising_encoder(input_shape, n_components):
    return nn.Sequential(nn.Linear(input_shape[0], n_components), nn.BatchNorm1d(n_components))


def make_data(*, shift=0.0, has_source=False):
    generator = torch.Generator().manual_seed(0)
    target = torch.randn(40, 4, generator=generator)
    target[3, 2] += shift
    return TrainingData(target, torch.randn(30, 4, generator=generator) if has_source else None)


def make_model(encoder=normalising_encoder, seed=0):
    with torch.random.fork_rng(devices=[]):
        torch.manual_seed(seed)
        return ClusteringModel(*build_autoencoder(encoder, (4,), 3))


@pytest.fixture
def n_trained(monkeypatch):
    """A list that grows by one with every training that is not taken from the cache."""
    calls = []

    def counted(*args, **kwargs):
        calls.append(kwargs)
        return pretrain(*args, **kwargs)

    monkeypatch.setattr(_pretraining_cache, "pretrain", counted)
    return calls


def run(memory, *, model=None, data=None, settings=SETTINGS, encoder=normalising_encoder, **kwargs):
    model = model or make_model(encoder)
    kwargs = {"max_epochs": 1, "seed": 0, **kwargs}
    history, _ = cached_pretraining(
        memory, model, data or make_data(), settings, encoder=encoder, **kwargs
    )
    return model, history


def assert_equal_weights(first, second):
    for name, value in first.state_dict().items():
        assert torch.equal(value, second.state_dict()[name]), name


@pytest.mark.parametrize(
    "encoder", ["mlp-small", normalising_encoder, partial(DenseEncoder, hidden=(5,))]
)
def test_second_call_loads_what_the_first_trained(tmp_path, n_trained, encoder):
    first, first_history = run(str(tmp_path), encoder=encoder)
    second, second_history = run(str(tmp_path), encoder=encoder)
    assert len(n_trained) == 1
    assert_equal_weights(first, second)
    assert first_history == second_history

    plain = make_model(encoder)
    history, _ = pretrain(plain, make_data(), SETTINGS, max_epochs=1, seed=0)
    assert_equal_weights(plain, second)
    assert history == second_history


def test_loaded_weights_can_be_trained_without_touching_the_cache(tmp_path, n_trained):
    first, _ = run(str(tmp_path))
    kept = {name: value.clone() for name, value in first.state_dict().items()}
    with torch.no_grad():
        for parameter in first.parameters():
            parameter.zero_()
    second, _ = run(str(tmp_path))
    assert len(n_trained) == 1
    assert all(torch.equal(kept[name], value) for name, value in second.state_dict().items())


@pytest.mark.parametrize(
    "change",
    [
        {"seed": 1},
        {"max_epochs": 2},
        {"settings": replace(SETTINGS, lr=2e-2)},
        {"settings": replace(SETTINGS, batch_size=15)},
        {"settings": replace(SETTINGS, optimizer=torch.optim.SGD)},
        {"settings": replace(SETTINGS, optimizer=partial(torch.optim.Adam, betas=(0.5, 0.9)))},
        {"settings": replace(SETTINGS, precision="bfloat16")},
        {"data": make_data(shift=1e-3)},
        {"data": make_data(has_source=True)},
        {"model": make_model(seed=1)},
        {"encoder": "mlp-small"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_changed_arguments_train_anew(tmp_path, n_trained, change):
    run(str(tmp_path))
    run(str(tmp_path), **change)
    assert len(n_trained) == 2


def test_edited_encoder_trains_anew(tmp_path, monkeypatch, n_trained):
    source = "from torch import nn\ndef encoder(shape, n):\n    return nn.Linear(shape[0], n)\n"
    path = tmp_path / "encoder_in_progress.py"
    path.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    module = importlib.import_module("encoder_in_progress")
    for _ in range(2):
        run(str(tmp_path / "cache"), encoder=module.encoder)
    assert len(n_trained) == 1
    path.write_text(source.replace("return", "# edited\n    return"))
    module = importlib.reload(module)
    run(str(tmp_path / "cache"), encoder=module.encoder)
    assert len(n_trained) == 2


def test_edited_module_of_an_encoder_trains_anew(tmp_path, monkeypatch, n_trained):
    """The encoder is a function, and what was edited is a module inside the module it makes."""
    source = """
from torch import nn

class Block(nn.Module):
    def __init__(self, n, m):
        super().__init__()
        self.layer = nn.Linear(n, m)

    def forward(self, x):
        return self.layer(x).tanh()

def encoder(shape, n):
    return nn.Sequential(Block(shape[0], 8), nn.Linear(8, n))
"""
    path = tmp_path / "blocks_in_progress.py"
    path.write_text(source)
    monkeypatch.syspath_prepend(tmp_path)
    importlib.invalidate_caches()
    module = importlib.import_module("blocks_in_progress")
    for _ in range(2):
        run(str(tmp_path / "cache"), encoder=module.encoder)
    assert len(n_trained) == 1
    path.write_text(source.replace("tanh", "cos"))
    module = importlib.reload(module)
    run(str(tmp_path / "cache"), encoder=module.encoder)
    assert len(n_trained) == 2


@pytest.mark.parametrize("kind", ["str", "Memory"])
def test_memory_of_either_kind(tmp_path, n_trained, kind):
    for _ in range(2):
        run(str(tmp_path) if kind == "str" else joblib.Memory(tmp_path, verbose=0))
    assert len(n_trained) == 1


def test_verbosity_does_not_matter(tmp_path, n_trained, capsys):
    run(str(tmp_path))
    run(str(tmp_path), settings=replace(SETTINGS, verbose=1))
    assert len(n_trained) == 1


@pytest.mark.parametrize("kind", ["lambda", "local", "interactive"])
def test_encoder_that_cannot_be_hashed_raises(tmp_path, kind):
    def local(shape, n):
        return nn.Linear(shape[0], n)

    namespace = {"nn": nn}
    exec("def interactive(shape, n):\n    return nn.Linear(shape[0], n)", namespace)
    encoder = {
        "lambda": lambda shape, n: nn.Linear(shape[0], n),
        "local": local,
        "interactive": namespace["interactive"],  # as typed at a prompt: it has no source
    }[kind]
    message = r"can be hashed when 'memory' is set, got encoder=<function.*top level of a module"
    with pytest.raises(ValueError, match=message):
        run(str(tmp_path), encoder=encoder)


def test_optimizer_that_cannot_be_hashed_raises(tmp_path):
    settings = replace(SETTINGS, optimizer=lambda parameters, lr: torch.optim.SGD(parameters, lr))
    with pytest.raises(ValueError, match=r"can be hashed.*optimizer=<function"):
        run(str(tmp_path), settings=settings)


def test_cache_does_not_change_what_callbacks_do_to_the_weights(tmp_path):
    schedule = LRScheduler(torch.optim.lr_scheduler.StepLR, step_size=1, gamma=0.01)
    settings = replace(SETTINGS, callbacks=[schedule])
    run(str(tmp_path), max_epochs=3)  # the cache holds a training without the schedule
    cached, _ = run(str(tmp_path), settings=settings, max_epochs=3)
    plain = make_model()
    pretrain(plain, make_data(), settings, max_epochs=3, seed=0)
    assert_equal_weights(plain, cached)


def test_frozen_parameters_survive_the_cache(tmp_path):
    settings = replace(SETTINGS, callbacks=[Freezer("encoder.*weight")])
    plain = make_model()
    pretrain(plain, make_data(), settings, max_epochs=1, seed=0)
    frozen = {name for name, p in plain.named_parameters() if not p.requires_grad}
    assert frozen
    for _ in range(2):  # computed, then loaded
        model, _ = run(str(tmp_path), settings=settings)
        assert {n for n, p in model.named_parameters() if not p.requires_grad} == frozen


def test_state_of_the_optimizer_survives_the_cache(tmp_path):
    data, encoder = make_data(), normalising_encoder
    plain = make_model(encoder)
    _, expected = pretrain(plain, data, SETTINGS, max_epochs=1, seed=0)
    arguments = {"encoder": encoder, "max_epochs": 1, "seed": 0}
    for _ in range(2):  # computed, then loaded
        model = make_model(encoder)
        _, state = cached_pretraining(str(tmp_path), model, data, SETTINGS, **arguments)
        assert set(state) == set(expected) == {name for name, _ in plain.named_parameters()}
        for name, values in expected.items():
            for key, value in values.items():
                assert torch.equal(torch.as_tensor(state[name][key]), value), (name, key)


@pytest.mark.parametrize("kind", ["file", "below a file", "unmakeable"])
def test_folder_that_cannot_be_made_is_told(tmp_path, monkeypatch, kind):
    path = tmp_path / "file"
    if kind == "unmakeable":

        def refuse(*args, **kwargs):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr("os.makedirs", refuse)
    else:
        path.touch()
    path = path / "sub" if kind == "below a file" else path
    message = r"folder that can be written to in memory, got '.*file.*\(.*\)\. .*memory=None"
    with pytest.raises(OSError, match=message):
        run(str(path))


def test_folder_as_a_path_is_the_folder(tmp_path, n_trained):
    run(str(tmp_path))
    run(tmp_path)
    assert len(n_trained) == 1
    model = ConcreteKMeans(2, pretrain_epochs=1, max_epochs=1, random_state=0, memory=tmp_path)
    model.fit(np.random.default_rng(0).normal(size=(30, 4)))
    assert len(n_trained) == 2


def test_another_source_trains_anew(tmp_path, n_trained):
    data = make_data(has_source=True)
    run(str(tmp_path), data=data)
    run(str(tmp_path), data=replace(data, source=data.source + 1e-3))
    assert len(n_trained) == 2


def test_key_tells_devices_apart():
    settings = [replace(SETTINGS, device=torch.device(name)) for name in ("cpu", "cuda")]
    keys = {_pretraining_cache._key(make_model(), make_data(), s, "mlp", None) for s in settings}
    assert len(keys) == 2


@pytest.mark.parametrize("wrap", [partial, lambda f: [("named", f)]], ids=["partial", "named"])
def test_edited_code_in_a_wrapping_has_another_hash(tmp_path, monkeypatch, wrap):
    path = tmp_path / "wrapped_in_progress.py"
    monkeypatch.syspath_prepend(tmp_path)
    keys = set()
    for edit in ("", "# edited"):
        path.write_text(f"def made(shape, n): {edit}\n    return n\n")
        importlib.invalidate_caches()
        module = importlib.reload(importlib.import_module("wrapped_in_progress"))
        keys.add(
            _pretraining_cache.hash_fit({}, {"encoder": wrap(module.made)}, parameter="memory")
        )
    assert len(keys) == 2


def test_another_version_trains_anew(tmp_path, monkeypatch, n_trained):
    run(str(tmp_path))
    monkeypatch.setattr(_hash, "__version__", "0.0.0")
    run(str(tmp_path))
    assert len(n_trained) == 2


def test_memory_that_maps_files(tmp_path, n_trained):
    memory = joblib.Memory(tmp_path, mmap_mode="r", verbose=0)
    first, second = (run(memory)[0] for _ in range(2))
    assert len(n_trained) == 1
    assert_equal_weights(first, second)
