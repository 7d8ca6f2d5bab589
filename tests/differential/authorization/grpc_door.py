"""The cases through a real server of gRPC: what it cannot know (the host, the caller's SNI) counts against the caller."""

from __future__ import annotations

import contextlib
import random
from collections.abc import Iterable, Iterator
from concurrent import futures
from dataclasses import replace
from typing import Any

import grpc

import meshlib
from benchmarks.free_ports import free_port
from tests.differential.authorization.cases import Caller, Case, Decision, Request
from tests.differential.authorization.doors import OF_SERVERS, WORKLOAD, mesh_config
from tests.differential.authorization.generate import PRINCIPALS, Generator
from tests.differential.authorization.verdict import Applies, asks
from tests.support.spiffe import Authority

PORT = 8080
METHODS = ["/a.S/Get", "/a.S/Put", "/b.S/Get", "/a/b"]
SERVED = b"secret"
NOT_SENT = ("cookie", "user-agent")
USER_AGENT = ("user-agent", "grpc-python/1 grpc-c/1 (linux; chttp2)")
"""The library writes its own, about so."""


def cases(seed: int, count: int, requests: int) -> list[Case]:
    """Policies as ever; requests as clients of gRPC make them, from this machine."""
    made = []
    for number in range(count):
        case = Generator(random.Random(f"grpc/{seed}/{number}"), number).case(requests)
        rng = random.Random(f"grpc requests/{seed}/{number}")
        made.append(replace(case, requests=tuple(_as_grpc(request, rng) for request in case.requests)))
    return made


def _as_grpc(request: Request, rng: random.Random) -> Request:
    target = request.target.partition("?")[0]
    plain = target.count("/") > 1 and target.replace("/", "").isalpha() and "//" not in target and target[-1] != "/"
    return Request(
        "POST",
        target if plain else rng.choice(METHODS),
        f"127.0.0.1:{PORT}",
        (*((n.lower(), v) for n, v in request.headers if v and n.lower() not in NOT_SENT), USER_AGENT),
        None,
        Caller(request.caller.principal, "", "127.0.0.1", "127.0.0.1", PORT),
    )


class _Any(grpc.GenericRpcHandler):  # type: ignore[misc]
    """Serves whatever is asked."""

    def service(self, _details: Any) -> Any:
        return grpc.unary_unary_rpc_method_handler(lambda request, context: SERVED)


def through_grpc(cases: Iterable[Case]) -> Iterator[Decision]:
    """By ``mesh.grpc_server_interceptors``: one mesh, whose resources change from case to case."""
    with contextlib.ExitStack() as stack:
        mesh = stack.enter_context(meshlib.Mesh.from_resources([], workload=WORKLOAD))
        server = grpc.server(
            futures.ThreadPoolExecutor(2),
            handlers=[_Any()],
            interceptors=mesh.grpc_server_interceptors(port=PORT),
            options=[("grpc.so_reuseport", 0)],
        )
        plain, secure = free_port(), free_port()
        authority = Authority()
        server.add_insecure_port(f"127.0.0.1:{plain}")
        server.add_secure_port(f"127.0.0.1:{secure}", authority.server())
        server.start()
        stack.callback(lambda: server.stop(None).wait(60))
        channels = {"": stack.enter_context(grpc.insecure_channel(f"127.0.0.1:{plain}"))}
        for principal in PRINCIPALS:
            credentials = authority.client(f"spiffe://{principal}")
            channels[principal] = stack.enter_context(grpc.secure_channel(f"127.0.0.1:{secure}", credentials))
        for case in cases:
            mesh.apply([mesh_config(case), *case.policies])
            for request in case.requests:
                yield Decision(_status(channels[request.caller.principal], request))


def _status(channel: grpc.Channel, request: Request) -> int:
    call = channel.unary_unary(request.target)
    try:
        found = call(b"", timeout=60, metadata=request.headers[:-1])
    except grpc.RpcError as error:
        failed: Any = error
        assert failed.code() in (grpc.StatusCode.PERMISSION_DENIED, grpc.StatusCode.INTERNAL), failed
        return 403 if failed.code() is grpc.StatusCode.PERMISSION_DENIED else 400
    assert found == SERVED
    return 200


def host_unknown(case: Case, _request: Request) -> bool:
    """A rule names hosts, which a server of gRPC does not tell."""
    return asks(case, ("hosts", "notHosts"), "")


def destination_unknown(case: Case, _request: Request) -> bool:
    """A rule asks for the address that the request came to, which a server of gRPC does not tell."""
    return asks(case, (), "destination.ip")


def lines_unseen(case: Case, request: Request) -> bool:
    """A rule asks a header of which a server of gRPC tells the last line alone, and it is there."""
    return any(
        name in ("x-forwarded-for", "x-forwarded-host") and asks(case, (), f"request.headers[{name}]")
        for name, _ in request.headers
    )


OF_GRPC: dict[str, Applies] = {
    "what a server cannot know: the host of gRPC": host_unknown,
    "what a server cannot know: lines of X-Forwarded-For": lines_unseen,
    **OF_SERVERS,
    "what a server cannot know: the address that was called": destination_unknown,
}
