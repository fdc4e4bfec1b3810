"""
Search the weights of the loss without target labels
====================================================

The weights of the clustering term and of the source's classes, ``lambda_clustering`` and
``lambda_classification``, cannot be chosen by accuracy where the target has no labels. A criterion
that reads none has to stand in. Here ``GridSearchCV`` searches by one; the target's labels serve to
see, in the end, what that was worth.
"""

# License: BSD-3-Clause

from tempfile import mkdtemp

import matplotlib.pyplot as plt
import numpy as np
from sklearn.base import clone
from sklearn.model_selection import GridSearchCV

from sklearn_ckm import CKMDomainAdapter
from sklearn_ckm.datasets import load_digits_on_photos
from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.model_selection import TargetSplit, make_label_free_scorer
from sklearn_ckm.utils import stack_domains

# %%
# A search knows one array. ``stack_domains`` puts both domains into one and tags the rows: 1 for
# source, -1 for target. ``TargetSplit`` trains every fold on the whole source and a part of the
# target, and tests on the rest of the target.

data = load_digits_on_photos()
X, y, domain = stack_domains(data.X_src, data.y_src, data.X_tgt)
print("labels of the target in the stack:", set(y[domain < 0].tolist()))

# %%
# With ``memory`` autoencoders are pretrained once for each fold and once for the refit, not once
# for each candidate: pretraining does not depend on the weights. By default several starts compete
# in every fit; to save time, there is one here, in the autoencoder of both domains.

model = CKMDomainAdapter(
    n_clusters=5,
    encoder="mlp-small",
    init="k-means",
    pretraining="reconstruction",
    source_in_pretraining=True,
    pretrain_epochs=15,
    max_epochs=10,
    memory=mkdtemp(),
    random_state=0,
)
weights = {"lambda_clustering": [0.01, 0.1, 1.0], "lambda_classification": [0.1, 10.0]}
search = GridSearchCV(
    model,
    weights,
    scoring=make_label_free_scorer("information_maximization"),
    cv=TargetSplit(2, sample_domain=domain, random_state=0),
)
search.fit(X, y, sample_domain=domain)
print("chosen:", search.best_params_)

# %%
# What it was worth
# -----------------
#
# To know, fit every candidate on all rows and look at the accuracy, which a user without labels
# could not do.

accuracy = []
for candidate in search.cv_results_["params"]:
    fitted = clone(model).set_params(**candidate).fit(X, y, sample_domain=domain)
    accuracy.append(clustering_accuracy(data.y_tgt, fitted.labels_))
print(f"accuracy of the chosen candidate: {accuracy[search.best_index_]:.3f}")
print(f"of the best and the worst one:    {max(accuracy):.3f}, {min(accuracy):.3f}")

# %%
# A ``ConvergenceWarning`` above, if there is one, is that of a candidate whose centres cannot be
# trusted. A search of one's own should leave such candidates out.
#
# Cells of the figure are candidates; a frame marks the chosen one. Criterion and accuracy need not
# agree cell by cell: with one seed, neighbouring cells differ by chance too. Here all lie within
# eight points of accuracy, 0.834 to 0.913, and the chosen one has 0.873. A search is of use where
# some candidates are far off. :doc:`The page on choosing settings </choosing_settings>` tells how
# far each criterion followed the accuracy on other data.

shape = len(weights["lambda_classification"]), len(weights["lambda_clustering"])
panels = {
    "mean criterion of the folds (no label)": search.cv_results_["mean_test_score"],
    "accuracy (labels of the target)": np.array(accuracy),
}
figure, axes = plt.subplots(1, 2, figsize=(9, 3), layout="constrained")
for panel, (title, values) in zip(axes, panels.items(), strict=True):
    image = panel.imshow(values.reshape(shape), cmap="cividis")
    middle = (values.max() + values.min()) / 2
    for (row, column), value in np.ndenumerate(values.reshape(shape)):
        color = "black" if value > middle else "white"
        panel.text(column, row, f"{value:.3f}", ha="center", va="center", color=color)
    chosen = np.unravel_index(search.best_index_, shape)
    frame = plt.Rectangle(
        (chosen[1] - 0.46, chosen[0] - 0.46), 0.92, 0.92, fill=False, edgecolor="red", linewidth=3
    )
    panel.add_patch(frame)
    panel.set_xticks(range(shape[1]), weights["lambda_clustering"])
    panel.set_yticks(range(shape[0]), weights["lambda_classification"])
    panel.set(title=title, xlabel="lambda_clustering", ylabel="lambda_classification")
plt.show()
