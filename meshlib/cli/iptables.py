"""``meshlib iptables``."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import click

from meshlib.cli.options import EXIT_PROBLEMS

if TYPE_CHECKING:
    from meshlib.proxy.iptables import Interception
    from meshlib.proxy.iptables_commands import Tables
    from meshlib.proxy.iptables_dns import DnsCapture

FLAVOURS = ("system", "nft", "legacy")


@click.group(
    epilog="""\b
Examples, as root in the network namespace of the application:
  meshlib iptables print --inbound 8080:15006
  meshlib iptables apply --inbound 8080:15006 --proxy-user 1337
  meshlib iptables apply --inbound '*:15006'
  meshlib iptables remove

\b
Exit code: 0 done, 1 not done (nothing has changed), 2 wrong usage.
"""
)
def iptables() -> None:
    """Lead the connections of an application to ``meshlib proxy --transparent`` without its knowledge, and no longer."""


def _rules(command: Callable[..., None]) -> Callable[..., None]:
    """The options of ``print`` and ``apply``."""
    for option in (
        click.option(
            "--ipv6/--no-ipv6", default=None, help="Rules for IPv6, too.  [default: where the machine has addresses of it]"
        ),
        click.option(
            "--exclude-outbound-ports", default="", metavar="PORT,PORT", help="Ports that are left alone."
        ),
        click.option(
            "--include-outbound-ports",
            default="",
            metavar="PORT,PORT",
            help="Ports that lead to the proxy whatever the address.",
        ),
        click.option(
            "--exclude-outbound-ip-ranges", default="", metavar="CIDR,CIDR", help="Addresses that are left alone."
        ),
        click.option(
            "--include-outbound-ip-ranges",
            default="*",
            show_default=True,
            metavar="CIDR,CIDR|*",
            help="Addresses that lead to the proxy.",
        ),
        click.option(
            "--dns-servers", metavar="IP,IP|*",
            help="Resolvers whose queries --dns-capture leads to the proxy.  [default: those of /etc/resolv.conf]",
        ),
        click.option(
            "--dns-port", type=click.IntRange(1, 65535), metavar="PORT",
            help="Port of the proxy's --dns-capture.  [default: 15053]",
        ),
        click.option(
            "--dns-capture", is_flag=True,
            help="Lead queries of DNS (port 53, UDP and TCP) to the proxy, too (Istio's REDIRECT_DNS).",
        ),
        click.option(
            "--proxy-group", "groups", multiple=True, type=click.IntRange(0), metavar="GID",
            help="Group that the proxy runs as, instead of a user. Repeatable.",
        ),
        click.option(
            "--proxy-user", "users", multiple=True, type=click.IntRange(0), metavar="UID",
            help="User that the proxy runs as, whose connections are left alone. Repeatable.  [default: 1337]",
        ),
        click.option(
            "--interception-mode", default="REDIRECT", show_default=True, type=click.Choice(["REDIRECT", "TPROXY"]),
            help="How connections to the application are led to the proxy; TPROXY leaves their addresses as they are.",
        ),
        click.option(
            "--exclude-inbound-ports", metavar="PORT,PORT",
            help="Ports of the application that are left alone.  [default with --inbound '*:PORT': 15090,15021,15020]",
        ),
        click.option(
            "--inbound", multiple=True, metavar="PORT|*:PROXY_PORT",
            help="Port of the application (*: all of them), and of the proxy's --inbound before it. Repeatable.",
        ),
        click.option(
            "--outbound-port", default=15001, show_default=True, type=click.IntRange(0, 65535), metavar="PORT",
            help="Port of the proxy's transparent --outbound; 0: what the application sends is left alone.",
        ),
    ):  # fmt: skip
        command = option(command)
    return command


_flavour = click.option(
    "--flavour",
    default=FLAVOURS[0],
    show_default=True,
    type=click.Choice(FLAVOURS),
    help="Which of the kernel's packet filters; system: that of the command iptables.",
)


@iptables.command(name="print")
@_rules
def print_rules(ipv6: bool | None, **given: Any) -> None:
    """Print what iptables-restore --noflush reads; IPv6 behind a comment."""
    from meshlib.proxy.iptables import MARK, ROUTES, Table, restored
    from meshlib.proxy.iptables_commands import families

    wanted = _wanted(**given)
    for family in families(ipv6):
        if wanted.tproxy:
            click.echo(f"# ip -{family.version} rule add fwmark {MARK} lookup {ROUTES}")
            click.echo(f"# ip -{family.version} route add local default dev lo table {ROUTES}")
        click.echo(f"# {family.value}-restore --noflush")
        click.echo(restored(wanted, family), nl=False)
        for table in (Table.MANGLE, Table.RAW):
            if wanted.needs(table, family):
                click.echo(restored(wanted, family, table=table), nl=False)


@iptables.command()
@_rules
@_flavour
def apply(flavour: str, ipv6: bool | None, **given: Any) -> None:
    """Put the rules in force, in place of those that an earlier run has made. All of them, or none."""
    from meshlib.proxy.iptables_commands import NotApplied

    wanted = _wanted(**given)
    try:
        changed = _tables(flavour).apply(wanted, ipv6)
    except NotApplied as error:
        _failed(error)
    for family, new in changed.items():
        click.echo(f"{family.value}: {'in force' if new else 'were in force already'}")


@iptables.command()
@_flavour
def remove(flavour: str) -> None:
    """Take the rules away, and nobody else's."""
    from meshlib.proxy.iptables_commands import NotApplied

    try:
        changed = _tables(flavour).remove()
    except NotApplied as error:
        _failed(error)
    for family, were in changed.items():
        click.echo(f"{family.value}: {'taken away' if were else 'there were none'}")


def _tables(flavour: str) -> Tables:
    from meshlib.proxy.iptables_commands import Flavour, Tables

    return Tables({"nft": Flavour.NFT, "legacy": Flavour.LEGACY}.get(flavour, Flavour.SYSTEM))


def _failed(error: Exception) -> None:
    click.echo(f"error: {error}", err=True)
    raise SystemExit(EXIT_PROBLEMS) from None


def _wanted(
    outbound_port: int,
    inbound: tuple[str, ...],
    exclude_inbound_ports: str | None,
    users: tuple[int, ...],
    groups: tuple[int, ...],
    include_outbound_ip_ranges: str,
    exclude_outbound_ip_ranges: str,
    include_outbound_ports: str,
    exclude_outbound_ports: str,
    interception_mode: str,
    dns_capture: bool,
    dns_port: int | None,
    dns_servers: str | None,
) -> Interception:
    from meshlib.proxy.iptables import (
        ALL_PORTS,
        NOT_INBOUND,
        USER,
        Interception,
        InterceptionMode,
        WrongInterception,
        led,
        networks,
        ports,
    )

    try:
        excluded = networks(exclude_outbound_ip_ranges)
        if excluded is None:
            raise WrongInterception("--exclude-outbound-ip-ranges '*' leaves nothing: say --outbound-port 0")
        inbound_ports = led(inbound)
        usual = NOT_INBOUND if ALL_PORTS in inbound_ports else ()
        return Interception(
            outbound_port or None,
            inbound_ports,
            users or (() if groups else (USER,)),
            groups,
            networks(include_outbound_ip_ranges),
            excluded,
            ports(include_outbound_ports),
            ports(exclude_outbound_ports),
            usual if exclude_inbound_ports is None else ports(exclude_inbound_ports),
            InterceptionMode(interception_mode),
            _dns(dns_capture, dns_port, dns_servers),
        )
    except WrongInterception as error:
        raise click.UsageError(str(error)) from None


def _dns(wanted: bool, port: int | None, servers: str | None) -> DnsCapture | None:
    from meshlib.problems import MeshError
    from meshlib.proxy.iptables import WrongInterception, resolvers
    from meshlib.proxy.iptables_dns import DNS_PORT, DnsCapture
    from meshlib.proxy.resolv_conf import read

    if not wanted:
        if port is not None or servers is not None:
            raise WrongInterception("--dns-port and --dns-servers are of --dns-capture: give that, too")
        return None
    if servers is None:
        try:
            servers = ",".join(address for address, _ in read().servers)
        except MeshError as error:
            raise WrongInterception(f"{error}; or name the resolvers with --dns-servers") from None
    found = resolvers(servers)
    if found is not None and not found:
        raise WrongInterception("--dns-servers names no resolver: name one, or * for all")
    return DnsCapture(DNS_PORT if port is None else port, found)
