"""``meshlib ca``: a certificate authority for development. What it does is in ``meshlib/ca``."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import click

from meshlib.cli.options import EXIT_PROBLEMS, SECONDS


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
    """A certificate authority for development: roots, SPIFFE certificates, and their change."""


@ca.command(
    epilog="""\b
Examples:
  meshlib ca init mesh-ca --trust-domain cluster.local
  meshlib ca init mesh-ca --trust-domain prod.example --rsa --ttl 365d

\b
Exit code: 0 made, 1 not made (never over something that is there), 2 wrong usage.
"""
)
@click.argument("folder", metavar="DIR")
@click.option("--trust-domain", required=True, metavar="NAME", help="Whose SPIFFE IDs it signs: spiffe://NAME/...")
@click.option("--rsa", is_flag=True, help="RSA keys of 2048 bits, not EC P-256.")
@click.option(
    "--ttl", type=SECONDS, default="3650d", show_default=True, help="How long root and intermediate are valid."
)
def init(folder: str, trust_domain: str, rsa: bool, ttl: float) -> None:
    """Make a root and an intermediate that signs, in a new folder. Keys stay there, readable by you alone."""
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
Again for the same identity and folder: renewed, with a new key; who follows the files takes it.
Exit code: 0 written, 1 not written, 2 wrong usage.
"""
)
@click.argument("folder", metavar="DIR")
@click.argument("identity", required=False, default="", metavar="[SPIFFE-ID]")
@click.option("--namespace", "-n", default="", help="Kubernetes namespace: spiffe://.../ns/NAMESPACE/sa/...")
@click.option("--service-account", default="", metavar="NAME", help="Kubernetes service account: .../sa/NAME.")
@click.option("--dns", multiple=True, metavar="NAME", help="A DNS name or IP address besides; gRPC clients need one.")
@click.option("--ttl", type=SECONDS, default="24h", show_default=True, help="How long it is valid.")
@click.option("--rsa", is_flag=True, help="An RSA key of 2048 bits, not EC P-256.")
@click.option(
    "--out", metavar="FOLDER", help="Where to write cert.pem, key.pem, bundle.pem.  [default: DIR/issued/...]"
)
@click.option("--force", is_flag=True, help="Replace files there that are not ours, or of another identity.")
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
        raise click.UsageError("say who it is for: a SPIFFE ID, or both --namespace and --service-account")
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
  meshlib ca inspect mesh-ca                                       the CA, and all that it has issued to files
  meshlib ca inspect mesh-ca/issued/ns+default+sa+reviews          certificate, key and bundle together
  meshlib ca inspect cert.pem --bundle roots.pem --key key.pem     anybody's

\b
Exit code: 0 all can be used, 1 something cannot (each problem is said), 2 wrong usage.
"""
)
@click.argument("path", metavar="FILE|DIR")
@click.option("--bundle", metavar="FILE", help="Roots that are asked to vouch.  [default: bundle.pem beside it]")
@click.option("--key", metavar="FILE", help="To be the private key of the certificate.  [default: key.pem of a folder]")
@click.option(
    "--format", "style", type=click.Choice(["text", "json"]), default="text", show_default=True, help="Output."
)
def inspect(path: str, bundle: str | None, key: str | None, style: str) -> None:
    """Say who a certificate is for, who signed it, until when, every rule of SPIFFE that it breaks, and who vouches for it."""
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
  meshlib ca rotate mesh-ca --show          where it stands; nothing is changed

\b
The steps: trust (the new root joins the bundle), sign (the new one signs), drop (the old root leaves the bundle).
An interrupted step is carried through when it is run again.
Exit code: 0 taken, 1 not taken, 2 wrong usage.
"""
)
@click.argument("folder", metavar="DIR")
@click.option("--step", type=click.Choice(["trust", "sign", "drop"]), help="Take this step; refuse if another is due.")
@click.option("--show", is_flag=True, help="Say which step is next, and take none.")
@click.option("--force", is_flag=True, help="With --step drop: although certificates of the old root are in use.")
def rotate(folder: str, step: str | None, show: bool, force: bool) -> None:
    """Change the authority in three steps, so that no call fails on the way."""
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
