"""``meshlib ca``: a certificate authority for development. What it does is in ``meshlib/ca``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from meshlib.cli.options import EXIT_PROBLEMS, FOLDER, PLACE, SECONDS


@contextmanager
def _said() -> Iterator[None]:
    """What is wrong with the authority is one line on stderr, and exit code 1."""
    from meshlib.ca.folders import BadStore

    try:
        yield
    except BadStore as error:
        click.echo(f"meshlib ca: {error}", err=True)
        raise SystemExit(EXIT_PROBLEMS) from error


@click.group(
    epilog="""\b
Examples:
  meshlib ca init mesh-ca --trust-domain cluster.local
  meshlib ca issue mesh-ca -n default --service-account reviews --dns reviews.default.svc.cluster.local
  meshlib ca inspect mesh-ca/issued/ns+default+sa+reviews
  meshlib ca rotate mesh-ca
"""
)
def ca() -> None:
    """Run a certificate authority for development: create roots, issue SPIFFE certificates, rotate both."""


@ca.command(
    epilog="""\b
Examples:
  meshlib ca init mesh-ca --trust-domain cluster.local
  meshlib ca init mesh-ca --trust-domain prod.example --rsa --ttl 365d

\b
Exit code: 0 created, 1 not created (existing files are never overwritten), 2 wrong usage.
"""
)
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--trust-domain", required=True, metavar="NAME", help="Trust domain that it signs for: spiffe://NAME/...")
@click.option("--rsa", is_flag=True, help="Use 2048-bit RSA keys instead of EC P-256.")
@click.option(
    "--ttl", type=SECONDS, default="3650d", show_default=True, help="How long the root and the intermediate are valid."
)
def init(folder: str, trust_domain: str, rsa: bool, ttl: float) -> None:
    """Create a root and a signing intermediate in a new folder. The keys stay there, readable only by you."""
    from meshlib.ca.store import Store
    from meshlib.clock import SystemClock

    with _said():
        store = Store.create(folder, trust_domain, SystemClock(), rsa=rsa, ttl=ttl)
    click.echo(f"{folder}: a CA of {trust_domain}; trust it by {store.folder / 'bundle.pem'}")
    click.echo(f"next: meshlib ca issue {folder} --namespace default --service-account NAME")


@ca.command(
    epilog="""\b
Examples:
  meshlib ca issue mesh-ca spiffe://cluster.local/ns/default/sa/reviews
  meshlib ca issue mesh-ca -n default --service-account reviews --dns reviews.default.svc.cluster.local --dns 127.0.0.1
  meshlib ca issue mesh-ca -n default --service-account reviews --ttl 1h --out /run/reviews

\b
Running it again for the same identity and folder renews the certificate with a new key; processes that watch the files
pick it up.
Exit code: 0 written, 1 not written, 2 wrong usage.
"""
)
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.argument("identity", required=False, default="", metavar="[SPIFFE-ID]")
@click.option("--namespace", "-n", default="", help="Kubernetes namespace: spiffe://.../ns/NAMESPACE/sa/...")
@click.option("--service-account", default="", metavar="NAME", help="Kubernetes service account: .../sa/NAME.")
@click.option(
    "--dns",
    multiple=True,
    metavar="NAME",
    help="DNS name or IP address to add, for clients that do not check SPIFFE IDs. Repeatable.",
)
@click.option("--ttl", type=SECONDS, default="24h", show_default=True, help="How long the certificate is valid.")
@click.option("--rsa", is_flag=True, help="Use a 2048-bit RSA key instead of EC P-256.")
@click.option(
    "--out",
    type=FOLDER,
    metavar="FOLDER",
    help="Folder for cert.pem, key.pem and bundle.pem.  [default: DIR/issued/...]",
)
@click.option(
    "--force", is_flag=True, help="Replace files that meshlib ca did not write, or that are for another identity."
)
def issue(
    folder: str,
    identity: str,
    namespace: str,
    service_account: str,
    dns: tuple[str, ...],
    ttl: float,
    rsa: bool,
    out: str | None,
    force: bool,
) -> None:
    """Issue a certificate (X.509-SVID) with a new key, for a SPIFFE ID or a Kubernetes service account."""
    from meshlib.ca.store import Store
    from meshlib.clock import SystemClock

    if bool(identity) == bool(service_account) or bool(namespace) != bool(service_account):
        raise click.UsageError("say who the certificate is for: a SPIFFE ID, or both --namespace and --service-account")
    with _said():
        store = Store.open(folder, SystemClock())
        wanted = identity or f"spiffe://{store.trust_domain}/ns/{namespace}/sa/{service_account}"
        made = store.issue(wanted, ttl=ttl, dns=dns, rsa=rsa, out=out, force=force)
    click.echo(
        f"{made.folder}: {'renewed' if made.renewed else 'issued'} {made.svid.identity}, valid until {made.until}"
    )
    click.echo(f"use it: --cert {made.folder}/cert.pem --key {made.folder}/key.pem --bundle {made.folder}/bundle.pem")


@ca.command(
    epilog="""\b
Examples:
  meshlib ca inspect mesh-ca                                       the CA, and everything that it has issued to files
  meshlib ca inspect mesh-ca/issued/ns+default+sa+reviews          certificate, key and bundle together
  meshlib ca inspect cert.pem --bundle roots.pem --key key.pem     a certificate from any other CA

\b
Exit code: 0 everything is usable, 1 something is not (each problem is listed), 2 wrong usage.
"""
)
@click.argument("path", type=PLACE, metavar="FILE|DIR")
@click.option(
    "--bundle", type=PLACE, metavar="FILE", help="Roots to verify it against.  [default: bundle.pem next to it]"
)
@click.option(
    "--key",
    type=PLACE,
    metavar="FILE",
    help="The certificate's private key.  [default: key.pem in the folder]",
)
@click.option(
    "--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output format."
)
def inspect(path: str, bundle: str | None, key: str | None, style: str) -> None:
    """Show a certificate's identity, issuer, expiry, every SPIFFE rule that it breaks, and which root verifies it."""
    import json
    from dataclasses import asdict
    from pathlib import Path

    from meshlib.ca.inspection import inspect
    from meshlib.clock import SystemClock

    looks = inspect(Path(path), SystemClock(), bundle=Path(bundle) if bundle else None, key=Path(key) if key else None)
    if style == "json":
        click.echo(json.dumps([asdict(look) for look in looks], indent=2))
    else:
        for look in looks:
            lines = [f"{look.file}: {look.title}" if look.title else look.file]
            lines += [f"  {label:<12} {value}" for label, value in look.facts]
            lines += [f"  problem: it {problem}" for problem in look.problems]
            lines += [f"  note: it {note}" for note in look.notes]
            for line in lines:
                click.echo(line if line.isprintable() else repr(line))  # names are what others have written
    raise SystemExit(EXIT_PROBLEMS if any(look.problems for look in looks) else 0)


@ca.command(
    epilog="""\b
Examples:
  meshlib ca rotate mesh-ca                 the next step
  meshlib ca rotate mesh-ca --step sign     this step, and only if it is the next one
  meshlib ca rotate mesh-ca --show          show where it stands; nothing is changed

\b
The steps: trust (the new root joins the bundle), sign (the new one signs), drop (the old root leaves the bundle).
To finish an interrupted step, run it again.
Exit code: 0 step taken, 1 not taken, 2 wrong usage.
"""
)
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option(
    "--step", type=click.Choice(["trust", "sign", "drop"]), help="Take this step; fail if another one is next."
)
@click.option("--show", is_flag=True, help="Show which step is next without taking it.")
@click.option(
    "--force",
    is_flag=True,
    help="With --step drop: drop the old root even if certificates that it signed are still in use.",
)
def rotate(folder: str, step: str | None, show: bool, force: bool) -> None:
    """Replace the root in three steps, so that no call fails on the way."""
    from meshlib.ca.rotation import ASKED, due, take
    from meshlib.ca.store import Store
    from meshlib.clock import SystemClock

    with _said():
        store = Store.open(folder, SystemClock())
        if not show:
            taken = take(store, step or "", force=force)
            for line in taken.lines:
                click.echo(f"{taken.step}: {line}")
        coming = due(store)
    click.echo(f"next: {coming} ({ASKED[coming]}): meshlib ca rotate {folder} --step {coming}")


@ca.command(
    epilog="""\b
Examples:
  meshlib ca serve mesh-ca --socket unix:///tmp/agent.sock -n default --service-account reviews
  SPIFFE_ENDPOINT_SOCKET=unix:///tmp/agent.sock python app.py     with Identity.from_workload_api()
  meshlib ca serve mesh-ca --istiod-address 127.0.0.1:15012 --tokens tokens.json

\b
For development only: anyone who can open the socket gets its certificate and key (its mode is 0600 by default).
tokens.json ({"TOKEN": "spiffe://..."}, mode 0600) stands in for TokenReview; --jwks verifies service account tokens.
Exit code: 0 stopped by SIGTERM or SIGINT, 1 cannot serve, 2 wrong usage.
"""
)
@click.argument("folder", type=FOLDER, metavar="DIR")
@click.option("--socket", metavar="URI", help="Serve the SPIFFE Workload API at unix:///path or tcp://ip:port.")
@click.option("--spiffe-id", default="", metavar="ID", help="SPIFFE ID given to every caller on the socket.")
@click.option("--namespace", "-n", default="", help="Instead of --spiffe-id: spiffe://.../ns/NAMESPACE/sa/...")
@click.option("--service-account", default="", metavar="NAME", help="With --namespace: .../sa/NAME.")
@click.option(
    "--dns", multiple=True, metavar="NAME", help="DNS name or IP address to add to that certificate. Repeatable."
)
@click.option("--socket-mode", default="0600", show_default=True, metavar="MODE", help="File mode of the socket.")
@click.option(
    "--istiod-address",
    default="",
    metavar="HOST:PORT",
    help="Serve istiod's certificate API (CreateCertificate) over TLS.",
)
@click.option("--tokens", type=PLACE, metavar="FILE", help="JSON file that maps callers' tokens to SPIFFE IDs.")
@click.option("--jwks", type=PLACE, metavar="FILE", help="JSON Web Key Set that verifies service account tokens.")
@click.option("--issuer", default="", metavar="NAME", help="With --jwks: the issuer (iss) that tokens must have.")
@click.option(
    "--audience",
    multiple=True,
    default=("istio-ca",),
    show_default=True,
    help="With --jwks: the audience (aud) that tokens must have. Repeatable.",
)
@click.option("--ttl", type=SECONDS, default="24h", show_default=True, help="How long certificates are valid.")
@click.option(
    "--max-ttl", type=SECONDS, default="90d", show_default=True, help="Longest validity that a caller may request."
)
def serve(
    folder: str,
    socket: str | None,
    spiffe_id: str,
    namespace: str,
    service_account: str,
    dns: tuple[str, ...],
    socket_mode: str,
    istiod_address: str,
    tokens: str | None,
    jwks: str | None,
    issuer: str,
    audience: tuple[str, ...],
    ttl: float,
    max_ttl: float,
) -> None:
    """Serve certificates for development: the SPIFFE Workload API on a socket, istiod's certificate API on a port."""
    import signal
    import threading
    from pathlib import Path

    from meshlib.ca.callers import of_kubernetes, of_list, read_keys, read_list
    from meshlib.ca.serving import Serving, Socket
    from meshlib.ca.store import Store
    from meshlib.clock import SystemClock
    from meshlib.problems import MeshError

    _check_socket(socket, spiffe_id, namespace, service_account, dns)
    _check_istiod(istiod_address, tokens, jwks, issuer)
    if not socket and not istiod_address:
        raise click.UsageError("say what to serve: --socket, --istiod-address or both")
    mode = _mode(socket_mode)

    ended = threading.Event()
    for each in (signal.SIGTERM, signal.SIGINT):
        signal.signal(each, lambda *_: ended.set())
    with _said():
        store = Store.open(folder, SystemClock())
        domain = store.trust_domain
        who = spiffe_id or f"spiffe://{domain}/ns/{namespace}/sa/{service_account}"
        by_token = None
        if tokens:
            by_token = of_list(read_list(Path(tokens), domain))
        elif jwks:
            by_token = of_kubernetes(read_keys(Path(jwks)), issuer, audience, domain)
        try:
            serving = Serving(
                store.current,
                store.clock,
                sockets=[Socket(socket, who, dns, mode)] if socket else [],
                istiod_address=istiod_address,
                by_token=by_token,
                ttl=ttl,
                most=max_ttl,
            )
            serving.start()
        except MeshError as error:
            click.echo(f"meshlib ca: {error}", err=True)
            raise SystemExit(EXIT_PROBLEMS) from error
    if socket:
        click.echo(f"the Workload API for {who}: SPIFFE_ENDPOINT_SOCKET={socket}")
    if serving.istiod is not None:
        host = istiod_address.rpartition(":")[0]
        click.echo(f"istiod's certificate API: {host}:{serving.istiod.port}; its roots: {store.folder / 'bundle.pem'}")
    ended.wait()
    serving.close()


def _check_socket(
    socket: str | None, spiffe_id: str, namespace: str, service_account: str, dns: tuple[str, ...]
) -> None:
    if socket and (bool(spiffe_id) == bool(service_account) or bool(namespace) != bool(service_account)):
        raise click.UsageError("say who opens the socket: --spiffe-id, or both --namespace and --service-account")
    if not socket and (spiffe_id or namespace or service_account or dns):
        raise click.UsageError("--spiffe-id, --namespace, --service-account and --dns need --socket")


def _check_istiod(istiod_address: str, tokens: str | None, jwks: str | None, issuer: str) -> None:
    if istiod_address and (bool(tokens) == bool(jwks) or bool(jwks) != bool(issuer)):
        raise click.UsageError("say how callers are authenticated: --tokens, or both --jwks and --issuer")
    if not istiod_address and (tokens or jwks or issuer):
        raise click.UsageError("--tokens, --jwks and --issuer need --istiod-address")


def _mode(written: str) -> int:
    try:
        mode = int(written, 8)
    except ValueError:
        mode = -1
    if not 0 <= mode <= 0o777:
        raise click.UsageError(f"--socket-mode {written!r} is not a valid mode; write it as 0660")
    return mode
