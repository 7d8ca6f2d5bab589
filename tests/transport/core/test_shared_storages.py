"""One storage for each URL and service, and Redis's client only for whoever asks for one."""

from __future__ import annotations

import subprocess
import sys

from meshlib.policy.breaker import BreakerSettings
from meshlib.transport.core import shared_breaker
from meshlib.transport.core.shared_storages import SharedStorages


def test_in_memory_there_is_none():
    assert SharedStorages().storage(BreakerSettings(), "reviews") is None


def test_there_is_one_for_each_url_and_service_and_all_of_them_end(monkeypatch):
    class Storage:
        def __init__(self, url: str, host: str) -> None:
            self.made, self.told = (url, host), []

        def close(self) -> None:
            self.told.append("close")

        def after_fork(self) -> None:
            self.told.append("fork")

    monkeypatch.setattr(shared_breaker, "SharedStorage", Storage)
    storages, one, other = SharedStorages(), BreakerSettings(redis="redis://a"), BreakerSettings(redis="redis://b")
    made = [storages.storage(one, "reviews"), storages.storage(one, "ratings"), storages.storage(other, "reviews")]
    assert [s.made for s in made] == [("redis://a", "reviews"), ("redis://a", "ratings"), ("redis://b", "reviews")]
    assert storages.storage(BreakerSettings(7, redis="redis://a"), "reviews") is made[0]
    storages.after_fork()
    storages.close()
    assert [s.told for s in made] == [["fork", "close"]] * 3


def test_a_mesh_without_shared_breakers_loads_no_redis():
    code = "import sys, meshlib.transport.core.shared_storages; print('redis' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=120)
    assert done.stdout.strip() == "False"
