"""Where Envoy looks at first bytes, and how long."""

from __future__ import annotations

import pytest

from meshlib.envoy.inspectors import TLS_INSPECTOR, patience, where
from meshlib.envoy.messages import LISTENER, packed
from meshlib.envoy.values import Json, listen_address
from tests.support.envoy_engine import snapshot_of
from tests.support.mesh_config import mesh_config


def ports(*numbers: int) -> Json:
    rules = [{"destination_port_range": {"start": number, "end": number + 1}} for number in numbers]
    return rules[0] if len(rules) == 1 else {"or_match": {"rules": rules}}


@pytest.mark.parametrize(
    ("looked_at", "disabled"),
    [
        ({0: True, 8080: True}, {}),
        ({0: True, 8080: True, 3306: False}, ports(3306)),
        ({0: True, 9000: False, 3306: False}, ports(3306, 9000)),
        ({0: False, 8080: True, 3306: False}, {"not_match": ports(8080)}),
        ({8080: True, 8081: True}, {"not_match": ports(8080, 8081)}),
        ({0: False, 8080: False}, None),
    ],
)
def test_ports_at_which_nothing_is_looked_at_have_no_inspector(looked_at, disabled):
    found = where(TLS_INSPECTOR, looked_at)
    if disabled is None:
        assert found == []
        return
    (made,) = found
    assert made.get("filter_disabled", {}) == disabled
    assert made["name"] == TLS_INSPECTOR["name"]
    packed(LISTENER, {"name": "a", "address": listen_address("127.0.0.1", 1), "listener_filters": found})


def test_first_bytes_are_waited_for_as_long_as_mesh_config_says():
    assert patience(snapshot_of()) == {}
    assert patience(snapshot_of(mesh_config(protocolDetectionTimeout="250ms"))) == {
        "listener_filters_timeout": "0.25s",
        "continue_on_listener_filters_timeout": True,
    }
