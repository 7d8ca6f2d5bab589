"""What an Envoy begins with."""

from __future__ import annotations

from meshlib.envoy.bootstrap import CONTROL, Sockets, bootstrap
from meshlib.workload import Workload

SOCKETS = Sockets("/run/admin.sock", "/run/ads.sock")


def test_all_but_the_way_to_us_is_asked_over_ads() -> None:
    made = bootstrap(Workload(name="shop", namespace="prod"), SOCKETS)
    assert made["node"]["id"] == "meshlib~shop.prod"
    assert made["admin"]["address"]["pipe"] == {"path": "/run/admin.sock", "mode": 0o600}
    (control,) = made["static_resources"]["clusters"]
    assert (
        control["name"]
        == CONTROL
        == made["dynamic_resources"]["ads_config"]["grpc_services"][0]["envoy_grpc"]["cluster_name"]
    )
    assert control["load_assignment"]["endpoints"][0]["lb_endpoints"][0]["endpoint"]["address"] == {
        "pipe": {"path": "/run/ads.sock"}
    }
    assert "overload_manager" not in made


def test_connections_of_clients_have_a_limit_where_one_is_given() -> None:
    (monitor,) = bootstrap(Workload(), SOCKETS, 100)["overload_manager"]["resource_monitors"]
    assert monitor["typed_config"]["max_active_downstream_connections"] == 100


def test_beyond_its_heap_new_requests_are_turned_away_after_what_is_free_was_given_back() -> None:
    limits = bootstrap(Workload(), SOCKETS, 100, 64 * 1024 * 1024)["overload_manager"]
    assert [each["name"].rpartition(".")[2] for each in limits["resource_monitors"]] == [
        "global_downstream_max_connections",
        "fixed_heap",
    ]
    assert limits["resource_monitors"][1]["typed_config"]["max_heap_size_bytes"] == 64 * 1024 * 1024
    assert [(each["name"], each["triggers"][0]["threshold"]["value"]) for each in limits["actions"]] == [
        ("envoy.overload_actions.shrink_heap", 0.9),
        ("envoy.overload_actions.stop_accepting_requests", 1.0),
    ]
