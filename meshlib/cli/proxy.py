"""``meshlib proxy``."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import click

from meshlib.cli.log_level import log_to_stderr
from meshlib.cli.options import (
    EXIT_PROBLEMS,
    EXIT_USAGE,
    PLACE,
    Finite,
    identity_options,
    make_identity,
    own_workload,
    own_workload_options,
)
from meshlib.cli.own_mesh import make_mesh

if TYPE_CHECKING:
    from collections.abc import Callable

    from meshlib.identity.identity import Identity
    from meshlib.mesh import Mesh
    from meshlib.proxy.options import Given, ProxyOptions
    from meshlib.proxy.spans import SpansByProcess
    from meshlib.workload import Workload


@click.command(
    epilog="""\b
Examples:
  meshlib proxy --config mesh/ --outbound 127.0.0.1:15001
  curl -x http://127.0.0.1:15001 http://reviews:9080/reviews/0
  meshlib proxy --config mesh/ --inbound 0.0.0.0:15006 --app 127.0.0.1:8080 --cert cert.pem --key key.pem --bundle ca.pem
  meshlib proxy --config mesh/ --outbound 127.0.0.1:15001 --workers auto --admin 127.0.0.1:15000 --health 0.0.0.0:15021
  meshlib proxy --config mesh/ --gateway istio-system/public --gateway-port 80=8080 --gateway-port 443=8443
  meshlib proxy --config mesh/ --outbound 127.0.0.1:15001 --check

\b
SIGTERM drains and stops it, SIGHUP reloads resources, SIGUSR1 opens the files of access logs again.
Exit code: 0 stopped, or nothing wrong; 1 it could not begin, or --check found something wrong; 2 wrong usage.
All options, and what to do when a request fails: docs/proxy.md.
"""
)
@click.option(
    "--config", "configs", multiple=True, type=PLACE, metavar="PATH",
    help="File, folder or glob of resources. Required, repeatable.  [env: MESHLIB_CONFIG]",
)  # fmt: skip
@click.option(
    "--outbound",
    multiple=True,
    metavar="HOST:PORT",
    help="Where to listen for the application's own requests; port 0 picks a free one. Repeatable.",
)
@click.option(
    "--transparent",
    is_flag=True,
    help="The --outbound ports take what meshlib iptables leads to them, and send it to where it was meant to go; an "
    "--inbound without --app takes what is led to it, for all ports of the application.",
)
@click.option(
    "--interception-mode", "interception", type=click.Choice(["REDIRECT", "TPROXY"]),
    help="How connections to the application are led here; TPROXY shows it their clients' addresses.  [default: REDIRECT]",
)  # fmt: skip
@click.option(
    "--dns-capture", is_flag=True, envvar="MESHLIB_DNS_CAPTURE", show_envvar=True,
    help="Tell the application the addresses of the mesh's hosts, over DNS (Istio's ISTIO_META_DNS_CAPTURE).",
)  # fmt: skip
@click.option(
    "--dns-port", type=click.IntRange(0, 65535), metavar="PORT",
    help="Port of 127.0.0.1 and ::1 for --dns-capture, UDP and TCP.  [default: 15053]",
)  # fmt: skip
@click.option(
    "--resolv-conf", metavar="PATH",
    help="File that names the resolvers for all other names, and the search domains.  [default: /etc/resolv.conf]",
)  # fmt: skip
@click.option(
    "--inbound",
    multiple=True,
    metavar="HOST:PORT",
    help="Where to listen for requests to the application, over TLS or in plain text as PeerAuthentication says. "
    "Repeatable, each with an --app.",
)
@click.option(
    "--app",
    "apps",
    multiple=True,
    metavar="HOST:PORT|unix:PATH",
    help="Where the application listens, in plain text; the first --app is behind the first --inbound, and so on.",
)
@click.option(
    "--app-port",
    "app_ports",
    multiple=True,
    type=click.IntRange(1, 65535),
    metavar="PORT",
    help="Port by which policies know the application of an --app unix:PATH. Repeatable, in their order.",
)
@click.option(
    "--gateway", "gateways", multiple=True, metavar="NS/NAME",
    help="Be a gateway: serve this Gateway, whatever it selects. Repeatable.",
)  # fmt: skip
@click.option("--gateways", "all_gateways", is_flag=True, help="Be a gateway: serve all Gateways that select --labels.")
@click.option(
    "--gateway-port", "gateway_ports", multiple=True, metavar="N=[HOST:]PORT",
    help="Where to listen for port N of the Gateways, such as 80=8080.  [default: N at all addresses]",
)  # fmt: skip
@identity_options
@own_workload_options
@click.option(
    "--workers", default="1", show_default=True, metavar="N|auto", help="Number of processes; auto: one a core."
)
@click.option(
    "--reuse-port",
    is_flag=True,
    help="Share the ports with another proxy that has this option, too: start the new one, then stop the old one.",
)
@click.option(
    "--drain",
    default=5.0,
    show_default=True,
    type=Finite(0),
    metavar="SECONDS",
    help="Seconds from SIGTERM to the end, in which requests in flight finish (Istio's terminationDrainDuration).",
)
@click.option(
    "--exit-on-zero-connections",
    is_flag=True,
    envvar="EXIT_ON_ZERO_ACTIVE_CONNECTIONS",
    show_envvar=True,
    help="After SIGTERM end when the last connection has closed, however long that takes.",
)
@click.option(
    "--admin", metavar="unix|unix:PATH|HOST:PORT", envvar="MESHLIB_ADMIN", show_envvar=True,
    help="Where the proxy shows its state, at Envoy's paths, on this machine (docs/proxy.md).",
)  # fmt: skip
@click.option(
    "--health", metavar="HOST:PORT",
    help="Port for probes from other machines: /healthz/ready (Istio: 15021) and /stats/prometheus (15020).",
)  # fmt: skip
@click.option(
    "--otlp", metavar="URL", envvar="MESHLIB_OTLP", show_envvar=True,
    help="OpenTelemetry collector that spans go to: http://localhost:4318, or grpc://localhost:4317 (extra otel).",
)  # fmt: skip
@click.option(
    "--max-connections",
    type=click.IntRange(1),
    metavar="N",
    help="Connections of clients at once, over all workers; more are reset.  [default: by RLIMIT_NOFILE]",
)
@click.option(
    "--max-requests",
    type=click.IntRange(1),
    metavar="N",
    help="Requests under way at once, over all workers, streams of HTTP/2 among them; more get 503.  [default: no limit]",
)
@click.option(
    "--max-memory",
    type=click.IntRange(1),
    metavar="MIB",
    help="Resident memory of a process beyond which new requests get 503.  [default: no limit]",
)
@click.option(
    "--max-lag",
    type=Finite(0, min_open=True),
    metavar="SECONDS",
    help="How late the event loop may be; beyond it new requests get 503.  [default: no limit]",
)
@click.option(
    "--engine", type=click.Choice(["meshlib", "envoy"]), default="meshlib", show_default=True,
    help="Who forwards: meshlib itself, or an Envoy that is run with the same resources (docs/engine-envoy.md).",
)  # fmt: skip
@click.option("--check", is_flag=True, help="Check the options, resources and certificates, bind nothing; exit 0 or 1.")
@click.option(
    "--log-level",
    type=click.Choice(["debug", "info", "warning", "error"]),
    default="info",
    show_default=True,
    help="Log level.",
)
def proxy(
    configs: tuple[str, ...],
    outbound: tuple[str, ...],
    transparent: bool,
    interception: str | None,
    dns_capture: bool,
    dns_port: int | None,
    resolv_conf: str | None,
    inbound: tuple[str, ...],
    apps: tuple[str, ...],
    app_ports: tuple[int, ...],
    gateways: tuple[str, ...],
    all_gateways: bool,
    gateway_ports: tuple[str, ...],
    cert: str | None,
    key: str | None,
    bundles: tuple[str, ...],
    workload: str | None,
    namespace: str | None,
    labels: str | None,
    service_account: str | None,
    workers: str,
    reuse_port: bool,
    drain: float,
    exit_on_zero_connections: bool,
    admin: str | None,
    health: str | None,
    otlp: str | None,
    max_connections: int | None,
    max_requests: int | None,
    max_memory: int | None,
    max_lag: float | None,
    engine: str,
    check: bool,
    log_level: str,
) -> None:
    """Forward the requests of an application that is not Python (--outbound), and those to it (--inbound, --app), or be a
    gateway (--gateway): routing, retries, timeouts, mTLS, authorization and the rest, as the resources of the mesh say.
    Changes to certificates and resources take effect while it runs."""
    from meshlib.problems import MeshError
    from meshlib.proxy.options import Given

    log_to_stderr(log_level)
    given = Given(
        configs or tuple(filter(None, os.environ.get("MESHLIB_CONFIG", "").split(os.pathsep))),
        outbound,
        inbound,
        apps,
        app_ports,
        gateways,
        all_gateways,
        gateway_ports,
        admin=admin or "",
        health=health or "",
        workers=workers,
        drain=drain,
        exit_on_zero=exit_on_zero_connections,
        max_connections=max_connections,
        max_memory=max_memory,
        max_lag=max_lag,
        transparent=transparent,
        max_requests=max_requests,
        engine=engine,
        interception=interception or "",
        dns_capture=dns_capture,
        dns_port=dns_port,
        resolv_conf=resolv_conf or "",
    )
    options = _options(given, check)
    try:
        who = own_workload(workload, namespace or _namespace_of(gateways), labels, service_account)
        spans = None if engine == "envoy" else _spans(otlp, who)
        if engine == "envoy":

            def identity() -> Identity | None:
                return make_identity(cert, key, bundles, wait=not check)

            raise SystemExit(_with_envoy(options, otlp, check, log_level, who, identity))
        if check:
            _check(
                options,
                lambda: make_mesh(
                    options.configs,
                    who,
                    make_identity(cert, key, bundles),
                    None,
                    watch=False,
                    https_rules="istio",
                    gateways=options.gateways,
                    automatic_addresses=options.dns is not None,
                ),
            )
            return
        from meshlib.proxy.launch import launch

        make_identity(cert, key, bundles, wait=True)  # what is missing is a usage error, before anything is bound
        code = launch(
            options,
            lambda watch: make_mesh(
                options.configs,
                who,
                make_identity(cert, key, bundles, wait=True),
                None,
                watch=watch,
                tracer_provider=spans,
                https_rules="istio",
                gateways=options.gateways,
                automatic_addresses=options.dns is not None,
            ),
            share=reuse_port,
        )
    except MeshError as error:
        click.echo(f"error: {error}", err=True)
        raise SystemExit(EXIT_PROBLEMS) from None
    except click.UsageError as error:
        if check:
            click.echo(f"error: {error.message}", err=True)
            raise SystemExit(EXIT_PROBLEMS) from None
        raise
    raise SystemExit(code)


def _with_envoy(
    options: ProxyOptions,
    otlp: str | None,
    check: bool,
    log_level: str,
    who: Workload,
    identity: Callable[[], Identity | None],
) -> int:
    """``--engine envoy``; the exit code."""
    from meshlib.envoy.launch import check_envoy, launch_envoy, unsupported
    from meshlib.envoy.tracing import collector_of

    wrong = unsupported(options, otlp)
    for sentence in wrong:
        click.echo(f"error: {sentence}", err=True)
    if wrong:
        return EXIT_PROBLEMS if check else EXIT_USAGE

    def make(watch: bool) -> Mesh:
        return make_mesh(
            options.configs, who, identity(), None, watch=watch, https_rules="istio", gateways=options.gateways
        )

    collector = collector_of(otlp, who.name) if otlp else None
    if not check:
        return launch_envoy(options, make, log_level, collector)
    said, found = check_envoy(options, lambda: make(False), collector)
    _say(said, found)
    return 0


def _namespace_of(gateways: tuple[str, ...]) -> str | None:
    """That of the Gateways, where nobody says one: their workload's, as it would be in Kubernetes, with its Secrets."""
    found = {name.partition("/")[0] for name in gateways}
    return None if len(found) != 1 or os.environ.get("MESHLIB_NAMESPACE") else found.pop()


def _spans(otlp: str | None, who: Workload) -> SpansByProcess | None:
    if not otlp:
        return None
    from meshlib.proxy.spans import spans_to

    return spans_to(otlp, who.name)


def _options(given: Given, check: bool) -> ProxyOptions:
    """Every wrong one is told at once."""
    from meshlib.proxy.options import WrongOptions, checked

    try:
        return checked(given)
    except WrongOptions as error:
        for sentence in error.sentences:
            click.echo(f"error: {sentence}", err=True)
        raise SystemExit(EXIT_PROBLEMS if check else EXIT_USAGE) from None


def _check(options: ProxyOptions, make: Callable[[], Mesh]) -> None:
    from meshlib.proxy.launch import check

    _say(*check(options, make))


def _say(said: list[str], found: str) -> None:
    """Exits with 1 if one of them is an error, though a proxy would begin with it (and refuse requests)."""
    for sentence in said:
        graded = any(_has(sentence, mark) for mark in ("error", "warning", "notice"))
        click.echo(sentence if graded else f"warning: {sentence}")
    if any(_has(sentence, "error") for sentence in said):
        raise SystemExit(EXIT_PROBLEMS)
    click.echo(f"ok: {found}")


def _has(sentence: str, severity: str) -> bool:
    """Of a problem, which begins with its file, or with the severity where it is of no file."""
    return sentence.startswith(f"{severity}: ") or f": {severity}: " in sentence
