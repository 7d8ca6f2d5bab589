"""Certificates that rotate, and an authority that is changed, while visitors look at the page."""

from __future__ import annotations

import asyncio
import socket
import ssl

from cryptography import x509

from meshlib.ca.rotation import take
from meshlib.demo.report import counts
from meshlib.demo.secure.play.application import Application
from meshlib.demo.secure.play.load import Load
from meshlib.demo.secure.play.scenes import Stage
from meshlib.identity.credentials import Credentials
from meshlib.security.svid import read_svid


async def rotations(stage: Stage, number: int, interval: float) -> None:
    """Everybody gets a new key and certificate, again and again."""
    app = stage.app
    stage.report.begin(
        f"a rotation every {interval:g} s",
        "",
        f"{number} new certificates for each of five workloads under load; no call fails",
    )
    before = {service: app.ask(service)["identity"]["rotations"] for service in app.ours}
    async with Load(stage.client, stage.token) as load:
        for done in range(number):
            await asyncio.to_thread(app.renew_all)
            stage.report.say(f"   rotated   {done + 1} of {number}; {load.looks} looks, {load.failures.total()} failed")
            await asyncio.sleep(interval)
        followed = await asyncio.to_thread(app.wait_until, lambda: _followed(app, before, number))
        looks, failures = load.looks, load.failures
    why = [] if not failures else [f"{n} x {text}" for text, n in failures.items()]
    stage.say(
        "visitors",
        "0 failed",
        f"{looks} looks, {failures.total()} failed",
        why or ([] if looks > 20 else ["hardly a look"]),
    )
    seen = {service: app.ask(service)["identity"]["rotations"] - before[service] for service in app.ours}
    stage.say("services", f"{number} rotations each", counts(seen), [] if followed else ["some did not follow"])
    if app.envoy is not None:
        shown = await asyncio.to_thread(app.wait_until, lambda: _shown(app))
        stage.say(
            "Envoy",
            "shows the newest",
            "shows the newest" if shown else "an old one",
            [] if shown else ["it did not follow"],
        )


def _followed(app: Application, before: dict[str, int], number: int) -> bool:
    return all(app.ask(service)["identity"]["rotations"] - before[service] >= number for service in app.ours)


def _shown(app: Application) -> bool:
    """Whether Envoy shows what is in its folder."""
    leaf = x509.load_pem_x509_certificate((app.svid("details") / "cert.pem").read_bytes())
    assert app.envoy is not None
    return app.envoy.serial().lstrip("0") == f"{leaf.serial_number:x}"


async def another_root(stage: Stage) -> None:
    """The three steps of ``meshlib ca rotate``; what the old root has signed is worth nothing afterwards."""
    app = stage.app
    stage.report.begin(
        "a new root", "", "meshlib ca rotate in three steps under load: no call fails, and the old root is refused"
    )
    folder = app.svid("visitor")
    old = read_svid((folder / "cert.pem").read_bytes(), (folder / "key.pem").read_bytes())
    async with Load(stage.client, stage.token) as load:
        for _ in range(3):
            taken = await asyncio.to_thread(take, app.store)
            app.bundle_has_changed()
            settled = await asyncio.to_thread(app.wait_until, lambda: _settled(app))
            stage.report.say(f"   {taken.step:<9} {taken.lines[0]}; {load.looks} looks, {load.failures.total()} failed")
            if not settled:
                stage.say(f"step {taken.step}", "everybody follows", "some did not", ["some did not follow"])
            await asyncio.sleep(0.5)  # calls under the new state, before the next one
        looks, failures = load.looks, load.failures
    why = [f"{n} x {text}" for text, n in failures.items()]
    stage.say("visitors", "0 failed", f"{looks} looks, {failures.total()} failed", why)
    for service in ("productpage", "details"):
        observed = await asyncio.to_thread(_with, Credentials(old, app.store.current().bundles), app.port(service))
        stage.say(service, "refuses the old root", observed, [] if observed.startswith("refused") else [observed])


def _settled(app: Application) -> bool:
    """Whether everybody has the certificate and the bundle of now: what the files have, they have."""
    bundle = app.store.current().bundles
    for service in app.ours:
        told = app.ask(service)
        if told["identity"]["problem"] or told["roots"] != len(bundle.roots):
            return False
        if told["serial"] != f"{_serial(app, service):x}":
            return False
    return app.envoy is None or _shown(app)


def _serial(app: Application, service: str) -> int:
    return x509.load_pem_x509_certificate((app.svid(service) / "cert.pem").read_bytes()).serial_number


def _with(credentials: Credentials, port: int) -> str:
    """What becomes of a caller with this certificate."""
    context = credentials.client_context(["http/1.1"])
    try:
        with socket.create_connection(("127.0.0.1", port), 20) as raw, context.wrap_socket(raw) as sock:
            sock.sendall(b"GET /health HTTP/1.1\r\nhost: x\r\n\r\n")
            found = sock.recv(100)
    except ssl.SSLError as error:
        return f"refused ({error.reason or 'closed'})"
    except ConnectionResetError:
        return "refused (reset)"
    return f"served {found!r}" if found else "refused (closed)"
