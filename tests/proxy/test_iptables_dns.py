"""The rules that lead queries of DNS to the proxy, as text."""

from __future__ import annotations

import ipaddress

from meshlib.proxy.iptables import ALL_PORTS, Family, Interception, Table, restored
from meshlib.proxy.iptables_dns import DnsCapture

CLUSTER = DnsCapture(servers=(ipaddress.ip_address("10.96.0.10"), ipaddress.ip_address("127.0.0.53")))


def lines(family: Family = Family.IPV4, table: Table = Table.NAT, **wanted: object) -> list[str]:
    text = restored(Interception(**wanted), family, table=table)  # type: ignore[arg-type]
    return [line for line in text.splitlines() if line.startswith("-A")]


def test_the_resolvers_that_applications_are_told_of_are_led_to_the_proxy_but_for_its_own_queries():
    assert lines(dns=CLUSTER, users=(7,)) == [
        "-A MESHLIB_OUTPUT -m owner --uid-owner 7 -j RETURN",
        "-A MESHLIB_OUTPUT -d 10.96.0.10/32 -p tcp --dport 53 -j REDIRECT --to-ports 15053",
        "-A MESHLIB_OUTPUT -d 127.0.0.53/32 -p tcp --dport 53 -j REDIRECT --to-ports 15053",
        "-A MESHLIB_OUTPUT -o lo -j RETURN",
        "-A MESHLIB_OUTPUT -d 127.0.0.1/32 -j RETURN",
        "-A MESHLIB_OUTPUT -p tcp -j REDIRECT --to-ports 15001",
        "-A MESHLIB_DNS -m owner --uid-owner 7 -j RETURN",
        "-A MESHLIB_DNS -d 10.96.0.10/32 -p udp --dport 53 -j REDIRECT --to-ports 15053",
        "-A MESHLIB_DNS -d 127.0.0.53/32 -p udp --dport 53 -j REDIRECT --to-ports 15053",
        "-A OUTPUT -p tcp -j MESHLIB_OUTPUT",
        "-A OUTPUT -p udp -j MESHLIB_DNS",
    ]


def test_all_queries_are_led_where_no_resolver_is_named():
    found = lines(dns=DnsCapture(port=1053), groups=(7,), users=())
    assert "-A MESHLIB_OUTPUT -p tcp --dport 53 -j REDIRECT --to-ports 1053" in found
    assert "-A MESHLIB_DNS -p udp --dport 53 -j REDIRECT --to-ports 1053" in found


def test_a_family_without_resolvers_is_left_as_it_is():
    assert not any("53" in line for line in lines(Family.IPV6, dns=CLUSTER))
    assert lines(Family.IPV6, Table.RAW, dns=DnsCapture(servers=(ipaddress.ip_address("fd00::a"),)), users=(7,))[
        2:
    ] == [
        "-A MESHLIB_DNS -d fd00::a/128 -p udp --dport 53 -j CT --zone 2",
        "-A MESHLIB_DNS_IN -s fd00::a/128 -p udp --sport 53 -j CT --zone 1",
        "-A OUTPUT -p udp -j MESHLIB_DNS",
        "-A PREROUTING -p udp -j MESHLIB_DNS_IN",
    ]


def test_the_proxys_queries_are_tracked_apart_from_the_applications():
    assert lines(table=Table.RAW, dns=DnsCapture(), users=(7,)) == [
        "-A MESHLIB_DNS -p udp --dport 53 -m owner --uid-owner 7 -j CT --zone 1",
        "-A MESHLIB_DNS -p udp --sport 15053 -m owner --uid-owner 7 -j CT --zone 2",
        "-A MESHLIB_DNS -p udp --dport 53 -j CT --zone 2",
        "-A MESHLIB_DNS_IN -p udp --sport 53 -j CT --zone 1",
        "-A OUTPUT -p udp -j MESHLIB_DNS",
        "-A PREROUTING -p udp -j MESHLIB_DNS_IN",
    ]


def test_a_resolver_at_this_machines_own_address_is_no_port_of_the_application():
    (own,) = (line for line in lines(dns=CLUSTER, inbound={ALL_PORTS: 15006}) if "15006" in line and "owner" in line)
    assert own == (
        "-A MESHLIB_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp ! --dport 53 -m owner --uid-owner 1337 -j REDIRECT --to-ports 15006"
    )


def test_queries_alone_may_be_led():
    assert lines(dns=CLUSTER, outbound_port=None)[-2:] == [
        "-A OUTPUT -p tcp -j MESHLIB_OUTPUT",
        "-A OUTPUT -p udp -j MESHLIB_DNS",
    ]


def test_chains_that_are_needed_no_more_are_taken_away():
    text = restored(
        Interception(), Family.IPV4, ["OUTPUT -p udp -j MESHLIB_DNS"], chains=("MESHLIB_DNS", "MESHLIB_OUTPUT")
    )
    assert text.splitlines()[3:6] == ["-D OUTPUT -p udp -j MESHLIB_DNS", "-F MESHLIB_DNS", "-X MESHLIB_DNS"]
