"""The cases through meshlib, by each way in: ``mesh.explain_inbound`` and the middlewares of ASGI and WSGI, as a server that
knows the peer's certificate would call them."""

from __future__ import annotations

import asyncio
import functools
import json
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from io import BytesIO
from typing import Any
from urllib.parse import unquote, unquote_to_bytes

import jwt
from cryptography.hazmat.primitives.asymmetric import ec
from jwt.algorithms import ECAlgorithm

import meshlib
from meshlib.mesh.explaining_inbound import request_of, verify
from meshlib.policy.authorization.decision import ALLOWED
from tests.differential.authorization import generate
from tests.differential.authorization.cases import LABELS, NAMESPACE, Case, Config, Decision, Request
from tests.differential.authorization.verdict import Applies, asks
from tests.support.spiffe import Authority

WORKLOAD = meshlib.Workload(name="httpbin", namespace=NAMESPACE, labels=LABELS)


def mesh_config(case: Case) -> Config:
    """What the cluster holds of the mesh's own settings, the path normalization and the trust domains."""
    return {
        "apiVersion": "meshlib.dev/v1",
        "kind": "MeshConfig",
        "metadata": {"name": "mesh", "namespace": "istio-system"},
        "spec": {
            "trustDomain": case.trust_domain,
            "trustDomainAliases": list(case.aliases),
            "pathNormalization": {"normalization": case.normalization},
        },
    }


def mesh_of(case: Case, *more: Config) -> meshlib.Mesh:
    """The mesh that its workload sees."""
    return meshlib.Mesh.from_resources([mesh_config(case), *case.policies, *more], workload=WORKLOAD)


def cases(seed: int, count: int, requests: int) -> list[Case]:
    """For the middlewares: who has claims that a token can have, has such a token."""
    made = generate.cases(seed, count, requests)
    return [
        replace(case, requests=tuple(r if _signable(r.claims) else replace(r, claims=None) for r in case.requests))
        for case in made
    ]


ISSUERS = ("https://i.test/x", "https://i.test", "i2", "i2/s2")


def _signable(claims: Any) -> bool:
    """An issuer that is known, and a subject and audiences that are texts."""
    return claims is None or (
        claims.get("iss") in ISSUERS
        and isinstance(claims.get("sub", ""), str)
        and all(isinstance(aud, str) for aud in claims.get("aud", ()))
    )


@functools.cache
def _key() -> Any:
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def request_authentication() -> Config:
    """The tokens of all issuers are verified, with one key."""
    key = {**json.loads(ECAlgorithm.to_jwk(_key().public_key())), "kid": "1"}
    rules = [{"issuer": issuer, "jwks": json.dumps({"keys": [key]})} for issuer in ISSUERS]
    return {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "tokens", "namespace": NAMESPACE},
        "spec": {"jwtRules": rules},
    }


def _headers(request: Request) -> list[tuple[str, str]]:
    """Those of the request, with its token."""
    if request.claims is None:
        return [*request.headers]
    return [*request.headers, ("authorization", f"Bearer {_token(json.dumps(request.claims))}")]


@functools.cache
def _token(claims: str) -> str:
    return jwt.encode(json.loads(claims), _key(), "ES256", {"kid": "1"})


@functools.cache
def certificate(principal: str) -> bytes:
    """PEM, with the URI ``spiffe://principal``."""
    return _authority().issue(f"spiffe://{principal}")[1]


@functools.cache
def _authority() -> Authority:
    return Authority()


# -- explain ---------------------------------------------------------------------------------------------------------


def explained(cases: Iterable[Case]) -> Iterator[Decision]:
    """By ``mesh.explain_inbound``."""
    for case in cases:
        with mesh_of(case) as mesh:
            for request in case.requests:
                found = mesh.explain_inbound(**told(request)).to_dict()
                assert found["allowed"] == (found["status"] == 200)
                denied = found["policy"] and not found["allowed"]
                yield Decision(found["status"], f"{found['policy']}[{found['rule']}]" if denied else "")


def told(request: Request) -> Config:
    """The arguments of ``mesh.explain_inbound``."""
    caller = request.caller
    return {
        "method": request.method,
        "path": request.target,
        "headers": request.headers,
        "host": request.authority,
        "principal": caller.principal,
        "source_ip": caller.source_ip,
        "port": caller.port,
        "sni": caller.sni,
        "destination_ip": caller.destination_ip,
        "protocol": "http",
        "claims": request.claims,
    }


def decided(cases: Iterable[Case]) -> Iterator[Decision]:
    """By the engine's table alone."""
    for case in cases:
        with mesh_of(case) as mesh:
            live: Any = mesh._core.live
            for request in case.requests:
                seen, _ = request_of(**told(request))
                settings = live.inbound.of(seen.port).settings
                verify(settings, seen)
                found = ALLOWED if settings.authorization is None else settings.authorization.decide(seen)
                denied = found.policy and not found.allowed
                yield Decision(found.status or 200, f"{found.policy}[{found.rule}]" if denied else "")


# -- ASGI ------------------------------------------------------------------------------------------------------------


async def _application(scope: Config, receive: Any, send: Any) -> None:
    await send({"type": "http.response.start", "status": 200, "headers": []})
    await send({"type": "http.response.body", "body": b"secret"})


def scope_of(request: Request) -> Config:
    """As a server makes it that has the extension ``tls``."""
    caller = request.caller
    raw, _, query = request.target.partition("?")
    headers = [(b"host", request.authority.encode())]
    headers += [(name.lower().encode(), value.encode("utf-8")) for name, value in _headers(request)]
    scope: Config = {
        "type": "http",
        "asgi": {"version": "3.0", "spec_version": "2.4"},
        "http_version": "1.1",
        "method": request.method,
        "scheme": "https" if caller.secure else "http",
        "path": unquote(raw),
        "raw_path": raw.encode(),
        "query_string": query.encode(),
        "root_path": "",
        "headers": headers,
        "client": (caller.source_ip, 4711),
        "server": (caller.destination_ip, caller.port),
        "extensions": {},
    }
    if caller.secure:
        scope["extensions"]["tls"] = {"client_cert_chain": [certificate(caller.principal).decode()]}
    return scope


async def _asked(application: Any, request: Request) -> int:
    sent: list[Config] = []

    async def receive() -> Config:
        return {"type": "http.request", "body": b"", "more_body": False}

    async def send(message: Config) -> None:
        sent.append(dict(message))

    await application(scope_of(request), receive, send)
    status = int(sent[0]["status"])
    served = any(message.get("body") == b"secret" for message in sent)
    assert served == (status == 200), f"{status} with the application's body {served}"
    return status


def through_asgi(cases: Sequence[Case]) -> list[Decision]:
    """By ``MeshASGIMiddleware``."""

    async def all_of_them() -> list[Decision]:
        found = []
        for case in cases:
            with mesh_of(case, request_authentication()) as mesh:
                application = meshlib.MeshASGIMiddleware(_application, mesh)
                for request in case.requests:
                    status, again = [await _asked(application, request) for _ in range(2)]
                    assert status == again, f"{status}, and {again} of a head that was met before: {request}"
                    found.append(Decision(status))
        return found

    return asyncio.run(all_of_them())


# -- WSGI ------------------------------------------------------------------------------------------------------------


class _Socket:
    """gunicorn's, as far as anybody looks at it."""

    def __init__(self, request: Request) -> None:
        self._request = request

    def getpeername(self) -> tuple[str, int]:
        return self._request.caller.source_ip, 4711

    def getsockname(self) -> tuple[str, int]:
        return self._request.caller.destination_ip, self._request.caller.port


class _TlsSocket(_Socket):
    """Its server keeps the SNI, as docs/servers.md says how."""

    def __init__(self, request: Request) -> None:
        super().__init__(request)
        self.server_hostname = request.caller.sni.lower() or None

    def getpeercert(self, binary_form: bool = False) -> Any:
        from cryptography.hazmat.primitives.serialization import Encoding
        from cryptography.x509 import load_pem_x509_certificate

        assert binary_form
        return load_pem_x509_certificate(certificate(self._request.caller.principal)).public_bytes(Encoding.DER)


def environ_of(request: Request) -> Config:
    """As gunicorn makes it."""
    caller = request.caller
    raw, _, query = request.target.partition("?")
    environ: Config = {
        "REQUEST_METHOD": request.method,
        "SCRIPT_NAME": "",
        "PATH_INFO": unquote_to_bytes(raw).decode("latin-1"),
        "RAW_URI": request.target,
        "QUERY_STRING": query,
        "SERVER_NAME": caller.destination_ip,
        "SERVER_PORT": str(caller.port),
        "SERVER_PROTOCOL": "HTTP/1.1",
        "SERVER_SOFTWARE": "gunicorn/23.0.0",
        "REMOTE_ADDR": caller.source_ip,
        "REMOTE_PORT": "4711",
        "HTTP_HOST": request.authority,
        "wsgi.version": (1, 0),
        "wsgi.url_scheme": "https" if caller.secure else "http",
        "wsgi.input": BytesIO(),
        "wsgi.errors": BytesIO(),
        "wsgi.multithread": True,
        "wsgi.multiprocess": False,
        "wsgi.run_once": False,
        "gunicorn.socket": _TlsSocket(request) if caller.secure else _Socket(request),
    }
    for name, value in _headers(request):
        key = f"HTTP_{name.upper().replace('-', '_')}"
        text = value.encode("utf-8").decode("latin-1")
        environ[key] = f"{environ[key]},{text}" if key in environ else text
    return environ


def _wsgi_application(environ: Config, start_response: Any) -> Iterable[bytes]:
    start_response("200 OK", [("content-type", "text/plain")])
    return [b"secret"]


def _asked_of_wsgi(application: Any, request: Request) -> int:
    began: list[str] = []

    def start_response(status: str, headers: Any, exc_info: Any = None) -> None:
        began.append(status)

    body: Any = application(environ_of(request), start_response)
    content = b"".join(body)
    if hasattr(body, "close"):
        body.close()
    status = int(began[0].partition(" ")[0])
    assert (content == b"secret") == (status == 200), f"{status} with {content!r}"
    return status


def through_wsgi(cases: Iterable[Case]) -> Iterator[Decision]:
    """By ``MeshWSGIMiddleware``."""
    for case in cases:
        with mesh_of(case, request_authentication()) as mesh:
            application = meshlib.MeshWSGIMiddleware(_wsgi_application, mesh)
            for request in case.requests:
                status, again = [_asked_of_wsgi(application, request) for _ in range(2)]
                assert status == again, f"{status}, and {again} when it was met before: {request}"
                yield Decision(status)


def sni_unknown(case: Case, request: Request) -> bool:
    """A rule asks the SNI, which a server does not tell."""
    return request.caller.secure and asks(case, (), "connection.sni")


OF_SERVERS: dict[str, Applies] = {"what a server cannot know: the SNI": sni_unknown}


def last_line_unknown(_case: Case, request: Request) -> bool:
    """WSGI servers join the lines of X-Forwarded-For: a comma at its end is an empty line, or an empty item."""
    lines = [value for name, value in request.headers if name.lower() == "x-forwarded-for"]
    return bool(lines) and not lines[-1].rstrip(" ,").endswith(lines[-1].strip() or ",")


OF_WSGI: dict[str, Applies] = {"what a server cannot know: an empty line": last_line_unknown}
