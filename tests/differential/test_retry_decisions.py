"""Random retry policies against random sequences of answers: as many attempts through meshlib as through a real Envoy, and the
same last answer. The upstream is a Lua script in the same Envoy that answers by the number of the attempt."""

from __future__ import annotations

import random
import socket
from typing import Any

import pytest

from benchmarks.free_ports import free_port
from meshlib.engine.outcome import Outcome
from meshlib.policy import retry as retry_module
from tests.differential.envoy_process import TYPES, cluster, require_envoy, running
from tests.differential.referee import istiod
from tests.differential.referee.envoy_side import _listener, _manager
from tests.support.resources import pod, service, to, virtual_service
from tests.support.scripted import Bench

pytestmark = pytest.mark.differential

POLICIES, SCRIPTS, SEED = 60, 40, 11
TOKENS = ["5xx", "gateway-error", "reset", "connect-failure", "retriable-4xx", "refused-stream", "cancelled", "unavailable",
          "internal", "resource-exhausted", "deadline-exceeded", "409", "418", "429", "404", "500", "503"]  # fmt: skip
STATUSES = [200, 200, 404, 409, 418, 429, 500, 501, 502, 503, 504]
GRPC = ["", "", "", "0", "1", "4", "8", "13", "14"]

SERVER = """
function envoy_on_request(handle)
  local headers = handle:headers()
  local number = tonumber(headers:get("x-envoy-attempt-count"))
  local position = 0
  for status, grpc in string.gmatch(headers:get("x-script"), "(%d+)/(%d*)") do
    position = position + 1
    if position == number then
      local answer = {[":status"] = status, ["x-attempt"] = tostring(number)}
      if grpc ~= "" then answer["grpc-status"] = grpc end
      handle:respond(answer, "")
      return
    end
  end
end
"""

INTERNAL: dict[str, Any] = {
    # only of internal callers Envoy takes x-envoy-retry-on and its like; to a library every caller is internal
    "use_remote_address": True,
    "internal_address_config": {"cidr_ranges": [{"address_prefix": "127.0.0.0", "prefix_len": 8}]},
}
Step = tuple[int, str]


def policies() -> list[dict[str, Any]]:
    rng = random.Random(SEED)
    made = []
    for _ in range(POLICIES):
        retries: dict[str, Any] = {"attempts": rng.choice((1, 1, 2, 3, 5)), "backoff": "1ms"}
        if rng.random() < 0.85:
            retries["retryOn"] = ",".join(rng.sample(TOKENS, rng.randint(1, 4)))
        made.append(retries)
    return made


def scripts(number: int) -> list[tuple[list[Step], dict[str, str]]]:
    """Sequences of answers, and request headers that may change the policy."""
    rng = random.Random(f"{SEED}/{number}")
    made = []
    for _ in range(SCRIPTS):
        steps = [(rng.choice(STATUSES), rng.choice(GRPC)) for _ in range(8)]
        headers = {}
        if rng.random() < 0.15:
            headers["x-envoy-retry-on"] = rng.choice(("5xx", "gateway-error", "retriable-4xx", "nonsense"))
        if rng.random() < 0.1:
            headers["x-envoy-max-retries"] = rng.choice(("0", "1", "4", "x"))
        if rng.random() < 0.1:
            headers["x-envoy-retry-grpc-on"] = rng.choice(("internal", "unavailable,cancelled"))
        if rng.random() < 0.08:
            headers["x-envoy-retriable-status-codes"] = rng.choice(("404", "404,418"))
        made.append((steps, headers))
    return made


def through_envoy(made: list[dict[str, Any]]) -> list[list[tuple[int, int]]]:
    """(status, attempts) of every script of every policy."""
    require_envoy()
    listen, echo, admin = free_port(), free_port(), free_port()
    routes = []
    for number, retries in enumerate(made):
        forward = {"cluster": "c", "timeout": "0s", "retry_policy": istiod.retry(retries)}
        routes.append({"match": {"prefix": f"/{number}/"}, "route": forward})
    hosts = [{"name": "all", "domains": ["*"], "routes": routes, "include_request_attempt_count": True}]
    lua = {
        "name": "envoy.filters.http.lua",
        "typed_config": {"@type": f"{TYPES}.http.lua.v3.Lua", "default_source_code": {"inline_string": SERVER}},
    }
    front = _manager("front", [], {"virtual_hosts": hosts}, **INTERNAL)
    back = _manager("back", [lua], {"virtual_hosts": [{"name": "all", "domains": ["*"], "routes": []}]})
    config = {
        "admin": {"address": {"socket_address": {"address": "127.0.0.1", "port_value": admin}}},
        "static_resources": {
            "listeners": [
                _listener(listen, front),
                _listener(echo, back),
            ],
            "clusters": [cluster("c", [echo])],
        },
    }
    found = []
    with running(config, admin):
        for number in range(len(made)):
            found.append([ask(listen, number, steps, headers) for steps, headers in scripts(number)])
    return found


def ask(port: int, number: int, steps: list[Step], headers: dict[str, str]) -> tuple[int, int]:
    lines = [f"GET /{number}/ HTTP/1.1", "Host: a", f"x-script: {','.join(f'{s}/{g}' for s, g in steps)}"]
    lines += [f"{name}: {value}" for name, value in headers.items()]
    with socket.create_connection(("127.0.0.1", port), 10) as connection:
        connection.sendall(("\r\n".join(lines) + "\r\nConnection: close\r\n\r\n").encode())
        reader = connection.makefile("rb")
        status = int(reader.readline().split()[1])
        while (line := reader.readline()) not in (b"\r\n", b""):
            if line.lower().startswith(b"x-attempt:"):
                return status, int(line.split(b":")[1])
        return status, 0


def through_meshlib(made: list[dict[str, Any]]) -> list[list[tuple[int, int]]]:
    rules = [
        {"match": [{"uri": {"prefix": f"/{n}/"}}], "route": [to("reviews")], "retries": retries}
        for n, retries in enumerate(made)
    ]
    bench = Bench(service("reviews"), pod("reviews", "v1", 1), virtual_service("reviews", *rules))
    found = []
    for number in range(len(made)):
        row = []
        for steps, headers in scripts(number):
            outcomes = [
                Outcome(status=s, headers=[(b"grpc-status", g.encode())] if g else [], whole=b"") for s, g in steps
            ]
            script = bench.script(*outcomes)
            outcome, _ = bench.call(script, f"http://reviews:9080/{number}/", headers=headers)
            row.append((outcome.status, len(script.sends)))
        found.append(row)
    return found


@pytest.fixture(scope="module")
def heard() -> list[list[tuple[int, int]]]:
    return through_envoy(policies())


def differences(heard: list[list[tuple[int, int]]]) -> list[str]:
    made = policies()
    ours = through_meshlib(made)
    return [
        f"{made[number]} with {scripts(number)[turn]}: ours {our}, Envoy's {their}"
        for number, rows in enumerate(zip(ours, heard, strict=True))
        for turn, (our, their) in enumerate(zip(*rows, strict=True))
        if our != their
    ]


def test_every_policy_meets_every_script_with_as_many_attempts(heard):
    assert differences(heard)[:5] == []
    attempts = [count for rows in heard for _, count in rows]
    assert len(set(attempts)) >= 5  # and they were about something
    assert sum(count > 1 for count in attempts) > 500


def test_a_retry_on_every_4xx_is_noticed(heard, monkeypatch):
    real = retry_module.asks_for_retry

    def eager(policy: Any, status: int, headers: Any) -> bool:
        return 400 <= status < 500 or real(policy, status, headers)

    monkeypatch.setattr("meshlib.engine.outbound.asks_for_retry", eager)
    assert differences(heard)


def test_a_retry_too_many_is_noticed(heard, monkeypatch):
    from dataclasses import replace

    real = retry_module.merge_request_headers

    def more(policy: Any, header: Any) -> Any:
        merged = real(policy, header)
        return replace(merged, attempts=merged.attempts + 1)

    monkeypatch.setattr("meshlib.engine.before_sending.merge_request_headers", more)
    assert differences(heard)
