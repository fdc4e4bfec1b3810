"""
What a collapse looks like
==========================

The loss of deep clustering falls when the embedding shrinks, whether or not there are clusters in
it. With the loss as the paper prints it, centres can die, or two become one, while the loss falls.
This page provokes both, and shows which numbers of ``history_`` tell.
"""

# License: BSD-3-Clause

import warnings

import matplotlib.pyplot as plt
from sklearn.exceptions import ConvergenceWarning

from sklearn_ckm import ConcreteKMeans
from sklearn_ckm.datasets import load_digits_on_photos
from sklearn_ckm.inspection import TrainingCurveDisplay
from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.objectives import ConcreteKMeansObjective

data = load_digits_on_photos()
settings = {
    "n_clusters": 5,
    "encoder": "mlp-small",
    "augmentation": None,
    "pretrain_epochs": 20,
    "max_epochs": 40,
    "tol": 0,
    "random_state": 0,
}

# %%
# Three fits
# ----------
#
# The literal loss has Gumbel noise of unit scale on logits of raw squared distances. Where these
# are small beside the noise, rows are sent to random centres. The package's own loss scales the
# logits (``temperature="auto"``) and adds no noise. All are fitted without views, and with weights
# of the clustering term above the default of 0.1, which makes the failure quick.

literal = {
    "objective": ConcreteKMeansObjective(
        form="A", estimator="gumbel", relaxation=(1.0, 0.1), noise=1.0
    ),
    "temperature": 1.0,
}
models = {
    "as printed, weight 1": ConcreteKMeans(lambda_clustering=1.0, **literal, **settings),
    "as printed, weight 10": ConcreteKMeans(lambda_clustering=10.0, **literal, **settings),
    "default loss, weight 10": ConcreteKMeans(lambda_clustering=10.0, **settings),
}
for name, model in models.items():
    with warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always", ConvergenceWarning)
        model.fit(data.X_tgt)
    print(f"{name}: stop_reason_ is {model.stop_reason_!r}")
    for warning in caught:
        print("   ", warning.message)

# %%
# The estimator says so itself: ``stop_reason_`` is ``"collapsed"``, and a ``ConvergenceWarning``
# tells which centres are dead, doubled or away from the data. (This page records the warnings, to
# print them; do not silence them.)
#
# The numbers that tell
# ---------------------
#
# ``history_`` has the loss terms and the monitors of every epoch.

keys = {
    "clustering": "clustering loss (log scale)",
    "mean_max_probability": "mean of the largest probability",
    "within_over_variance": "squared distance to the centre / variance",
    "max_cluster_fraction": "share of the largest cluster",
}
styles = [("#E69F00", ":"), ("#D55E00", "--"), ("#0072B2", "-")]
figure, grid = plt.subplots(2, 2, figsize=(9, 6), sharex=True, layout="constrained")
for axes, (key, title) in zip(grid.flat, keys.items(), strict=True):
    for (name, model), (color, style) in zip(models.items(), styles, strict=True):
        values = [row[key] for row in model.history_ if key in row]
        axes.plot(range(1, len(values) + 1), values, style, color=color, label=name, linewidth=2)
    axes.set_title(title, fontsize="medium")
    if key == "clustering":
        axes.set_yscale("log")
    else:
        axes.set_ylim(bottom=0)
for axes in grid[1]:
    axes.set_xlabel("epoch of the fine-tuning")
figure.legend(*grid[0, 0].get_legend_handles_labels(), loc="outside lower center", ncols=3)
plt.show()

# %%
# The clustering loss does not tell: it falls in all three fits, and at weight 10 the fit that
# failed and the one that did not end at about the same value.
#
# At weight 10 the loss as printed ends with one cluster that holds all rows. The lower row shows
# it: divided by the variance of the embedding, the distance of the rows to their centres does not
# change when everything shrinks, and at 1 the centres explain nothing. The assignments are as sure
# as can be, for all rows are sure to belong together.
#
# At weight 1 it fails in another way: two centres become one, and the rows at them choose by noise.
# The lower row looks harmless, but the assignments get less sure from epoch to epoch. No single
# number tells every failure, which is why the estimator looks at the centres themselves at the end.
#
# ``TrainingCurveDisplay`` draws the terms and the monitors of one fit, here of that at weight 1.
# ``sampled_not_nearest`` is the share of rows that the noise sends to another centre than the
# nearest: it rises, while the smallest cluster loses its rows.

TrainingCurveDisplay.from_estimator(models["as printed, weight 1"])
plt.show()

# %%
# The labels of the target confirm it.

for name, model in models.items():
    print(f"{name:25}accuracy {clustering_accuracy(data.y_tgt, model.labels_):.3f}")

# %%
# What to do about a collapse: leave ``temperature="auto"``, take a smaller ``lambda_clustering``,
# pretrain longer, try another ``random_state`` or a larger ``n_init``, or let
# ``ConcreteKMeansObjective(reseed_empty=True)`` move centres that have lost their rows.
