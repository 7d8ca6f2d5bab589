"""What a connection is read as: by where it was meant to go, and by its first bytes."""

from __future__ import annotations

from typing import Any

import pytest

import meshlib
from meshlib.compiler.snapshot import Snapshot
from meshlib.proxy.protocol_detection import (
    LONGEST_LINE,
    Reading,
    detection_timeout,
    is_http,
    looks_at_names,
    looks_at_requests,
    reading_of,
    server_names,
)
from tests.support.mesh_config import mesh_config
from tests.support.resources import pod, service, service_entry, virtual_service


@pytest.mark.parametrize(
    ("first", "http"),
    [
        (b"", None),
        (b"GET", None),
        (b"GET ", None),
        (b"GET /a?b", None),
        (b"GET /a?b H", None),
        (b"GET /a?b HTTP/1.1\r", None),
        (b"GET /a?b HTTP/1.1\r\n", True),
        (b"GET /a?b HTTP/1.1\nHost: a\r\n", True),
        (b"GET / HTTP/1.0\r\nHost: a\r\n\r\n", True),
        (b"BREW http://a/ HTTP/1.1\r\n", True),
        (b"PRI * HTTP/2.0", None),
        (b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", True),
    ],
)
def test_a_first_line_that_is_a_requests_is_http(first, http):
    assert is_http(first) is http


@pytest.mark.parametrize(
    "first",
    [
        b" ",
        b" GET / HTTP/1.1\r\n",
        b"\r\nGET / HTTP/1.1\r\n",
        b"SSH-2.0-OpenSSH_9.2\r\n",
        b"\x00\x01",
        b"\x16\x03\x01",
        b"x" * 40,
        b"get key\r\n",  # memcached
        b"GET key\r\n",  # Redis, inline
        b"*1\r\n$4\r\nPING\r\n",  # Redis
        b"EHLO mail.example.com\r\n",
        b'CONNECT {"verbose":false}\r\n',  # NATS
        b"OPTIONS rtsp://a/ RTSP/1.0\r\n",
        b"INVITE sip:a@b SIP/2.0",  # told before its end
        b"GET /\r\n",  # HTTP/0.9
        b"GET / HTTP/1.1 \r\n",
        b"GET /a b HTTP/1.1\r\n",
        b"GET /\x01 ",
    ],
)
def test_any_other_first_line_is_none(first):
    assert is_http(first) is False


def test_a_first_line_without_an_end_is_for_the_reader_of_requests_to_refuse():
    line = b"GET /" + b"a" * LONGEST_LINE
    assert is_http(line[:LONGEST_LINE]) is None
    assert is_http(line) is True


# -- where it was meant to go


def at(made: dict[str, Any], ip: str) -> dict[str, Any]:
    made["spec"]["clusterIP"] = ip
    return made


def cluster() -> list[dict[str, Any]]:
    reviews = at(service("reviews"), "10.1.0.5")
    database = at(service("database", ports=[{"name": "tcp-db", "port": 3306}]), "10.1.0.6")
    either = at(service("either", ports=[{"name": "what", "port": 9000, "targetPort": 1}]), "10.1.0.7")
    beside = at(service("beside", ports=[{"name": "what", "port": 9080, "targetPort": 1}]), "10.1.0.8")
    secure = service_entry("secure", "secure.test", ports=[{"number": 443, "name": "tls", "protocol": "TLS"}])
    own_tls = at(service("own", ports=[{"name": "https", "port": 8443, "targetPort": 1}]), "10.1.0.9")
    nowhere = service_entry("nowhere", "nowhere.test", ports=[{"number": 7777, "name": "any", "protocol": ""}])
    plain = service_entry("plain", "plain.test", ports=[{"number": 6000, "name": "tcp", "protocol": "TCP"}])
    both = [
        service_entry(name, f"{name}.test", ports=[{"number": 6001, "name": "p", "protocol": protocol}])
        for name, protocol in (("unread", "TCP"), ("named", "TLS"))
    ]
    return [reviews, database, either, beside, secure, own_tls, nowhere, plain, *both, pod("either", "v1", 1)]


def compiled(*resources: dict[str, Any]) -> Snapshot:
    with meshlib.Mesh.from_resources([*cluster(), *resources], https_rules="istio") as mesh:
        snapshot = mesh._core.live.snapshot
        assert isinstance(snapshot, Snapshot)
        return snapshot


@pytest.mark.parametrize(
    ("ip", "port", "reading"),
    [
        ("10.1.0.5", 9080, Reading.FIRST),
        ("10.9.9.9", 9080, Reading.FIRST),
        ("10.1.0.6", 3306, Reading.BYTES),
        ("10.1.0.7", 9000, Reading.SERVICE),
        ("10.1.0.8", 9080, Reading.SERVICE),  # at a port that others share, for requests
        ("10.1.0.9", 8443, Reading.BYTES),
        ("10.9.9.9", 443, Reading.FIRST),
        ("10.9.9.9", 7777, Reading.FIRST),  # a service without addresses that declares nothing
        ("10.9.9.9", 6000, Reading.BYTES),
        ("10.9.9.9", 6001, Reading.FIRST),  # TCP and TLS without addresses: the name tells
        # nobody's address, at ports of services that have their own: whoever is there may speak first
        ("10.9.9.9", 3306, Reading.BYTES),
        ("10.9.9.9", 9000, Reading.BYTES),
        ("10.9.9.9", 8443, Reading.BYTES),
        ("10.9.9.9", 7000, Reading.BYTES),
    ],
)
def test_what_a_connection_is_read_as_follows_from_where_it_was_meant_to_go(ip, port, reading):
    assert reading_of(compiled(), ip, port) is reading


def test_rules_of_tls_at_an_address_of_its_own_are_asked_for_the_name():
    rules = virtual_service(
        "own", tls=[{"match": [{"sniHosts": ["own"]}], "route": [{"destination": {"host": "own"}}]}]
    )
    del rules["spec"]["http"]
    snapshot = compiled(rules)
    assert reading_of(snapshot, "10.1.0.9", 8443) is Reading.FIRST


def test_ports_are_looked_at_for_what_tells_their_services_apart():
    snapshot = compiled()
    requests = {port for port in (9080, 9000, 3306, 443, 7777, 6000, 6001, 1) if looks_at_requests(snapshot, port)}
    names = {port for port in (9080, 9000, 3306, 443, 8443, 7777, 6000, 6001, 1) if looks_at_names(snapshot, port)}
    assert (requests, names) == ({9080, 7777}, {443, 6001})
    assert [name for name, _ in server_names(snapshot, 6001)] == ["named.test"]


@pytest.mark.parametrize(
    ("said", "seconds"),
    [({}, 0.0), ({"protocolDetectionTimeout": "0s"}, 0.0), ({"protocolDetectionTimeout": "1500ms"}, 1.5)],
)
def test_how_long_first_bytes_are_waited_for_is_mesh_configs_to_say(said, seconds):
    assert detection_timeout(compiled(mesh_config(**said))) == seconds
