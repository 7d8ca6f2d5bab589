"""What workloads tell of themselves in headers: read by Istio's proxies as they read each other's, and nothing that a stranger
writes gets further than its bounds."""

from __future__ import annotations

import base64
from dataclasses import astuple

import pytest
from google.protobuf.struct_pb2 import Struct
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.peer_metadata import LONGEST, NAMES, PeerMetadata, own_metadata, read, told

LABELS = {"app": "reviews", "version": "v3", "pod-template-hash": "5d4f7", "secret": "no"}


def encoded(value: dict[str, object]) -> str:
    made = Struct()
    made.update(value)
    return base64.b64encode(made.SerializeToString(deterministic=True)).decode()


def test_it_is_the_struct_that_istios_proxies_read():
    own = own_metadata("reviews-v3", "shop", LABELS, "east", "10.0.0.7")
    made = Struct.FromString(base64.b64decode(own.value, validate=True))
    assert dict(made) == {
        "CLUSTER_ID": "east",
        "NAMESPACE": "shop",
        "WORKLOAD_NAME": "reviews-v3",
        "LABELS": {
            "service.istio.io/canonical-name": "reviews",
            "service.istio.io/canonical-revision": "v3",
            "app": "reviews",
            "version": "v3",
        },
    }
    assert own.value == encoded(dict(made)).encode()  # deterministic, as Envoy writes it


def test_its_id_changes_with_what_is_said_because_istios_proxies_remember_by_it():
    own, other = (own_metadata("a", "shop", {"version": v}, address="10.0.0.7").id for v in ("v1", "v2"))
    assert own != other
    assert own.decode().split("~")[:2] == ["sidecar", "10.0.0.7"]
    assert own.decode().split("~")[3] == "shop.svc.cluster.local"


def test_what_one_says_the_other_reads():
    own = own_metadata("reviews-v3", "shop", LABELS, "east")
    wanted = PeerMetadata("reviews-v3", "shop", "east", "reviews", "v3", "reviews", "v3")
    assert read(own.value.decode()) == wanted
    assert read(own.value.decode().rstrip("=")) == wanted  # Envoy takes both
    assert told([(b"content-length", b"1"), (b"X-Envoy-Peer-Metadata", own.value)]) == wanted
    assert told([(NAMES[1], own.id)]) is None


def test_a_workload_without_labels_is_called_by_its_name():
    assert read(own_metadata("batch", "shop", {}).value.decode()) == PeerMetadata(
        "batch", "shop", "Kubernetes", "batch"
    )


def test_the_labels_of_kubernetes_count_before_the_short_ones():
    labels = {"app": "a", "app.kubernetes.io/name": "b", "version": "1", "app.kubernetes.io/version": "2"}
    found = read(encoded({"LABELS": labels}))
    assert found == PeerMetadata(app="b", version="2")


HOSTILE = [
    'a"} 1\nistio_requests_total{x="',
    "a\nb",
    "a" * 300,
    "ünder",
    "../../etc",
    "{{template}}",
    "-a",
    " a",
    "a b",
    "\x00",
]


@pytest.mark.parametrize("value", HOSTILE)
def test_what_is_no_name_and_no_label_is_not_taken_and_the_rest_is(value):
    labels = dict.fromkeys(("app", "version", "service.istio.io/canonical-name"), value)
    found = read(encoded({"WORKLOAD_NAME": value, "NAMESPACE": "shop", "CLUSTER_ID": value, "LABELS": labels}))
    assert found == PeerMetadata(namespace="shop")


@pytest.mark.parametrize("length", [64, 254])
def test_a_label_has_63_characters_and_a_name_253(length):
    value = "a" * length
    found = read(encoded({"WORKLOAD_NAME": value, "CLUSTER_ID": "c", "LABELS": {"app": value}}))
    assert found is not None
    assert (found.app, found.workload) == ("", value if length < 254 else "")


@pytest.mark.parametrize(
    "value",
    [
        "",
        "%%%",
        "not base64!",
        "AAAA",
        encoded({}),
        encoded({"WORKLOAD_NAME": 7.0, "LABELS": "text"}),
        encoded({"other": "x"}),
        base64.b64encode(b"\x0a\xff\xff\xff\xff\x0f").decode(),
        base64.b64encode(b"\x0a\x06\x0a\x01\xff\x12\x01\x1a").decode(),
    ],
)
def test_what_is_no_metadata_says_nothing(value):
    assert read(value) is None


def test_a_value_that_is_too_long_is_not_even_decoded():
    value = encoded({"WORKLOAD_NAME": "a", "LABELS": {f"l{n}": "x" * 60 for n in range(100)}})
    assert len(value) > LONGEST
    assert read(value) is None


def test_depth_is_of_no_consequence():
    deep: dict[str, object] = {"a": "b"}
    for _ in range(80):
        deep = {"d": deep}
    assert read(encoded({"WORKLOAD_NAME": "w", "LABELS": {"app": "x", "deep": deep}})) == PeerMetadata("w", app="x")


@given(st.binary(max_size=200))
def test_any_bytes_are_read_or_say_nothing(raw):
    found = read(base64.b64encode(raw).decode())
    assert found is None or all(value.isascii() and value.isprintable() for value in astuple(found))


@given(st.text(max_size=50))
def test_any_text_is_read_or_says_nothing(value):
    assert read(value) is None or isinstance(read(value), PeerMetadata)
