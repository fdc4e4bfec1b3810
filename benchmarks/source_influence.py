"""What does the source give, and what does it take? Parts of CKM-UDA on and off.

The same rows, seeds and epochs as table1.py, with the default lambda 1 for all: the target alone;
the source's images without its labels; its labels at a larger weight; each with a code of ten and
of 64 numbers. In the paper the source's images and its labels both help; this shows whether they
do here, and whether the width of the code is what stands in their way.

    python benchmarks/source_influence.py --data FOLDER [--runs 0 1 2]
"""

from functools import partial

from _tables import make_table
from table1 import Deep, report

from sklearn_ckm import CKMDomainAdapter, ConcreteKMeans

METHODS = {
    f"{name}, {width} wide": Deep(cls, {**params, "n_components": width})
    for width in (10, 64)
    for name, cls, params in (
        ("target alone", ConcreteKMeans, {}),
        ("with source images", CKMDomainAdapter, {"lambda_classification": 0.0}),
        ("with source labels", CKMDomainAdapter, {"lambda_classification": 1.0}),
        ("labels at weight 10", CKMDomainAdapter, {"lambda_classification": 10.0}),
    )
}

if __name__ == "__main__":
    make_table(
        "source_influence", __doc__.splitlines()[0], METHODS, partial(report, methods=METHODS)
    )
