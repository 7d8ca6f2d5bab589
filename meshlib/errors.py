"""Every error a user of meshlib can see.

Configuration errors (``ConfigError``) carry *all* problems of all files at once. Errors of calls (``CallError``) are also the
httpx exception that a caller of plain httpx already catches, and carry ``.exchange``: what the mesh decided and did for that
call.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from meshlib.call_error import CallError as CallError
from meshlib.call_error import MeshClosed as MeshClosed
from meshlib.distribution import require_ours
from meshlib.problems import ConfigError as ConfigError
from meshlib.problems import MeshError as MeshError
from meshlib.problems import Problem as Problem
from meshlib.problems import Severity as Severity

if TYPE_CHECKING:
    from meshlib.http_errors import ClosedMeanwhile as ClosedMeanwhile
    from meshlib.http_errors import ConnectFailed as ConnectFailed
    from meshlib.http_errors import ConnectionReset as ConnectionReset
    from meshlib.http_errors import ConnectTimedOut as ConnectTimedOut
    from meshlib.http_errors import InvalidRequest as InvalidRequest
    from meshlib.http_errors import NoHealthyUpstream as NoHealthyUpstream
    from meshlib.http_errors import Overflow as Overflow
    from meshlib.http_errors import ProxyFailed as ProxyFailed
    from meshlib.http_errors import UnsupportedProtocol as UnsupportedProtocol
    from meshlib.http_errors import UpstreamReset as UpstreamReset
    from meshlib.http_errors import UpstreamTimeout as UpstreamTimeout
    from meshlib.http_errors import WriteTimedOut as WriteTimedOut

OF_HTTP = (
    "ClosedMeanwhile",
    "ConnectFailed",
    "ConnectTimedOut",
    "ConnectionReset",
    "InvalidRequest",
    "NoHealthyUpstream",
    "Overflow",
    "ProxyFailed",
    "UnsupportedProtocol",
    "UpstreamReset",
    "UpstreamTimeout",
    "WriteTimedOut",
)
"""Errors of calls by httpx, which is loaded when one of them is asked for: gRPC and servers do without."""


if not TYPE_CHECKING:  # what is not there is an error for type checkers, too

    def __getattr__(name: str) -> object:
        if name not in OF_HTTP:
            raise AttributeError(f"module 'meshlib.errors' has no attribute {name!r}")
        from meshlib import http_errors

        return getattr(http_errors, name)


def __dir__() -> list[str]:
    return sorted([*globals(), *OF_HTTP])


require_ours()
