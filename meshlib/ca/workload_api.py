"""A SPIFFE Workload API server for development (``meshlib ca serve --socket``): FetchX509SVID and FetchX509Bundles, streams
that are told each rotation. Who opens the socket is its identity; JWT-SVIDs are not served (UNIMPLEMENTED)."""

from __future__ import annotations

import contextlib
import os
import socket
import stat
import threading
from collections.abc import Callable, Iterator
from concurrent import futures
from typing import TYPE_CHECKING

from meshlib.policy.workload_endpoint import EXAMPLES, target_of
from meshlib.problems import MeshError
from meshlib.security.workload_messages import FETCH_BUNDLES, FETCH_SVID, HEADER, SERVICE

if TYPE_CHECKING:
    import grpc

    from meshlib.ca.issued import Issued

MOST_STREAMS = 512
"""Each takes a thread; those beyond are refused (RESOURCE_EXHAUSTED)."""
MODE = 0o600
"""Of the socket: this user alone."""


class WorkloadApiServer:
    """Serves one identity on one socket, to everybody who may open it."""

    def __init__(self, uri: str, issued: Issued, *, mode: int = MODE) -> None:
        try:
            self._target = target_of(uri)
        except ValueError as error:
            raise MeshError(
                f"the socket is not a valid SPIFFE Workload Endpoint: {uri!r} {error}; {EXAMPLES}"
            ) from None
        self._issued = issued
        self._mode = mode
        self._closing = threading.Event()
        self._server: grpc.Server | None = None

    def start(self) -> None:
        """Listens when it returns. Raises ``MeshError`` when it cannot, without grpcio too."""
        try:
            import grpc
        except ImportError as error:
            raise MeshError("serving the Workload API needs grpcio: pip install 'sidecarless[grpc]'") from error
        path = self._target.removeprefix("unix:") if self._target.startswith("unix:") else ""
        if path:
            _free(path)
        server = grpc.server(
            futures.ThreadPoolExecutor(MOST_STREAMS, "meshlib-workload-api"),
            options=[("grpc.so_reuseport", 0)],
            maximum_concurrent_rpcs=MOST_STREAMS,
        )
        streams = {
            FETCH_SVID: lambda: self._issued.svids,
            FETCH_BUNDLES: lambda: self._issued.bundles,
        }
        handlers: dict[str, grpc.RpcMethodHandler[bytes, bytes]] = {
            name: grpc.unary_stream_rpc_method_handler(self._stream(message)) for name, message in streams.items()
        }
        server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler(SERVICE, handlers),))
        with _umask(0o777 & ~self._mode) if path else contextlib.nullcontext():
            try:
                server.add_insecure_port(self._target)
            except RuntimeError as error:
                raise MeshError(f"{self._target} cannot be served: {error}") from error
        self._server = server
        server.start()

    def close(self) -> None:
        """Break off all streams, remove the socket."""
        self._closing.set()
        server, self._server = self._server, None
        if server is not None:
            server.stop(0).wait()

    def _stream(self, message: Callable[[], bytes]) -> Callable[[bytes, grpc.ServicerContext], Iterator[bytes]]:
        import grpc

        def follow(_request: bytes, context: grpc.ServicerContext) -> Iterator[bytes]:
            if HEADER not in [(key, value) for key, value in context.invocation_metadata()]:
                context.abort(grpc.StatusCode.INVALID_ARGUMENT, "security header missing from request")
            changed = threading.Event()
            end = self._issued.subscribe(changed.set)
            context.add_callback(changed.set)
            told = b""
            try:
                while context.is_active() and not self._closing.is_set():
                    now = message()
                    if now != told:
                        told = now
                        yield now
                    changed.wait()
                    changed.clear()
            finally:
                end()

        return follow

    def __repr__(self) -> str:
        return f"<WorkloadApiServer {self._target}>"


def _free(path: str) -> None:
    """The place of a socket whose server is gone. Raises ``MeshError`` for anything else that is there."""
    try:
        found = os.lstat(path)
    except FileNotFoundError:
        return
    except OSError as error:
        raise MeshError(f"{path} cannot be served: {error.strerror}") from error
    if not stat.S_ISSOCK(found.st_mode):
        raise MeshError(f"{path} exists and is not a socket: name another path")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(path)
        except ConnectionRefusedError:
            os.unlink(path)
            return
        except OSError as error:
            raise MeshError(f"{path} cannot be served: {error.strerror}") from error
    raise MeshError(f"{path} is served by another process: stop it, or name another path")


@contextlib.contextmanager
def _umask(mask: int) -> Iterator[None]:
    """The whole process's, for as long as a socket is made."""
    before = os.umask(mask)
    try:
        yield
    finally:
        os.umask(before)
