"""The private skorch nets: one per phase, fed by :class:`DomainBatches`."""

from contextlib import nullcontext, suppress
from math import inf

import torch
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback, Checkpoint, EarlyStopping, LRScheduler

from ..utils._device import resolve_kept_device
from ..utils._warnings import warn_user
from ._criteria import JointCriterion, ReconstructionCriterion
from ._divergence import DivergenceError, divergence_error, find_divergence
from ._inference import distances_in_blocks, embed
from ._monitors import ClusteringMonitors
from ._optimizers import load_named_state
from ._state import restore_state, take_state

_BATCH_HOOKS = ("on_batch_begin", "on_batch_end", "on_grad_computed")
_FEWEST_COMPARED = 5  # batches of an epoch, to tell far rows from a divergence
_SLOWER = 0.1  # factor on the learning rate after the first divergence


def _named_tensors(module):
    """Names and tensors of all parameters and buffers."""
    return [*module.named_parameters(), *module.named_buffers()]


class PhaseNet(NeuralNet):
    """A skorch net that trains one phase on batches of both domains.

    Losses stay on the device until the epoch ends, and a batch leaves no record unless a callback
    listens to batches. ``fit(batches)`` takes a :class:`DomainBatches`. Where training diverges,
    the net goes back to its last good epoch and lowers the learning rate, once. An interrupt is
    raised, unless the class says that what is trained so far is of use.

    Parameters
    ----------
    module : ClusteringModel
        Trained in place.
    criterion : nn.Module
        Called as ``criterion(model, batch, progress, generator)``.
    generator : torch.Generator
        Source of the noise of the objective, on the device.
    precision : {"float32", "bfloat16"}
        Arithmetic of the network; losses and distances stay in float32.
    phase : str
        Name of the phase in the history.
    has_source : bool, default=None
        Whether the source takes part in the pretraining, or did; None where there is none.
    checkpoint : PhaseCheckpoint, default=None
        Where the state is kept after every epoch, and taken from at the start.
    interrupts : HeldInterrupts, default=None
        Looked at before every batch, where Ctrl-C is held back elsewhere.
    **kwargs : dict
        Parameters of :class:`skorch.NeuralNet`.
    """

    keeps_interrupted = False

    def __init__(
        self,
        module,
        criterion,
        *,
        generator=None,
        precision="float32",
        phase="",
        has_source=None,
        checkpoint=None,
        interrupts=None,
        **kwargs,
    ):
        super().__init__(module, criterion, train_split=None, dataset=None, **kwargs)
        self.generator = generator
        self.precision = precision
        self.phase = phase
        self.has_source = has_source
        self.checkpoint = checkpoint
        self.interrupts = interrupts
        self.stop_reason = None
        self.is_slowed = False
        self.may_slow_down = True
        self._is_within_epoch = False
        self._first_loss = None

    def __setstate__(self, state):
        """Take over a pickled net, on another device where that of the fit is missing."""
        super().__setstate__({**state, "device": str(resolve_kept_device(state["device"]))})

    def initialize(self):
        """Build the optimiser; note what is not finite by intention, such as a mask of -inf."""
        super().initialize()
        self._infinite_buffers = {
            name for name, buffer in self.module_.named_buffers() if not buffer.isfinite().all()
        }
        return self

    def _set_training(self, training=True):
        """Set the mode of all modules, but of those that are built in evaluation mode."""
        super()._set_training(training)
        for part in self.module_.modules():
            if training and getattr(part, "stays_in_eval", False):
                part.training = False

    def get_dataset(self, X, y=None):
        """Return the batches as they are: there is no data set to wrap."""
        return X

    def get_iterator(self, dataset, training=False):
        """Return the batches as they are: they are an iterator already."""
        return dataset

    def get_default_callbacks(self):
        """Return no callbacks: losses and monitors are recorded by the net itself."""
        return []

    def notify(self, method_name, **cb_kwargs):
        """Call the hooks; an early-stopping callback ends this phase, not the fit."""
        getattr(self, method_name)(self, **cb_kwargs)
        for _, callback in self.callbacks_:
            if method_name == "on_train_end" and self._lacks_best(callback):
                continue
            try:
                getattr(callback, method_name)(self, **cb_kwargs)
            except KeyboardInterrupt:
                if not isinstance(callback, EarlyStopping):
                    raise
                self.stop_reason = "callback"

    def _lacks_best(self, callback):
        """Whether a checkpoint of skorch would load weights of which it kept none in this phase."""
        if not isinstance(callback, Checkpoint) or not callback.load_best:
            return False
        return not any(epoch.get(callback.event_name) for epoch in self.history)

    def fit_loop(self, X, y=None, epochs=None, **fit_params):
        """Train until the epochs are done or a reason to stop is found."""
        self.check_training_readiness()
        batches = self.get_iterator(self.get_dataset(X), training=True)
        n_epochs = len(self.history) + (self.max_epochs if epochs is None else epochs)
        if self.checkpoint is not None and not self.history:
            self.checkpoint.restore(self, batches)
        state = take_state(self, batches)
        try:
            while len(self.history) < n_epochs and self.stop_reason is None:
                try:
                    self._run_epoch(batches)
                except DivergenceError as error:
                    if self.is_slowed:
                        raise
                    restore_state(self, batches, state)
                    if not self.may_slow_down:
                        raise
                    self._slow_down(error)
                state = take_state(self, batches)
                if self.checkpoint is not None:
                    self.checkpoint.save(self, state)
        except KeyboardInterrupt:
            if not self.keeps_interrupted:
                raise
            if self._is_within_epoch:
                restore_state(self, batches, state)
            self.stop_reason = "interrupted"
        return self

    def _run_epoch(self, batches):
        """Train one epoch, and tell the callbacks."""
        hooks = {"dataset_train": batches, "dataset_valid": None}
        self._is_within_epoch = True
        self.notify("on_epoch_begin", **hooks)
        with torch.autocast(
            torch.device(self.device).type, enabled=False
        ):  # whatever surrounds fit
            self.run_single_epoch(batches, training=True, prefix="train", step_fn=self.train_step)
        self._is_within_epoch = False
        self.notify("on_epoch_end", **hooks)

    def _slow_down(self, error):
        """Lower the learning rate, and say so."""
        self.is_slowed = True
        for group in self.optimizer_.param_groups:
            group["lr"] *= _SLOWER
        for _, callback in self.callbacks_:
            if isinstance(callback, LRScheduler):  # most schedules are factors on these
                schedule = callback.lr_scheduler_
                for name in ("base_lrs", "min_lrs"):  # the latter of a plateau's
                    if hasattr(schedule, name):
                        setattr(schedule, name, [lr * _SLOWER for lr in getattr(schedule, name)])
        warn_user(
            f"{error} Training went back to the epoch before, and on with a tenth of the rate.",
            ConvergenceWarning,
        )

    def get_phase_state(self):
        """State of a phase, as a dict, beyond that of its network and optimiser."""
        return {}

    def set_phase_state(self, state):
        """Take over what :meth:`get_phase_state` gave."""

    def partial_fit(self, X, y=None, epochs=None, **fit_params):
        """Train on; unlike skorch's own, leaves a KeyboardInterrupt to :meth:`fit_loop`."""
        if not self.initialized_:
            self.initialize()
        self.notify("on_train_begin", X=X, y=y)
        try:
            self.fit_loop(X, y, epochs=epochs)
        except BaseException:
            with suppress(Exception):  # the one under way tells more
                self.notify("on_train_end", X=X, y=y)
            raise
        self.notify("on_train_end", X=X, y=y)
        return self

    def run_single_epoch(self, iterator, training, prefix, step_fn, **fit_params):
        """Train one epoch and record its mean losses and monitors."""
        self._set_training(True)
        self.on_train_epoch_begin(iterator)
        has_listener = self._has_listener = self._has_batch_listener()
        n_batches, totals, least = len(iterator), None, None
        for i, batch in enumerate(iterator):
            if self.interrupts is not None:
                self.interrupts.raise_pending()
            if has_listener:
                self.history.new_batch()
                self.notify("on_batch_begin", batch=batch, training=True)
            terms = step_fn(batch, is_last=i == n_batches - 1)
            values = torch.stack([term.detach() for term in terms.values()])
            totals = values if totals is None else totals + values
            loss = terms["loss"].detach()
            if i == 0 and len(self.history) == 1:
                self._first_loss = loss.item()  # before any update
            if i > 0 or n_batches < _FEWEST_COMPARED:
                least = loss if least is None else torch.minimum(least, loss)
            if has_listener:
                self.history.record_batch("train_loss", terms["loss"].item())
                self.history.record_batch("train_batch_size", len(batch.x))
                self.notify("on_batch_end", batch=batch, training=True, loss=terms["loss"])
        means = dict(zip(terms, (totals / n_batches).tolist(), strict=True))
        self._check_divergence(means, **self._compared_losses(least))
        for name, value in means.items():
            self.history.record(name, value)
        self._record_for_callbacks(means["loss"], has_batch=has_listener)
        self.on_train_epoch_end(n_batches)

    def train_step(self, batch, is_last=False, **fit_params):
        """Take one optimisation step; return the loss terms, still on the device."""
        optimizer = self.optimizer_
        optimizer.zero_grad()
        with self._arithmetic():
            terms, clustering = self.evaluate_batch(batch)
        terms["loss"].backward()
        self.on_gradient(batch, clustering, is_last)
        if self._has_listener:
            named = [(n, p) for n, p in self.get_all_learnable_params() if p.grad is not None]
            self.notify("on_grad_computed", named_parameters=named, batch=batch, training=True)
        optimizer.step()
        self.on_update(batch)
        return terms

    def evaluate_batch(self, batch):
        """Loss terms of a batch, and what else the criterion has to tell."""
        return self.criterion_(
            self.module_, batch, progress=self.progress, generator=self.generator
        )

    def on_batch_begin(self, net, batch=None, training=False, **kwargs):
        """Leave the record of the batch to :meth:`run_single_epoch`."""

    @property
    def progress(self):
        """Share of the epochs that are done."""
        return min((len(self.history) - 1) / max(self.max_epochs, 1), 1.0)

    def on_train_epoch_begin(self, batches):
        """Called before the batches of an epoch."""

    def on_gradient(self, batch, clustering, is_last):
        """Called between the backward pass and the update."""

    def on_update(self, batch):
        """Called after the update."""

    def on_train_epoch_end(self, n_batches):
        """Called after the batches of an epoch, before the callbacks."""

    def _record_for_callbacks(self, loss, has_batch):
        """Record the loss where skorch's callbacks look for it; the history leaves these out."""
        if not has_batch:
            self.history.new_batch()
            self.history.record_batch("train_loss", loss)
        best = min(self.history[:-1, "train_loss"], default=inf) if len(self.history) > 1 else inf
        self.history.record("train_loss", loss)
        self.history.record("train_loss_best", loss < best)

    def _compared_losses(self, least):
        """Least loss of the epoch's batches, and the least before: of an epoch, or a first batch.

        The first of the epoch's batches shows no update of its own, and is left out where there are
        enough. A few batches may each have far rows that none before had.
        """
        before = [epoch["train_loss"] for epoch in self.history[:-1]]
        if self._first_loss is not None:  # a resumed phase does not know it any more
            before.append(self._first_loss)
        return {"least": float(least), "before": min(before)}

    def _check_divergence(self, means, **losses):
        """Raise :class:`DivergenceError` where means, weights or losses tell of a divergence."""
        weights = {
            name: weight
            for name, weight in _named_tensors(self.module_)
            if name not in self._infinite_buffers
        }
        finding = find_divergence(means, weights, **losses)
        if finding is not None:
            lr = self.optimizer_.param_groups[0]["lr"]
            when = f"in epoch {len(self.history)} of"
            raise divergence_error(when, finding, phase=self.phase, lr=lr)

    def _arithmetic(self):
        if self.precision == "float32":
            return nullcontext()
        kind = torch.device(self.device).type
        # a cache would hold the weights of the first step until the outermost context ends
        return torch.autocast(kind, dtype=torch.bfloat16, cache_enabled=False)

    def _has_batch_listener(self):
        return any(
            getattr(type(callback), hook, None) is not getattr(Callback, hook)
            for _, callback in self.callbacks_
            for hook in _BATCH_HOOKS
        )


class PretrainingNet(PhaseNet):
    """Trains the autoencoder on the reconstruction of both domains."""

    def __init__(self, module, criterion=ReconstructionCriterion, **kwargs):
        super().__init__(module, criterion, phase="pretrain", **kwargs)


class FineTuningNet(PhaseNet):
    """Trains the whole model on the joint loss and watches over the clusters.

    Parameters
    ----------
    module : ClusteringModel
        With centres.
    criterion : JointCriterion
        The joint loss.
    labels : Tensor of shape (n_target,)
        Nearest centre of each target row before the first epoch.
    optimizer_state : dict of str to dict, default=None
        State of the pretraining's optimiser by parameter, to go on from. Fresh moments would make
        the first steps so long that the reconstruction is lost for some epochs.
    tol : float, default=0.0
        Share of the target rows below which a change of labels counts as none.
    n_iter_no_change : int, default=10
        Epochs in a row without such a change after which training stops.
    init : str, default=None
        How the centres started.
    **kwargs : dict
        Parameters of :class:`PhaseNet`.
    """

    keeps_interrupted = True

    def __init__(
        self,
        module,
        criterion=JointCriterion,
        *,
        labels=None,
        optimizer_state=None,
        tol=0.0,
        n_iter_no_change=10,
        init=None,
        **kwargs,
    ):
        # decay would pull the centres to the origin, where no term of the loss wants them
        groups = [("centers.*", {"weight_decay": 0.0})]
        super().__init__(
            module, criterion, phase="finetune", optimizer__param_groups=groups, **kwargs
        )
        self.labels = labels
        self.optimizer_state = optimizer_state
        self.tol = tol
        self.n_iter_no_change = n_iter_no_change
        self.init = init

    def initialize(self):
        """Build the optimiser and start the monitors."""
        super().initialize()
        if self.optimizer_state:
            load_named_state(self.optimizer_, self.module_, self.optimizer_state)
        n_clusters = len(self.module_.centers.positions)
        self.monitors = ClusteringMonitors(len(self.labels), n_clusters, self.labels)
        self.clustering_state = self.criterion_.objective.start(self.module_.centers.positions)
        self.n_still = 0
        return self

    def get_phase_state(self):
        """Labels, state of the objective and count of the still epochs."""
        return {
            "labels": self.monitors.labels,
            "clustering_state": self.clustering_state,
            "n_still": self.n_still,
        }

    def set_phase_state(self, state):
        """Take over what :meth:`get_phase_state` gave."""
        self.monitors.labels = state["labels"]
        self.clustering_state = state["clustering_state"]
        self.n_still = state["n_still"]

    def evaluate_batch(self, batch):
        """Loss terms of a batch, and what the objective did with it."""
        return self.criterion_(
            self.module_,
            batch,
            progress=self.progress,
            generator=self.generator,
            state=self.clustering_state,
        )

    def on_train_epoch_begin(self, batches):
        """Start the sums of the epoch, and show the objective all target rows if it asks for."""
        self.monitors.start_epoch(batches.pool)
        self._farthest = None
        # few labels teach these centres where they belong, though no drawn row be near
        self._is_named = torch.zeros(len(self.module_.centers.positions), dtype=torch.bool)
        if batches.y_target is not None:
            self._is_named[batches.y_target[batches.shots].unique().cpu()] = True
        objective = self.criterion_.objective
        if objective.needs_all_rows(len(self.history) - 1):
            z = embed(self.module_, batches.X_target, batches.device)
            self._set_training(True)
            centers = self.module_.centers
            distances = distances_in_blocks(z, centers.positions.detach())
            objective.read_all_rows(self.clustering_state, distances, centers.temperature)

    def on_update(self, batch):
        """Move the centres, where the objective has a rule of its own for that."""
        objective = self.criterion_.objective
        if objective.moves_centers and self.criterion_.lambda_clustering > 0:
            encoder = self.module_.encoder.eval()
            with torch.no_grad():
                z = encoder(batch.x[batch.n_source : batch.n_rows]).float()
            self._set_training(True)
            objective.move_centers(
                self.clustering_state, z, self.module_.centers.positions.detach()
            )

    def on_gradient(self, batch, clustering, is_last):
        """Feed the monitors."""
        z, step = clustering
        z = z.detach()
        self.monitors.update(batch, z, step)
        if self.criterion_.objective.reseed_empty:
            self._remember_farthest(batch.target_index, z, step)
        if is_last:
            criterion = self.criterion_
            self.monitors.measure_gradient(
                z,
                step,
                self.module_.centers.positions,
                criterion.lambda_clustering,
                has_direct=not criterion.objective.moves_centers,
            )

    def on_train_epoch_end(self, n_batches):
        """Record the monitors, repair empty clusters where wanted, decide whether to stop."""
        monitors = self.monitors.finish_epoch(n_batches, self.module_.centers)
        self._check_divergence(monitors)
        for name, value in monitors.items():
            self.history.record(name, value)
        if self.criterion_.objective.reseed_empty:
            self.history.record("n_reseeded", self._reseed_empty())
        is_still = monitors["label_change"] < self.tol and self.criterion_.is_settled(self.progress)
        self.n_still = self.n_still + 1 if is_still else 0
        if self.n_still >= self.n_iter_no_change:
            self.stop_reason = "converged"

    @torch.no_grad()
    def _remember_farthest(self, index, z, step):
        """Keep, of all rows of the epoch, those farthest from their own centre when last drawn."""
        drawn = index, step.distances.detach().amin(1), z
        if self._farthest is not None:
            drawn = map(torch.cat, zip(drawn, self._farthest, strict=True))
        index, distances, z = drawn
        is_repeat = (index[:, None] == index).tril(-1).any(1)  # within a batch, too
        index, distances, z = index[~is_repeat], distances[~is_repeat], z[~is_repeat]
        k = min(len(self.module_.centers.positions), len(z))
        rows = distances.topk(k).indices
        self._farthest = index[rows], distances[rows], z[rows]

    @torch.no_grad()
    def _reseed_empty(self):
        """Move centres without rows and labels onto far embeddings; return how many were moved."""
        positions = self.module_.centers.positions
        is_empty = (self.monitors.count() == 0) & ~self._is_named.to(positions.device)
        empty = is_empty.nonzero().flatten()[: len(self._farthest[2])]
        if not len(empty):
            return 0
        positions[empty] = self._farthest[2][: len(empty)].float()
        for moment in self.optimizer_.state.get(positions, {}).values():
            if torch.is_tensor(moment) and moment.shape == positions.shape:
                moment[empty] = 0
        return len(empty)
