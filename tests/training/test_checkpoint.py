"""Broken fits: killed ones that go on, and what their folder holds."""

import os
import pickle
import signal
import subprocess
import sys
import time
import warnings
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest
import torch
from numpy.testing import assert_array_equal
from sklearn.exceptions import ConvergenceWarning
from skorch.callbacks import Callback, EarlyStopping, Freezer, LRScheduler
from skorch.callbacks import Checkpoint as SkorchCheckpoint
from torch import nn

from sklearn_ckm import (
    CKMDomainAdapter,
    CKMSemiSupervisedAdapter,
    ConcreteKMeans,
    _deep_clusterer,
    _networks,
)
from sklearn_ckm._training import _rivals, _starts, _state
from sklearn_ckm._training._checkpoint import Checkpoint
from sklearn_ckm._training._fit_tasks import FitTasks
from sklearn_ckm._training._hash import hash_fit
from sklearn_ckm._training._nets import FineTuningNet
from sklearn_ckm.objectives import ConcreteKMeansObjective

pytestmark = [
    pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning"),
    pytest.mark.usefixtures("ctrl_c"),
]

RNG = np.random.default_rng(0)
X_TGT = (RNG.normal(size=(60, 6)) + np.repeat(np.eye(3, 6) * 6, 20, 0)).astype(np.float32)
X_SRC = (RNG.normal(size=(40, 6)) + np.repeat(np.eye(2, 6) * 6, 20, 0)).astype(np.float32)
Y_SRC = np.repeat([0, 1], 20)
Y_FEW = np.full(60, -1)
Y_FEW[[0, 1, 20, 21, 40, 41]] = [5, 5, 6, 6, 7, 7]

KINDS = {
    "clusterer": (ConcreteKMeans, (X_TGT,), {}),
    "adapter": (CKMDomainAdapter, (X_SRC, Y_SRC), {"X_tgt": X_TGT}),
    "semi-supervised": (CKMSemiSupervisedAdapter, (X_SRC, Y_SRC), {"X_tgt": X_TGT, "y_tgt": Y_FEW}),
}
EPOCHS = 4


class Failure(Exception):
    pass


class Breaks(Callback):
    """Ends the fit in one batch of one epoch of one phase, once for each instance in use."""

    broken = False

    def __init__(self, phase, epoch):
        self.phase = phase
        self.epoch = epoch

    def on_grad_computed(self, net, named_parameters, **kwargs):
        if (net.phase, len(net.history)) == (self.phase, self.epoch) and not Breaks.broken:
            Breaks.broken = True
            raise Failure


@pytest.fixture(params=KINDS)
def kind(request):
    return request.param


def make(kind, **params):
    params = {
        "n_clusters": 3,
        "n_components": 3,
        "pretrain_epochs": EPOCHS,
        "max_epochs": EPOCHS,
        "batch_size": 16,
        "random_state": 0,
        **params,
    }
    return KINDS[kind][0](**params)


def fit(kind, model):
    _, args, kwargs = KINDS[kind]
    return model.fit(*args, **kwargs)


def assert_equal_models(a, b):
    assert_array_equal(a.transform(X_TGT), b.transform(X_TGT))
    assert_array_equal(a.cluster_centers_, b.cluster_centers_)
    assert_array_equal(a.labels_, b.labels_)
    assert (a.history_, a.stop_reason_, a.n_iter_) == (b.history_, b.stop_reason_, b.n_iter_)
    assert a.temperature_ == b.temperature_


def break_and_resume(kind, folder, phase, epoch, **params):
    callbacks = [*params.pop("callbacks", []), Breaks(phase, epoch)]
    Breaks.broken = False
    with pytest.raises(Failure):
        fit(kind, make(kind, checkpoint=folder, callbacks=callbacks, **params))
    n_files = sum(len(files) for _, _, files in os.walk(folder))
    resumed = fit(kind, make(kind, checkpoint=folder, callbacks=callbacks, **params))
    whole = fit(kind, make(kind, callbacks=callbacks, **params))
    assert_equal_models(resumed, whole)
    assert not os.listdir(folder)  # done
    return n_files


@pytest.mark.parametrize("phase", ["pretrain", "finetune"])
@pytest.mark.parametrize("epoch", [1, 3])
def test_broken_fit_goes_on_to_the_same_model(kind, tmp_path, phase, epoch):
    n_files = break_and_resume(kind, tmp_path, phase, epoch)
    # the seed, and each phase of which an epoch is done
    assert n_files == 1 + (phase == "finetune") + (epoch > 1)


@pytest.mark.parametrize("epoch", [1, 2, 3])
def test_fit_with_several_starts_goes_on(kind, tmp_path, epoch):
    break_and_resume(kind, tmp_path, "finetune", epoch, n_init=3, max_epochs=5)


@pytest.mark.parametrize("objective", ["dec", "dcn", "soft-kmeans"])
def test_state_of_the_objective_goes_on(tmp_path, objective):
    break_and_resume("adapter", tmp_path, "finetune", 3, objective=objective)


def test_reseeding_dropout_and_other_optimizers_go_on(tmp_path):
    objective = ConcreteKMeansObjective(reseed_empty=True)
    params = {"n_clusters": 6, "objective": objective, "encoder": DropoutEncoder}
    break_and_resume("clusterer", tmp_path, "finetune", 3, **params)
    break_and_resume("clusterer", tmp_path, "pretrain", 3, optimizer="sgd", lr=1e-3)


def test_callbacks_go_on(tmp_path):
    callbacks = [
        EarlyStopping("reconstruction", patience=2, threshold=0.5, sink=str),
        LRScheduler("StepLR", step_size=1, gamma=0.5),
        HasOpenFile(),
    ]
    params = {"callbacks": callbacks, "pretrain_epochs": 2, "max_epochs": 9}
    break_and_resume("adapter", tmp_path, "finetune", 3, **params)


def test_best_weights_so_far_go_on(tmp_path):
    best = EarlyStopping("train_loss", patience=9, lower_is_better=False, load_best=True, sink=str)
    break_and_resume("adapter", tmp_path, "finetune", 4, callbacks=[best])


def test_frozen_layers_stay_frozen(tmp_path):
    freezer = Freezer("encoder.layers.1.*")
    break_and_resume("clusterer", tmp_path, "finetune", 3, callbacks=[freezer])


@pytest.mark.parametrize("epoch", [1, 3])
def test_checkpoints_of_skorch_go_on(tmp_path, epoch):
    kept = SkorchCheckpoint("train_loss_best", dirname=str(tmp_path / "kept"), load_best=True)
    kept.sink = str
    break_and_resume("adapter", tmp_path / "fit", "finetune", epoch, callbacks=[kept])


class Shifted(nn.Module):
    """A view with a tensor of its own."""

    def __init__(self):
        super().__init__()
        self.register_buffer("shift", torch.full((6,), 0.1))

    def forward(self, x, generator):
        return x + self.shift * torch.randn(x.shape, generator=generator)


HASHED = """
import sys, torch
from functools import partial
from sklearn_ckm._training._hash import hash_fit
values = torch.arange(4.0)
given = {"encoder": partial(max, values), "view": torch.nn.Linear(2, 1, bias=False)}
with torch.no_grad():
    given["view"].weight.fill_(0.5)
print(hash_fit({}, given, parameter="memory"))
"""


def test_tensors_are_hashed_alike_in_every_process():
    run = [sys.executable, "-c", HASHED]
    keys = {subprocess.run(run, capture_output=True, check=True).stdout for _ in range(2)}
    assert len(keys) == 1


def test_tensors_are_hashed_by_their_values():
    tensors = [
        torch.zeros(4),
        torch.ones(4),
        torch.zeros(2, 2),
        torch.zeros(4, dtype=torch.float64),
        torch.zeros(8, dtype=torch.bfloat16),
        torch.zeros(4, requires_grad=True),
        torch.tensor(0.0),
    ]
    keys = {hash_fit({}, {"encoder": t}, parameter="memory") for t in tensors}
    assert len(keys) == len(tensors)
    again = torch.zeros(8)[::2]
    assert hash_fit({}, {"encoder": again}, parameter="memory") in keys


def test_fit_with_a_tensor_in_a_parameter_goes_on(tmp_path):
    Breaks.broken = False
    callbacks = [Breaks("finetune", 3)]
    with pytest.raises(Failure):
        fit(
            "adapter",
            make("adapter", checkpoint=tmp_path, callbacks=callbacks, augmentation=Shifted()),
        )
    folders = os.listdir(tmp_path)
    fit(
        "adapter", make("adapter", checkpoint=tmp_path, callbacks=callbacks, augmentation=Shifted())
    )
    assert folders and not os.listdir(tmp_path)


class HasOpenFile(Callback):
    def on_train_begin(self, net, **kwargs):
        self.file = open(os.devnull)  # noqa: SIM115

    def on_train_end(self, net, **kwargs):
        self.file.close()


def DropoutEncoder(input_shape, n_components):
    return nn.Sequential(nn.Linear(*input_shape, 8), nn.ReLU(), nn.Dropout(), nn.Linear(8, 3))


@pytest.mark.parametrize("random_state", [None, 0])
def test_seed_of_a_broken_fit_is_kept(tmp_path, random_state):
    model = make("clusterer", checkpoint=tmp_path, random_state=random_state)
    Breaks.broken = False
    with pytest.raises(Failure):
        model.set_params(callbacks=[Breaks("finetune", 3)]).fit(X_TGT)
    (folder,) = tmp_path.iterdir()
    model.fit(X_TGT)
    kept = [record for record in model.history_ if record["phase"] == "pretrain"]
    assert len(kept) == EPOCHS
    assert not folder.exists()
    whole = make("clusterer", random_state=random_state, callbacks=model.callbacks)
    if random_state is not None:
        assert_equal_models(model, whole.fit(X_TGT))


def test_other_fits_have_folders_of_their_own(kind, tmp_path):
    variants = [
        {},
        {"lr": 2e-3},
        {"random_state": 1},
        {"n_clusters": 4},
        {"objective": ConcreteKMeansObjective(noise=False)},
    ]
    for i, params in enumerate(variants):
        Breaks.broken = False
        with pytest.raises(Failure):
            fit(kind, make(kind, checkpoint=tmp_path, callbacks=[Breaks("pretrain", 2)], **params))
        assert len(os.listdir(tmp_path)) == i + 1
    model = make(kind, checkpoint=tmp_path, callbacks=[Breaks("pretrain", 2)])
    Breaks.broken = False
    with pytest.raises(Failure):
        fit_other_data(kind, model)
    assert len(os.listdir(tmp_path)) == len(variants) + 1


def fit_other_data(kind, model):
    _, args, kwargs = KINDS[kind]
    return model.fit(args[0] + 1, *args[1:], **kwargs)


def test_what_changes_no_result_finds_the_same_folder(tmp_path, capsys):
    Breaks.broken = False
    with pytest.raises(Failure):
        fit("adapter", make("adapter", checkpoint=tmp_path, callbacks=[Breaks("finetune", 2)]))
    params = {"verbose": 2, "memory": str(tmp_path / "memory"), "device": "cpu"}
    model = make("adapter", checkpoint=str(tmp_path), callbacks=[Breaks("finetune", 2)], **params)
    fit("adapter", model)
    assert os.listdir(tmp_path) == ["memory"]
    lines = capsys.readouterr().out.splitlines()
    epochs = [line.split()[0] for line in lines if line.split()[0].isdigit()]
    assert epochs == ["2", "3", "4"]  # of the fine-tuning; the pretraining was done


def test_interrupted_fit_can_be_continued(kind, tmp_path):
    callbacks = [Interrupts(2)]
    Interrupts.done = False
    model = fit(kind, make(kind, checkpoint=tmp_path, callbacks=callbacks))
    assert (model.stop_reason_, model.n_iter_) == ("interrupted", 1)
    fit(kind, model)
    assert (model.stop_reason_, model.n_iter_) == ("max_epochs", EPOCHS)
    assert_equal_models(model, fit(kind, make(kind, callbacks=callbacks)))


class Interrupts(Callback):
    """Sends the process what Ctrl-C sends, once, in the first batch of an epoch of fine-tuning."""

    done = False

    def __init__(self, epoch):
        self.epoch = epoch

    def on_grad_computed(self, net, named_parameters, **kwargs):
        if net.phase == "finetune" and len(net.history) == self.epoch and not Interrupts.done:
            Interrupts.done = True
            signal.raise_signal(signal.SIGINT)


@pytest.mark.filterwarnings("error")
@pytest.mark.parametrize("n_init", [1, 3])
def test_interrupted_fit_is_usable_and_warns(kind, n_init):
    Interrupts.done = False
    model = make(kind, callbacks=[Interrupts(2)], n_init=n_init, max_epochs=30)
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        fit(kind, model)
    message = f"{type(model).__name__} was interrupted after 1 epochs of fine-tuning of 30"
    (warning,) = [w for w in caught if message in str(w.message)]
    assert issubclass(warning.category, ConvergenceWarning)
    assert warning.filename == __file__
    assert model.stop_reason_ == "interrupted"
    assert model.n_iter_ == len(model.history_) - EPOCHS == 1
    assert_array_equal(model.predict(X_TGT), model.labels_)
    assert np.isfinite(model.transform(X_TGT)).all()


def interrupt_before(patch, owner, name, call=1, presses=1):
    """Ctrl-C when a function is called for the n-th time."""
    function, n_calls = getattr(owner, name), iter(range(1, 1000))

    def interrupted(*args, **kwargs):
        if next(n_calls) == call:
            for _ in range(presses):
                signal.raise_signal(signal.SIGINT)
        return function(*args, **kwargs)

    patch.setattr(owner, name, interrupted)


MOMENTS = {
    "placing the centres": (_rivals, "set_centers", 1, 0),
    "scoring a start": (_starts, "score_start", 1, EPOCHS),
    "pretraining another start": (_networks, "pretrain", 2, EPOCHS),
    "placing the centres of another start": (_rivals, "set_centers", 2, EPOCHS),
    "reading off the labels": (_deep_clusterer, "strip_net", 1, EPOCHS),
    "diagnosis": (_deep_clusterer, "find_center_problems", 1, EPOCHS),
    "ending the tasks": (FitTasks, "finish", 1, EPOCHS),
}


@pytest.mark.parametrize("moment", MOMENTS)
def test_interrupt_outside_the_epochs_leaves_a_fitted_model(kind, moment, monkeypatch, tmp_path):
    owner, name, call, n_epochs = MOMENTS[moment]
    model = make(kind, n_init=3, checkpoint=tmp_path)
    with monkeypatch.context() as patch, pytest.warns(ConvergenceWarning) as caught:
        interrupt_before(patch, owner, name, call)
        fit(kind, model)
    (warning,) = [w for w in caught if "was interrupted" in str(w.message)]
    is_between = "start" in moment
    expected = "in start 2 of 3, and is the best of those before" if is_between else "after"
    assert expected in str(warning.message)
    assert warning.filename == __file__
    assert (model.stop_reason_, model.n_iter_) == ("interrupted", n_epochs)
    assert_array_equal(model.predict(X_TGT), model.labels_)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler

    fit(kind, model)  # the same call goes on
    assert (model.stop_reason_, model.n_iter_) == ("max_epochs", EPOCHS)
    assert_equal_models(model, fit(kind, make(kind, n_init=3)))
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("moment", MOMENTS)
def test_second_interrupt_is_raised(moment, monkeypatch):
    owner, name, call, _ = MOMENTS[moment]
    interrupt_before(monkeypatch, owner, name, call, presses=2)
    model = make("adapter", n_init=3)
    with pytest.raises(KeyboardInterrupt):
        fit("adapter", model)
    assert not hasattr(model, "labels_")
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("n_epochs", [0, 1, 3])
def test_impatience_leaves_no_state_half_copied(n_epochs, monkeypatch):
    call = EPOCHS + 1 + n_epochs + 1  # either phase copies its state first, and after each epoch
    model = make("adapter", max_epochs=30)
    with monkeypatch.context() as patch, pytest.warns(ConvergenceWarning, match="was interrupted"):
        interrupt_before(patch, _state, "_global_random_states", call, presses=3)
        fit("adapter", model)
    assert (model.stop_reason_, model.n_iter_) == ("interrupted", n_epochs)
    assert_array_equal(model.predict(X_TGT), model.labels_)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_impatience_leaves_no_state_half_restored(monkeypatch):
    Interrupts.done = False
    model = make("adapter", max_epochs=30, callbacks=[Interrupts(3)])
    with monkeypatch.context() as patch, pytest.warns(ConvergenceWarning, match="was interrupted"):
        interrupt_before(patch, _state, "set_trained_parameters", presses=3)
        fit("adapter", model)
    assert (model.stop_reason_, model.n_iter_) == ("interrupted", 2)
    assert_array_equal(model.predict(X_TGT), model.labels_)


@pytest.mark.filterwarnings("ignore::sklearn.exceptions.ConvergenceWarning")
def test_broken_counting_by_views_goes_on(tmp_path):
    rows = np.random.default_rng(0).uniform(size=(60, 1, 8, 8)).astype(np.float32)
    params = {"n_clusters": "auto", "n_components": 3, "encoder": "mlp-small", "max_epochs": 3}
    whole = make("clusterer", **params).fit(rows)
    trained, epoch = [], FineTuningNet.on_train_epoch_end

    def breaking(self, n_batches):
        epoch(self, n_batches)
        trained.append(len(self.monitors.count()))
        if len(trained) == 5:
            raise KeyboardInterrupt

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(FineTuningNet, "on_train_epoch_end", breaking)
        with pytest.raises(KeyboardInterrupt):
            make("clusterer", **params, checkpoint=tmp_path).fit(rows)
        trained.append("again")
        model = make("clusterer", **params, checkpoint=tmp_path).fit(rows)
    assert trained[:8] == [2, 2, 2, 3, 3, "again", 3, 3]  # of three epochs each
    assert_array_equal(model.transform(rows), whole.transform(rows))
    assert model.history_ == whole.history_
    for name, values in whole.n_clusters_curve_.items():
        assert_array_equal(values, model.n_clusters_curve_[name])


@pytest.mark.parametrize(
    ("owner", "name"), [(_networks, "pretrain"), (_deep_clusterer, "count_clusters")]
)
def test_interrupt_before_the_fine_tuning_is_raised(owner, name, monkeypatch):
    interrupt_before(monkeypatch, owner, name)
    model = make("clusterer", n_clusters="auto")
    with pytest.raises(KeyboardInterrupt):
        model.fit(X_TGT)
    assert not hasattr(model, "labels_")


def test_interrupt_in_the_last_batch_keeps_the_epoch():
    class InterruptsLast(Callback):
        def on_batch_end(self, net, **kwargs):
            n_batches = len(net.history[-1]["batches"])
            if net.phase == "finetune" and len(net.history) == 2 and n_batches == 4:
                signal.raise_signal(signal.SIGINT)

    model = fit("clusterer", make("clusterer", callbacks=[InterruptsLast()]))
    assert (model.stop_reason_, model.n_iter_) == ("interrupted", 2)


def test_handler_of_the_program_is_left_in_place():
    seen = []
    signal.signal(signal.SIGINT, lambda *args: seen.append(args))
    Interrupts.done = False
    model = fit("clusterer", make("clusterer", callbacks=[Interrupts(2)]))
    assert len(seen) == 1
    assert model.stop_reason_ == "max_epochs"


def test_fit_in_another_thread_leaves_the_handler_alone():
    with ThreadPoolExecutor() as pool:
        model = pool.submit(fit, "clusterer", make("clusterer")).result()
    assert model.stop_reason_ == "max_epochs"
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


@pytest.mark.parametrize("damage", [b"", b"not a state", None, "another state"])
def test_damaged_state_is_refused(tmp_path, damage):
    callbacks = [Breaks("finetune", 3)]
    Breaks.broken = False
    with pytest.raises(Failure):
        fit("adapter", make("adapter", checkpoint=tmp_path, callbacks=callbacks))
    (path,) = tmp_path.glob("*/finetune.pt")
    if damage == "another state":
        torch.save({"state": {}}, path)
    else:
        path.write_bytes(path.read_bytes()[:500] if damage is None else damage)
    with pytest.raises(ValueError, match=r"state of a broken fit.*finetune\.pt.*Delete its folder"):
        fit("adapter", make("adapter", checkpoint=tmp_path, callbacks=callbacks))


@pytest.mark.parametrize("damage", [b"", b"12x", b"-1", b"null", b"1.5", b"true", b"\xff"])
def test_damaged_seed_is_refused(tmp_path, damage):
    model = make("adapter", checkpoint=tmp_path, callbacks=[Breaks("pretrain", 2)])
    Breaks.broken = False
    with pytest.raises(Failure):
        fit("adapter", model)
    (path,) = tmp_path.glob("*/seed.json")
    path.write_bytes(damage)
    message = r"the seed of a broken fit in .*seed\.json.*cannot be read \(.*Delete its folder"
    with pytest.raises(ValueError, match=message):
        fit("adapter", model)
    path.unlink()
    path.mkdir()
    with pytest.raises(ValueError, match=message):
        fit("adapter", model)


@pytest.mark.parametrize("below", [".", "folder"])
def test_path_of_a_file_is_refused(kind, tmp_path, below):
    path = tmp_path / "file"
    path.write_text("mine")
    model = make(kind, checkpoint=path / below)
    message = r"folder that can be written to in checkpoint, got '.*file.*Choose another one"
    with pytest.raises(OSError, match=message):
        fit(kind, model)
    assert path.read_text() == "mine"
    assert not hasattr(model, "labels_")


def test_folder_that_cannot_be_written_to_is_refused(tmp_path):
    tmp_path.chmod(0o500)
    if os.access(tmp_path, os.W_OK):
        pytest.skip("whoever runs this may write anywhere")
    message = r"can be written to in checkpoint, got '.*Permission denied.*or checkpoint=None"
    with pytest.raises(OSError, match=message):
        fit("clusterer", make("clusterer", checkpoint=tmp_path))


@pytest.mark.parametrize("error", [OSError("No space left"), RuntimeError("file write failed")])
def test_disk_that_is_full_later_is_told(tmp_path, monkeypatch, error):
    def save(*args, **kwargs):
        raise error

    monkeypatch.setattr(torch, "save", save)
    model = make("clusterer", checkpoint=tmp_path)
    with pytest.raises(OSError, match=rf"written to in checkpoint, got .*\({error}\)"):
        model.fit(X_TGT)
    assert not hasattr(model, "labels_")


def test_what_cannot_be_told_apart_is_refused(tmp_path):
    def local(input_shape, n_components):
        return DropoutEncoder(input_shape, n_components)

    with pytest.raises(
        ValueError, match=r"can be hashed when 'checkpoint' is set.*checkpoint=None"
    ):
        make("clusterer", encoder=local, checkpoint=tmp_path).fit(X_TGT)
    assert not os.listdir(tmp_path)


def test_lock_file_that_cannot_be_removed_while_it_is_held_stays(tmp_path, monkeypatch):
    unlink = Path.unlink

    def refusing(path, **kwargs):  # as on Windows
        if path.suffix == ".lock":
            raise PermissionError(path)
        return unlink(path, **kwargs)

    monkeypatch.setattr(Path, "unlink", refusing)
    for _ in range(2):
        model = fit("clusterer", make("clusterer", checkpoint=tmp_path))
        assert model.stop_reason_ == "max_epochs"
    assert not [path for path in tmp_path.iterdir() if path.suffix != ".lock"]


def test_no_name_is_no_folder():
    with pytest.raises(ValueError, match="Expected 'checkpoint' to be a folder, got ''"):
        make("clusterer", checkpoint="").fit(X_TGT)


@pytest.mark.parametrize("random_state", [None, 0])
def test_equal_fits_at_a_time_have_states_of_their_own(tmp_path, random_state):
    class FitsAnother(Callback):
        others = []

        def on_epoch_end(self, net, **kwargs):
            if net.phase == "finetune" and len(net.history) == 2 and not self.others:
                other = make("clusterer", checkpoint=tmp_path, random_state=random_state)
                self.others.append(other)
                assert len(list(tmp_path.glob("*.lock"))) == 1
                fit("clusterer", other)
                assert len(list(tmp_path.glob("*.lock"))) == 1

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sklearn_ckm._deep_clusterer.hash_fit", lambda *args, **kwargs: "key")
        model = make("clusterer", checkpoint=tmp_path, callbacks=[FitsAnother()])
        model = fit("clusterer", model.set_params(random_state=random_state))
    (other,) = FitsAnother.others
    if random_state is None:
        assert not np.array_equal(model.transform(X_TGT), other.transform(X_TGT))
    else:
        assert_equal_models(model, other)
        assert_equal_models(model, fit("clusterer", make("clusterer")))
    assert not os.listdir(tmp_path)


def test_fits_broken_at_a_time_all_go_on(tmp_path):
    with Checkpoint(tmp_path, "key") as first, Checkpoint(tmp_path, "key") as second:
        assert [first.keep_seed(1), second.keep_seed(2)] == [1, 2]
    with Checkpoint(tmp_path, "key") as first, Checkpoint(tmp_path, "key") as second:
        assert [first.keep_seed(3), second.keep_seed(4)] == [1, 2]
        first.clear()
        assert second.keep_seed(5) == 2
        second.clear()
    assert not os.listdir(tmp_path)


@pytest.mark.parametrize("phase", ["pretrain", "finetune"])
def test_rate_schedules_go_on(tmp_path, phase):
    callbacks = [LRScheduler("StepLR", step_size=1, gamma=0.5)]
    break_and_resume("adapter", tmp_path, phase, 3, callbacks=callbacks)


KILLED = """
import pickle, sys, warnings
from test_checkpoint import fit, make
warnings.simplefilter("ignore")
folder, n_init, answer = sys.argv[1:]
settings = dict(pretrain_epochs=60, max_epochs=60, tol=0.0, n_init=int(n_init))
model = fit("adapter", make("adapter", checkpoint=folder or None, **settings))
pickle.dump(model, open(answer, "wb"))
"""


@pytest.mark.slow
@pytest.mark.parametrize("n_init", [1, 3])
def test_killed_process_goes_on_to_the_same_model(tmp_path, n_init):
    folder, answer = tmp_path / "folder", tmp_path / "answer"

    def start(checkpoint):
        arguments = ["-c", KILLED, str(checkpoint), str(n_init), str(answer)]
        path = os.pathsep.join([os.path.dirname(__file__), *filter(None, sys.path)])
        return subprocess.Popen(
            [sys.executable, *arguments], env={**os.environ, "PYTHONPATH": path}
        )

    assert start("").wait() == 0
    whole = pickle.loads(answer.read_bytes())
    rng, seen = np.random.default_rng(), set()
    for _ in range(100):
        process = start(folder)
        n_files = sum(len(files) for _, _, files in os.walk(folder))
        while process.poll() is None:  # until it has come further than the last one, and a little
            time.sleep(0.02)
            if sum(len(files) for _, _, files in os.walk(folder)) > n_files:
                break
        time.sleep(rng.uniform(0, 0.5))
        process.kill()
        if process.wait() == 0:
            break
        seen.update(name for _, _, names in os.walk(folder) for name in names)
    assert {"pretrain.pt", "finetune.pt" if n_init == 1 else "finetune-1.pt"} <= seen
    resumed = pickle.loads(answer.read_bytes())
    assert_equal_models(resumed, whole)


def test_phase_that_stopped_early_is_over_when_the_fit_goes_on(tmp_path):
    stops = EarlyStopping("train_loss", patience=1, threshold=0.9, sink=str)
    params = {"callbacks": [stops], "pretrain_epochs": 9}
    break_and_resume("clusterer", tmp_path, "finetune", 2, **params)
    whole = fit("clusterer", make("clusterer", **params))
    assert sum(record["phase"] == "pretrain" for record in whole.history_) < 9


def test_tensors_of_another_dtype_have_another_hash():
    zeros = [torch.zeros(4, dtype=dtype) for dtype in (torch.float32, torch.int32)]
    keys = {hash_fit({}, {"encoder": t}, parameter="memory") for t in zeros}
    assert len(keys) == 2


def test_kept_seed_goes_before_a_new_one(tmp_path):
    for seed in (3, 4):
        with Checkpoint(tmp_path, "key") as checkpoint:
            assert checkpoint.keep_seed(seed) == 3
