"""A process whose channels are grpcio's own ``xds:///``: a plan (JSON) comes in on stdin, what was answered goes out.

A plan is a list of calls, made in this order, each with a channel of its own unless it names one that is there:
``{"target": "xds:///name", "method": "Unary", "metadata": {}, "times": 1, "timeout": 5, "count": 3, "mesh": false}``.
The answer has a list for each: ``[code, details, servers that answered, seconds]`` for each time. ``mesh`` makes the channel
with ``mesh.grpc_channel`` of an empty mesh.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

Plan = list[dict[str, Any]]
Answers = list[list[list[Any]]]


def answers_through_xds(port: int, plan: Plan) -> Answers:
    """Run the plan in a process whose bootstrap names the ADS server at ``port``. Raises AssertionError when that fails."""
    from tests.support.ads_server import bootstrap_environment

    done = subprocess.run(
        [sys.executable, "-m", "tests.support.xds_client"],
        input=json.dumps(plan),
        capture_output=True,
        text=True,
        timeout=120,
        cwd=Path(__file__).parents[2],
        env={**os.environ, **bootstrap_environment(port)},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answers: Answers = json.loads(done.stdout)
    return answers


def ask(channel: Any, call: dict[str, Any]) -> list[Any]:
    """One call by any channel: [code, details, servers that answered, seconds]."""
    import grpc

    from tests.support.grpc_echo import Message, stubs

    stub = stubs.EchoStub(channel)
    servers: list[str] = []
    metadata = tuple(call.get("metadata", {}).items())
    timeout = call.get("timeout", 5)
    began = time.monotonic()
    code, details = "OK", ""
    try:
        if call.get("method", "Unary") == "Unary":
            answer = stub.Unary(Message(text="x"), timeout=timeout, metadata=metadata)
            servers.append(answer.server)
        else:
            for answer in stub.Expand(Message(text="x", count=call["count"]), timeout=timeout, metadata=metadata):
                servers.append(answer.server)
    except grpc.RpcError as error:
        code, details = error.code().name, error.details() or ""
    return [code, details, servers, time.monotonic() - began]


def _main() -> None:
    import grpc

    channels: dict[Any, Any] = {}
    answers: Answers = []
    for call in json.load(sys.stdin):
        key = call["target"], call.get("mesh", False)
        if key not in channels:
            if call.get("mesh"):
                import meshlib

                channels[key] = meshlib.Mesh.from_resources([]).grpc_channel(call["target"])
            else:
                channels[key] = grpc.insecure_channel(call["target"])
        answers.append([ask(channels[key], call) for _ in range(call.get("times", 1))])
    json.dump(answers, sys.stdout)
    sys.stdout.flush()
    for channel in channels.values():
        channel.close()


if __name__ == "__main__":
    _main()
