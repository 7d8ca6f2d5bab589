"""What tokens cost a server: one that was not seen before, against the bare check of its signature; and one that was."""

from __future__ import annotations

import json
import time
from collections.abc import Callable, Iterator

from benchmarks.measure import Row, Unit
from meshlib.compiler.compile import compile_snapshot
from meshlib.engine.effects import Exchange
from meshlib.engine.inbound_request import InboundRequest
from meshlib.engine.inbound_state import InboundState
from meshlib.engine.plain_request import PlainRequest
from meshlib.resources.loader import load_objects
from meshlib.security.base64url import encode
from meshlib.security.jwk import key_set
from meshlib.security.jwt import Jwt, wanted_audiences
from meshlib.workload import Workload

CLAIMS = {
    "iss": "https://idp.example.com",
    "sub": "user-4711",
    "aud": ["api", "web"],
    "scope": "read write",
    "groups": ["a", "b", "c"],
    "email": "jane@example.com",
    "realm_access": {"roles": ["admin", "user"]},
}
TARGET = 3.0


def token_costs(quick: bool) -> list[Row]:
    """Each token its own; rounds in turn, the best counts. Beside the token itself (form, claims, signature) the whole check of
    a server, from request to claims."""
    rows = []
    for name, (jwk, sign, bare) in _signers().items():
        rows += _costs(name, jwk, sign, bare, *((7, 60) if quick else (25, 200)))
    return rows


def _costs(
    name: str,
    jwk: dict[str, str],
    sign: Callable[[bytes], bytes],
    bare: Callable[[bytes, bytes], object],
    rounds: int,
    count: int,
) -> list[Row]:
    tokens = [_token(name, sign, number) for number in range(count)]
    keys, unit = key_set(json.dumps({"keys": [jwk]}).encode()), Unit()
    audiences, now = wanted_audiences(["api"]), time.time()

    def judge(text: str) -> None:
        token = Jwt(text)
        token.check(str(CLAIMS["iss"]), audiences, now)
        token.verify(keys)

    alone = fresh = whole = seen = float("inf")
    for _ in range(rounds):
        unit.take()
        alone = min(alone, _round([lambda s=s, m=m: bare(s, m) for _, s, m in tokens]))
        fresh = min(fresh, _round([lambda t=t: judge(t) for t, _, _ in tokens]))
        check = _check(jwk)
        whole = min(whole, _round([_asking(check, text) for text, _, _ in tokens]))
        seen = min(seen, _round([_asking(check, text) for text, _, _ in tokens]))
    told = f"{fresh * 1e6:.1f} us, the signature alone {alone * 1e6:.1f} us; the whole check of a server {whole / alone:.2f} x"
    ratio = Row(f"JWT not seen before / bare signature check, {name}", fresh / alone, "x", TARGET, details=told)
    ratio.json = fresh * 1e6 / unit.us
    return [ratio, Row(f"the whole check of a JWT seen before, {name}", seen * 1e6, "us", json=seen * 1e6 / unit.us)]


def _round(calls: list[Callable[[], object]]) -> float:
    began = time.perf_counter()
    for call in calls:
        call()
    return (time.perf_counter() - began) / len(calls)


def _asking(check: Callable[[InboundRequest], object], token: str) -> Callable[[], object]:
    request = InboundRequest("GET", "/", [("authorization", f"Bearer {token}")], authority="shop")

    def call() -> None:
        assert check(request) is None

    return call


class _Wall:
    """The machine's time."""

    monotonic = staticmethod(time.monotonic)
    time = staticmethod(time.time)


def _check(jwk: dict[str, str]) -> Callable[[InboundRequest], object]:
    policy = {
        "apiVersion": "security.istio.io/v1",
        "kind": "RequestAuthentication",
        "metadata": {"name": "jwt", "namespace": "default"},
        "spec": {"jwtRules": [{"issuer": CLAIMS["iss"], "audiences": ["api"], "jwks": json.dumps({"keys": [jwk]})}]},
    }
    state = InboundState(_Wall(), _nobody)  # type: ignore[arg-type]
    bound = state.take(compile_snapshot(load_objects([policy]).resources, Workload()).inbound)
    (check,) = bound.default.checks
    return check


def _nobody(_request: PlainRequest, _timeout: float | None) -> Exchange[PlainRequest]:
    raise AssertionError("keys are inline")


def _token(algorithm: str, sign: Callable[[bytes], bytes], number: int) -> tuple[str, bytes, bytes]:
    now = int(time.time())
    claims = {**CLAIMS, "iat": now, "exp": now + 3600, "jti": str(number)}
    header = {"alg": algorithm, "kid": "a", "typ": "JWT"}
    signed = f"{encode(json.dumps(header).encode())}.{encode(json.dumps(claims).encode())}".encode()
    signature = sign(signed)
    return f"{signed.decode()}.{encode(signature)}", signature, signed


def _signers() -> dict[str, tuple[dict[str, str], Callable[[bytes], bytes], Callable[[bytes, bytes], object]]]:
    """By algorithm: the public key, what signs, and what checks a signature with the library alone."""
    return dict(_each_signer())


def _each_signer() -> Iterator[
    tuple[str, tuple[dict[str, str], Callable[[bytes], bytes], Callable[[bytes, bytes], object]]]
]:
    from cryptography.hazmat.primitives import hashes
    from cryptography.hazmat.primitives.asymmetric import ec, ed25519, padding, rsa
    from cryptography.hazmat.primitives.asymmetric.utils import decode_dss_signature

    def number(value: int, size: int) -> str:
        return encode(value.to_bytes(size, "big"))

    digest = hashes.SHA256()
    private = rsa.generate_private_key(65537, 2048)
    public, shape = private.public_key(), padding.PKCS1v15()
    jwk = {"kty": "RSA", "kid": "a", "n": number(public.public_numbers().n, 256), "e": "AQAB"}
    yield "RS256", (jwk, lambda m: private.sign(m, shape, digest), lambda s, m: public.verify(s, m, shape, digest))

    curve, kind = ec.generate_private_key(ec.SECP256R1()), ec.ECDSA(digest)
    point, as_der = curve.public_key(), {}
    numbers = point.public_numbers()

    def sign(content: bytes) -> bytes:
        der = curve.sign(content, kind)
        r, s = decode_dss_signature(der)
        made = r.to_bytes(32, "big") + s.to_bytes(32, "big")
        as_der[made] = der
        return made

    jwk = {"kty": "EC", "kid": "a", "crv": "P-256", "x": number(numbers.x, 32), "y": number(numbers.y, 32)}
    yield "ES256", (jwk, sign, lambda s, m: point.verify(as_der[s], m, kind))

    edwards = ed25519.Ed25519PrivateKey.generate()
    check = edwards.public_key().verify
    jwk = {"kty": "OKP", "kid": "a", "crv": "Ed25519", "x": encode(edwards.public_key().public_bytes_raw())}
    yield "EdDSA", (jwk, edwards.sign, check)
