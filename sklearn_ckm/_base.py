"""What all estimators share: input checks, seeds, settings and the embedding."""

from contextlib import contextmanager
from numbers import Integral, Real
from os import PathLike

import numpy as np
import torch
from numpy.typing import ArrayLike
from sklearn.base import BaseEstimator, ClassNamePrefixFeaturesOutMixin, TransformerMixin
from sklearn.utils import check_array
from sklearn.utils._param_validation import Interval, StrOptions
from sklearn.utils.validation import _get_feature_names, check_is_fitted, validate_data
from skorch.callbacks.scoring import ScoringBase

from ._training._batches import resolve_batch_size
from ._training._inference import embed
from ._training._optimizers import resolve_optimizer
from ._training._phases import TrainingData, TrainingSettings
from .utils._input import ACCEPTED_DTYPES, InputScaler, as_rows, check_image_shape, check_layout

_CALLBACK_ATTRIBUTES = "_callback_fit_ctx", "_skl_callbacks_to_teardown"


def _check_callbacks(callbacks):
    """Refuse what skorch would stumble over."""
    for item in callbacks or []:
        callback = item[1] if isinstance(item, tuple) and len(item) == 2 else item
        if not hasattr(callback, "on_epoch_end"):
            raise ValueError(
                "Expected 'callbacks' to hold callbacks of skorch, alone or as (name, callback), "
                f"got {item!r}. scikit-learn's callbacks are set with set_callbacks."
            )
        if isinstance(callback, ScoringBase):
            raise ValueError(
                f"Expected 'callbacks' without {type(callback).__name__}, which scores predictions "
                "for labels, of which this training makes none. The losses of each epoch are in "
                "history_, where other callbacks can monitor them."
            )
        monitor = getattr(callback, "monitor", None)
        if isinstance(monitor, str) and monitor.startswith("valid_"):
            name = type(callback).__name__
            raise ValueError(
                f"Expected 'callbacks' that monitor what is recorded, got {name} with "
                f"monitor={monitor!r}: there is no validation set. Use {name}(monitor="
                f"'{monitor.replace('valid_', 'train_', 1)}') or another column of history_."
            )
    return callbacks


class BaseDeepEstimator(ClassNamePrefixFeaturesOutMixin, TransformerMixin, BaseEstimator):
    """Base of the estimators: an encoder trained on tensors of both domains.

    It owns what is the same whatever is trained and however the rows are named: inputs, settings
    of the training, the embedding. The fitted network is ``_net``, a skorch net whose module has
    an ``encoder``. Think twice before adding to it.
    """

    _parameter_constraints: dict = {
        "n_components": [Interval(Integral, 1, None, closed="left")],
        "encoder": [str, callable],
        "image_shape": ["array-like", None],
        "pretrain_epochs": [Interval(Integral, 0, None, closed="left")],
        "max_epochs": [Interval(Integral, 0, None, closed="left")],
        "batch_size": [StrOptions({"auto"}), Interval(Integral, 1, None, closed="left")],
        "lr": [Interval(Real, 0, None, closed="neither")],
        "optimizer": [str, callable],
        "device": [str, torch.device],
        "precision": [StrOptions({"float32", "bfloat16"})],
        "callbacks": [list, tuple, None],
        "verbose": ["verbose"],
        "random_state": ["random_state"],
    }

    def transform(self, X: ArrayLike) -> np.ndarray:
        """Embed the rows.

        Parameters
        ----------
        X : array-like of shape (n_samples, n_features) or (n_samples, channels, height, width)
            Rows of either domain.

        Returns
        -------
        Z : ndarray of shape (n_samples, n_components)
            float64 for float64 inputs, else float32.
        """
        X = self._check_X(X)
        dtype = np.float64 if X.dtype == np.float64 else np.float32
        return self._embed(X).cpu().numpy().astype(dtype, copy=False)

    def save(self, folder: str | PathLike[str]) -> None:
        """Write the fitted estimator into a folder, from which ``sklearn_ckm.load`` reads it.

        The folder gets ``estimator.json`` and a safetensors file with all arrays; nothing in them
        is executable. An estimator that is there already is replaced in one step: when the writing
        breaks off, it is the one before or the new one that loads.

        Parameters
        ----------
        folder : str or os.PathLike
            A new or empty folder, or one that holds a saved estimator, whose two files are
            replaced; other files beside these are left alone. Only one process at a time may write
            into it.

        Raises
        ------
        NotFittedError
            If the estimator is not fitted.
        FileExistsError
            If the folder holds other files but no estimator, or is a file.
        TypeError
            If the class is not one of the package, or a learned attribute holds other values than
            numbers, text and arrays of them.

        Warns
        -----
        UserWarning
            If a parameter that training depends on is code of the user's own, which cannot be
            stored: `optimizer`, `augmentation`, `callbacks`, a function in an objective.

        See Also
        --------
        sklearn_ckm.load : Reads it again; its notes tell what is not stored.
        """
        from .persistence._save import save_estimator  # it knows all estimators, these one base

        save_estimator(self, folder)

    def _scaled_inputs(self, X):
        """Validated rows as the network reads them, (n_samples, *input_shape)."""
        return self._scaler.to_tensor(self._check_X(X))

    def _embed(self, X):
        return embed(self._net.module_, X, self._net.device, self._scaler.to_tensor)

    @contextmanager
    def _as_before_on_error(self):
        """Leave the estimator as it was where a fit fails or is interrupted."""
        before = vars(self).copy()
        try:
            yield
        except BaseException:
            # scikit-learn's own, by which it ends the callbacks' work after this
            kept = {n: v for n, v in vars(self).items() if n in _CALLBACK_ATTRIBUTES}
            vars(self).clear()
            vars(self).update({**before, **kept})
            raise

    def _check_X(self, X):
        """Validate the inputs of a fitted estimator and return them as rows."""
        check_is_fitted(self)
        X = self._check_rows(X, reset=False)
        self._scaler.check(X)
        return X

    def _check_rows(self, X, *, reset, name="X"):
        """Return validated rows; `reset` learns the shape of a sample, else it must hold."""
        given = X
        X, shape = as_rows(X, self.image_shape if reset else None, name)
        if reset:
            self._check_kept_names(X)
        if not reset and shape is not None and shape != self._input_shape:
            raise ValueError(
                f"Expected samples of shape {self._input_shape}, got images of shape {shape} in "
                f"{name}. sklearn_ckm.preprocessing.ImageFormatter brings images to one form."
            )
        with np.errstate(invalid="ignore"):  # infinities of both signs: the check itself tells
            checked = check_array(
                X, dtype=ACCEPTED_DTYPES, order="C", estimator=self, input_name=name
            )
        validate_data(self, X, reset=reset, skip_check_array=True)  # number and names of features
        X = checked
        if shape is not None:
            check_image_shape(shape, X.shape[1], name)
        if reset:
            if shape is not None:
                check_layout(shape, name)
            self._input_shape = shape or (X.shape[1],)
            shape_given = given.shape if hasattr(given, "shape") else np.asarray(given).shape
            self._is_flat = len(shape_given) == 2
        return X

    def _check_kept_names(self, X):
        """A warm start goes on with a network that knows the features by their places."""
        is_continued = getattr(self, "warm_start", False) and hasattr(self, "_net")
        before, names = getattr(self, "feature_names_in_", None), _get_feature_names(X)
        is_named = before is not None and names is not None
        if is_continued and is_named and not np.array_equal(before, names):
            raise ValueError(
                "Expected the feature names of the fit that warm_start continues, in the same "
                f"order, got {names.tolist()} after {before.tolist()}. Select the columns by name, "
                "or set warm_start=False."
            )

    def _training_settings(self, device, X_target, X_source=None):
        """Resolve the parameters that the phases need."""
        n_source = 0 if X_source is None else len(X_source)
        return TrainingSettings(
            device=device,
            lr=self.lr,
            batch_size=resolve_batch_size(self.batch_size, len(X_target), n_source),
            optimizer=resolve_optimizer(self.optimizer, device),
            precision=self.precision,
            callbacks=_check_callbacks(self.callbacks),
            verbose=int(self.verbose),
        )

    def _prepare_data(self, X_target, X_source, y_source, y_target, device, scaler=None):
        """Learn the input scale from both domains and put the rows on the device."""
        is_shared = X_source is X_target
        parts = [X_target] if X_source is None or is_shared else [X_target, X_source]
        if scaler is None:
            scaler = InputScaler(self._input_shape).fit(parts, ["the target", "the source"])
        elif scaler.input_shape != self._input_shape:
            raise ValueError(
                f"Expected samples of shape {scaler.input_shape} as in the fit that warm_start "
                f"continues, got {self._input_shape}. Set warm_start=False."
            )
        else:
            for part in parts:
                scaler.check(part)
        target = scaler.to_tensor(X_target).to(device)
        source = None
        if X_source is not None:
            source = target if is_shared else scaler.to_tensor(X_source).to(device)
        y_source, y_target = (
            None if y is None else torch.from_numpy(y).to(device) for y in (y_source, y_target)
        )
        return scaler, TrainingData(target, source, y_source, y_target)

    def __getstate__(self):
        """State for pickle, joblib and skops: the network as arrays and plain values."""
        from .persistence._network import pack_net  # it builds on this module's subpackages

        state = dict(super().__getstate__())
        if "_net" in state:
            state["_net"] = pack_net(self._net, self._input_shape, self._n_features_out)
        return state

    def __setstate__(self, state):
        from .persistence._network import unpack_net

        if "_net" in state:
            state = {**state, "_net": unpack_net(state["_net"])}
        super().__setstate__(state)

    def __sklearn_is_fitted__(self):
        return hasattr(self, "_net")

    def __sklearn_tags__(self):
        tags = super().__sklearn_tags__()
        tags.transformer_tags.preserves_dtype = ["float64", "float32"]
        return tags
