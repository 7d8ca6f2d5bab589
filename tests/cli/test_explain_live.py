"""``meshlib explain --live``: how a call is told."""

from __future__ import annotations

import httpx
import pytest
from click.testing import CliRunner

import meshlib
from meshlib.cli.explain_live import lines
from meshlib.cli.main import main
from meshlib.cli.output import printable
from meshlib.telemetry.recent import RecentCall
from tests.support.admin import runtime_folder
from tests.support.resources import pod, service, to, virtual_service

NAMED = [
    service("reviews"),
    pod("reviews", "v1", 9081),
    virtual_service("stars", {"name": "canary", "route": [to("reviews")]}, hosts=["reviews"]),
]
MADE: RecentCall = {
    "number": 1, "at": 1_700_000_000.0625, "ms": 12.34, "direction": "made", "protocol": "http", "method": "GET",
    "authority": "reviews:9080", "path": "/a?...", "route": "VirtualService/default/reviews http[1]", "rule_name": "",
    "host": "reviews.d",
    "subset": "v2", "endpoint": "a:1", "principal": "", "status": 503, "grpc_status": None, "flags": "UF,URX", "detail": "",
    "trace_id": "", "config_version": "1a2b",
    "attempts": [
        {"endpoint": "a:1", "status": 0, "failure": "connect_failed", "detail": "refused", "at": 0.0, "ms": 1.5},
        {"endpoint": "b:1", "status": 0, "failure": "lost to a hedge", "detail": "", "at": None, "ms": 0.0},
    ],
}  # fmt: skip


def test_a_call_that_was_made():
    first, *rest = lines(MADE)
    assert first.endswith(".062  GET reviews:9080/a?...  503 UF,URX  in 12.3 ms")
    assert rest == [
        "  VirtualService/default/reviews http[1] -> reviews.d/v2  (config 1a2b)",
        "  attempt 1: at +0.0 ms  a:1: connect_failed after 1.5 ms: refused",
        "  attempt 2: b:1: lost to a hedge after 0.0 ms",
    ]


def test_a_call_that_was_served_says_who_called():
    served: RecentCall = {**MADE, "direction": "served", "route": "/a/{id}", "principal": "cluster.local/ns/d/sa/web",
                          "attempts": [], "flags": "", "status": 403, "detail": "rbac_access_denied"}  # fmt: skip
    assert lines(served)[0].endswith("GET reviews:9080/a?...  served  403  in 12.3 ms")
    assert lines(served)[1:] == ["  from cluster.local/ns/d/sa/web -> /a/{id}", "  rbac_access_denied"]
    assert lines({**served, "principal": "", "route": ""})[1] == "  from an unauthenticated peer"


@pytest.mark.parametrize(("status", "said"), [(0, "OK"), (14, "UNAVAILABLE"), (99, "99")])
def test_a_grpc_call_has_the_name_of_its_status(status, said):
    assert f"  {said} UF,URX  in" in lines({**MADE, "grpc_status": status})[0]


def test_one_without_a_response_says_so():
    assert "  no response UF,URX  in" in lines({**MADE, "status": 0})[0]


def test_no_caller_writes_to_the_terminal_of_who_looks():
    assert printable("/a\x1b[2J\x07\x9b\u202eb\n") == r"/a\x1b[2J\x07\x9b\u202eb\n"
    assert printable("/straße") == "/straße"


def test_a_rule_that_has_a_name_is_told_with_it():
    told = lines({**MADE, "rule_name": "canary"})[1]
    assert told == "  VirtualService/default/reviews http[1] (canary) -> reviews.d/v2  (config 1a2b)"


def explained(*arguments):
    return CliRunner().invoke(main, ["explain", "--live", *arguments])


def test_a_process_without_calls_says_so(monkeypatch, tmp_path):
    runtime_folder(monkeypatch, tmp_path)
    with meshlib.Mesh.from_yaml("", admin="unix"):
        result = explained("reviews", "--failed")
    assert result.exit_code == 0
    assert "has had no calls that it remembers" in result.output


def test_what_there_is_none_of_is_told_with_what_there_is(monkeypatch, tmp_path):
    runtime_folder(monkeypatch, tmp_path)
    with meshlib.Mesh.from_resources(NAMED, admin="unix") as mesh:
        with mesh.client(transport=httpx.MockTransport(lambda _request: httpx.Response(200))) as client:
            client.get("http://reviews:9080/")
        unknown, well = explained("rewiews"), explained("canary", "--failed")
    assert (unknown.exit_code, well.exit_code) == (0, 0)
    assert "has had no calls of rewiews that it remembers" in unknown.output
    assert "hosts that it remembers calls of: reviews.default.svc.cluster.local" in unknown.output
    assert "routes: VirtualService/default/stars http[0] (canary)" in unknown.output
    assert "has had no failed calls of canary that it remembers: 1 went well" in well.output


def test_the_trace_is_told_where_there_is_one():
    assert "  trace 4bf92f3577b34da6a3ce929d0e0e4736" in lines({**MADE, "trace_id": "4bf92f3577b34da6a3ce929d0e0e4736"})
    assert not [line for line in lines({**MADE, "trace_id": ""}) if "trace" in line]
