"""What is told of a search while it runs: tasks for scikit-learn's callbacks, a progress bar."""

from contextlib import contextmanager
from threading import Lock

_RATING = "candidate-split-evaluation"  # name of the task in GridSearchCV


class SearchTasks:
    """The task of one search, of which each grid search within, and the last fit, is a subtask.

    Parameters
    ----------
    search : LabelFreeSearchCV
        It has the callbacks.
    X : array-like of shape (n_samples, ...)
        Stacked rows, for the callbacks.
    y : ndarray of shape (n_samples,)
        Labels, for the callbacks.
    max_subtasks : int
        Number of subtasks.
    """

    def __init__(self, search, X, y, max_subtasks):
        self.search = search
        self.data = {"X": X, "y": y}
        self.context = search._init_callback_context(max_subtasks=max_subtasks)
        self.context.call_on_fit_task_begin(estimator=search, **self.data)

    def fit(self, estimator, X, y, *, task_name, **params):
        """Fit an estimator as a subtask, to which the callbacks are handed on."""
        context = self.context.subcontext(task_name=task_name)
        with context.propagate_callback_context(estimator):
            context.call_on_fit_task_begin(estimator=self.search, X=X, y=y)
            estimator.fit(X, y, **params)
        context.call_on_fit_task_end(estimator=self.search, X=X, y=y)
        return estimator

    def finish(self):
        """Tell the callbacks that the search is fitted."""
        self.context.call_on_fit_task_end(estimator=self.search, **self.data)


class RatingBar:
    """A callback of grid searches that advances one progress bar, from other processes as well.

    Parameters
    ----------
    n_ratings : int
        Number of candidates times splits.
    """

    def __init__(self, n_ratings):
        # not public, but its callbacks cannot be heard from other processes without
        from sklearn.callback._transport import open_listener
        from tqdm.auto import tqdm  # warns in a notebook without ipywidgets, already when imported

        self._lock = Lock()
        self._bar = tqdm(total=n_ratings, desc="search", unit="score")
        self._handle = open_listener(self._advance)

    def setup(self, estimator, context):
        """Called where a grid search begins."""

    def teardown(self, estimator, context):
        """Called where a grid search ends."""

    def on_fit_task_begin(self, estimator, context):
        """Called where a task begins."""

    def on_fit_task_end(self, estimator, context):
        """Advance by one where a candidate has been rated on one split."""
        from sklearn.callback._transport import send

        if context.task_name == _RATING:
            send(self._handle, 1)

    def close(self):
        """Close the bar."""
        from sklearn.callback._transport import close_listener

        close_listener(self._handle)
        self._bar.close()

    def _advance(self, n_ratings):
        with self._lock:
            self._bar.update(n_ratings)

    def __getstate__(self):
        return {"_handle": self._handle}


@contextmanager
def rating_bar(n_ratings, verbose):
    """Show a bar and yield what makes it advance, as a list of callbacks; none if not wanted."""
    if verbose != 1:
        yield []
        return
    bar = RatingBar(n_ratings)
    try:
        yield [bar]
    finally:
        bar.close()
