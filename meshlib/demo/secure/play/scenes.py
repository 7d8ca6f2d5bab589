"""What must pass and what must not, one after the other. Each scene says what it asked, what it saw, and its verdict."""

from __future__ import annotations

import asyncio
import socket
import ssl
import time
from collections.abc import Sequence

import httpx

import meshlib
from meshlib.demo.bookinfo.services.serve import workload_of
from meshlib.demo.report import SKIP, Report, Row, counts, verdict
from meshlib.demo.secure import CONFIG
from meshlib.demo.secure.play.application import VERSIONS, Application, identity_of
from meshlib.demo.secure.play.envoy import MISSING
from meshlib.demo.secure.play.load import API
from meshlib.demo.secure.play.tokens import Issuer

PATIENCE = 20.0
SECURITY = CONFIG / "security.yaml"


class Stage:
    """What scenes need: the application, the visitor's client, the report."""

    def __init__(self, app: Application, client: httpx.AsyncClient, report: Report) -> None:
        self.app = app
        self.client = client
        self.report = report
        self.token = app.issuer.token("jason", time.time())

    async def get(self, path: str, token: str | None = None) -> httpx.Response:
        """What productpage's API responds to the visitor."""
        headers = {} if token is None else {"authorization": f"Bearer {token}"}
        return await self.client.get(API + path, headers=headers, timeout=PATIENCE)

    def say(self, who: str, expected: str, observed: str, why: Sequence[str]) -> None:
        """A verdict: it passes when nothing contradicts."""
        self.report.row(Row(who, expected, observed, verdict(why), tuple(why)))


async def everybody_is_known(stage: Stage) -> None:
    """Every hop is mTLS, and each server has seen who calls."""
    app = stage.app
    stage.report.begin("STRICT mTLS", SECURITY.name, "each server sees its callers' SPIFFE IDs, and nobody without one")
    responses = [await stage.get(path, stage.token) for path in ("", "/reviews") * 3]
    failed = [f"{each.status_code} {each.text[:200]}" for each in responses if each.status_code != 200]
    stars = responses[1].json()["reviews"] if not failed else []
    why = failed or ([] if all("stars" in each["rating"] for each in stars) else ["the page has no stars"])
    stage.say("visitor", "details, reviews and stars", f"{len(responses)} looks, {len(failed)} failed", why)
    callers = {"productpage": "visitor", "reviews": "productpage", "ratings": "reviews", "details": "productpage"}
    for service in app.ours:
        seen = (await asyncio.to_thread(app.ask, service))["callers"]
        wanted = identity_of(callers[service])
        stage.say(
            service, f"called by {wanted} alone", counts(seen), [] if set(seen) == {wanted} else ["somebody else"]
        )


async def plain_text_is_reset(stage: Stage) -> None:
    """Without TLS, and with TLS but no certificate."""
    stage.report.begin(
        "no certificate, no word", SECURITY.name, "plain text is reset; TLS without a certificate is refused"
    )
    for service in VERSIONS:
        port = stage.app.port(service)
        if service in stage.app.ours:
            observed = await asyncio.to_thread(_plain, port)
            stage.say(f"{service}, plain text", "reset", observed, [] if observed == "reset" else [observed])
        observed = await asyncio.to_thread(_anonymous, port)
        why = [] if observed.startswith("refused") else [observed]
        stage.say(f"{service}, TLS without a certificate", "refused", observed, why)


def _plain(port: int) -> str:
    with socket.create_connection(("127.0.0.1", port), PATIENCE) as sock:
        try:
            sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            found = sock.recv(100)
        except ConnectionResetError:
            return "reset"
        return f"{found!r}" if found else "closed without a reset"


def _anonymous(port: int) -> str:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE  # it is the server who is to refuse
    try:
        with socket.create_connection(("127.0.0.1", port), PATIENCE) as raw, context.wrap_socket(raw) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            found = sock.recv(100)
    except ssl.SSLError as error:
        return f"refused ({error.reason or 'closed'})"
    except ConnectionResetError:
        return "refused (reset)"
    return f"{found!r}" if found else "refused (closed)"


async def a_token_is_wanted(stage: Stage) -> None:
    """RequestAuthentication and AuthorizationPolicy of productpage."""
    stage.report.begin(
        "a JWT on productpage", SECURITY.name, "a token of our issuer for bookinfo; no other, and not none"
    )
    now = time.time()
    issuer = stage.app.issuer
    cases = {
        "a valid token": (stage.token, 200),
        "no token": (None, 403),
        "an expired one": (issuer.token("jason", now - 86400), 401),
        "for somebody else": (issuer.token("jason", now, aud="other"), 403),  # Envoy's status for it
        "signed by another key": (Issuer().token("jason", now), 401),
    }
    for name, (token, wanted) in cases.items():
        found = await stage.get("", token)
        why = [] if found.status_code == wanted else [f"expected {wanted}"]
        stage.say(
            name, str(wanted), f"{found.status_code}{'' if wanted == 200 else f': {found.text.strip()[:60]}'}", why
        )


async def ratings_only_from_reviews(stage: Stage) -> None:
    """By principal; and why, in words."""
    stage.report.begin(
        "ratings only from reviews", SECURITY.name, "reviews gets stars, productpage and the visitor do not"
    )
    reviews = (await stage.get("/reviews", stage.token)).json()
    status = reviews.get("mesh", {}).get("status")
    stage.say("reviews", "200", f"{status}, with stars", [] if status == 200 else [f"ratings said {status}"])
    hop = (await stage.get("/ratings", stage.token)).json()["calls"][0]
    why = [] if hop["status"] == 403 and "RBAC" in hop["error"] else ["it was let in, or failed otherwise"]
    stage.say("productpage", "403", f"{hop['status']}: {hop['error']}", why)
    direct = await stage.client.get("http://ratings:9080/ratings/0", timeout=PATIENCE)
    why = [] if direct.status_code == 403 else ["it was let in, or failed otherwise"]
    stage.say("visitor", "403", f"{direct.status_code}: {direct.text.strip()}", why)
    await asyncio.to_thread(_explained, stage)


def _explained(stage: Stage) -> None:
    caller = identity_of("productpage")
    port = stage.app.port("ratings")
    workload = workload_of("ratings", VERSIONS["ratings"])
    with meshlib.Mesh.from_path(stage.app.folder, watch=False, workload=workload) as mesh:
        told = mesh.explain_inbound(path="/ratings/0", principal=caller, host="ratings:9080", port=port)
        other = mesh.explain_inbound(
            path="/ratings/0", principal=identity_of("reviews"), host="ratings:9080", port=port
        )
    text = str(told)
    stage.report.say(f"   mesh.explain_inbound(path='/ratings/0', principal={caller!r}):")
    for line in text.splitlines():
        stage.report.say(f"     | {line}")
    why = []
    if told.status != 403 or other.status == 403:
        why.append(f"it explains {told.status} for productpage, {other.status} for reviews")
    if "ratings-only-from-reviews" not in text:
        why.append("it does not name the policy")
    stage.say(
        "explained", "the policy and the principal", f"{told.status} for productpage, {other.status} for reviews", why
    )


async def a_real_envoy(stage: Stage) -> None:
    """Its own validator takes our certificates, and it is judged by ours."""
    stage.report.begin(
        "a real Envoy", "", "it is called as details' sidecar, and calls productpage and ratings by its certificate"
    )
    envoy = stage.app.envoy
    if envoy is None:
        stage.report.row(Row("Envoy", "both ways", "", SKIP, (MISSING,)))
        return
    found = await stage.get("", stage.token)
    hop = found.json()["calls"][0]
    why = [] if hop["status"] == 200 and hop["endpoint"].endswith(f":{envoy.port}") else [str(hop)]
    stage.say("productpage -> Envoy", "200", f"{hop['status']} from {hop['endpoint']}", why)
    async with httpx.AsyncClient(trust_env=False, timeout=PATIENCE) as plain:
        headers = {"authorization": f"Bearer {stage.token}"}
        page = await plain.get(f"http://127.0.0.1:{envoy.outbound['productpage']}/api/v1/products", headers=headers)
        bare = await plain.get(f"http://127.0.0.1:{envoy.outbound['productpage']}/api/v1/products")
        ratings = await plain.get(f"http://127.0.0.1:{envoy.outbound['ratings']}/ratings/0")
    why = [] if (page.status_code, bare.status_code) == (200, 403) else [f"{page.text[:100]} {bare.text[:100]}"]
    told = f"{page.status_code} with a token, {bare.status_code} without"
    stage.say("Envoy -> productpage", "200, 403", told, why)
    seen = (await asyncio.to_thread(stage.app.ask, "productpage"))["callers"]
    details = identity_of("details")
    stage.say(
        "productpage",
        f"has seen {details}",
        f"{seen.get(details, 0)} calls of it",
        [] if seen.get(details) else ["it has not"],
    )
    why = [] if ratings.status_code == 403 else [ratings.text[:200]]
    stage.say("Envoy -> ratings", "403", f"{ratings.status_code}: {ratings.text.strip()}", why)
