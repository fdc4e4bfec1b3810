"""Unsupervised adaptation: the paper's Table 1, with the methods that anyone would try first.

Every method clusters the unlabelled target into five groups, with the same encoder, rows, epochs
and seeds; accuracy on the target's test split is by optimal matching, at the last epoch. Lambda 1
is chosen per method and pair over one grid by a label-free score on a run of its own; other weights
are the defaults. No method has views, as in the paper, but the last one, which has the lambda 1 of
the same without. A run draws its rows (where not all are taken) and seeds everything. Rows are
written as they end: an interrupted table resumes. The seconds of a row depend on what was cached
(the first method that needs a pretrained autoencoder pays for it) and on what else ran.

    python benchmarks/table1.py --data FOLDER [--scale reduced] [--pairs usps-mnist] [--quick]
"""

from dataclasses import dataclass, field
from typing import Any

from _digit_pairs import N_CLUSTERS
from _tables import clustering_row, make_table, pair_title, summarize
from sklearn.cluster import KMeans
from sklearn.decomposition import PCA
from sklearn.pipeline import make_pipeline

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans
from sklearn_ckm.domain_adaptation import DomainAdversarialClusterer, ProgressiveClusterer
from sklearn_ckm.metrics import clustering_accuracy
from sklearn_ckm.objectives import ConcreteKMeansObjective

PAPER = {  # Table 1, SVHN 0-4 to MNIST 5-9: mean and standard deviation
    "Target clustering": "82.1 ± 2.1",
    "Src+Targ clustering": "86.7 ± 1.8",
    "DEC-UDA": "91.6 ± 3.8",
    "DCN-UDA": "90.1 ± 1.0",
    "CKM-UDA": "96.12 ± 1.7",
}
AS_PRINTED = ConcreteKMeansObjective(form="A", estimator="gumbel", relaxation=(1.0, 0.1), noise=1.0)


@dataclass
class Shallow:
    """A scikit-learn pipeline on the pixels of the target."""

    steps: tuple = ()
    selection: None = None
    n_shots: tuple = ("",)

    def rows(self, task, context, n_shots):
        """Fit and score."""
        kmeans = KMeans(N_CLUSTERS, n_init=20, random_state=context.run)
        model = make_pipeline(*self.steps, kmeans).fit(task.X_tgt.reshape(len(task.X_tgt), -1))
        labels = model.predict(task.X_test.reshape(len(task.X_test), -1))
        yield clustering_row(task.y_test, labels, clustering_accuracy(task.y_test, labels))


@dataclass
class Deep:
    """An estimator of this package."""

    cls: type
    params: dict[str, Any] = field(default_factory=dict)
    selection: tuple | None = None
    n_shots: tuple = ("",)

    def fit(self, task, context):
        """Fit on the training splits; no label of the target is passed."""
        if self.cls in (CKMDomainAdapter, ConcreteKMeans):
            kwargs = context.adapter_kwargs(**self.params)
        else:
            kwargs = context.kwargs(**self.params)
        model = self.cls(N_CLUSTERS, **kwargs)
        if self.cls is ConcreteKMeans:
            return model.fit(task.X_tgt)
        return model.fit(task.X_src, task.y_src, X_tgt=task.X_tgt)

    def rows(self, task, context, n_shots):
        """Fit and score on the test split."""
        labels = self.fit(task, context).predict(task.X_test)
        yield clustering_row(task.y_test, labels, clustering_accuracy(task.y_test, labels))

    def label_free_score(self, task, context):
        """Score on the target's training rows, without a label."""
        return self.fit(task, context).score(task.X_tgt)


METHODS = {
    "k-means, pixels": Shallow(),
    "k-means, PCA": Shallow((PCA(N_CLUSTERS * 4, random_state=0),)),
    "k-means, source classifier": Deep(DomainAdversarialClusterer, {"max_epochs": 0}),
    "k-means, autoencoder": Deep(ConcreteKMeans, {"max_epochs": 0}),
    "Target clustering": Deep(ConcreteKMeans),
    "Src+Targ clustering": Deep(CKMDomainAdapter, {"source_in_finetuning": False}),
    "DANN, then k-means": Deep(DomainAdversarialClusterer),
    "Cluster and fine-tune": Deep(ProgressiveClusterer),
    "DEC-UDA": Deep(CKMDomainAdapter, {"objective": "dec"}),
    "DCN-UDA": Deep(CKMDomainAdapter, {"objective": "dcn"}),
    "Soft k-means-UDA": Deep(CKMDomainAdapter, {"objective": "soft-kmeans"}),
    "CKM-UDA, loss as printed": Deep(
        CKMDomainAdapter, {"objective": AS_PRINTED, "temperature": 1.0}
    ),
    "CKM-UDA": Deep(CKMDomainAdapter),
}
for _name in (
    "Target clustering",
    "Src+Targ clustering",
    "DEC-UDA",
    "DCN-UDA",
    "Soft k-means-UDA",
    "CKM-UDA, loss as printed",
    "CKM-UDA",
):
    METHODS[_name].selection = (_name, METHODS[_name])  # each with its own lambda 1
OF_TARGET = {"lambda_source": 0.0, "pretraining": "reconstruction"}  # views of the target alone
for _name, _params in (
    ("CKM-UDA with views", {"init": "k-means"}),
    ("CKM-UDA with views and three starts", {}),
):
    METHODS[_name] = Deep(
        CKMDomainAdapter,
        {"augmentation": "auto", **OF_TARGET, **_params},
        selection=METHODS["CKM-UDA"].selection,
    )


def report(rows, pairs, methods=METHODS):
    """Print a table for each pair."""
    for pair in pairs:
        of_pair = [row for row in rows if row["pair"] == pair]
        if not of_pair:
            continue
        print(f"\n{pair_title(pair, of_pair)}")
        header = f"{'method':28} {'accuracy ± sd (se)':>20} {'NMI':>6} {'ARI':>6} {'runs':>5}"
        print(header + (f" {'paper':>12}" if pair == "svhn-mnist" else ""))
        for name in methods:
            mine = [row for row in of_pair if row["method"] == name]
            if mine:
                mean, sd, se, n = summarize(mine)
                nmi, ari = summarize(mine, "nmi")[0], summarize(mine, "ari")[0]
                line = f"{name:28} {mean:8.1f} ± {sd:4.1f} ({se:3.1f}) {nmi:6.1f} {ari:6.1f} {n:5}"
                print(line + (f" {PAPER.get(name, ''):>12}" if pair == "svhn-mnist" else ""))


if __name__ == "__main__":
    make_table("table1", __doc__.splitlines()[0], METHODS, report)
