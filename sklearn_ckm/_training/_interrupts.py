"""Ctrl-C, remembered where what is half done would be lost."""

import signal
import threading
from contextlib import contextmanager


class HeldInterrupts:
    """Remembers Ctrl-C within a ``with`` block, instead of raising it wherever it arrives.

    The work within looks for it where it can stop without a loss. Pressed again, Ctrl-C is raised
    at once, but for the moments in which it would leave a state half copied. Nothing is held in
    other threads than the main one, which no interrupt reaches, nor where the program has a handler
    of its own.

    Attributes
    ----------
    is_pending : bool
        Whether Ctrl-C was pressed.
    is_repeated : bool
        Whether it was pressed again.
    """

    def __init__(self):
        self.is_pending = self.is_repeated = self._is_shielded = False

    def __enter__(self):
        is_main = threading.current_thread() is threading.main_thread()
        if is_main and signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            signal.signal(signal.SIGINT, self._remember)
        return self

    def __exit__(self, *error):
        if signal.getsignal(signal.SIGINT) == self._remember:
            signal.signal(signal.SIGINT, signal.default_int_handler)

    def raise_pending(self):
        """Raise ``KeyboardInterrupt`` if Ctrl-C was pressed."""
        if self.is_pending:
            raise KeyboardInterrupt

    @contextmanager
    def shield(self):
        """Raise nothing within the block, which should be short, however often it is pressed."""
        self._is_shielded = True
        try:
            yield
        finally:
            self._is_shielded = False

    def _remember(self, signum, frame):
        if self._is_shielded:
            self.is_pending = True
            return
        self.is_repeated = self.is_pending
        self.raise_pending()
        self.is_pending = True
