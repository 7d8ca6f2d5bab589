"""grpcio's own ``xds:///`` client calls the backend by what the control plane tells it, and refuses nothing of that."""

from __future__ import annotations

import pytest

from meshlib.bench import control_plane, plan
from meshlib.bench.resources import ADDRESSES
from meshlib.bench.rounds import Runner
from meshlib.bench.scene import Settings

pytest.importorskip(
    control_plane.NEEDS, reason="xds-protos is not installed: xds:/// is not measured", exc_type=ImportError
)


def test_it_has_the_rules_the_weights_and_the_endpoints_of_the_other_ways():
    told = control_plane.told(7, 3)
    listener, clusters, endpoints = (next(iter(each.values())) for each in told.values())
    routes = listener["api_listener"]["api_listener"]["route_config"]["virtual_hosts"][0]["routes"]
    assert len(routes) == 4
    assert [each["weight"] for each in routes[-1]["route"]["weighted_clusters"]["clusters"]] == [90, 10]
    assert clusters["circuit_breakers"]["thresholds"] == [{"max_requests": 1000}]
    members = [each["endpoint"]["address"]["socket_address"] for each in endpoints["endpoints"][0]["lb_endpoints"]]
    assert members == [{"address": address, "port_value": 7} for address in ADDRESSES["v1"]]
    assert set(control_plane.packed(told)) == set(told)


def test_what_is_no_field_of_envoys_is_refused():
    from google.protobuf.json_format import ParseError

    told = control_plane.told(7, 1)
    next(iter(told.values()))["reviews:9080"]["no_such_field"] = 1
    with pytest.raises(ParseError, match="no_such_field"):
        control_plane.packed(told)


@pytest.mark.parametrize("world", [plan.SYNC, plan.ASYNCIO])
def test_a_client_in_a_process_of_its_own_is_measured_by_it(world):
    runner = Runner(plan.Pace(1, 0.05), lambda sentence: None, lambda seconds: None)
    part = plan.Part(plan.GRPC, world, (plan.XDS_GRPC,), (plan.Point(2),), Settings(protocol="grpc"))
    runner.measure(part)
    assert [row.name for row in runner.rows] == [plan.XDS_GRPC.name], runner.notes
    assert not runner.died
