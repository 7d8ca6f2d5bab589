"""Whether the initial metadata of a call of grpcio's threads has come, for those who must not wait for it.

grpcio may tell the status of a call before its initial metadata, and both through one thread: a callback that asks there for
the metadata waits for itself.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from meshlib.alarms import Alarms

if TYPE_CHECKING:
    from meshlib.transport.grpcio.contracts import Metadata, ThreadCall

GRACE = 0.2
"""Seconds in which the head of a response comes after its status, if it has one."""

STEP = GRACE / 40


def has_initial_metadata(inner: object) -> bool:
    """Whether the initial metadata has come. grpcio's public way to ask blocks; where its inner state is not what we know,
    it says no, which costs time and nothing else."""
    return getattr(getattr(inner, "_state", None), "initial_metadata", None) is not None


def received_initial_metadata(inner: ThreadCall) -> Metadata:
    """What has come of it; nothing if nothing has. Never blocks."""
    return inner.initial_metadata() if has_initial_metadata(inner) else ()


def after_initial_metadata(
    inner: ThreadCall, alarms: Alarms, then: Callable[[], None], patience: float = GRACE
) -> None:
    """Call ``then``, now or a little later, and at the latest when ``patience`` is over."""
    if patience <= 0 or has_initial_metadata(inner):
        then()
    else:
        alarms.after(STEP, lambda: after_initial_metadata(inner, alarms, then, patience - STEP))
