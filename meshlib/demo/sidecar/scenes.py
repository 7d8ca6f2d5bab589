"""What is to be seen at the gateways of Bookinfo, by a visitor who comes in and by somebody outside who is called."""

from __future__ import annotations

import asyncio
import ssl
import time
from typing import TYPE_CHECKING

import httpx

from meshlib.demo.bookinfo.play.probe import ANYONE, look, look_once
from meshlib.demo.report import Report, Row, counts, verdict
from meshlib.demo.sidecar.gateways import NAME, dns_names

if TYPE_CHECKING:
    from meshlib.demo.sidecar.gateways import Gateways

WAIT_SECONDS = 10.0
LOOKS = 20
OTHER_NAME = "other.example.com"


async def play_ingress(gateways: Gateways, report: Report) -> None:
    """Who gets in: a client that verifies the gateway and asks for its name, over TLS, and nobody else."""
    report.begin(
        "the ingress gateway", "edge.yaml", f"HTTPS for {NAME} by the Secret bookinfo-cert; HTTP is sent there"
    )
    host, port = gateways.ingress.host, gateways.port
    for who, wanted, seen in (
        ("a client with our root", f"proves that it is {NAME}", await _handshake(host, port, gateways.context(), NAME)),
        (
            "a client without it",
            "does not trust the gateway",
            await _handshake(host, port, ssl.create_default_context(), NAME),
        ),
        ("another server name", "is not served", await _handshake(host, port, gateways.context(), OTHER_NAME)),
        ("plain text", f"is sent to https://{NAME}/", await _plain(host, gateways.plain_port)),
    ):
        why = [] if seen == wanted else [f"expected: {wanted}"]
        report.row(Row(who, wanted, seen, verdict(why), tuple(why)))


async def play_rotation(gateways: Gateways, client: httpx.AsyncClient, report: Report) -> None:
    """Another certificate, while visitors look."""
    report.begin("another certificate", "secret.yaml", "the Secret changes while visitors look: nobody is lost")
    before = await asyncio.to_thread(gateways.serial)
    changed = asyncio.Event()
    looking = asyncio.create_task(_look_on(client, changed))
    try:
        wanted = gateways.new_certificate(time.time())
        until = time.monotonic() + WAIT_SECONDS
        while (shown := await asyncio.to_thread(gateways.serial)) != wanted and time.monotonic() < until:
            await asyncio.sleep(0.05)
    finally:
        changed.set()
    looks, lost = await looking
    why = [] if shown == wanted != before else [f"new connections were shown the old one for {WAIT_SECONDS:g} s"]
    why += [f"{lost} of {looks} looks were lost"] if lost else []
    text = f"new connections are shown the new one; {looks} looks meanwhile, {lost} lost"
    report.row(Row("the Secret changes", "the new certificate, no look lost", text, verdict(why), tuple(why)))


async def play_egress(gateways: Gateways, client: httpx.AsyncClient, report: Report) -> None:
    """How requests of details leave."""
    report.begin(
        "the egress gateway", "edge.yaml", "what is for books.example.com leaves through the egress gateway alone"
    )
    before = await asyncio.to_thread(gateways.left_by)
    seen = await look(client, ANYONE, LOOKS)
    after = await asyncio.to_thread(gateways.left_by)
    came = {by: n - before.get(by, 0) for by, n in after.items() if n != before.get(by, 0)}
    why = [] if came == {"egress-gateway": LOOKS} else [f"expected {LOOKS} by egress-gateway, and none by others"]
    why += [] if seen.details == {"v1": LOOKS} else [f"visitors saw details {counts(seen.details)}"]
    strangers = sum(n for by, n in after.items() if by != "egress-gateway")
    why += [f"{strangers} requests of the whole run came past it"] if strangers else []
    text = f"{LOOKS} looks: books.example.com was reached by {counts(came)}"
    report.row(Row("details asks outside", "through the egress gateway", text, verdict(why), tuple(why)))


async def _handshake(host: str, port: int, context: ssl.SSLContext, name: str) -> str:
    try:
        _, writer = await asyncio.open_connection(host, port, ssl=context, server_hostname=name)
    except ssl.SSLCertVerificationError:
        return "does not trust the gateway"
    except (ssl.SSLError, OSError):  # closed in the handshake: reset, or its end
        return "is not served"
    shown: ssl.SSLObject = writer.get_extra_info("ssl_object")
    names = dns_names(shown.getpeercert(binary_form=True) or b"")
    writer.transport.abort()
    return f"proves that it is {', '.join(names)}"


async def _plain(host: str, port: int) -> str:
    async with httpx.AsyncClient(headers={"host": NAME}, trust_env=False) as client:
        response = await client.get(f"http://{host}:{port}/")
    if response.status_code != 301:
        return f"gets {response.status_code}"
    return f"is sent to {response.headers.get('location')}"


async def _look_on(client: httpx.AsyncClient, changed: asyncio.Event) -> tuple[int, int]:
    """Look until it has ``changed``, and a few times more: (looks, lost ones)."""
    looks = lost = left = 0
    while left < LOOKS:
        looks += 1
        left += changed.is_set()
        try:
            sight = await look_once(client, ANYONE)
            lost += (sight.details, sight.reviews[:1]) != ("v1", "v")
        except httpx.TransportError:
            lost += 1
    return looks, lost
