"""Rate limits that a fleet counts together in a real Redis: shared, killed, started again, slow, with a wrong password."""

from __future__ import annotations

import json
import logging
import os
import subprocess
import sys
import threading
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from meshlib.transport.core import shared_limits
from meshlib.transport.core.shared_limits import AWAY
from tests.support.eventually import eventually
from tests.support.protection import Door, protection
from tests.support.redis_server import LONG, Held, RedisServer, needs_redis

pytestmark = needs_redis
DAY = 86_400
PASSWORD = "correct-canary"


@pytest.fixture
def redis(tmp_path):
    with RedisServer(tmp_path) as server:
        yield server


def quota(url: str, requests: int = 3, timeout: str = "60s", **more: Any) -> dict[str, Any]:
    storage = {"redis": {"url": url}, "timeout": timeout}
    return protection(quotas=[{"requests": requests, "per": "24h", "storage": storage, **more}])


OTHER = """
import json, sys
from tests.support.protection import Door
with Door(json.loads(sys.argv[1])) as door:
    sys.stdin.read(1)
    print(json.dumps([door.statuses(1)[0] for _ in range(20)]))
"""


def test_processes_share_a_quota(redis):
    policy = json.dumps(quota(redis.url, 25))
    path = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    others = [
        subprocess.Popen(
            [sys.executable, "-c", OTHER, policy], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True, env=path
        )
        for _ in range(2)
    ]
    said = [json.loads(other.communicate("\n", timeout=LONG)[0]) for other in others]
    assert sum(each.count(0) for each in said) == 25
    assert sum(each.count(429) for each in said) == 15


def test_a_forked_child_shares_it_too(redis):
    with Door(quota(redis.url)) as door:
        assert door.statuses(1) == [0]
        child = os.fork()
        if child == 0:
            os._exit(0 if door.statuses(1) == [0] else 7)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert door.statuses(2) == [0, 429]
        assert door.counts == {"quotas: refused": 1}


def test_what_is_kept_ends_with_its_window_and_tells_no_key(redis):
    with Door(quota(redis.url, key={"header": "x-api-key"})) as door:
        for key in ("s3cret-canary", "another"):
            assert door.statuses(5, headers=[("x-api-key", key)]) == [0, 0, 0, 429, 429]
    client = redis.client()
    kept = client.keys("*")
    assert len(kept) == 2
    assert b"canary" not in b"".join(kept)
    for name in kept:
        assert 0 < client.pttl(name) <= DAY * 1000
    client.close()


def test_a_redis_that_is_killed_lets_through_and_is_counted_until_it_is_back(redis, caplog):
    with Door(quota(redis.url)) as door:
        assert door.statuses(4) == [0, 0, 0, 429]
        redis.kill()
        assert door.statuses(3) == [0, 0, 0]
        assert door.counts == {"quotas: refused": 1, "quotas: failed open": 3}
        assert door.mesh.status()["protection"]["redis_failures"] == 1, "who has failed is let alone for a while"
        door.clock.advance(AWAY)
        assert door.statuses(1) == [0]
        assert door.mesh.status()["protection"]["redis_failures"] == 2
        redis.start()
        assert door.statuses(1) == [0], "it is still let alone"
        door.clock.advance(AWAY)
        assert door.statuses(4) == [0, 0, 0, 429], "it is empty"
        assert door.counts == {"quotas: refused": 2, "quotas: failed open": 5}
    said = [record for record in caplog.records if record.name == "meshlib.limits"]
    assert [record.levelno for record in said] == [logging.WARNING]


def given_up(door: Door) -> int:
    """The status of a request, for which the clock moves on as long as it waits."""
    began = door.clock.now
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(door.statuses, 1)
        while not asked.done():
            door.clock.advance(0.01)
            threading.Event().wait(0.001)
    assert door.clock.now - began > 0.019
    return asked.result()[0]


def test_a_redis_that_is_slow_lets_through_after_20_ms_and_counts_again_when_it_is_not(redis, monkeypatch):
    monkeypatch.setattr(shared_limits, "TIMEOUT", LONG)  # what is under way is waited for, however slow this machine is
    with Held(redis.port) as held, Door(quota(f"redis://127.0.0.1:{held.port}", timeout="60s")) as door:
        assert door.statuses(1) == [0]
        door.apply(quota(f"redis://127.0.0.1:{held.port}", timeout="20ms"))
        held.hold()
        assert [given_up(door) for _ in range(3)] == [0, 0, 0], "while nothing is passed on"
        assert door.counts == {"quotas: failed open": 3}
        held.let_go()
        door.apply(quota(f"redis://127.0.0.1:{held.port}", timeout="60s"))
        client = redis.client()
        assert eventually(lambda: client.get(client.keys("*")[0]) == b"2"), (
            "one question was under way, two were taken back"
        )
        client.close()
        door.clock.advance(AWAY)
        assert door.statuses(2) == [0, 429]


def test_its_password_opens_it_and_is_never_said(tmp_path, caplog):
    with RedisServer(tmp_path, PASSWORD) as redis:
        with Door(quota(redis.url)) as door:
            assert door.statuses(4) == [0, 0, 0, 429]
            assert "canary" not in repr(door.mesh.status())
        with Door(quota(redis.url.replace(PASSWORD, "wrong-canary"))) as door:
            assert door.statuses(2) == [0, 0]
            assert door.counts == {"quotas: failed open": 2}
            assert "canary" not in repr(door.mesh.status()) + repr(door.mesh.problems)
    assert "canary" not in caplog.text
    assert "AuthenticationError" in caplog.text


def test_a_unix_socket_will_do(redis):
    with Door(quota(f"unix://{redis.socket}")) as door:
        assert door.statuses(4) == [0, 0, 0, 429]
