"""The values of attributes, without a library that evaluates anything."""

from __future__ import annotations

import pytest

from meshlib.policy.secret_values import HIDDEN
from meshlib.telemetry.attributes import VALUES, Facts, headers, node_of, request_header, response_header, trailer
from meshlib.workload import Workload
from tests.support.access_log import MadeUp


class Served(MadeUp):
    __slots__ = ()

    def remote(self) -> str | None:
        return "10.0.0.9:51000"

    def local(self) -> str | None:
        return "[::1]:8080"

    def peer_uri(self) -> str | None:
        return "spiffe://cluster.local/ns/shop/sa/orders"


class Made(MadeUp):
    __slots__ = ()

    def cluster(self) -> str | None:
        return "outbound|9080|v1|reviews.default.svc.cluster.local"


def of(entry: MadeUp, root: str, name: str, *, outbound: bool = False) -> object:
    return VALUES[root, name](Facts(entry, {}, outbound))


def test_of_a_call_served_both_ends_are_known() -> None:
    entry = Served()
    assert (of(entry, "source", "address"), of(entry, "source", "port")) == ("10.0.0.9:51000", 51000)
    assert (of(entry, "destination", "address"), of(entry, "destination", "port")) == ("[::1]:8080", 8080)
    assert of(entry, "connection", "uri_san_peer_certificate") == "spiffe://cluster.local/ns/shop/sa/orders"
    assert of(entry, "xds", "listener_direction") == 1


class Sent(MadeUp):
    __slots__ = ("said",)

    def sent_at(self) -> float | None:
        return 11.0

    def details(self) -> str | None:
        return self.said


@pytest.mark.parametrize(
    ("said", "latency"),
    [
        ("via_upstream", "0.500000000s"),
        (None, "0.500000000s"),
        ("response_timeout", None),
        ("upstream_reset_before_response_started{remote_connection_failure|refused}", None),
    ],
)
def test_a_backend_that_has_said_nothing_has_no_latency(said: str | None, latency: str | None) -> None:
    entry = Sent()
    entry.said = said
    assert of(entry, "response", "backend_latency", outbound=True) == latency


@pytest.mark.parametrize(
    ("said", "status", "is_there"),
    [(0, 200, 0), (5, 200, 5), (None, 200, 2), (None, 404, 12), (None, 503, 14), (None, 0, None)],
)
def test_a_response_without_a_status_of_grpc_has_the_one_that_stands_for_its_code(
    said: int | None, status: int, is_there: int | None
) -> None:
    """Envoy's ``response.grpc_status`` is there wherever there is a code."""
    assert of(MadeUp(grpc=said, status=status), "response", "grpc_status") == is_there


def test_of_a_call_made_the_port_is_the_services() -> None:
    assert of(Made(), "destination", "port", outbound=True) == 9080
    assert of(MadeUp(), "source", "port", outbound=True) is None, "a path of a unix socket has no port"


@pytest.mark.parametrize(
    ("written", "size"), [({"content-length": "12"}, 12), ({"content-length": "12x"}, None), ({}, None)]
)
def test_the_size_of_a_request_is_what_it_says(written: dict[str, str], size: int | None) -> None:
    assert of(MadeUp(headers=written), "request", "size") == size


def test_headers_are_read_by_name_or_all() -> None:
    facts = Facts(MadeUp(headers={"X-A": "1", "x-b": "2"}, back={"x-c": "3"}), {}, True)
    assert headers(["X-A", "x-z"], request_header)(facts) == {"X-A": "1"}  # as it is spelled: CEL looks for that
    everything = headers(None, request_header)(facts)
    assert isinstance(everything, dict)
    assert {"x-a", "x-b"} <= everything.keys()
    assert headers(["x-c"], response_header)(facts) == {"x-c": "3"}
    assert headers(["x-trailer"], trailer)(facts) == {"x-trailer": "t"}
    assert headers([":path", ":authority", ":status"], request_header)(facts) == {
        ":path": "/a?b=c",
        ":authority": "reviews:9080",
    }


def test_the_node_is_the_workload() -> None:
    node = node_of(Workload("orders", "shop", {"app": "orders"}, "robot", locality="eu/a/1", cluster="blue"))
    assert node["cluster"] == "orders.shop"
    assert node["locality"] == {"region": "eu", "zone": "a", "sub_zone": "1"}
    metadata = node["metadata"]
    assert isinstance(metadata, dict)
    assert (metadata["SERVICE_ACCOUNT"], metadata["CLUSTER_ID"]) == ("robot", "blue")


def test_a_header_that_opens_doors_has_no_value_where_it_would_be_shown() -> None:
    entry = MadeUp(headers={"authorization": "s3cret", "x-a": "1"})
    read = headers(["authorization", "x-a"], request_header)
    assert read(Facts(entry, {}, True)) == {"authorization": "s3cret", "x-a": "1"}
    assert read(Facts(entry, {}, True, hides=True)) == {"authorization": HIDDEN, "x-a": "1"}
