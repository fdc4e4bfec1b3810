"""What the compared methods share: a network that starts as a classifier of the source."""

from typing import NamedTuple

import torch

from .._base import BaseDeepEstimator
from .._training._adaptation_criteria import ClassificationCriterion
from .._training._batches import DomainBatches
from .._training._history import epoch_records
from .._training._inference import embed
from .._training._phases import TrainingData, TrainingSettings, run_phase, strip_net
from ..modules import AdaptationModel, build_autoencoder
from ..utils._device import resolve_device
from ..utils._random import check_seed, layers_seed, make_generator, phase_seed
from ._domain_input import DomainInputMixin, Domains


class Run(NamedTuple):
    """What the phases of one fit work with.

    Attributes
    ----------
    domains : Domains
        Checked rows and classes.
    data : TrainingData
        The same rows on the device.
    settings : TrainingSettings
        Resolved parameters.
    seed : int
        Seed of the fit.
    """

    domains: Domains
    data: TrainingData
    settings: TrainingSettings
    seed: int


class BaseSourcePretrained(DomainInputMixin, BaseDeepEstimator):
    """Base of the methods that train a source classifier first, and adapt its encoder then.

    Subclasses define :meth:`_add_heads` and :meth:`_adapt`. Think twice before adding to it.
    """

    _needs_no_source_label: str  # which estimator a message recommends

    @torch.inference_mode(False)
    @torch.enable_grad()
    def _fit(self, domains):
        """Run both phases and set what is learned, except what belongs to the labels."""
        if domains.y_source is None:
            raise ValueError(
                f"Expected labelled source rows for {type(self).__name__}, got none. Pass y_src, "
                f"or use {self._needs_no_source_label}."
            )
        self._check_enough(domains)
        seed = check_seed(self.random_state)
        device = resolve_device(self.device)
        settings = self._training_settings(device, domains.X_target, domains.X_source)
        scaler, data = self._prepare_data(
            domains.X_target, domains.X_source, domains.y_source, domains.y_target, device
        )
        run = Run(domains, data, settings, seed)

        model = self._build_model(run)
        net = self._pretrain_source(model, run)
        history = epoch_records(net)
        net, adapted = self._adapt(model, run, net)

        self._scaler = scaler
        self._net = strip_net(net)
        self.history_ = history + adapted
        self.n_iter_ = len(adapted)
        self.source_classes_ = domains.source_classes
        self._n_features_out = int(self.n_components)
        self.labels_ = self._predict(embed(model, data.target, device))
        return self

    def _check_enough(self, domains):
        """Raise ``ValueError`` where there are too few rows; by default any number will do."""

    def _build_model(self, run):
        """Make the network, untrained, with the heads of the method."""
        with layers_seed(phase_seed(run.seed, "weights")):
            encoder, _ = build_autoencoder(self.encoder, self._input_shape, int(self.n_components))
        with layers_seed(phase_seed(run.seed, "classifier")):
            n_classes = len(run.domains.source_classes)
            classifier = torch.nn.Linear(int(self.n_components), n_classes)
            model = AdaptationModel(encoder, classifier)
            self._add_heads(model, run)
        return model.to(run.settings.device, torch.float32)

    def _add_heads(self, model, run):
        """Give the model what else the method trains; called under a seed of its own."""

    def _pretrain_source(self, model, run):
        """Train encoder and classifier on the labelled source rows."""
        seed = phase_seed(run.seed, "pretrain")
        source, labels = run.data.source, run.data.y_source
        is_labelled = labels >= 0
        if not is_labelled.all():
            source, labels = source[is_labelled], labels[is_labelled]
        batches = DomainBatches(
            source,
            batch_size=run.settings.batch_size,
            generator=make_generator(seed, run.settings.device),
        )
        return run_phase(
            model,
            ClassificationCriterion(labels),
            batches,
            run.settings,
            phase="pretrain",
            max_epochs=int(self.pretrain_epochs),
            seed=seed,
        )

    def _adapt(self, model, run, net):
        """Train the second phase; return its net (or that of the first) and its epochs."""
        raise NotImplementedError(f"{type(self).__name__} does not define '_adapt'.")

    def _adapt_jointly(self, model, run, criterion):
        """Train on batches of both domains with a criterion."""
        seed = phase_seed(run.seed, "adapt")
        data = run.data
        batches = DomainBatches(
            data.target,
            data.source,
            data.y_source,
            data.y_target,
            batch_size=run.settings.batch_size,
            is_balanced=True,
            generator=make_generator(seed, run.settings.device),
        )
        max_epochs = int(self.max_epochs)
        net = run_phase(
            model, criterion, batches, run.settings, phase="adapt", max_epochs=max_epochs, seed=seed
        )
        return net, epoch_records(net)
