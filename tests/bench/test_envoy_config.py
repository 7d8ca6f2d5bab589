"""Envoy's bootstrap says what the resources say."""

from __future__ import annotations

from typing import Any

from meshlib.bench import envoy_config, resources
from meshlib.bench.envoy_config import Scene


def manager(scene: Scene) -> dict[str, Any]:
    made = envoy_config.outbound(1, 2, scene)
    return made["static_resources"]["listeners"][0]["filter_chains"][0]["filters"][0]["typed_config"]  # type: ignore[no-any-return]


def routes(scene: Scene) -> list[dict[str, Any]]:
    return manager(scene)["route_config"]["virtual_hosts"][0]["routes"]  # type: ignore[no-any-return]


def test_a_listener_has_the_filters_that_istiod_gives_a_sidecars() -> None:
    authorization = envoy_config.admitting(20)
    for filters in ((), (authorization,)):
        names = [
            each["name"].removeprefix("envoy.filters.http.") for each in manager(Scene(filters=filters))["http_filters"]
        ]
        assert names == ["rbac"] * len(filters) + ["grpc_stats", "fault", "cors", "router"]


def test_there_are_as_many_routes_as_rules() -> None:
    made = resources.measured(2, more_rules=99)[-1]["spec"]["http"]
    assert len(routes(Scene(more_rules=99))) == len(made) == 101
    assert routes(Scene(more_rules=99))[0]["match"] == made[0]["match"][0]["uri"] | {}


def test_timeout_retries_and_weights_are_those_of_the_rules() -> None:
    theirs, ours = routes(Scene())[-1]["route"], resources.measured(2)[-1]["spec"]["http"][-1]
    assert (theirs["timeout"], theirs["retry_policy"]["num_retries"]) == (ours["timeout"], ours["retries"]["attempts"])
    weights = [each["weight"] for each in theirs["weighted_clusters"]["clusters"]]
    assert weights == [each["weight"] for each in ours["route"]]


def test_a_policy_of_a_server_has_as_many_rules_in_envoys_words() -> None:
    for count in (100, 1_000):  # the second are two policies of ours
        rules = envoy_config.admitting(count)["typed_config"]["rules"]
        assert (rules["action"], len(rules["policies"])) == ("ALLOW", count)


def test_a_listener_in_front_of_all_endpoints_is_at_all_their_addresses() -> None:
    for everywhere, count in ((False, 1), (True, 4)):
        (listener,) = envoy_config.inbound(1, 2, Scene(everywhere=everywhere))["static_resources"]["listeners"]
        assert 1 + len(listener.get("additional_addresses", ())) == count
