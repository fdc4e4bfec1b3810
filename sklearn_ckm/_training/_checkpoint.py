"""A folder in which a fit keeps its state, so that one that was killed goes on."""

import io
import json
import os
import pickle
import shutil
import uuid
from contextlib import suppress
from itertools import count
from pathlib import Path

import torch
from filelock import FileLock, Timeout
from skorch.callbacks import PrintLog

from ._fit_tasks import PhaseTask
from ._progress import EpochProgressBar
from ._state import restore_state


class Checkpoint:
    """State of the phases of one fit: a file for each, written after every epoch.

    What lies between the phases is computed again, for it follows from the seed. Within a ``with``
    block the state is this fit's alone; equal fits at the same time have states of their own.

    Parameters
    ----------
    folder : str or path
        Shared by as many fits as one likes.
    key : str
        Tells this fit from others.
    """

    def __init__(self, folder, key):
        self._parent, self._key = Path(folder), key

    def __enter__(self):
        """Take the first state of this key that no running fit has.

        Raises
        ------
        OSError
            If there is no folder to write to.
        """
        for i in count():
            self.folder = self._parent / (f"{self._key}-{i}" if i else self._key)
            self._lock = FileLock(self.folder.with_suffix(".lock"))
            try:
                self._parent.mkdir(parents=True, exist_ok=True)
                self._lock.acquire(timeout=0)
            except Timeout:
                continue
            except OSError as error:
                raise _unwritable(self._parent, error) from error
            return self

    def __exit__(self, *error):
        with suppress(PermissionError):  # Windows, where no open file is removed
            Path(self._lock.lock_file).unlink(missing_ok=True)
        self._lock.release()

    def keep_seed(self, seed):
        """Return the seed of the broken fit, or keep `seed` as that of this one.

        Raises
        ------
        ValueError
            If the seed that was kept cannot be read.
        OSError
            If there is no folder to write to.
        """
        path = self.folder / "seed.json"
        if not path.exists():
            _write(path, lambda file: file.write(json.dumps(seed).encode()))
            return seed
        try:
            kept = json.loads(path.read_bytes())
        except (OSError, ValueError) as error:
            raise _unreadable("seed", path, error) from error
        if type(kept) is not int or kept < 0:
            raise _unreadable("seed", path, f"it holds {kept!r}")
        return kept

    def of_phase(self, name):
        """Return the part of one phase."""
        return PhaseCheckpoint(self.folder / f"{name}.pt")

    def clear(self):
        """Remove what was kept: the fit is done."""
        shutil.rmtree(self.folder, ignore_errors=True)


class PhaseCheckpoint:
    """State of one phase on disk.

    Parameters
    ----------
    path : Path
        The file, in a folder that exists.
    """

    def __init__(self, path):
        self.path = path

    def save(self, net, state):
        """Replace the file, at once: a process that is killed leaves the old one or the new one.

        Parameters
        ----------
        net : PhaseNet
            Its history and callbacks are kept as well.
        state : dict
            From :func:`take_state`.
        """
        callbacks = {name: _pickled(callback, net) for name, callback in _resumed_callbacks(net)}
        content = {"state": state, "history": list(net.history), "callbacks": callbacks}
        _write(self.path, lambda file: torch.save(content, file))

    def restore(self, net, batches):
        """Bring a phase to where the broken fit was, if it had come so far.

        Parameters
        ----------
        net : PhaseNet
            Initialised; changed in place.
        batches : DomainBatches
            What it trains on; changed in place.

        Raises
        ------
        ValueError
            If the file cannot be read.
        """
        if not self.path.exists():
            return
        try:
            # the user's own working file, with objects of theirs, as in joblib's cache
            content = torch.load(self.path, map_location="cpu", weights_only=False)
            state, history, callbacks = (content[k] for k in ("state", "history", "callbacks"))
        except Exception as error:
            raise _unreadable("state", self.path, error) from error
        net.history[:] = history
        for name, callback in _resumed_callbacks(net):
            if callbacks.get(name) is not None:
                parts = {**_parts(net), "callback": callback}
                kept = _Unpickler(callbacks[name], parts).load()
                vars(callback).update(kept if isinstance(kept, dict) else vars(kept))
        restore_state(net, batches, _on_device(state, torch.device(net.device)))


def _write(path, write):
    """Write a file beside its place, then move it there."""
    beside = path.with_suffix(f".{uuid.uuid4().hex}.part")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with open(beside, "wb") as file:
            write(file)
        os.replace(beside, path)
    except (OSError, RuntimeError) as error:  # torch tells a full disk by the latter
        raise _unwritable(path.parent.parent, error) from error


def _unwritable(folder, error):
    return OSError(
        f"Expected a folder that can be written to in checkpoint, got {str(folder)!r} ({error}). "
        "Choose another one, or checkpoint=None."
    )


def _unreadable(what, path, reason):
    return ValueError(
        f"Expected the {what} of a broken fit in {str(path)!r}, but it cannot be read ({reason}). "
        "Delete its folder to start anew."
    )


def _resumed_callbacks(net):
    """The user's callbacks: ours know by themselves how far training has come."""
    ours = (EpochProgressBar, PhaseTask, PrintLog)
    return [(name, callback) for name, callback in net.callbacks_ if not isinstance(callback, ours)]


def _pickled(callback, net):
    """Bytes of a callback; None for one that holds what cannot be kept, such as an open file."""
    # its attributes, some of which its own pickle may leave out, such as the best weights so far
    parts = _parts(net)
    for value, known in ((vars(callback), {**parts, "callback": callback}), (callback, parts)):
        file = io.BytesIO()
        try:
            _Pickler(file, known).dump(value)
        except Exception:
            continue
        return file.getvalue()
    return None


class _Pickler(pickle.Pickler):
    """Leaves out what attributes hold of the net and of the callback itself, as its methods do."""

    def __init__(self, file, parts):
        super().__init__(file)
        self.names = {id(part): name for name, part in parts.items()}

    def persistent_id(self, value):
        return self.names.get(id(value))


class _Unpickler(pickle.Unpickler):
    """Puts in what :class:`_Pickler` left out, from another net and another callback."""

    def __init__(self, content, parts):
        super().__init__(io.BytesIO(content))
        self.parts = parts

    def persistent_load(self, name):
        return self.parts[name]


def _parts(net):
    return {"net": net, "module": net.module_, "optimizer": net.optimizer_}


def _on_device(value, device):
    if torch.is_tensor(value):
        return value.to(device)
    if isinstance(value, dict):
        return type(value)((k, _on_device(v, device)) for k, v in value.items())
    return value
