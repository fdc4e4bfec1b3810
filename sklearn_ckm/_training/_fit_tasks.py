"""scikit-learn's callbacks (experimental there) in our loops: phases and epochs are their tasks."""

import copy
from types import SimpleNamespace

from skorch.callbacks import Callback

from ._history import epoch_records
from ._inference import describe_centers


class FitTasks:
    """The task of one fit, of which each phase is a subtask.

    Parameters
    ----------
    estimator : BaseDeepClusterer
        What is fitted; it has the callbacks.
    X : ndarray of shape (n_target, n_features)
        Rows of the target, for the callbacks.
    max_phases : int
        The most phases that there can be.
    learned : dict
        Attributes that are learned before the training.

    Attributes
    ----------
    start : Start or None
        Where the fine-tuning begins that is made next.
    """

    def __init__(self, estimator, X, max_phases, learned):
        self.estimator = estimator
        self.X = X
        self.learned = learned
        self.start = None
        self.context = estimator._init_callback_context(max_subtasks=max_phases)
        self.context.call_on_fit_task_begin(estimator=estimator, X=X)

    def finish(self):
        """Tell the callbacks that the estimator is fitted."""
        estimator = self.estimator
        self.context.call_on_fit_task_end(
            estimator=estimator, X=self.X, reconstruction_attributes=dict
        )

    def of_phase(self, description):
        """Return a callback of skorch that tells those of scikit-learn; None if there is none."""
        if not getattr(self.estimator, "_skl_callbacks", None):
            return None
        return PhaseTask(self, description)


class PhaseTask(Callback):
    """Tells scikit-learn's callbacks of the epochs of one phase.

    Parameters
    ----------
    tasks : FitTasks
        The task of the fit.
    description : str
        Name of the phase.
    """

    def __init__(self, tasks, description):
        self.tasks = tasks
        self.description = description
        self.start = tasks.start

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        """Begin the task of the phase."""
        self.context_ = self.tasks.context.subcontext(
            task_name=self.description, max_subtasks=net.max_epochs
        )
        self.epoch_ = None
        self._begin(self.context_)

    def on_epoch_begin(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """Begin the task of the epoch, unless it is one that is trained again."""
        if self.epoch_ is None:
            self.epoch_ = self.context_.subcontext(task_name="epoch")
            self._begin(self.epoch_)

    def on_epoch_end(self, net, dataset_train=None, dataset_valid=None, **kwargs):
        """End it, and the phase as well if a callback says so."""
        epoch, self.epoch_ = self.epoch_, None
        if self._end(epoch, net):
            net.stop_reason = "callback"

    def on_train_end(self, net, X=None, y=None, **kwargs):
        """End the task of the phase."""
        self._end(self.context_, net)

    def _begin(self, context):
        context.call_on_fit_task_begin(estimator=self.tasks.estimator, X=self.tasks.X)

    def _end(self, context, net):
        """Hand on an estimator that is fitted as if training had stopped here, if asked for."""
        return context.call_on_fit_task_end(
            estimator=self.tasks.estimator,
            X=self.tasks.X,
            reconstruction_attributes=lambda: self._attributes_so_far(net),
        )

    def _attributes_so_far(self, net):
        """Attributes of a fitted estimator, from a copy of the network; None before the centres."""
        if net.module_.centers is None:
            return None
        tasks, tuned = self.tasks, epoch_records(net)
        copied = SimpleNamespace(module_=copy.deepcopy(net.module_).eval(), device=net.device)
        attributes = {
            **tasks.learned,
            "_net": copied,
            **describe_centers(copied.module_),
            **self.start.learned,
            "history_": [dict(record) for record in self.start.pretrained.history] + tuned,
            "n_iter_": len(tuned),
        }
        so_far = object.__new__(type(tasks.estimator))
        vars(so_far).update(vars(tasks.estimator) | attributes)
        return {**attributes, "labels_": so_far._predict(so_far._embed(tasks.X))}
