"""Rules in force and taken away: in network namespaces, with both of the kernel's packet filters, and with a kernel that
refuses."""

from __future__ import annotations

import ipaddress
import subprocess

import pytest

from meshlib.proxy import iptables_commands
from meshlib.proxy.iptables import ALL_PORTS, JUMPS, Family, Interception, InterceptionMode, Table
from meshlib.proxy.iptables_commands import Flavour, Found, NotApplied, Tables, families
from meshlib.proxy.iptables_dns import DnsCapture
from tests.support.namespace import namespace, why_none

kernel = pytest.mark.skipif(bool(why_none()), reason=why_none())
OTHERS = "*nat\n:SOMEBODY - [0:0]\n-A SOMEBODY -p tcp --dport 1 -j RETURN\n-A OUTPUT -p tcp -j SOMEBODY\nCOMMIT\n"


@pytest.fixture
def there():
    with namespace() as made:
        yield made


def tables(there, flavour: Flavour) -> Tables:
    return Tables(flavour, lambda command, reads: there.run(*command, reads=reads))


@kernel
@pytest.mark.parametrize("flavour", [Flavour.NFT, Flavour.LEGACY])
def test_rules_are_in_force_changed_and_taken_away_and_nobody_elses_are_touched(there, flavour):
    assert there.run(f"iptables{flavour.value}-restore", "-w", "30", reads=OTHERS).returncode == 0
    made = tables(there, flavour)
    assert made.apply(Interception(), ipv6=True) == {Family.IPV4: True, Family.IPV6: True}
    assert made.apply(Interception(), ipv6=True) == {Family.IPV4: False, Family.IPV6: False}
    assert made.apply(Interception(not_ports=(25,)), ipv6=True) == {Family.IPV4: True, Family.IPV6: True}
    found = made.found(Family.IPV4)
    assert found.jumps == (JUMPS[1],)
    assert any("--dport 25" in rule for rule in found.rules)
    assert "-A SOMEBODY -p tcp" in there.run(f"iptables{flavour.value}-save").stdout
    assert made.remove()[Family.IPV4] is True
    assert made.found(Family.IPV4).nothing
    assert made.found(Family.IPV6).nothing
    assert made.remove()[Family.IPV4] is False
    left = there.run(f"iptables{flavour.value}-save").stdout
    assert "-A OUTPUT -p tcp -j SOMEBODY" in left
    assert "MESHLIB" not in left


@kernel
def test_a_proxy_of_istios_is_not_fought_with(there):
    assert there.run("iptables-nft-restore", "-w", "30", reads="*nat\n:ISTIO_OUTPUT - [0:0]\nCOMMIT\n").returncode == 0
    with pytest.raises(NotApplied, match="Istio's own interception is in force here"):
        tables(there, Flavour.NFT).apply(Interception())


@kernel
def test_who_may_not_is_told_what_it_takes(there):
    def without_rights(command, reads):
        return there.run("setpriv", "--bounding-set=-all", "--inh-caps=-all", "--reuid=65534", *command, reads=reads)

    with pytest.raises(NotApplied, match="CAP_NET_ADMIN: run it as root"):
        Tables(Flavour.NFT, without_rights).apply(Interception())


@kernel
@pytest.mark.parametrize("before", [None, Interception(not_ports=(25,))])
def test_where_one_familys_rules_are_refused_the_others_are_as_before(there, before):
    made = tables(there, Flavour.NFT)
    if before is not None:
        made.apply(before, ipv6=True)
    was = {family: made.found(family) for family in Family}

    def refuses(command, reads):
        if command[0] == "ip6tables-nft-restore":
            return subprocess.CompletedProcess(command, 4, "", "the kernel has no room")
        return there.run(*command, reads=reads)

    with pytest.raises(NotApplied, match=r"ip6tables-nft-restore: the kernel has no room\. Nothing has changed"):
        Tables(Flavour.NFT, refuses).apply(Interception(), ipv6=True)
    assert {family: made.found(family) for family in Family} == was


@kernel
@pytest.mark.parametrize("flavour", [Flavour.NFT, Flavour.LEGACY])
def test_tproxy_has_rules_of_two_tables_and_routes_and_all_go_or_none(there, flavour):
    made = tables(there, flavour)
    wanted = Interception(inbound={ALL_PORTS: 15006}, mode=InterceptionMode.TPROXY)
    assert made.apply(wanted, ipv6=True) == {Family.IPV4: True, Family.IPV6: True}
    assert made.apply(wanted, ipv6=True) == {Family.IPV4: False, Family.IPV6: False}
    assert there.run("ip", "rule").stdout.count("fwmark 0x539 lookup 133") == 1
    assert "local default dev lo" in there.run("ip", "-6", "route", "show", "table", "133").stdout
    assert made.apply(Interception(inbound={ALL_PORTS: 15006}), ipv6=True)[Family.IPV4]
    assert made.found(Family.IPV4, Table.MANGLE).nothing
    assert "lookup 133" not in there.run("ip", "rule").stdout
    before = made.found(Family.IPV4)

    def refuses(command, reads):
        if command[0].startswith("ip6tables") and "*mangle" in reads:
            return subprocess.CompletedProcess(command, 4, "", "the kernel has no TPROXY")
        return there.run(*command, reads=reads)

    with pytest.raises(NotApplied, match=r"the kernel has no TPROXY\. Nothing has changed"):
        Tables(flavour, refuses).apply(wanted, ipv6=True)
    assert made.found(Family.IPV4) == before
    assert made.found(Family.IPV4, Table.MANGLE).nothing
    assert made.remove()[Family.IPV4] is True
    assert "MESHLIB" not in there.run(f"iptables{flavour.value}-save").stdout


@kernel
@pytest.mark.parametrize("flavour", [Flavour.NFT, Flavour.LEGACY])
def test_queries_of_dns_have_rules_of_two_tables_and_all_go_or_none(there, flavour):
    made = tables(there, flavour)
    four = DnsCapture(servers=(ipaddress.ip_address("10.96.0.10"),))
    assert made.apply(Interception(dns=DnsCapture()), ipv6=True) == {Family.IPV4: True, Family.IPV6: True}
    assert made.apply(Interception(dns=DnsCapture()), ipv6=True) == {Family.IPV4: False, Family.IPV6: False}
    assert made.found(Family.IPV6, Table.RAW).chains == ("MESHLIB_DNS", "MESHLIB_DNS_IN")
    assert made.apply(Interception(dns=four), ipv6=True) == {Family.IPV4: True, Family.IPV6: True}
    assert made.found(Family.IPV6, Table.RAW).nothing
    assert made.found(Family.IPV6).chains == ("MESHLIB_INBOUND", "MESHLIB_OUTPUT")
    assert any("10.96.0.10" in rule for rule in made.found(Family.IPV4, Table.RAW).rules)
    before = {table: made.found(Family.IPV4, table) for table in (Table.NAT, Table.RAW)}

    def refuses(command, reads):
        if command[0].startswith("ip6tables") and "*raw" in reads:
            return subprocess.CompletedProcess(command, 4, "", "the kernel has no zones")
        return there.run(*command, reads=reads)

    with pytest.raises(NotApplied, match=r"the kernel has no zones\. Nothing has changed"):
        Tables(flavour, refuses).apply(Interception(dns=DnsCapture(port=1053)), ipv6=True)
    assert {table: made.found(Family.IPV4, table) for table in (Table.NAT, Table.RAW)} == before
    assert made.apply(Interception(), ipv6=True)[Family.IPV4]
    assert "MESHLIB_DNS" not in there.run(f"iptables{flavour.value}-save").stdout
    assert made.apply(Interception(dns=DnsCapture()), ipv6=True)[Family.IPV4]
    assert made.remove()[Family.IPV4] is True
    for family in Family:
        assert "MESHLIB" not in there.run(f"{family.value}{flavour.value}-save").stdout


def test_a_command_that_is_not_there_is_named_with_its_package(monkeypatch):
    monkeypatch.setattr(iptables_commands.shutil, "which", lambda *_, **__: None)
    with pytest.raises(NotApplied, match="there is no iptables-legacy-save here: install the package iptables"):
        Tables(Flavour.LEGACY).found(Family.IPV4)


def test_a_command_that_does_not_end_is_not_waited_for(monkeypatch):
    def hangs(command, **_):
        raise subprocess.TimeoutExpired(command, 30)

    monkeypatch.setattr(iptables_commands.shutil, "which", lambda *_, **__: "/usr/sbin/iptables-save")
    monkeypatch.setattr(iptables_commands.subprocess, "run", hangs)
    with pytest.raises(NotApplied, match="has not ended within 30 s"):
        Tables().found(Family.IPV4)


def test_a_command_that_says_nothing_is_told_of_by_its_exit_code():
    failed = Tables(run=lambda command, reads: subprocess.CompletedProcess(command, 3, "", ""))
    with pytest.raises(NotApplied, match="iptables-save: exit code 3"):
        failed.found(Family.IPV4)


def test_rules_for_ipv6_are_made_where_the_machine_has_addresses_of_it(monkeypatch, tmp_path):
    there = tmp_path / "if_inet6"
    monkeypatch.setattr(iptables_commands, "HAS_IPV6", there)
    assert families(None) == (Family.IPV4,)
    there.write_text("00000000000000000000000000000001 01 80 10 80 lo\n")
    assert families(None) == (Family.IPV4, Family.IPV6)
    assert families(False) == (Family.IPV4,)


def test_nothing_of_ours_is_nothing():
    assert Found().nothing
    assert not Found(chains=("MESHLIB_OUTPUT",)).nothing
