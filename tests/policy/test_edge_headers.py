"""What the edge makes of a request's headers."""

from __future__ import annotations

import pytest

from meshlib.policy.edge_headers import AtTheEdge, Edge, edge_lines, forwarded_at
from meshlib.policy.forwarded_client_cert import ForwardClientCert


def edge(*lines, trusted=0, peer="9.9.9.9", secure=False, mode=ForwardClientCert.SANITIZE_SET, mine=None, port=None):
    text = b"".join(line.encode() + b"\r\n" for line in ("Host: a.test", *lines))
    made, client, proto = edge_lines(text, Edge(trusted, mode), peer, secure, "id-1", mine, port)
    pairs = [line.partition(b": ") for line in made.split(b"\r\n")[:-1]]
    return [(name.decode().lower(), value.decode()) for name, _, value in pairs], client, proto


def value(found, name):
    return [text for key, text in found[0] if key == name]


def test_a_request_without_proxies_is_from_who_has_connected():
    found = edge()
    assert found[1:] == ("9.9.9.9", "http")
    assert value(found, "x-forwarded-for") == ["9.9.9.9"]
    assert value(found, "x-envoy-external-address") == ["9.9.9.9"]
    assert value(found, "x-forwarded-proto") == ["http"]
    assert value(found, "x-request-id") == ["id-1"]
    assert value(found, "host") == ["a.test"]


def test_what_strangers_say_of_themselves_is_appended_to_and_not_believed():
    found = edge("X-Forwarded-For: 1.1.1.1", "x-forwarded-for: 2.2.2.2", "x-forwarded-proto: https", secure=False)
    assert value(found, "x-forwarded-for") == ["1.1.1.1,2.2.2.2,9.9.9.9"]
    assert found[1:] == ("9.9.9.9", "http")


@pytest.mark.parametrize(
    ("trusted", "came", "client"),
    [
        (1, "1.1.1.1, 2.2.2.2", "2.2.2.2"),
        (2, "1.1.1.1, 2.2.2.2", "1.1.1.1"),
        (3, "1.1.1.1, 2.2.2.2", "9.9.9.9"),
        (1, "nonsense", "9.9.9.9"),
        (1, "", "9.9.9.9"),
        (1, "::1", "::1"),
    ],
)
def test_trusted_proxies_vouch_for_the_one_before_them(trusted, came, client):
    assert edge(f"x-forwarded-for: {came}", trusted=trusted)[1] == client


def test_trusted_proxies_say_what_the_client_has_spoken():
    assert edge("x-forwarded-proto: HTTPS", trusted=1)[2] == "https"
    assert edge("x-forwarded-proto: gopher", trusted=1, secure=True)[2] == "https"
    assert edge(trusted=1)[2] == "http"


@pytest.mark.parametrize(
    "line",
    [
        "x-request-id: mine",
        "x-envoy-decorator-operation: x",
        "x-envoy-peer-metadata: x",
        "x-envoy-external-address: 1.1.1.1",
        "x-envoy-original-path: /",
        "x-envoy-original-host: x",
        "x-envoy-upstream-stream-duration-ms: 1",
        "x-envoy-upstream-rq-timeout-ms: 1",
        "x-envoy-internal: true",
        "x_forwarded_for: 1.1.1.1",
        "X-Forwarded_Client-Cert: URI=x",
    ],
)
def test_what_only_proxies_of_the_mesh_say_is_taken_away(line):
    name, _, said = line.partition(": ")
    assert said not in value(edge(line), name.lower())


def test_what_is_the_applications_stays():
    found = edge("X-Mine: 1", "cookie: a=b", "x-envoy-my-own: 2", "traceparent: 00-1")
    assert [value(found, name) for name in ("x-mine", "cookie", "x-envoy-my-own", "traceparent")] == [
        ["1"],
        ["a=b"],
        ["2"],
        ["00-1"],
    ]


def test_a_clients_certificate_is_told_of_as_the_mode_says():
    mine = b"Hash=1"
    assert value(edge("x-forwarded-client-cert: old", mine=mine), "x-forwarded-client-cert") == ["Hash=1"]
    assert value(edge("x-forwarded-client-cert: old"), "x-forwarded-client-cert") == []
    append = edge("x-forwarded-client-cert: old", mine=mine, mode=ForwardClientCert.APPEND_FORWARD)
    assert value(append, "x-forwarded-client-cert") == ["old,Hash=1"]


def test_places_are_counted_from_the_end():
    assert [forwarded_at("1.1.1.1,2.2.2.2 ,3.3.3.3", n) for n in (1, 2, 3, 4)] == ["3.3.3.3", "2.2.2.2", "1.1.1.1", ""]


@pytest.mark.parametrize(
    ("came", "trusted", "says"),
    [
        ((), 0, [("x-forwarded-port", "8443")]),
        (("X-Forwarded-Port: 1",), 0, [("x-forwarded-port", "8443")]),
        (("x_forwarded_port: 1", "x-forwarded-port: 2"), 0, [("x-forwarded-port", "8443")]),
        ((), 1, [("x-forwarded-port", "8443")]),
        (("x-forwarded-port: 443",), 1, [("x-forwarded-port", "443")]),
    ],
)
def test_the_port_that_a_client_came_to_is_the_gateways_unless_a_trusted_proxy_has_said_another(came, trusted, says):
    found = edge("a: b", *came, "c: d", trusted=trusted, port=8443)
    assert [pair for pair in found[0] if pair[0].replace("_", "-") == "x-forwarded-port"] == says
    assert (value(found, "a"), value(found, "c"), value(found, "host")) == (["b"], ["d"], ["a.test"])
    assert value(found, "x-forwarded-for") == ["9.9.9.9"]


def test_of_the_port_nothing_is_said_unless_that_is_asked_for():
    assert value(edge("x-forwarded-port: 1"), "x-forwarded-port") == ["1"]
    assert value(edge(), "x-forwarded-port") == []


SAID = [
    "x-request-id: a",
    "X-Request-Id: b",
    "x_request_id: kept",
    "X-Forwarded-For: 1.1.1.1, 2.2.2.2",
    "x_forwarded_for: 3.3.3.3",
    "X-Forwarded-Proto: https",
    "x-forwarded-port: 1",
    "x-forwarded-client-cert: URI=x",
    "X_Forwarded_Client_Cert: URI=x",
    "x-envoy-attempt-count: 7",
    "x-envoy-internal: true",
    "x-envoy-external-address: 1.1.1.1",
    "traceparent: 00-1",
    "via: forwarded by x-envoy-1",
    "Cookie: A=B",
]


@pytest.mark.parametrize("trusted", [0, 1])
@pytest.mark.parametrize("port", [None, 8443])
@pytest.mark.parametrize("mine", [None, b"Hash=AB;URI=x"])
@pytest.mark.parametrize("peer", ["9.9.9.9", ""])
def test_what_is_said_of_a_connection_once_is_what_is_said_of_each_of_its_requests(trusted, port, mine, peer):
    rules = Edge(trusted), peer, True, mine, port
    of_connection = AtTheEdge(*rules[:5])
    for first in ("", *SAID):
        for second in ("", *SAID):
            lines = b"".join(line.encode() + b"\r\n" for line in ("Host: A.test", first, second, "b: c") if line)
            made, client, proto = edge_lines(lines, *rules[:3], "1F-2", *rules[3:])
            others = made.lower().count(b"\r\nx-envoy-") > (client != "")
            expected = made, b"\r\n" + made.lower(), client, proto, others
            assert of_connection.of(lines, b"\r\n" + lines.lower(), "1F-2") == expected, (first, second)


def test_our_own_word_of_who_the_client_is_does_not_say_how_to_route():
    lines = b"Host: a.test\r\nx-request-id: 1\r\n"
    assert AtTheEdge(Edge(), "9.9.9.9", False, None).of(lines, b"\r\n" + lines.lower(), "2")[4] is False
    asks = lines + b"x-envoy-attempt-count: 3\r\n"
    assert AtTheEdge(Edge(), "9.9.9.9", False, None).of(asks, b"\r\n" + asks.lower(), "2")[4] is True
