"""The order of the examples in the gallery."""

ORDER = [
    "plot_first_steps.py",
    "plot_few_labels.py",
    "plot_two_instruments.py",
    "plot_source_classes.py",
    "plot_n_clusters.py",
    "plot_grid_search.py",
    "plot_own_encoder.py",
    "plot_collapse.py",
    "demo_digits.py",
]


def position(filename):
    """Sort key of an example; one that is not listed comes last."""
    return ORDER.index(filename) if filename in ORDER else len(ORDER), filename
