"""The rules that lead connections to the proxy, as text."""

from __future__ import annotations

import pytest

from meshlib.proxy.iptables import (
    ALL_PORTS,
    JUMPS,
    Family,
    Interception,
    InterceptionMode,
    Table,
    WrongInterception,
    led,
    networks,
    ports,
    removed,
    restored,
)


def rules(chain: str, family: Family = Family.IPV4, **wanted: object) -> list[str]:
    text = restored(Interception(**wanted), family)  # type: ignore[arg-type]
    assert text.startswith("*nat\n:MESHLIB_OUTPUT - [0:0]\n:MESHLIB_INBOUND - [0:0]\n")
    assert text.endswith("\nCOMMIT\n")
    start = f"-A {chain} "
    return [line.removeprefix(start) for line in text.splitlines() if line.startswith(start)]


def test_what_the_application_sends_goes_to_the_proxy_but_for_what_stays_on_this_machine():
    assert rules("MESHLIB_OUTPUT") == [
        "-m owner --uid-owner 1337 -j RETURN",
        "-o lo -j RETURN",
        "-d 127.0.0.1/32 -j RETURN",
        "-p tcp -j REDIRECT --to-ports 15001",
    ]
    assert rules("MESHLIB_INBOUND") == []
    assert rules("PREROUTING") == []
    assert rules("OUTPUT") == ["-p tcp -j MESHLIB_OUTPUT"]


def test_what_is_sent_to_the_application_goes_to_the_proxy_before_it():
    found = rules("MESHLIB_INBOUND", inbound={8080: 15006, 9090: 15007})
    assert found == [
        "-p tcp --dport 8080 -j REDIRECT --to-ports 15006",
        "-p tcp --dport 9090 -j REDIRECT --to-ports 15007",
    ]
    assert rules("PREROUTING", inbound={8080: 15006}) == ["-p tcp -j MESHLIB_INBOUND"]


def test_a_call_of_the_application_to_its_own_service_is_inbound_again():
    assert rules("MESHLIB_OUTPUT", inbound={8080: 15006}, users=(), groups=(7,))[:3] == [
        "-s 127.0.0.6/32 -o lo -j RETURN",
        "! -d 127.0.0.1/32 -o lo -p tcp --dport 8080 -m owner --gid-owner 7 -j REDIRECT --to-ports 15006",
        "-m owner --gid-owner 7 -j RETURN",
    ]


def test_all_ports_of_the_application_are_led_but_for_those_that_are_not():
    wanted = {"inbound": {ALL_PORTS: 15006, 9090: 15007}, "not_inbound": (15021,), "users": (7,)}
    assert rules("MESHLIB_INBOUND", **wanted) == [
        "-p tcp --dport 15021 -j RETURN",
        "-p tcp --dport 9090 -j REDIRECT --to-ports 15007",
        "-p tcp -j REDIRECT --to-ports 15006",
    ]
    assert rules("MESHLIB_OUTPUT", Family.IPV6, **wanted)[:5] == [
        "-s ::6/128 -o lo -j RETURN",
        "-o lo -p tcp --dport 15021 -m owner --uid-owner 7 -j RETURN",
        "! -d ::1/128 -o lo -p tcp --dport 9090 -m owner --uid-owner 7 -j REDIRECT --to-ports 15007",
        "! -d ::1/128 -o lo -p tcp -m owner --uid-owner 7 -j REDIRECT --to-ports 15006",
        "-m owner --uid-owner 7 -j RETURN",
    ]


def test_tproxy_leaves_addresses_as_they_are():
    wanted = Interception(inbound={ALL_PORTS: 15006}, not_inbound=(15021,), mode=InterceptionMode.TPROXY)
    assert restored(wanted, Family.IPV4, table=Table.MANGLE).splitlines() == [
        "*mangle",
        ":MESHLIB_OUTPUT - [0:0]",
        ":MESHLIB_INBOUND - [0:0]",
        ":MESHLIB_DIVERT - [0:0]",
        "-A MESHLIB_INBOUND -p tcp -m mark --mark 1337 -j CONNMARK --save-mark",
        "-A MESHLIB_INBOUND -p tcp -m mark --mark 1337 -j RETURN",
        "-A MESHLIB_INBOUND -s 127.0.0.6/32 -i lo -p tcp -j RETURN",
        "-A MESHLIB_INBOUND -i lo -p tcp -m mark ! --mark 1338 -j RETURN",
        "-A MESHLIB_INBOUND -p tcp --dport 15021 -j RETURN",
        "-A MESHLIB_INBOUND -p tcp -m conntrack --ctstate RELATED,ESTABLISHED -j MESHLIB_DIVERT",
        "-A MESHLIB_INBOUND ! -d 127.0.0.1/32 -p tcp -j TPROXY --on-port 15006 --tproxy-mark 1337/0xffffffff",
        "-A MESHLIB_DIVERT -j MARK --set-mark 1337",
        "-A MESHLIB_DIVERT -j ACCEPT",
        "-A MESHLIB_OUTPUT -o lo -p tcp -m mark --mark 1337 -j RETURN",
        "-A MESHLIB_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m owner --uid-owner 1337 -j MARK --set-mark 1338",
        "-A MESHLIB_OUTPUT -p tcp -m connmark --mark 1337 -j CONNMARK --restore-mark",
        "-A PREROUTING -p tcp -j MESHLIB_INBOUND",
        "-A OUTPUT -p tcp -j MESHLIB_OUTPUT",
        "COMMIT",
    ]
    nat = restored(wanted, Family.IPV4)
    assert "PREROUTING" not in nat
    assert "-A MESHLIB_OUTPUT -o lo -m mark --mark 1337 -j RETURN\n" in nat
    assert (
        "-A MESHLIB_OUTPUT ! -d 127.0.0.1/32 -o lo -p tcp -m owner --uid-owner 1337 -j REDIRECT --to-ports 15006\n"
        in nat
    )


def test_ports_and_networks_are_left_alone_or_are_all_that_is_led():
    some, none = networks("10.0.0.0/8, fd00::/8"), networks("10.9.0.0/16")
    wanted = {"networks": some, "not_networks": none, "ports": (3306,), "not_ports": (25,)}
    assert rules("MESHLIB_OUTPUT", **wanted) == [
        "-p tcp --dport 25 -j RETURN",
        "-m owner --uid-owner 1337 -j RETURN",
        "-o lo -j RETURN",
        "-d 127.0.0.1/32 -j RETURN",
        "-d 10.9.0.0/16 -j RETURN",
        "-p tcp --dport 3306 -j REDIRECT --to-ports 15001",
        "-d 10.0.0.0/8 -p tcp -j REDIRECT --to-ports 15001",
    ]
    assert rules("MESHLIB_OUTPUT", Family.IPV6, **wanted)[-3:] == [
        "-d ::1/128 -j RETURN",
        "-p tcp --dport 3306 -j REDIRECT --to-ports 15001",
        "-d fd00::/8 -p tcp -j REDIRECT --to-ports 15001",
    ]


def test_nothing_that_is_sent_is_led_where_there_is_no_outbound_port():
    assert "15001" not in restored(Interception(None, {8080: 15006}), Family.IPV4)


def test_jumps_that_are_there_are_made_anew():
    lines = restored(Interception(), Family.IPV4, [JUMPS[1], JUMPS[1]]).splitlines()
    assert lines.count("-D OUTPUT -p tcp -j MESHLIB_OUTPUT") == 2
    assert lines.count("-A OUTPUT -p tcp -j MESHLIB_OUTPUT") == 1


def test_what_is_there_is_taken_away_and_no_more():
    assert removed([JUMPS[1]], ["MESHLIB_OUTPUT"]).splitlines() == [
        "*nat",
        "-D OUTPUT -p tcp -j MESHLIB_OUTPUT",
        "-F MESHLIB_OUTPUT",
        "-X MESHLIB_OUTPUT",
        "COMMIT",
    ]


@pytest.mark.parametrize(
    ("make", "why"),
    [
        (lambda: Interception(None), "nothing is led to the proxy"),
        (lambda: Interception(users=()), "would be led to it again"),
        (lambda: Interception(ports=(25, 26), not_ports=(26,)), "port 26 is both included and excluded"),
        (lambda: Interception(inbound={8080: 8081, 8081: 1}), "the proxy would be before itself"),
        (lambda: Interception(inbound={8080: 15001}), "where the proxy takes what the application sends"),
        (lambda: Interception(inbound={0: 15001}), "'*' leads to 15001"),
        (lambda: networks("10.0.0.1/8"), "10.0.0.1/8 is not a network such as 10.0.0.0/8"),
        (lambda: ports("25,x"), "x is not a port"),
        (lambda: ports("65536"), "65536 is not a port"),
        (lambda: Interception(not_inbound=(15021,)), "inbound ports are excluded of all of them"),
        (lambda: led(["8080"]), "8080 is not PORT:PROXY_PORT"),
        (lambda: led(["8080:"]), "an empty text is not a port"),
        (lambda: led(["8080:1", "8080:2"]), "port 8080 leads to two ports"),
    ],
)
def test_what_cannot_be_rules_is_refused_with_the_reason(make, why):
    with pytest.raises(WrongInterception) as caught:
        make()
    assert why in str(caught.value)


def test_options_are_read():
    assert networks("*") is None
    assert networks("") == []
    assert ports("25, 3306") == [25, 3306]
    assert led(["8080:15006", "*:15007"]) == {8080: 15006, ALL_PORTS: 15007}
