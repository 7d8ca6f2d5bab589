"""Locks of modules: a forked child must not wait for a thread of its parent that held one at the fork."""

from __future__ import annotations

import importlib
import os
import pkgutil
import threading

import pytest

import meshlib

KINDS = (type(threading.Lock()), type(threading.RLock()))


def locks() -> dict[str, object]:
    found: dict[str, object] = {}
    for module in pkgutil.walk_packages(meshlib.__path__, "meshlib."):
        if module.name.rpartition(".")[2] == "__main__" or ".demo." in module.name:
            continue
        for name, value in vars(importlib.import_module(module.name)).items():
            if isinstance(value, KINDS):
                found.setdefault(f"{module.name}.{name}", value)
    return found


LOCKS = locks()


def test_there_are_locks_to_look_at():
    assert len(LOCKS) >= 3


@pytest.mark.parametrize("name", sorted(LOCKS))
def test_a_lock_of_a_module_is_free_in_a_child_whoever_held_it(name):
    lock = LOCKS[name]
    with lock:  # type: ignore[attr-defined]
        child = os.fork()
        if child == 0:
            os._exit(0 if lock.acquire(timeout=1.0) else 7)  # type: ignore[attr-defined]
        _, status = os.waitpid(child, 0)
    assert os.waitstatus_to_exitcode(status) == 0
