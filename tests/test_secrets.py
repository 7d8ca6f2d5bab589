"""Canaries: keys, tokens and cookies go in wherever they can, and come out nowhere but where they are meant to go.

Each secret has one word in it, which is looked for in everything that meshlib shows: representations of all its objects, logs,
spans, metrics, status, explanations, problems, tracebacks, what the command prints.
"""

from __future__ import annotations

import base64
import contextlib
import gc
import io
import json
import logging
import traceback
from collections.abc import Iterator
from concurrent import futures
from pathlib import Path
from typing import Any

import flask
import grpc
import httpx
import pytest
import yaml
from click.testing import CliRunner
from fastapi import FastAPI, Request
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import SimpleSpanProcessor
from opentelemetry.sdk.trace.export.in_memory_span_exporter import InMemorySpanExporter
from prometheus_client import CollectorRegistry, generate_latest
from starlette.testclient import TestClient
from websockets.sync.client import connect

import meshlib
from meshlib.admin.pages import PAGES
from meshlib.cli.main import main
from meshlib.resources.load_result import LoadResult
from meshlib.resources.loader import load
from meshlib.resources.report import STYLES, render
from meshlib.testing import as_caller
from tests.support.admin import ask
from tests.support.identities import World
from tests.support.mesh_config import config_map, http_authorizer
from tests.support.mesh_server import MeshServer
from tests.support.protection import protection
from tests.support.resources import pod, service, to, virtual_service
from tests.support.tokens import issuer

CANARY = "c4n4ry"
UVICORN = ("uvicorn", "uvicorn.error", "uvicorn.access")


def encoded(value: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(value).encode()).rstrip(b"=").decode()


TOKEN = f"{encoded({'alg': 'HS256'})}.{encoded({'iss': 'https://idp', 'sub': CANARY})}.{CANARY}"
HEADERS = {
    "authorization": f"Bearer {TOKEN}",
    "cookie": f"session={CANARY}; user=jo",
    "x-api-key": f"{CANARY}-key",
    "proxy-authorization": f"Basic {CANARY}",
}
ISSUER = issuer("EdDSA")
VALID = ISSUER.token({"iss": "https://idp", "sub": CANARY, "email": f"{CANARY}@x.test", "exp": 1 << 33})
CALLERS = (
    HEADERS,  # whose token is none
    {**HEADERS, "authorization": f"Bearer {VALID}", "cookie": f"basket={CANARY}"},
    {"cookie": f"basket={CANARY}; session={VALID}", "x-api-key": f"{CANARY}-key"},
    {"cookie": f"basket={CANARY}", "x-api-key": f"{CANARY}-key"},
)
PATH = f"/orders?access_token={CANARY}"
PRIVATE = {"kty": "OKP", "crv": "Ed25519", "x": "AAAA", "d": f"{CANARY}AA"}
SECRETS = (
    CANARY,
    *VALID.split(".")[1:],
    encoded({"iss": "https://idp", "sub": CANARY}),
    base64.b64encode(CANARY.encode()).decode(),
)


def security(kind: str, name: str, **spec: Any) -> dict[str, Any]:
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": kind,
        "metadata": {"name": name, "namespace": "default"},
        "spec": spec,
    }


def resources() -> list[dict[str, Any]]:
    by_cookie = {"headers": {"cookie": {"regex": "user=nobody"}, "x-api-key": {"exact": "k"}}}
    return [
        service("reviews"),
        pod("reviews", "v1", 9),
        virtual_service("reviews", {"match": [by_cookie], "route": [to("reviews")]}, {"route": [to("reviews")]}),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "metadata": {"name": "tls", "namespace": "default"},
            "data": {"tls.key": base64.b64encode(CANARY.encode()).decode()},
            "stringData": {"token": CANARY},
        },
        config_map(
            extensionProviders=[
                http_authorizer(includeAdditionalHeadersInCheck={"x-key": CANARY}, service="127.0.0.1", port=9),
                {"name": "traces", "lightstep": {"accessToken": CANARY, "service": "a.b", "port": 1}},
            ]
        ),
        security(
            "RequestAuthentication",
            "tokens",
            jwtRules=[
                {
                    "issuer": "https://idp",
                    "jwks": json.dumps({"keys": [ISSUER.jwk, PRIVATE]}),
                    "fromHeaders": [{"name": "authorization", "prefix": "Bearer "}],
                    "fromCookies": ["session"],
                    "fromParams": ["access_token"],
                    "outputClaimToHeaders": [{"header": "x-mail", "claim": "email"}],
                    "outputPayloadToHeader": "x-payload",
                }
            ],
        ),
        security(
            "AuthorizationPolicy",
            "orders",
            action="DENY",
            rules=[
                {
                    "to": [{"operation": {"paths": ["/denied"]}}],
                    "when": [{"key": "request.headers[x-api-key]", "notValues": ["k"]}],
                }
            ],
        ),
        security(
            "AuthorizationPolicy",
            "asked",
            action="CUSTOM",
            provider={"name": "authz"},
            rules=[{"to": [{"operation": {"paths": ["/asked"]}}]}],
        ),
        protection(
            "limits",
            rateLimits=[
                {"key": {"header": "x-api-key"}, "requests": 1000},
                {"key": {"claim": "email"}, "requests": 1, "mode": "shadow"},
                {"match": [{"path": {"exact": "/limited"}}], "key": {"header": "cookie"}, "requests": 1, "per": "1h"},
            ],
        ),
    ]


def representations() -> str:
    """Of everything of meshlib's that is alive (and was made since the test began)."""
    found: set[str] = set()
    for one in gc.get_objects():
        # not isinstance: a weak proxy would ask what it stood for
        if not issubclass(type(one), type) and str(type(one).__module__).partition(".")[0] in (
            "meshlib",
            "meshlib_fastapi",
            "meshlib_flask",
        ):
            found.add(f"{type(one).__module__}.{type(one).__qualname__}: {shown(one)}")
    return "\n".join(sorted(found))


def shown(one: object) -> str:
    """As it shows itself; or what it has until now, while another thread makes it."""
    try:
        return repr(one)
    except AttributeError:
        slots = [name for each in type(one).__mro__ for name in getattr(each, "__slots__", ())]
        return repr([getattr(one, name) for name in (*slots, "__dict__") if hasattr(one, name)])


def test_an_object_that_is_being_made_shows_what_it_has() -> None:
    half = object.__new__(LoadResult)
    half.unlisted = {"c4n4ry": ""}
    assert shown(half) == "[{'c4n4ry': ''}]"


class Outputs:
    """What was shown, by where."""

    def __init__(self) -> None:
        self.texts: dict[str, str] = {}

    def add(self, name: str, *texts: object) -> None:
        self.texts[name] = self.texts.get(name, "") + "\n".join(str(text) for text in texts)

    def raised(self, name: str, error: BaseException) -> None:
        self.add(name, repr(error), str(error), "".join(traceback.format_exception(error)))


def of_servers(mesh: meshlib.Mesh, outputs: Outputs) -> None:
    asgi, wsgi = FastAPI(), flask.Flask("shop")

    @asgi.get("/{path:path}")
    def serve(request: Request) -> dict[str, str]:
        if request.url.path == "/orders":
            outputs.add("representations while a request is served", representations())
        assert CANARY in request.headers["cookie"]
        if request.url.path == "/raises":
            raise RuntimeError("the application's own")
        return {"seen": repr(mesh.inbound())}

    @wsgi.get("/<path:path>")
    def serve_too(path: str) -> str:
        assert CANARY in flask.request.headers["cookie"]
        if path == "raises":
            raise RuntimeError("the application's own")
        return repr(mesh.inbound())

    asgi.add_middleware(meshlib.MeshASGIMiddleware, mesh=mesh)
    wsgi.wsgi_app = meshlib.MeshWSGIMiddleware(wsgi.wsgi_app, mesh)  # type: ignore[method-assign]
    claims = {"iss": "https://idp", "sub": CANARY, "email": CANARY}
    for path in ("/orders", "/denied", "/asked", "/raises", "/limited"):
        for target, headers in ((f"{path}?access_token={CANARY}", HEADERS), *((path, headers) for headers in CALLERS)):
            for name, client in (
                ("ASGI", TestClient(as_caller(asgi, claims=claims), raise_server_exceptions=False)),
                ("WSGI", as_caller(wsgi, claims=claims).test_client(use_cookies=False)),
            ):
                response = client.get(target, headers=headers)
                # the realm is the URL of the request, which its sender knows
                shown = {k: v for k, v in dict(response.headers).items() if k.lower() != "www-authenticate"}
                outputs.add(f"responses over {name}", f"\n{path} {response.status_code}", response.text, shown)
    outputs.add("callers of tests", repr(as_caller(asgi, claims=claims)))


def of_grpc(mesh: meshlib.Mesh, outputs: Outputs) -> None:
    """Metadata are headers; a refusal and an error of the handler are what callers see."""
    metadata = [(name, value) for name, value in CALLERS[1].items() if name != "cookie"]
    with serving(mesh) as stub:
        for message, more in (("", ()), ("", (("authorization", f"Bearer {TOKEN}"),)), ("raise", ())):
            kept = [pair for pair in metadata if not more or pair[0] != "authorization"]
            try:
                outputs.add("responses over gRPC", repr(stub(message.encode(), metadata=(*kept, *more), timeout=60)))
            except grpc.RpcError as error:
                outputs.raised("responses over gRPC", error)


@contextlib.contextmanager
def serving(mesh: meshlib.Mesh) -> Iterator[Any]:
    def handle(request: bytes, context: Any) -> bytes:
        if request == b"raise":
            raise RuntimeError("the handler's own")
        return repr(mesh.inbound()).encode()

    server = grpc.server(futures.ThreadPoolExecutor(2), interceptors=mesh.grpc_server_interceptors(port=50051))
    handlers = {"Get": grpc.unary_unary_rpc_method_handler(handle)}
    server.add_registered_method_handlers("shop.Orders", handlers)
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("shop.Orders", handlers),))
    port = server.add_insecure_port("127.0.0.1:0")
    server.start()
    try:
        with grpc.insecure_channel(f"127.0.0.1:{port}") as channel:
            yield channel.unary_unary("/shop.Orders/Get")
    finally:
        server.stop(None).wait(60)


async def told(scope: Any, receive: Any, send: Any) -> None:
    """An application behind ``meshlib serve``; it raises where it is asked to, and takes WebSockets."""
    if scope["type"] == "websocket":
        await receive()
        await send({"type": "websocket.accept"})
        await send({"type": "websocket.close"})
    elif scope["type"] == "http":
        assert any(CANARY.encode() in value for _, value in scope["headers"])
        if scope["path"] == "/raises":
            raise RuntimeError("the application's own")
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"6")]})
        await send({"type": "http.response.body", "body": b"served"})


def of_serve(outputs: Outputs) -> None:
    """Over mTLS, with its log at its finest: responses, health, log (uvicorn's too), status, representations."""
    world = World(of_a_mesh=True)
    world.rotate()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    handler.addFilter(lambda record: record.name.partition(".")[0] not in ("httpx", "httpcore"))  # the test's client
    log = logging.getLogger()
    before = log.level
    log.addHandler(handler)
    try:
        with (
            meshlib.Mesh.from_resources(resources(), identity=world.identity) as mesh,
            MeshServer(told, mesh, health_path="/healthz", access_log=True) as server,
            httpx.Client(verify=world.client(), trust_env=False, timeout=60) as client,
        ):
            log.setLevel(logging.DEBUG)
            for name in UVICORN:  # other tests in this process may have run one that configured logging
                logger = logging.getLogger(name)
                logger.setLevel(logging.DEBUG)
                logger.propagate, logger.disabled = True, False
            url = f"https://127.0.0.1:{server.port}"
            for path in ("/healthz", "/orders", "/denied", "/raises"):
                for query, headers in ((f"?access_token={CANARY}", HEADERS), *(("", each) for each in CALLERS)):
                    response = client.get(f"{url}{path}{query}", headers=headers)
                    outputs.add("responses of meshlib serve", f"\n{path} {response.status_code} {response.text}")
            with connect(
                f"wss://127.0.0.1:{server.port}/ws?access_token={VALID}",
                ssl=world.client(),
                additional_headers=[("x-api-key", f"{CANARY}-key")],
                server_hostname="reviews",
                logger=logging.Logger("the test's own"),
            ) as socket:
                socket.close()
            outputs.add("status of meshlib serve", json.dumps(mesh.status(), default=str))
            outputs.add("representations while it serves", representations(), repr(server.server.acceptor.counts))
    finally:
        log.setLevel(before)
        log.removeHandler(handler)
        for name in UVICORN:
            logging.getLogger(name).setLevel(logging.NOTSET)
    outputs.add("log of meshlib serve", stream.getvalue())


def of_explanations(mesh: meshlib.Mesh, outputs: Outputs) -> None:
    claims = {"iss": "https://idp", "sub": CANARY, "email": CANARY}
    for path in ("/denied", "/asked", "/orders"):
        for headers in CALLERS:
            found = mesh.explain_inbound(path=f"{path}?access_token={CANARY}", headers=headers, claims=claims)
            outputs.add("explain_inbound", found, json.dumps(found.to_dict(), default=str), repr(found))


def of_clients(mesh: meshlib.Mesh, outputs: Outputs) -> None:
    def upstream(request: httpx.Request) -> httpx.Response:
        assert request.headers["cookie"] == HEADERS["cookie"]
        outputs.add("representations while a call is made", representations())
        return httpx.Response(503, headers={"set-cookie": f"session={CANARY}"})

    for transport in (httpx.MockTransport(upstream), None):
        arguments = {} if transport is None else {"transport": transport}
        with mesh.client(**arguments) as client:
            for host in ("reviews:9080", "127.0.0.1:9"):
                try:
                    response = client.get(f"http://jo:{CANARY}@{host}{PATH}", headers=HEADERS)
                    outputs.add("what happened to a call", response.extensions.get("mesh"))
                except httpx.HTTPError as error:
                    outputs.raised("errors of calls", error)
                    outputs.add("what happened to a call", getattr(error, "exchange", ""))
    explanation = mesh.explain(url=f"http://reviews:9080{PATH}", headers=HEADERS)
    outputs.add("explain", explanation, json.dumps(explanation.to_dict(), default=str), repr(explanation))


def of_admin(outputs: Outputs) -> None:
    """Every page of a process that has made and served such calls, and what the command shows of it."""
    with meshlib.Mesh.from_resources(resources(), admin="127.0.0.1:0", registry=CollectorRegistry()) as mesh:
        of_servers(mesh, made := Outputs())
        of_clients(mesh, made)
        outputs.add("representations with an admin endpoint", representations())
        at = mesh.status()["admin"]["address"]
        for path in PAGES:
            for form in ("", "?format=json"):
                status, page = ask(at, path + form)
                assert status == 200, page
                outputs.add("pages of the admin endpoint", f"\n{path} {page}")
        kinds = ("VirtualService/default/reviews", "Secret/default/tls", "access_token", "/orders?...", "x-api-key")
        assert all(each in outputs.texts["pages of the admin endpoint"] for each in kinds)
        for command in (["status", "--attach", at], ["explain", "--live", at, "--last", "1000"]):
            done = CliRunner().invoke(main, command)
            assert done.exit_code == 0, done.output
            outputs.add("meshlib of a running process", done.output)


def of_files(folder: Path, outputs: Outputs) -> None:
    for number, resource in enumerate(resources()):
        (folder / f"{number}.yaml").write_text(yaml.safe_dump(resource, default_flow_style=False))
    broken = security(
        "RequestAuthentication", "broken", jwtRules=[{"jwks": json.dumps({"keys": [PRIVATE, {"d": CANARY}]})}]
    )
    (folder / "broken.yaml").write_text(yaml.safe_dump(broken, width=10_000))
    (folder / "wrong.json").write_text(json.dumps({**resources()[3], "data": {"tls.key": [CANARY]}}))
    found = load(folder)
    outputs.add("problems of files", *(render(found.problems, style) for style in STYLES), *map(repr, found.problems))
    outputs.add("resources", repr(found))
    for command in ("validate", "analyze", "coverage"):
        done = CliRunner().invoke(main, [command, str(folder)])
        outputs.add(f"meshlib {command}", done.output)
        assert done.output
    for name in ("broken.yaml", "wrong.json"):
        (folder / name).unlink()
    done = CliRunner().invoke(
        main, ["explain", str(folder), "http://reviews:9080/", *(f"-H{n}: {v}" for n, v in HEADERS.items())]
    )
    assert done.exit_code == 0, done.output
    outputs.add("meshlib explain", done.output)
    arguments = ["explain", "--inbound", str(folder), "/denied", *(f"-H{n}: {v}" for n, v in HEADERS.items())]
    done = CliRunner().invoke(main, [*arguments, "--claims", json.dumps({"iss": "https://idp", "sub": CANARY})])
    assert "refused" in done.output, done.output
    outputs.add("meshlib explain --inbound", done.output)


def of_errors(outputs: Outputs) -> None:
    wrong = security("RequestAuthentication", "wrong", jwtRules=[{"jwks": json.dumps({"keys": [PRIVATE]})}])
    try:
        meshlib.Mesh.from_resources([wrong])
    except meshlib.errors.ConfigError as error:
        outputs.raised("errors of the configuration", error)


@pytest.fixture(scope="module")
def outputs(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    found = Outputs()
    stream = io.StringIO()
    handler = logging.StreamHandler(stream)
    log = logging.getLogger("meshlib")
    level = log.level
    log.setLevel(logging.DEBUG)
    log.addHandler(handler)
    spans = InMemorySpanExporter()
    provider = TracerProvider()
    provider.add_span_processor(SimpleSpanProcessor(spans))
    registry = CollectorRegistry()
    gc.freeze()
    try:
        with meshlib.Mesh.from_resources(resources(), registry=registry, tracer_provider=provider) as mesh:
            of_servers(mesh, found)
            of_grpc(mesh, found)
            of_serve(found)
            of_explanations(mesh, found)
            of_clients(mesh, found)
            of_files(tmp_path_factory.mktemp("mesh"), found)
            of_errors(found)
            of_admin(found)
            found.add("status", json.dumps(mesh.status(), default=str), repr(mesh))
            found.add("problems", *map(repr, mesh.problems))
            found.add("representations afterwards", representations())
    finally:
        gc.unfreeze()
        log.removeHandler(handler)
        log.setLevel(level)
    found.add("logs", stream.getvalue())
    found.add("metrics", generate_latest(registry).decode())
    found.add("spans", *(span.to_json() for span in spans.get_finished_spans()))
    return found.texts


OUTPUTS = (
    "callers of tests",
    "errors of calls",
    "errors of the configuration",
    "explain",
    "explain_inbound",
    "log of meshlib serve",
    "logs",
    "meshlib analyze",
    "meshlib coverage",
    "meshlib explain",
    "meshlib explain --inbound",
    "meshlib of a running process",
    "meshlib validate",
    "metrics",
    "pages of the admin endpoint",
    "problems",
    "problems of files",
    "representations afterwards",
    "representations while a call is made",
    "representations while a request is served",
    "representations while it serves",
    "representations with an admin endpoint",
    "resources",
    "responses of meshlib serve",
    "responses over ASGI",
    "responses over WSGI",
    "responses over gRPC",
    "spans",
    "status",
    "status of meshlib serve",
    "what happened to a call",
)


def test_every_output_was_collected_and_says_something(outputs: dict[str, str]) -> None:
    assert tuple(sorted(outputs)) == OUTPUTS
    assert not [name for name, text in outputs.items() if len(text.strip()) < 20]
    for name in ("responses over ASGI", "responses over WSGI"):
        for what in ("/orders 200", "/orders 401", "/denied 403", "/asked 403", "/raises 500", "/limited 429"):
            assert what in outputs[name]
    assert "policy[orders]" in outputs["logs"]
    for what in ("/healthz 200", "/orders 200", "/orders 401", "/denied 403", "/raises 500"):
        assert what in outputs["responses of meshlib serve"]
    for what in ('"GET /orders?... HTTP/1.1" 401', "the application's own", '"WebSocket /ws?..." [accepted]'):
        assert what in outputs["log of meshlib serve"]


@pytest.mark.parametrize("name", OUTPUTS)
def test_no_secret_is_in(name: str, outputs: dict[str, str]) -> None:
    text = outputs[name]
    leaks = [line for line in text.split("\n") if any(secret in line for secret in SECRETS)]
    assert not leaks, f"{len(leaks)} lines: " + "\n".join(line[:400] for line in leaks[:8])
