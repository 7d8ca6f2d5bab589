"""Scripted servers on real sockets of loopback, HTTP and gRPC, for tests in threads and on event loops."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from meshlib.testing.upstreams.http import HttpUpstream
from meshlib.testing.upstreams.listener import LoopThread
from meshlib.testing.upstreams.script import Gate, Request

if TYPE_CHECKING:
    from types import TracebackType

    from meshlib.clock import Clock
    from meshlib.engine.effects import Send
    from meshlib.testing.seam import Plan
    from meshlib.testing.upstreams.grpc import GrpcUpstream

__all__ = ["Gate", "HttpUpstream", "Request", "Upstreams"]


class Upstreams:
    """The fixture ``upstreams``: ``upstreams.http("reviews", "v1")`` starts a server, ``endpoints`` says where all are.

    One thread runs them all. They end with the ``with`` block (the test), whatever state they are in, and wait for nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._thread = LoopThread()
        self._made: list[HttpUpstream | GrpcUpstream] = []

    def http(self, host: str, subset: str = "") -> HttpUpstream:
        """A new HTTP server: an endpoint of this host and subset, for meshes that the fixture ``mesh`` makes from now on."""
        made = HttpUpstream(self._thread, self._clock, host, subset)
        self._made.append(made)
        return made

    def grpc(self, host: str, subset: str = "") -> GrpcUpstream:
        """A new gRPC server. Raises ``MeshError`` if grpcio is not installed."""
        from meshlib.problems import MeshError

        try:
            from meshlib.testing.upstreams.grpc import GrpcUpstream
        except ImportError as error:
            raise MeshError("a gRPC upstream needs grpcio: pip install 'sidecarless[grpc]'") from error
        made = GrpcUpstream(self._thread, self._clock, host, subset)
        self._made.append(made)
        return made

    @property
    def endpoints(self) -> dict[str, list[str] | dict[str, list[str]]]:
        """Where they are, as ``meshlib.Mesh(endpoints=...)`` takes it."""
        found: dict[str, list[str] | dict[str, list[str]]] = {}
        for upstream in self._made:
            if upstream.subset:
                of_host = found.setdefault(upstream.host, {})
                if isinstance(of_host, dict):
                    of_host.setdefault(upstream.subset, []).append(upstream.address)
                    continue
            else:
                addresses = found.setdefault(upstream.host, [])
                if isinstance(addresses, list):
                    addresses.append(upstream.address)
                    continue
            raise ValueError(
                f"{upstream.host} has upstreams with a subset and others without one: give all one, or none"
            )
        return found

    def plan(self, send: Send) -> Plan | None:
        """See ``meshlib.testing.seam.Planner``."""
        for upstream in self._made:
            if upstream.address == send.endpoint.key:
                return upstream.plan(send)
        return None

    def close(self) -> None:
        """End them all. Raises the first of what functions of the test have raised while they served."""
        self._end()
        self._tell()

    def _end(self) -> None:
        for upstream in self._made:
            upstream.close()
        self._thread.close()

    def _tell(self) -> None:
        failures = [error for upstream in self._made for error in upstream.failures]
        if failures:
            raise failures[0]

    def __enter__(self) -> Self:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, tb: TracebackType | None) -> None:
        self._end()
        if error is None:
            self._tell()
