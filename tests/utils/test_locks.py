import multiprocessing
import threading
import warnings

import pytest

from sklearn_ckm.utils._locks import ProcessLock
from sklearn_ckm.utils._warnings import ignored_warnings

FORK = "fork" in multiprocessing.get_all_start_methods()
LOCK = ProcessLock()


def take():
    with LOCK.held():
        pass


def in_thread(function):
    thread = threading.Thread(target=function, daemon=True)
    thread.start()
    return thread


def test_threads_take_turns_and_a_thread_does_not_wait_for_itself():
    with LOCK.held():
        take()
        thread = in_thread(take)
        thread.join(0.2)
        assert thread.is_alive()
    thread.join(10)
    assert not thread.is_alive()


@pytest.mark.skipif(not FORK, reason="needs a system that forks")
@pytest.mark.filterwarnings("ignore:.*multi-threaded, use of fork:DeprecationWarning")
def test_lock_is_free_in_a_process_forked_while_a_thread_held_it():
    is_held, may_end = threading.Event(), threading.Event()

    def hold():
        with LOCK.held():
            is_held.set()
            may_end.wait(60)

    thread = in_thread(hold)
    assert is_held.wait(10)
    child = multiprocessing.get_context("fork").Process(target=take)
    child.start()
    child.join(30)
    may_end.set()
    thread.join(10)
    code = child.exitcode
    child.kill()
    assert code == 0


def test_ignored_warnings_of_threads_leave_the_filters_as_they_were():
    before = list(warnings.filters)
    other_is_in, may_end = threading.Event(), threading.Event()

    def overlapping():
        with ignored_warnings(RuntimeWarning):
            other_is_in.set()
            may_end.wait(10)

    with ignored_warnings(UserWarning):
        warnings.warn("Nobody hears this.", stacklevel=1)
        thread = in_thread(overlapping)
        other_is_in.wait(0.3)
    may_end.set()
    thread.join(10)
    assert warnings.filters == before
    assert other_is_in.is_set()


def test_other_warnings_are_heard():
    with pytest.warns(UserWarning, match="^This"), ignored_warnings(UserWarning, "That"):
        warnings.warn("That is ignored.", stacklevel=1)
        warnings.warn("This is not.", stacklevel=1)
