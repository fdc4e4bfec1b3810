"""Which networks a fit of the deep clustering estimators makes, and how they are pretrained."""

from dataclasses import replace
from functools import partial

import torch

from ._training._criteria import SourceClassificationCriterion
from ._training._finetuning import OtherNetwork
from ._training._hash import hash_fit
from ._training._phases import Pretrained, pretrain
from ._training._pretraining_cache import cached_pretraining
from .augmentation._resolve import are_of_images
from .modules import ClusteringModel, build_autoencoder
from .utils._random import layers_seed, phase_seed


class NetworksMixin:
    """The networks of a fit: of both domains, of the target alone, of the source's classes.

    It reads the parameters that tell of them: ``encoder``, ``n_components``, ``pretrain_epochs``,
    ``memory`` and, of estimators with a source, ``pretraining`` and ``source_in_pretraining``.
    """

    @property
    def _follows_classes(self):
        """Whether the only network learns the source's classes instead of the reconstruction."""
        return getattr(self, "pretraining", None) == "classification"

    def _other_networks(self, data, criterion, pretrain):
        """Networks that compete with the first one: of classes, and of the target alone.

        Parameters
        ----------
        data : TrainingData
            What the fine-tuning has.
        criterion : JointCriterion
            The joint loss.
        pretrain : callable
            :meth:`_pretrain` of this fit.

        Returns
        -------
        others : tuple of OtherNetwork
        """
        pretraining = getattr(self, "pretraining", None)
        has_source, others = getattr(self, "source_in_pretraining", False), []
        if pretraining == "auto" and has_source and self._has_classes_of_images(data, criterion):
            if self.memory is not None and self.random_state is not None:  # raises before training
                hash_fit({}, {"augmentation": criterion.augmentation}, parameter="memory")
            learns_classes = partial(pretrain, follows_classes=True)
            others.append(OtherNetwork(learns_classes, needs_doubt=False))
        if pretraining != "classification" and has_source == "auto":
            others.append(OtherNetwork(partial(pretrain, is_alone=True), needs_doubt=True))
        return tuple(others)

    def _has_classes_of_images(self, data, criterion):
        """Whether images of the source have at least two classes that the fit may read."""
        is_labelled = data.y_source is not None and int(data.y_source.max()) > 0
        is_read = criterion.lambda_classification + criterion.lambda_source > 0
        return is_labelled and is_read and are_of_images(criterion.augmentation, self._input_shape)

    def _pretrain(
        self,
        data,
        n_classes,
        augmentation,
        settings,
        seed,
        *,
        is_alone=False,
        follows_classes=None,
    ):
        """Build the network and train its autoencoder (Eq. 1), or take that from the cache.

        The target may be alone in that, whatever the parameter says. A network that follows the
        source's classes, None for as the parameter says, is trained to tell them apart instead.
        """
        if follows_classes is None:
            follows_classes = self._follows_classes
        with layers_seed(phase_seed(seed, "weights")):
            encoder, decoder = build_autoencoder(
                self.encoder, self._input_shape, int(self.n_components)
            )
        model = ClusteringModel(encoder, decoder)
        has_source = None
        if data.source is not None:
            has_source = bool(self.source_in_pretraining) and not is_alone  # "auto" is true
        kwargs = {
            "max_epochs": int(self.pretrain_epochs),
            "seed": phase_seed(seed, "pretrain"),
            "has_source": has_source,
        }
        if follows_classes:
            self._add_classifier(model, n_classes, seed)
            kwargs["criterion"] = SourceClassificationCriterion(augmentation)
            kwargs["is_balanced"] = self.source_sampling == "balanced"
            is_labelled = data.y_source >= 0  # the others have nothing to teach here
            data = replace(
                data, source=data.source[is_labelled], y_source=data.y_source[is_labelled]
            )
        if self.memory is None or self.random_state is None:
            history, optimizer_state = pretrain(model, data, settings, **kwargs)
        else:
            history, optimizer_state = cached_pretraining(
                self.memory, model, data, settings, encoder=self.encoder, **kwargs
            )
        if n_classes and model.classifier is None:
            self._add_classifier(model, n_classes, seed)
        model.to(settings.device)
        return Pretrained(model, history, optimizer_state, has_source, follows_classes)

    def _add_classifier(self, model, n_classes, seed):
        """Give the network a classifier of the source's classes."""
        with layers_seed(phase_seed(seed, "classifier")):
            model.classifier = torch.nn.Linear(int(self.n_components), n_classes)
        model.classifier.to(torch.float32)
