"""Locks for state that belongs to the process, not to a thread."""

import os
import threading
from contextlib import contextmanager


class ProcessLock:
    """A reentrant lock that is free in a forked process, whatever held it when that was forked."""

    def __init__(self):
        self._renew()
        if hasattr(os, "register_at_fork"):
            os.register_at_fork(after_in_child=self._renew)

    def _renew(self):
        self._lock = threading.RLock()

    @contextmanager
    def held(self):
        """Hold the lock within a ``with`` block."""
        with self._lock:
            yield
