"""grpcio, as sources of identity use it: imported when one starts, and never again in a child whose parent has used it."""

from __future__ import annotations

import gc
import os
from collections.abc import Callable
from types import ModuleType
from typing import TYPE_CHECKING

from meshlib.identity.errors import BadCredentials

if TYPE_CHECKING:
    import grpc

_used_by: int | None = None
"""The process that made the first channel here."""
_kept_by_parent: list[object] = []
_registered = False
_settled: int | None = None
"""The forked child in which grpcio's own handler has run."""
_waiting: list[Callable[[], object]] = []

FORKED = (
    "this process was forked from one that had begun to follow it over gRPC, whose threads do not exist here: make the mesh "
    "in the child, or set GRPC_ENABLE_FORK_SUPPORT=1 in the environment before grpc is imported"
)

OPTIONS: tuple[tuple[str, int], ...] = (
    ("grpc.use_local_subchannel_pool", 1),  # else the backoff of a failed connection is shared with the next channel
    ("grpc.enable_http_proxy", 0),
    ("grpc.enable_retries", 0),  # retries are ours
)


def library() -> ModuleType:
    """grpcio. Raises ``BadCredentials`` where it is not installed."""
    try:
        import grpc as found
    except ImportError as error:
        raise BadCredentials(
            "an identity from the Workload API or from istiod needs grpcio: pip install 'sidecarless[grpc]'"
        ) from error
    return found


def may_be_used() -> bool:
    """Whether channels can be made in this process: False in the child of one that has made some, unless grpcio's fork
    support is on. gRPC core's threads do not exist there, and every call would wait for ever."""
    return _used_by in (None, os.getpid()) or fork_support()


def fork_support() -> bool:
    """As gRPC core reads it."""
    return os.environ.get("GRPC_ENABLE_FORK_SUPPORT", "0").lower() in ("1", "true", "yes")


def used() -> None:
    """A channel has been made."""
    global _used_by, _registered
    _used_by = os.getpid()
    if not _registered:
        _registered = True
        os.register_at_fork(after_in_child=_settle)  # grpcio has registered its own with its first channel


def was_used() -> bool:
    """Whether this process, or one that it was forked from, has made a channel here."""
    return _used_by is not None


def once_settled(begin: Callable[[], object]) -> None:
    """In a forked child, where fork support is on: ``begin`` when grpcio's own handler has run, which cancels every call that
    it finds, those of the child too."""
    if _settled == os.getpid():
        begin()
    else:
        _waiting.append(begin)


def _settle() -> None:
    global _settled
    _settled = os.getpid()
    waiting = list(_waiting)
    _waiting.clear()
    for begin in waiting:
        begin()


def keep(*of_parent: object) -> None:
    """In a forked child: these are never freed. Their destruction takes locks of gRPC core that threads of the parent may
    have held."""
    _kept_by_parent.extend(of_parent)
    gc.freeze()


def said(error: grpc.RpcError) -> tuple[str, str]:
    """The name of the status, and what the server says, shortened."""
    code, details = getattr(error, "code", None), getattr(error, "details", None)
    name = code().name if callable(code) and code() is not None else "UNKNOWN"
    text = " ".join(str((details() if callable(details) else "") or "").split())
    return name, text if len(text) <= 300 else f"{text[:300]}..."
