"""Explanations as people read them: Pods are named, and labels that only machines write are left out."""

from __future__ import annotations

import pytest

import meshlib
from meshlib.engine.explain_text import says_something
from tests.support.resources import pod, service

NOISE = {
    "pod-template-hash": "5f7d",
    "controller-revision-hash": "reviews-1",
    "statefulset.kubernetes.io/pod-name": "reviews-0",
    "apps.kubernetes.io/pod-index": "0",
    "topology.kubernetes.io/zone": "a",
    "security.istio.io/tlsMode": "istio",
    "service.istio.io/canonical-name": "reviews",
    "istio.io/rev": "default",
    "helm.sh/chart": "reviews-1.2",
}


def labelled() -> dict:
    made = pod("reviews", "v1", 9081, name="reviews-v1-5f7d-x2")
    made["metadata"]["labels"] |= {**NOISE, "team": "books", "example.com/tier": "front"}
    return made


def endpoint_line(mesh: meshlib.Mesh) -> str:
    (line,) = [each for each in str(mesh.explain(url="http://reviews:9080/")).splitlines() if "127.0.0.1:9081" in each]
    return line.strip()


def test_an_endpoint_is_shown_with_its_pod_and_without_the_labels_of_machines():
    with meshlib.Mesh.from_resources([service("reviews"), labelled()]) as mesh:
        assert endpoint_line(mesh) == (
            "127.0.0.1:9081  Pod reviews-v1-5f7d-x2  app=reviews,example.com/tier=front,team=books,version=v1  /a"
        )


def test_programs_get_every_label_and_the_pod():
    with meshlib.Mesh.from_resources([service("reviews"), labelled()]) as mesh:
        (found,) = mesh.explain(url="http://reviews:9080/").to_dict()["destinations"][0]["endpoints"]
        assert found["pod"] == "reviews-v1-5f7d-x2"
        assert NOISE.items() <= found["labels"].items()
        (cluster,) = mesh.describe()["clusters"][:1]
        assert cluster["endpoints"][0]["pod"] == "reviews-v1-5f7d-x2"


@pytest.mark.parametrize("with_pod", [True, False])
def test_a_slice_names_the_pod_whether_the_pod_itself_is_there_or_not(with_pod):
    piece = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {"name": "reviews-1", "namespace": "default", "labels": {"kubernetes.io/service-name": "reviews"}},
        "addressType": "IPv4",
        "ports": [{"name": "http", "port": 9081}],
        "endpoints": [
            {
                "addresses": ["127.0.0.1"],
                "targetRef": {"kind": "Pod", "name": "reviews-v1-5f7d-x2", "namespace": "default"},
            }
        ],
    }
    with meshlib.Mesh.from_resources([service("reviews"), piece, *([labelled()] if with_pod else [])]) as mesh:
        assert endpoint_line(mesh).startswith("127.0.0.1:9081  Pod reviews-v1-5f7d-x2")


def test_an_address_of_no_pod_names_none():
    entry = {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "reviews", "namespace": "default"},
        "spec": {
            "hosts": ["reviews"],
            "ports": [{"number": 9080, "name": "http", "protocol": "HTTP"}],
            "resolution": "STATIC",
            "endpoints": [{"address": "127.0.0.1", "ports": {"http": 9081}, "labels": {"app": "reviews"}}],
        },
    }
    with meshlib.Mesh.from_resources([entry]) as mesh:
        assert endpoint_line(mesh) == "127.0.0.1:9081  app=reviews"


@pytest.mark.parametrize("label", NOISE)
def test_labels_of_machines(label):
    assert not says_something(label)


@pytest.mark.parametrize("label", ["app", "version", "example.com/kubernetes.io", "notkubernetes.io/x", "tlsMode"])
def test_labels_of_people(label):
    assert says_something(label)
