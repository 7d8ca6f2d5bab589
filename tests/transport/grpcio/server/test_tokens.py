"""RequestAuthentication at gRPC servers, over real sockets and in every way of writing a handler: what callers get for their
tokens, and what handlers see of them."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from contextlib import contextmanager
from typing import Any

import grpc
import pytest
from prometheus_client import CollectorRegistry

import meshlib
from tests.support.fake_clock import FakeClock
from tests.support.grpc_probe import RUNTIMES, probe
from tests.support.servers import EchoServer
from tests.support.token_bench import IDP, request_authentication
from tests.support.tokens import issuer

SIGNER = issuer("ES256")
RULE = {
    "issuer": IDP,
    "audiences": ["api"],
    "jwks": SIGNER.jwks(),
    "outputClaimToHeaders": [{"claim": "sub", "header": "x-sub"}],
}
KINDS = ("One", "Stream")


def policy(name: str, action: str, rule: dict[str, Any]) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "AuthorizationPolicy",
        "metadata": {"name": name, "namespace": "default"},
        "spec": {"action": action, "rules": [rule]},
    }


USERS = policy("users", "ALLOW", {"from": [{"source": {"requestPrincipals": [f"{IDP}/*"]}}]})
NO_GUESTS = policy("no-guests", "DENY", {"when": [{"key": "request.auth.claims[role]", "values": ["guest"]}]})


class Telling(grpc.GenericRpcHandler):
    """Handlers that note what they see of their caller and of the metadata."""

    def __init__(self, runtime: str, mesh: meshlib.Mesh) -> None:
        self.asynchronous = runtime in ("asyncio", "writer")
        self.mesh = mesh
        self.seen: list[tuple[Any, ...]] = []

    def service(self, details: Any) -> Any:
        kind = details.method.rpartition("/")[2]
        make = grpc.unary_unary_rpc_method_handler if kind == "One" else grpc.unary_stream_rpc_method_handler
        return make(getattr(self, f"{kind.lower()}_async" if self.asynchronous else kind.lower()))

    def note(self, context: Any) -> None:
        caller = self.mesh.inbound()
        assert caller is not None
        metadata = {key: value for key, value in context.invocation_metadata() if key in ("authorization", "x-sub")}
        claims = None if caller.claims is None else dict(caller.claims)
        self.seen.append((caller.request_principal, claims and claims["role"], metadata))

    def one(self, request: bytes, context: Any) -> bytes:
        self.note(context)
        return request

    async def one_async(self, request: bytes, context: Any) -> bytes:
        self.note(context)
        return request

    def stream(self, request: bytes, context: Any) -> Iterator[bytes]:
        self.note(context)
        yield request

    async def stream_async(self, request: bytes, context: Any) -> AsyncIterator[bytes]:
        self.note(context)
        yield request


class Bench:
    """A server of ``resources``, and a caller of it."""

    def __init__(self, channel: grpc.Channel, handlers: Telling, clock: FakeClock) -> None:
        self.channel = channel
        self.handlers = handlers
        self.clock = clock

    def token(self, **claims: Any) -> str:
        now = int(self.clock.time())
        return SIGNER.token({"iss": IDP, "sub": "jane", "aud": "api", "role": "user", "exp": now + 60, **claims})

    def call(self, kind: str, token: str | None, *more: tuple[str, str]) -> Any:
        """The call, once it has ended."""
        metadata = [*more] if token is None else [("authorization", f"Bearer {token}"), *more]
        if kind == "One":
            try:
                return self.channel.unary_unary("/shop.Cart/One").with_call(b"m", timeout=60, metadata=metadata)[1]
            except grpc.RpcError as error:
                return error
        call = self.channel.unary_stream("/shop.Cart/Stream")(b"m", timeout=60, metadata=metadata)
        try:
            assert list(call) == [b"m"]
        except grpc.RpcError as error:
            assert error is call
        return call


@contextmanager
def serving(runtime: str, *resources: dict[str, Any]) -> Iterator[Bench]:
    clock = FakeClock()
    with meshlib.Mesh.from_resources(resources, registry=CollectorRegistry(), clock=clock) as mesh:
        handlers = Telling(runtime, mesh)
        with probe(runtime, mesh, handlers=[handlers]) as server:
            with grpc.insecure_channel(server.address) as channel:
                yield Bench(channel, handlers, clock)


def told(call: Any) -> tuple[int, str, str | None]:
    """Status, its text and what the caller is asked for."""
    everything = [*(call.initial_metadata() or ()), *(call.trailing_metadata() or ())]
    return call.code().value[0], call.details(), dict(everything).get("www-authenticate")


@pytest.fixture(params=RUNTIMES)
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.mark.parametrize("kind", KINDS)
def test_a_bad_token_is_unauthenticated_and_a_wrong_audience_is_denied(runtime: str, kind: str) -> None:
    with serving(runtime, request_authentication(RULE)) as here:
        # the host in it is unknown to grpcio's servers
        realm = f'Bearer realm="http:///shop.Cart/{kind}", error="invalid_token"'
        bad = here.token()[:-8] + "AAAAAAAA"
        assert told(here.call(kind, bad)) == (16, "Jwt verification fails", realm)
        assert told(here.call(kind, here.token(exp=1))) == (16, "Jwt is expired", realm)
        assert told(here.call(kind, here.token(aud="web"))) == (7, "Audiences in Jwt are not allowed", realm)
        assert here.handlers.seen == []


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("forward", [False, True])
def test_the_handler_sees_the_claims_and_not_the_token(runtime: str, kind: str, forward: bool) -> None:
    with serving(runtime, request_authentication({**RULE, "forwardOriginalToken": forward})) as here:
        token = here.token()
        for _ in range(2):  # verified, and remembered
            assert here.call(kind, token, ("x-sub", "root")).code() is grpc.StatusCode.OK
        kept = {"authorization": f"Bearer {token}"} if forward else {}
        assert here.handlers.seen == [(f"{IDP}/jane", "user", {**kept, "x-sub": "jane"})] * 2


def test_who_has_no_token_is_nobody_and_brings_no_header_that_only_a_token_sets(runtime: str) -> None:
    with serving(runtime, request_authentication(RULE)) as here:
        assert here.call("One", None, ("x-sub", "root")).code() is grpc.StatusCode.OK
        assert here.handlers.seen == [("", None, {})]


@pytest.mark.parametrize("kind", KINDS)
def test_keys_are_fetched_while_the_call_waits(runtime: str, kind: str) -> None:
    keys = {"now": b"no keys"}

    def behave(handler: Any) -> bool:
        handler.answer(200, keys["now"], connection="close")  # the loop of the server ends before the mesh
        return True

    with EchoServer(behave=behave) as idp:
        rule = {"issuer": IDP, "jwksUri": f"http://127.0.0.1:{idp.port}/keys"}
        with serving(runtime, request_authentication(rule)) as here:
            assert told(here.call(kind, here.token()))[:2] == (16, "Jwks remote fetch is failed")
            keys["now"] = SIGNER.jwks().encode()
            here.clock.advance(60)
            assert [told(here.call(kind, here.token()))[0] for _ in range(3)] == [0, 0, 0]
            assert len(idp.seen) == 2, "once in vain, and once for all"
            assert here.handlers.seen == [(f"{IDP}/jane", "user", {})] * 3


@pytest.mark.parametrize("kind", KINDS)
def test_policies_judge_what_the_token_says(runtime: str, kind: str) -> None:
    with serving(runtime, request_authentication(RULE), USERS, NO_GUESTS) as here:
        denied = (7, "RBAC: access denied", None)
        assert told(here.call(kind, None)) == denied
        assert told(here.call(kind, here.token(role="guest"))) == denied
        assert told(here.call(kind, here.token()))[0] == 0
        assert [principal for principal, _, _ in here.handlers.seen] == [f"{IDP}/jane"]
