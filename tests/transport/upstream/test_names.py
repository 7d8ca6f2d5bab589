"""Names of endpoints: resolved once, refreshed beside calls, and never worse than the last good answer."""

from __future__ import annotations

import asyncio
import socket
import threading
import time
from typing import Any

import httpx
import pytest

import meshlib
from meshlib.transport.upstream import names as names_module
from meshlib.transport.upstream.names import MAX_THREADS, REFRESH, RETRY, Names, getaddrinfo, is_name
from tests.support.fake_clock import FakeClock
from tests.support.servers import EchoServer


class Resolver:
    """A lookup that answers from a table and counts; ``gate`` holds answers back."""

    def __init__(self, **table: Any) -> None:
        self.table: dict[str, Any] = {name.replace("_", "."): value for name, value in table.items()}
        self.looks: list[str] = []
        self.gate = threading.Event()
        self.gate.set()

    def __call__(self, name: str) -> list[str]:
        self.looks.append(name)
        self.gate.wait(60)
        found = self.table[name]
        if isinstance(found, Exception):
            raise found
        return found


def wait_for(condition: Any) -> None:
    deadline = time.monotonic() + 30
    while not condition():
        assert time.monotonic() < deadline, "it did not happen within 30 s"
        time.sleep(0.002)


NOT_FOUND = socket.gaierror(socket.EAI_NONAME, "Name or service not known")


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


def made(clock: FakeClock, resolver: Resolver) -> Names:
    return Names(clock, resolver)


@pytest.mark.parametrize(
    ("host", "name"), [("10.0.0.1", False), ("::1", False), ("unix:///x", False), ("a.test", True), ("localhost", True)]
)
def test_what_has_to_be_resolved(host, name):
    assert is_name(host) is name


def test_the_system_resolver_prefers_ipv4():
    assert getaddrinfo("localhost") == ["127.0.0.1"]


def test_a_name_is_looked_up_once_and_known_afterwards(clock):
    resolver = Resolver(a_test=["10.0.0.1", "10.0.0.2"])
    names = made(clock, resolver)
    for _ in range(3):
        assert names.resolve("a.test", 1.0) == ("10.0.0.1", "10.0.0.2")
    assert resolver.looks == ["a.test"]


def test_callers_who_come_together_share_one_look(clock):
    resolver = Resolver(a_test=["10.0.0.1"])
    resolver.gate.clear()
    names = made(clock, resolver)
    found: list[Any] = []
    threads = [threading.Thread(target=lambda: found.append(names.resolve("a.test", 5))) for _ in range(5)]
    for thread in threads:
        thread.start()
    wait_for(lambda: len(names._names["a.test"].waiting) == 5)
    resolver.gate.set()
    for thread in threads:
        thread.join(60)
    assert (found, resolver.looks) == ([("10.0.0.1",)] * 5, ["a.test"])


def test_the_first_look_is_bounded(clock):
    resolver = Resolver(a_test=["10.0.0.1"])
    resolver.gate.clear()
    with pytest.raises(TimeoutError):
        made(clock, resolver).resolve("a.test", 0.01)
    resolver.gate.set()


def test_a_name_that_is_not_found_raises_and_is_looked_up_again(clock):
    resolver = Resolver(a_test=NOT_FOUND)
    names = made(clock, resolver)
    for _ in range(2):
        with pytest.raises(socket.gaierror):
            names.resolve("a.test", 1.0)
    assert len(resolver.looks) == 2
    resolver.table["a.test"] = ["10.0.0.1"]
    assert names.resolve("a.test", 1.0) == ("10.0.0.1",)


@pytest.mark.parametrize("answer", [[], UnicodeError("label too long")])
def test_an_answer_without_address_is_an_os_error(clock, answer):
    with pytest.raises(OSError, match=r"no address|too long"):
        made(clock, Resolver(a_test=answer)).resolve("a.test", 1.0)


def test_a_refresh_happens_beside_calls(clock):
    resolver = Resolver(a_test=["10.0.0.1"])
    names = made(clock, resolver)
    names.resolve("a.test", 1.0)
    resolver.table["a.test"] = ["10.0.0.2"]
    clock.advance(REFRESH + 1)
    resolver.gate.clear()
    assert names.resolve("a.test", 1.0) == ("10.0.0.1",)  # nobody waits for the new look
    resolver.gate.set()
    wait_for(lambda: names.known("a.test") == ("10.0.0.2",))


def test_when_the_resolver_fails_the_last_good_answer_stays(clock):
    resolver = Resolver(a_test=["10.0.0.1"])
    names = made(clock, resolver)
    names.resolve("a.test", 1.0)
    resolver.table["a.test"] = NOT_FOUND
    clock.advance(REFRESH + 1)
    names.known("a.test")
    wait_for(lambda: names.failures == 1)
    assert names.resolve("a.test", 1.0) == ("10.0.0.1",)
    assert "not known" in names.status()["names"]["a.test"]["error"]
    resolver.table["a.test"] = ["10.0.0.3"]
    clock.advance(RETRY + 1)
    names.known("a.test")
    wait_for(lambda: names.known("a.test") == ("10.0.0.3",))
    assert names.status()["names"]["a.test"]["error"] == ""


async def test_loops_wait_without_blocking(clock):
    resolver = Resolver(a_test=["10.0.0.1"])
    resolver.gate.clear()
    names = made(clock, resolver)
    waiting = asyncio.ensure_future(names.resolve_async("a.test"))
    await asyncio.sleep(0)
    cancelled = asyncio.ensure_future(names.resolve_async("a.test"))
    await asyncio.sleep(0)
    cancelled.cancel()
    resolver.gate.set()
    assert await waiting == ("10.0.0.1",)


def test_names_are_bounded(clock, monkeypatch):
    monkeypatch.setattr(names_module, "MAX_NAMES", 20)
    names = Names(clock, lambda name: ["10.0.0.1"])
    for number in range(100):
        clock.advance(1)
        names.resolve(f"n{number}.test", 1.0)
    assert len(names._names) <= 20
    assert names.known("n99.test")


def test_names_that_nobody_asks_for_are_forgotten(clock):
    names = Names(clock, lambda name: ["10.0.0.1"])
    names.resolve("a.test", 1.0)
    clock.advance(names_module.KEPT + 1)
    names.refresh()
    assert names.status()["names"] == {}


# -- endpoints that are names -----------------------------------------------------------------------------------------


def entry(resolution: str, *addresses: str, host: str = "db.test", port: int = 80) -> dict[str, Any]:
    spec: dict[str, Any] = {
        "hosts": [host],
        "ports": [{"number": port, "name": "http", "protocol": "HTTP"}],
        "resolution": resolution,
        "location": "MESH_EXTERNAL",
    }
    if addresses:
        spec["endpoints"] = [{"address": a} for a in addresses]
    return {
        "apiVersion": "networking.istio.io/v1",
        "kind": "ServiceEntry",
        "metadata": {"name": "db", "namespace": "default"},
        "spec": spec,
    }


def mesh_with(resolver: Resolver, *resources: dict[str, Any], clock: Any = None) -> meshlib.Mesh:
    mesh = meshlib.Mesh.from_resources(resources, clock=clock)
    mesh._core.names._lookup = resolver
    return mesh


def endpoints(mesh: meshlib.Mesh) -> list[str]:
    (target,) = mesh.explain(url="http://db.test/").to_dict()["destinations"]
    return [e["address"] for e in target["endpoints"]]


def test_every_address_of_a_dns_name_is_an_endpoint():
    resolver = Resolver(db_test=["10.0.0.2", "10.0.0.1"])
    with mesh_with(resolver, entry("DNS")) as mesh:
        mesh.explain(url="http://db.test/")  # binds the cluster, which begins the look
        wait_for(lambda: endpoints(mesh) == ["10.0.0.1:80", "10.0.0.2:80"])
        assert resolver.looks == ["db.test"]


def test_endpoints_follow_the_name_and_keep_what_is_known_of_them():
    clock = FakeClock()
    resolver = Resolver(a_test=["10.0.0.1"], b_test=["10.0.1.1"])
    with mesh_with(resolver, entry("DNS", "a.test", "b.test"), clock=clock) as mesh:
        mesh.explain(url="http://db.test/")
        wait_for(lambda: endpoints(mesh) == ["10.0.0.1:80", "10.0.1.1:80"])
        cluster = mesh._core.live.cluster("outbound|80||db.test")
        kept = cluster.endpoints[1]
        resolver.table["a.test"] = ["10.0.0.9"]
        clock.advance(REFRESH + 1)
        mesh._core.names.refresh()
        wait_for(lambda: endpoints(mesh) == ["10.0.0.9:80", "10.0.1.1:80"])
        assert cluster.endpoints[1] is kept


def test_a_logical_name_stays_one_endpoint():
    resolver = Resolver(db_test=["10.0.0.2", "10.0.0.1"])
    with mesh_with(resolver, entry("DNS_ROUND_ROBIN")) as mesh:
        mesh.explain(url="http://db.test/")
        wait_for(lambda: mesh._core.names.known("db.test"))
        assert endpoints(mesh) == ["db.test:80"]


@pytest.mark.parametrize("resolution", ["DNS", "DNS_ROUND_ROBIN"])
@pytest.mark.parametrize("kind", ["threads", "asyncio"])
async def test_calls_reach_what_the_name_stands_for(resolution, kind):
    with EchoServer() as server:
        resolver = Resolver(db_test=["127.0.0.1"])
        with mesh_with(resolver, entry(resolution, port=server.port)) as mesh:
            url = f"http://db.test:{server.port}/x"
            for _ in range(3):
                if kind == "threads":
                    with mesh.client() as client:
                        assert client.get(url).status_code == 200
                else:
                    async with mesh.async_client() as client:
                        assert (await client.get(url)).status_code == 200
            await mesh.aclose()


@pytest.mark.parametrize("resolution", ["DYNAMIC_DNS", "NONE"])
def test_a_wildcard_host_is_whatever_the_url_names(resolution):
    with EchoServer() as server:
        resolver = Resolver(a_db_test=["127.0.0.1"], b_db_test=["127.0.0.1"])
        rule = {
            "apiVersion": "networking.istio.io/v1",
            "kind": "DestinationRule",
            "metadata": {"name": "db", "namespace": "default"},
            "spec": {"host": "*.db.test", "trafficPolicy": {"connectionPool": {"http": {"http2MaxRequests": 7}}}},
        }
        with (
            mesh_with(resolver, entry(resolution, host="*.db.test", port=server.port), rule) as mesh,
            mesh.client() as client,
        ):
            for name in ("a", "b"):
                response = client.get(f"http://{name}.db.test:{server.port}/x")
                assert response.json()["headers"]["host"] == f"{name}.db.test:{server.port}"
                assert response.extensions["mesh"].host == "*.db.test"
            (cluster,) = mesh.status()["clusters"]
            assert cluster["limits"] == "7 requests"


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
async def test_the_second_address_is_tried_when_the_first_does_not_answer(kind):
    with EchoServer() as server:
        resolver = Resolver(db_test=["127.0.0.2", "127.0.0.1"])  # the server listens on 127.0.0.1 alone
        with mesh_with(resolver, entry("DNS_ROUND_ROBIN", port=server.port)) as mesh:
            url = f"http://db.test:{server.port}/x"
            if kind == "threads":
                with mesh.client() as client:
                    response = client.get(url)
            else:
                async with mesh.async_client() as client:
                    response = await client.get(url)
            assert len(response.extensions["mesh"].attempts) == 1
            await mesh.aclose()


@pytest.mark.parametrize("kind", ["threads", "asyncio"])
async def test_a_name_that_does_not_exist_is_a_connect_error(kind):
    with mesh_with(Resolver(no_test=NOT_FOUND)) as mesh:
        if kind == "threads":
            with mesh.client() as client, pytest.raises(httpx.ConnectError, match=r"no\.test"):
                client.get("http://no.test/")
        else:
            async with mesh.async_client() as client:
                with pytest.raises(httpx.ConnectError, match=r"no\.test"):
                    await client.get("http://no.test/")
        await mesh.aclose()


def test_a_slow_resolver_is_bounded_by_the_connect_timeout():
    resolver = Resolver(slow_test=["127.0.0.1"])
    resolver.gate.clear()
    with mesh_with(resolver) as mesh, mesh.client() as client:
        with pytest.raises(httpx.ConnectTimeout):
            client.get("http://slow.test/", timeout=httpx.Timeout(5, connect=0.05))
        resolver.gate.set()


def test_resolving_goes_on_in_a_forked_child():
    import os

    resolver = Resolver(a_test=["10.0.0.1"], b_test=["10.0.0.2"])
    with mesh_with(resolver) as mesh:
        core_names = mesh._core.names
        core_names.resolve("a.test", 1.0)
        pid = os.fork()
        if pid == 0:
            try:
                good = core_names.resolve("b.test", 2.0) == ("10.0.0.2",)
            except Exception:
                good = False
            os._exit(0 if good else 1)
        assert os.waitpid(pid, 0)[1] == 0


@pytest.mark.parametrize(
    "raised",
    [
        LookupError("unknown encoding: idna"),
        MemoryError(),
        RecursionError("too deep"),
        ValueError("embedded null byte"),
    ],
)
@pytest.mark.parametrize("asks", [False, True], ids=["threads", "asyncio"])
async def test_whatever_a_lookup_raises_is_a_failed_look_with_its_cause(clock, raised, asks):
    resolver = Resolver(bad_test=raised, good_test=["10.0.0.1"])
    names = made(clock, resolver)
    for _ in range(MAX_THREADS + 2):  # more often than there are workers to lose
        with pytest.raises(OSError, match=type(raised).__name__) as failed:
            await (names.resolve_async("bad.test") if asks else asyncio.to_thread(names.resolve, "bad.test", 5.0))
        assert failed.value.__cause__ is raised
        clock.advance(RETRY + 1)
    assert names.failures >= MAX_THREADS + 2
    assert names.resolve("good.test", 5.0) == ("10.0.0.1",)
    names.close()


@pytest.mark.filterwarnings("ignore::pytest.PytestUnhandledThreadExceptionWarning")
def test_a_worker_that_dies_is_replaced_and_gives_its_look_back(clock):
    class Dies(BaseException):
        pass

    def lookup(name: str) -> list[str]:
        if name.startswith("bad"):
            raise Dies
        return ["10.0.0.1"]

    names = Names(clock, lookup)
    for number in range(MAX_THREADS + 2):
        with pytest.raises(OSError, match="Dies"):
            names.resolve(f"bad{number}.test", 5.0)
        assert names.resolve(f"good{number}.test", 5.0) == ("10.0.0.1",)
    names.close()


def test_a_slow_look_does_not_hold_up_another_name(clock):
    slow = threading.Event()

    def lookup(name: str) -> list[str]:
        if name == "slow.test":
            assert slow.wait(60)
        return ["10.0.0.1"]

    names = Names(clock, lookup)
    names.resolve("warm.test", 5.0)  # one worker, idle now
    waiting = threading.Thread(target=names.resolve, args=("slow.test", 10.0))
    waiting.start()
    assert names.resolve("other.test", 5.0) == ("10.0.0.1",)
    slow.set()
    waiting.join(60)
    names.close()


def test_a_system_without_threads_to_spare_is_a_failed_look(clock, monkeypatch):
    def no_more(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    names = made(clock, Resolver(a_test=["10.0.0.1"]))
    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", no_more)
        with pytest.raises(OSError, match="no thread"):
            names.resolve("a.test", 5.0)
    clock.advance(RETRY + 1)
    assert names.resolve("a.test", 5.0) == ("10.0.0.1",)
    names.close()


def test_who_waits_for_a_look_waits_no_more_once_the_mesh_is_closed(clock):
    resolver = Resolver(a_test=["10.0.0.1"])
    resolver.gate.clear()
    names = made(clock, resolver)
    failed: list[BaseException] = []

    def wait() -> None:
        try:
            names.resolve("a.test", None)
        except OSError as error:
            failed.append(error)

    waiting = threading.Thread(target=wait)
    waiting.start()
    wait_for(lambda: resolver.looks)
    names.close()
    waiting.join(30)
    assert failed
    resolver.gate.set()
