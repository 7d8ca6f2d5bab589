"""Outbound ports as Envoy's listeners."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from meshlib.compiler.mesh_settings import DEFAULTS, MeshSettings
from meshlib.envoy.listeners import connection_manager, http_filters, outbound_listener, whole_seconds
from meshlib.policy.sidecar_headers import ProxyHeaders


def test_a_listener_asks_for_its_routes_and_ends_with_the_router() -> None:
    made = outbound_listener("outbound", "127.0.0.1", 15001, "outbound", DEFAULTS)
    assert made["address"] == {"socket_address": {"address": "127.0.0.1", "port_value": 15001}}
    manager = made["filter_chains"][0]["filters"][0]["typed_config"]
    assert manager["rds"]["route_config_name"] == "outbound"
    assert [each["name"].rpartition(".")[2] for each in manager["http_filters"]] == [
        "fault",
        "cors",
        "set_filter_state",
        "dynamic_forward_proxy",
        "router",
    ]


def test_clients_are_believed_in_nothing() -> None:
    made = connection_manager(DEFAULTS)
    assert made["forward_client_cert_details"] == "SANITIZE"
    assert made["use_remote_address"] is False


@pytest.mark.parametrize(
    ("said", "fields"),
    [
        ("NONE", {"normalize_path": False, "merge_slashes": False}),
        ("BASE", {"normalize_path": True, "merge_slashes": False}),
        ("MERGE_SLASHES", {"normalize_path": True, "merge_slashes": True}),
        (
            "DECODE_AND_MERGE_SLASHES",
            {"merge_slashes": True, "path_with_escaped_slashes_action": "UNESCAPE_AND_FORWARD"},
        ),
    ],
)
def test_paths_are_normalized_as_mesh_config_says(said: Any, fields: dict[str, Any]) -> None:
    assert fields.items() <= connection_manager(MeshSettings(path_normalization=said)).items()


def test_headers_of_the_proxy_can_be_turned_off() -> None:
    quiet = replace(DEFAULTS, proxy_headers=ProxyHeaders(debug=False, request_id=False))
    assert connection_manager(quiet)["generate_request_id"] is False
    assert http_filters(quiet)[-1]["typed_config"]["suppress_envoy_headers"] is True


@pytest.mark.parametrize(("seconds", "whole"), [(0.0, 1), (3.0, 3), (3.1, 4)])
def test_envoy_takes_whole_seconds(seconds: float, whole: int) -> None:
    assert whole_seconds(seconds) == whole
