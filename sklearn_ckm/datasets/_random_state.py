"""Random states that are never numpy's global one."""

# License: BSD-3-Clause

import numpy as np
from sklearn.utils import check_random_state


def _check_local_random_state(random_state):
    """As scikit-learn's ``check_random_state``, but None is a fresh state, not numpy's own."""
    return np.random.RandomState() if random_state is None else check_random_state(random_state)
