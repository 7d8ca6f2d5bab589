"""A process whose channels are grpcio's own ``xds:///``: a plan (JSON) comes in on stdin, what was answered goes out.

A plan is a list of calls, made in this order, with one channel a target:
``{"target": "xds:///name", "method": "Unary", "metadata": [["name", "value"]], "times": 1, "timeout": 5, "mesh": false}``.
The answer has a list for each: ``[code, details, servers that answered, seconds]`` for each time. ``method`` is "Unary",
"Expand" (three messages) or "Hold" (a Chat that stays open after its first answer, until the plan is done). ``mesh`` makes the
channel with ``mesh.grpc_channel`` of an empty mesh.
"""

from __future__ import annotations

import json
import os
import queue
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import grpc

import meshlib
from tests.support.ads_server import bootstrap_environment
from tests.support.grpc_echo import Message, stubs

Call = dict[str, Any]
Plan = list[Call]
Answers = list[list[list[Any]]]


def answers_through_xds(port: int, plan: Plan) -> Answers:
    """Run the plan in a process whose bootstrap names the ADS server at ``port``. Raises AssertionError when that fails."""
    done = subprocess.run(
        [sys.executable, "-m", "tests.support.xds_client"],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        timeout=60,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **bootstrap_environment(port)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: Answers = json.loads(done.stdout)
    return answers


def ask(channel: Any, call: Call, held: list[Any]) -> list[Any]:
    """One call by any channel: [code, details, servers that answered, seconds]. What "Hold" keeps open goes to ``held``."""
    stub = stubs.EchoStub(channel)
    arguments = {
        "timeout": call.get("timeout", 10),
        "metadata": tuple((name, value) for name, value in call.get("metadata", ())),
    }
    servers: list[str] = []
    code, details = "OK", ""
    began = time.monotonic()
    try:
        match call.get("method", "Unary"):
            case "Unary":
                servers.append(stub.Unary(Message(text="x"), **arguments).server)
            case "Expand":
                for answer in stub.Expand(Message(text="x", count=3), **arguments):
                    servers.append(answer.server)
            case "Hold":
                requests: queue.SimpleQueue[Any] = queue.SimpleQueue()
                requests.put(Message(text="x"))
                stream = stub.Chat(iter(requests.get, None), **arguments)
                held.append(lambda: (requests.put(None), list(stream)))
                servers.append(next(stream).server)
    except grpc.RpcError as error:
        code, details = error.code().name, error.details() or ""
    return [code, details, servers, time.monotonic() - began]


def ask_all(channel_of: Callable[[Call], Any], plan: Plan) -> Answers:
    """All calls of a plan."""
    held: list[Any] = []
    answers = [[ask(channel_of(call), call, held) for _ in range(call.get("times", 1))] for call in plan]
    for end in held:
        end()
    return answers


def _main() -> None:
    channels: dict[tuple[str, bool], Any] = {}

    def channel_of(call: Call) -> Any:
        key = call["target"], call.get("mesh", False)
        if key not in channels:
            make = meshlib.Mesh.from_resources([]).grpc_channel if call.get("mesh") else grpc.insecure_channel
            channels[key] = make(call["target"])
        return channels[key]

    json.dump(ask_all(channel_of, json.load(sys.stdin)), sys.stdout)
    sys.stdout.flush()
    for channel in channels.values():
        channel.close()


if __name__ == "__main__":
    _main()
