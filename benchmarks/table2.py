"""Few labels in the target: the paper's Table 2, with two controls.

Of each target class 2, 3, 4 or 5 training rows are labelled, drawn anew in each run; each row is in
the target once, with its label or without. All methods of a run have the same draw, encoder, epochs
and seed. Accuracy is that of the predicted names on the target's test split, at the last epoch.
Lambda 1 is that of CKM-UDA in table1.py, chosen without a label; other weights are the defaults.
One control fine-tunes a source classifier on the labelled rows; the other clusters without them and
names each cluster afterwards. No method has views but the last one. Rows are written as they end:
an interrupted table resumes.

    python benchmarks/table2.py --data FOLDER [--scale reduced] [--pairs usps-mnist] [--quick]
"""

from dataclasses import dataclass, field
from typing import Any

import numpy as np
import table1
from _digit_pairs import N_CLUSTERS
from _tables import clustering_row, make_table, pair_title, summarize
from scipy.optimize import linear_sum_assignment
from sklearn.metrics import accuracy_score

from sklearn_ckm import CKMDomainAdapter, CKMSemiSupervisedAdapter
from sklearn_ckm.datasets import keep_few_labels
from sklearn_ckm.domain_adaptation import CommonFactorClassifier, LabelEfficientTransfer

N_SHOTS = (2, 3, 4, 5)
PAPER = {  # Table 2, SVHN 0-4 to MNIST 5-9; those of LET and CFSM are standard errors
    "LET": ("91.7 ± 0.7", "93.6 ± 0.6", "94.2 ± 0.6", "95.0 ± 0.4"),
    "CFSM-like": ("93.5 ± 0.5", "94.8 ± 0.5", "95.5 ± 0.3", "96.7 ± 0.2"),  # of CFSM itself
    "CKM-SSDA": ("98.0 ± 0.1", "98.2 ± 0.1", "98.3 ± 0.1", "98.4 ± 0.1"),
}


CKM_UDA = ("CKM-UDA", table1.METHODS["CKM-UDA"])  # its lambda 1 serves all CKM methods


def few_labels(task, n_shots, run):
    """Labels of the target's training rows, all but `n_shots` a class replaced by -1."""
    return keep_few_labels(task.y_tgt, n_shots, random_state=run)


@dataclass
class FewShot:
    """A classifier of this package."""

    cls: type
    params: dict[str, Any] = field(default_factory=dict)
    selection: tuple | None = None
    n_shots: tuple = N_SHOTS

    def fit(self, task, context, n_shots):
        """Fit on the training splits and the labels of the draw."""
        make = context.kwargs if self.selection is None else context.adapter_kwargs
        model = self.cls(**make(**self.params))
        y_few = few_labels(task, n_shots, context.run)
        return model.fit(task.X_src, task.y_src, X_tgt=task.X_tgt, y_tgt=y_few)

    def rows(self, task, context, n_shots):
        """Fit and score for each number of labels."""
        for n in n_shots:
            names = self.fit(task, context, n).predict(task.X_test)
            row = clustering_row(task.y_test, names, accuracy_score(task.y_test, names))
            yield {"n_shots": n, **row}


class NamedAfterwards:
    """Clusters that are named by the labelled rows once they are found."""

    selection = CKM_UDA
    n_shots = N_SHOTS

    def fit(self, task, context):
        """Cluster without a label of the target."""
        model = CKMDomainAdapter(N_CLUSTERS, **context.adapter_kwargs())
        return model.fit(task.X_src, task.y_src, X_tgt=task.X_tgt)

    def rows(self, task, context, n_shots):
        """Fit once, and name the clusters by each number of labels."""
        model = self.fit(task, context)
        clusters = model.predict(task.X_test)
        for n in n_shots:
            y_few = few_labels(task, n, context.run)
            names = name_clusters(model.labels_, y_few)[clusters]
            row = clustering_row(task.y_test, names, accuracy_score(task.y_test, names))
            yield {"n_shots": n, **row}


def name_clusters(clusters, y_few):
    """Class of each cluster: the matching with the most labelled rows."""
    classes = np.unique(y_few[y_few >= 0])
    counts = np.array(
        [[np.sum(clusters[y_few == c] == j) for c in classes] for j in range(N_CLUSTERS)]
    )
    rows, columns = linear_sum_assignment(-counts)
    names = np.empty(len(counts), dtype=classes.dtype)
    names[rows] = classes[columns]
    return names


METHODS = {
    "Fine-tuning on the labels": FewShot(
        LabelEfficientTransfer, {"lambda_adversarial": 0.0, "lambda_transfer": 0.0}
    ),
    "LET": FewShot(LabelEfficientTransfer),
    "CFSM-like": FewShot(CommonFactorClassifier),
    "CKM-UDA, named afterwards": NamedAfterwards(),
    "CKM-SSDA": FewShot(CKMSemiSupervisedAdapter, selection=CKM_UDA),
    "CKM-SSDA with views": FewShot(
        CKMSemiSupervisedAdapter, {"augmentation": "auto", **table1.OF_TARGET}, selection=CKM_UDA
    ),
}


def report(rows, pairs):
    """Print a table for each pair."""
    for pair in pairs:
        of_pair = [row for row in rows if row["pair"] == pair]
        if not of_pair:
            continue
        print(f"\n{pair_title(pair, of_pair)}\naccuracy ± sd (se, runs) by labels a class")
        print(f"{'method':26}" + "".join(f"{f'k = {n_shots}':>23}" for n_shots in N_SHOTS))
        for name in METHODS:
            cells = []
            for n_shots in N_SHOTS:
                mine = [
                    row
                    for row in of_pair
                    if row["method"] == name and int(row["n_shots"]) == n_shots
                ]
                if mine:
                    mean, sd, se, n = summarize(mine)
                    cells.append(f"{mean:5.1f} ± {sd:4.1f} ({se:3.1f}, n={n})")
            if cells:
                print(f"{name:26}" + "".join(f"{cell:>23}" for cell in cells))
            if cells and pair == "svhn-mnist" and name in PAPER:
                print(f"{'  the paper':26}" + "".join(f"{cell:>23}" for cell in PAPER[name]))


if __name__ == "__main__":
    make_table("table2", __doc__.splitlines()[0], METHODS, report)
