"""What does a step of ours cost beside a bare torch loop, and beside skorch with its defaults?

Each question is timed in one process and one thread, the candidates in turn, several times; the
answer is the median ratio of samples per second against the bare loop of the same turn. The bare
loop has its tensors preloaded, draws the same batches, uses the same modules, losses and optimiser,
and logs nothing.

    python benchmarks/bench_step_overhead.py [--repeats 7] [--device cpu] [--only NAME]
"""

import argparse
import statistics
import time
import warnings
from functools import partial

import numpy as np
import torch
from _common import RESULTS, append_row, environment
from sklearn.exceptions import ConvergenceWarning
from skorch import NeuralNet
from skorch.callbacks import Callback

from sklearn_ckm import ConcreteKMeans
from sklearn_ckm.losses import (
    concrete_kmeans_loss,
    reconstruction_loss,
    squared_distances,
    straight_through_assignment,
)
from sklearn_ckm.modules import Centers, ClusteringModel, DenseEncoder, build_autoencoder

BATCH = 256
N_COMPONENTS = 10
N_CLUSTERS = 5
LR = 1e-3


def small_dense(input_shape, n_components):
    """Dense 784-128-10 encoder."""
    return DenseEncoder(input_shape, n_components, hidden=(128,))


ENCODERS = {"conv": ("conv", (1, 28, 28)), "dense 784-128-10": (small_dense, (784,))}


class PhaseTimer(Callback):
    """Notes how long the training loop of each phase took."""

    seconds: dict = {}  # shared: every phase works on a copy of the callback

    def on_train_begin(self, net, X=None, y=None, **kwargs):
        synchronize(net.device)
        self.start_ = time.perf_counter()

    def on_train_end(self, net, X=None, y=None, **kwargs):
        synchronize(net.device)
        PhaseTimer.seconds[net.phase] = time.perf_counter() - self.start_


def synchronize(device):
    """Wait for the device."""
    if torch.device(device).type == "cuda":
        torch.cuda.synchronize()


def make_data(n_samples, input_shape):
    """Random images in [0, 1]; the arithmetic does not care."""
    rng = np.random.default_rng(0)
    return rng.random((n_samples, *input_shape), dtype=np.float32)


def index_batches(n_samples, n_epochs, device):
    """Batches of an epoch as ours draws them: full, the last one filled up."""
    n_batches = -(-n_samples // BATCH)
    for _ in range(n_epochs):
        orders = [torch.randperm(n_samples, device=device) for _ in range(2)]
        yield from torch.cat(orders)[: n_batches * BATCH].view(n_batches, BATCH)


def fresh_autoencoder(encoder, input_shape, device):
    """Encoder, decoder and their optimiser."""
    model = ClusteringModel(*build_autoencoder(encoder, input_shape, N_COMPONENTS)).to(device)
    return model, torch.optim.Adam(model.parameters(), lr=LR, fused=True)


def bare_pretraining(X, encoder, n_epochs, device):
    """Seconds of a bare loop on the reconstruction."""
    model, optimizer = fresh_autoencoder(encoder, X.shape[1:], device)
    synchronize(device)
    start = time.perf_counter()
    for index in index_batches(len(X), n_epochs, device):
        x = X[index]
        optimizer.zero_grad()
        loss = reconstruction_loss(x, model.decoder(model.encoder(x)))
        loss.backward()
        optimizer.step()
    synchronize(device)
    return time.perf_counter() - start


def bare_finetuning(X, encoder, n_epochs, device):
    """Seconds of a bare loop on reconstruction plus concrete k-means, without monitors."""
    model, _ = fresh_autoencoder(encoder, X.shape[1:], device)
    model.centers = Centers(torch.randn(N_CLUSTERS, N_COMPONENTS, device=device)).to(device)
    optimizer = torch.optim.Adam(model.parameters(), lr=LR, fused=True)
    generator = torch.Generator(device=device).manual_seed(0)
    synchronize(device)
    start = time.perf_counter()
    for index in index_batches(len(X), n_epochs, device):
        x = X[index]
        optimizer.zero_grad()
        z = model.encoder(x)
        distances = squared_distances(z, model.centers.positions)
        temperature = model.centers.follow(distances.detach())
        logits = (-distances / temperature).log_softmax(1)
        assignment, _ = straight_through_assignment(logits, noise=0.0, generator=generator)
        clustering = concrete_kmeans_loss(
            z, model.centers.positions, assignment, distances=distances
        )
        loss = reconstruction_loss(x, model.decoder(z)) + 0.1 * clustering
        loss.backward()
        optimizer.step()
    synchronize(device)
    return time.perf_counter() - start


def ours(X, encoder, n_epochs, device, phase, augmentation=None):
    """Seconds of the training loop of one phase of ``fit``, without views unless asked for."""
    epochs = {"pretrain_epochs": 0, "max_epochs": 0}
    epochs["pretrain_epochs" if phase == "pretrain" else "max_epochs"] = n_epochs
    model = ConcreteKMeans(
        N_CLUSTERS,
        n_components=N_COMPONENTS,
        encoder=encoder,
        batch_size=BATCH,
        lr=LR,
        augmentation=augmentation,
        init="k-means",  # one start: that is what the loop is compared with
        tol=0,
        device=device,
        callbacks=[PhaseTimer()],
        random_state=0,
        **epochs,
    )
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", ConvergenceWarning)  # a few epochs on noise
        model.fit(X)
    return PhaseTimer.seconds[phase]


class _Autoencoder(torch.nn.Module):
    """The whole autoencoder as one module, for skorch."""

    def __init__(self, encoder, input_shape):
        super().__init__()
        self.encoder, self.decoder = build_autoencoder(encoder, input_shape, N_COMPONENTS)

    def forward(self, x):
        return self.decoder(self.encoder(x))


class _Reconstruction(torch.nn.Module):
    def forward(self, prediction, x):
        return reconstruction_loss(x, prediction)


def skorch_defaults(X, encoder, n_epochs, device):
    """Seconds of the same pretraining by skorch as it comes, apart from its validation split."""
    net = NeuralNet(
        partial(_Autoencoder, encoder, X.shape[1:]),
        _Reconstruction,
        optimizer=partial(torch.optim.Adam, fused=True),
        lr=LR,
        max_epochs=n_epochs,
        batch_size=BATCH,
        iterator_train__shuffle=True,
        train_split=None,
        device=device,
        verbose=0,
    )
    net.initialize()
    synchronize(device)
    start = time.perf_counter()
    net.partial_fit(X, X)
    synchronize(device)
    return time.perf_counter() - start


def whole_forward(model, X, device):
    """Seconds of one forward pass over the whole array, and the nearest centre."""
    network = model._net.module_
    x = torch.from_numpy(X)
    synchronize(device)
    start = time.perf_counter()
    with torch.inference_mode():
        z = network.encoder(x.to(device))
        squared_distances(z, network.centers.positions).argmin(1).cpu().numpy()
    return time.perf_counter() - start


def our_predict(model, X, device):
    """Seconds of ``predict``."""
    start = time.perf_counter()
    model.predict(X)
    return time.perf_counter() - start


def compare(question, candidates, required, repeats, settings):
    """Time the candidates in turn, the bare one first, and write the ratios."""
    for run in candidates.values():
        run()  # warm up
    seconds = {name: [] for name in candidates}
    for _ in range(repeats):
        for name, run in candidates.items():
            seconds[name].append(run())
    reference = next(iter(candidates))
    for name in list(candidates)[1:]:
        ratios = [b / o for b, o in zip(seconds[reference], seconds[name], strict=True)]
        row = {
            "question": question,
            "candidate": name,
            "against": reference,
            "ratio_median": round(statistics.median(ratios), 3),
            "ratio_min": round(min(ratios), 3),
            "ratio_max": round(max(ratios), 3),
            "required": required.get(name, ""),
            "repeats": repeats,
            **settings,
            **environment(),
        }
        append_row(RESULTS / "step_overhead.csv", row)
        print(
            f"{question:34} {name:16} {row['ratio_median']:6.3f} of the {reference} "
            f"({row['ratio_min']:.3f} to {row['ratio_max']:.3f}; required {row['required']})",
            flush=True,
        )


def questions(device, repeats, only):
    """Run every question whose name contains `only`."""
    for kind, (encoder, shape) in ENCODERS.items():
        n_samples, n_epochs = (2560, 2) if kind == "conv" and device == "cpu" else (10240, 5)
        X = make_data(n_samples, shape)
        tensor = torch.from_numpy(X).to(device)
        settings = {"n_samples": n_samples, "n_epochs": n_epochs, "n_threads": 1, "device": device}
        if only in f"pretraining {kind}":
            compare(
                f"pretraining {kind}",
                {
                    "bare loop": partial(bare_pretraining, tensor, encoder, n_epochs, device),
                    "sklearn-ckm": partial(ours, X, encoder, n_epochs, device, "pretrain"),
                    "skorch defaults": partial(skorch_defaults, X, encoder, n_epochs, device),
                },
                {"sklearn-ckm": 0.95 if kind == "conv" else 0.90},
                repeats,
                settings,
            )
        if only in f"monitored fine-tuning {kind}":
            compare(
                f"monitored fine-tuning {kind}",
                {
                    "bare loop": partial(bare_finetuning, tensor, encoder, n_epochs, device),
                    "sklearn-ckm": partial(ours, X, encoder, n_epochs, device, "finetune"),
                },
                {"sklearn-ckm": 0.85},
                repeats,
                settings,
            )
        if only in f"views {kind}":
            tune = partial(ours, X, encoder, n_epochs, device, "finetune")
            compare(
                f"views {kind}",
                {"without views": tune, "with views": partial(tune, "auto")},
                {"with views": 0.4},
                repeats,
                settings,
            )
        if only in f"prediction {kind}":
            X = make_data(10_000, shape)
            model = ConcreteKMeans(
                N_CLUSTERS, encoder=encoder, pretrain_epochs=0, max_epochs=0, device=device
            ).fit(X[:1000])
            X = model._scaler.to_tensor(X.reshape(len(X), -1)).numpy()
            compare(
                f"prediction {kind}",
                {
                    "one forward pass": partial(whole_forward, model, X, device),
                    "sklearn-ckm": partial(our_predict, model, X, device),
                },
                {"sklearn-ckm": 0.8},
                repeats,
                {**settings, "n_samples": 10_000, "n_epochs": ""},
            )


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--repeats", type=int, default=7)
    parser.add_argument("--device", default="cpu")
    parser.add_argument("--only", default="", help="run the questions whose name contains this")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    questions(arguments.device, arguments.repeats, arguments.only)
