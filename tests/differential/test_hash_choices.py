"""The same hash leads to the same endpoint through meshlib and through a real Envoy."""

from __future__ import annotations

from typing import Any

import pytest

from benchmarks.free_ports import free_port
from tests.differential.choosing import (
    answering,
    bench,
    cluster_of,
    envoy_with,
    members,
)
from tests.support.resources import to

pytestmark = pytest.mark.differential


HASHES: dict[str, tuple[dict[str, Any], dict[str, Any], tuple[int, ...]]] = {
    "ring": ({}, {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024}}, ()),
    "small ring": (
        {"ringHash": {"minimumRingSize": 20}},
        {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 20}},
        (),
    ),
    "weighted ring": (
        {},
        {"lb_policy": "RING_HASH", "ring_hash_lb_config": {"minimum_ring_size": 1024}},
        (1, 2, 3, 4, 5, 6, 7),
    ),
    "maglev": (
        {"maglev": {"tableSize": 65537}},
        {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 65537}},
        (),
    ),
    "small maglev": (
        {"maglev": {"tableSize": 251}},
        {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}},
        (),
    ),
    "weighted maglev": (
        {"maglev": {"tableSize": 251}},
        {"lb_policy": "MAGLEV", "maglev_lb_config": {"table_size": 251}},
        (1, 1, 2, 3, 5, 8, 13),
    ),
}
KEYS = [f"user-{n}" for n in range(150)] + ["", "a b", "x" * 100]


def test_a_key_leads_to_the_very_endpoint_that_envoy_chooses():
    port = free_port()
    routes = [
        {
            "match": {"prefix": f"/{number}"},
            "route": {"cluster": name, "hash_policy": [{"header": {"header_name": "x-user"}}]},
        }
        for number, name in enumerate(HASHES)
    ]
    clusters = [cluster_of(name, members(port, 7, weights), **lb) for name, (_, lb, weights) in HASHES.items()]
    theirs: dict[str, list[str]] = {}
    with envoy_with(routes, clusters, [answering(f"127.0.0.{n + 1}", port) for n in range(7)]) as (client, _):
        for number, name in enumerate(HASHES):
            theirs[name] = [client.get(f"/{number}", headers={"x-user": k}).headers["x-endpoint"] for k in KEYS]
    for name, (table, _, weights) in HASHES.items():
        made = bench(port, 7, weights, loadBalancer={"consistentHash": {"httpHeaderName": "x-user", **table}})
        script = made.script(200)
        for key in KEYS:
            made.call(script, headers={"x-user": key})
        assert script.tried == theirs[name], name
        assert len(set(script.tried)) >= 5


BY_USER = {"header": {"header_name": "x-user"}}
AVOIDING = {
    "retry_on": "5xx",
    "host_selection_retry_max_attempts": 5,
    "retry_host_predicate": [
        {
            "name": "envoy.retry_host_predicates.previous_hosts",
            "typed_config": {
                "@type": "type.googleapis.com/envoy.extensions.retry.host.previous_hosts.v3.PreviousHostsPredicate"
            },
        }
    ],
    "retry_back_off": {"base_interval": "0.001s", "max_interval": "0.002s"},
}


def test_a_retry_that_avoids_what_was_tried_goes_on_in_the_table_as_envoy_does():
    port = free_port()
    names = ("ring", "small maglev")
    routes = [
        {
            "match": {"prefix": f"/{number}/{retries}"},
            "route": {"cluster": name, "hash_policy": [BY_USER], "retry_policy": {**AVOIDING, "num_retries": retries}},
        }
        for number, name in enumerate(names)
        for retries in range(3)
    ]
    clusters = [cluster_of(name, members(port, 7), **HASHES[name][1]) for name in names]
    theirs: dict[str, list[list[str]]] = {}
    with envoy_with(routes, clusters, [answering(f"127.0.0.{n + 1}", port, 503) for n in range(7)]) as (client, _):
        for number, name in enumerate(names):
            theirs[name] = [
                [client.get(f"/{number}/{n}", headers={"x-user": k}).headers["x-endpoint"] for n in range(3)]
                for k in KEYS[:40]
            ]
    for name in names:
        retries = {"attempts": 2, "retryOn": "5xx", "retryIgnorePreviousHosts": True, "backoff": "1ms"}
        hashing = {"consistentHash": {"httpHeaderName": "x-user", **HASHES[name][0]}}
        made = bench(port, 7, rule={"route": [to("reviews")], "retries": retries}, loadBalancer=hashing)
        ours = []
        for key in KEYS[:40]:
            script = made.script(503)
            made.call(script, headers={"x-user": key})
            ours.append(script.tried)
        assert ours == theirs[name], name


def test_the_keys_of_a_split_make_one_hash_as_envoy_makes_it():
    """istiod gives the route of a split the hash of each of its destinations."""
    port = free_port()
    route = {"match": {"prefix": "/"}, "route": {"cluster": "ring", "hash_policy": [BY_USER, BY_USER]}}
    clusters = [cluster_of("ring", members(port, 7), **HASHES["ring"][1])]
    with envoy_with([route], clusters, [answering(f"127.0.0.{n + 1}", port) for n in range(7)]) as (client, _):
        theirs = [client.get("/", headers={"x-user": key}).headers["x-endpoint"] for key in KEYS]
    split = {"route": [to("reviews", "", 50), to("reviews", "", 50)]}
    made = bench(port, 7, rule=split, loadBalancer={"consistentHash": {"httpHeaderName": "x-user"}})
    script = made.script(200)
    for key in KEYS:
        made.call(script, headers={"x-user": key})
    assert script.tried == theirs
