"""The other way to hosts outside the registry: the proxy, or the transport of the caller's own, that httpx would have taken
for a URL. The exchange runs as for every pass-through call (REGISTRY_ONLY blocks it); only the sending is different."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from meshlib.engine.call import Call

log = logging.getLogger("meshlib.httpx")

_ANY_HOST = ("", "*")

R = TypeVar("R")


class OtherWay(Generic[R]):
    """``runtime`` sends through the other transport. ``pattern`` is the caller's own, "" when no caller gave one."""

    __slots__ = ("_names_a_host", "_pattern", "_told", "runtime")

    def __init__(self, runtime: R, pattern: str) -> None:
        self.runtime = runtime
        self._pattern = pattern
        self._names_a_host = pattern.partition("://")[2] not in _ANY_HOST
        self._told = False

    def takes(self, call: Call) -> bool:
        """Whether the call goes this way: its URL leads outside the registry, whatever its Host says. A mount that names a
        host of the mesh never acts, which is said once."""
        snapshot, view = call.live.snapshot, call.request
        if snapshot.is_unknown(snapshot.virtual_host(view.dialled, view.scheme)):
            return True
        if self._names_a_host and not self._told:
            self._told = True
            log.warning(
                "mounts[%r] has no effect for %s, which is a host of the mesh: its calls go by the mesh's rules. To send them "
                "through a transport of your own (a mock, say), give it to the client as transport=",
                self._pattern,
                view.dialled,
            )
        return False
