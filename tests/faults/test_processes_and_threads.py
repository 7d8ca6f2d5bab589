"""Forks, threads, reloads under load, killed replicas: counted by id, nothing lost, nothing crossed."""

from __future__ import annotations

import os
import threading
import time

import httpx
import pytest

import meshlib
from benchmarks.free_ports import free_port
from tests.faults.referee import Backend
from tests.support.eventually import eventually
from tests.support.h2_server import H2Server
from tests.support.resources import destination_rule, pod, service, to, virtual_service

URL = "http://reviews:9080/echo"
REQUESTS = 500 if os.environ.get("MESHLIB_FAULTS") else 80
"""Of each of sixty-four threads."""


def one_backend(port: int, **policy) -> list[dict]:
    return [service("reviews"), pod("reviews", "v1", port), destination_rule("reviews", "v1", **policy)]


@pytest.mark.fault
def test_four_children_sharing_a_client_made_before_fork_get_no_wrong_body():
    with Backend() as backend, meshlib.Mesh.from_resources(one_backend(backend.port)) as mesh, mesh.client() as client:
        for n in range(5):
            client.post(URL, content=f"parent-{n}")  # connections are there to be inherited
        children = []
        for child in range(4):
            read, write = os.pipe()
            pid = os.fork()
            if pid == 0:
                wrong = 0
                try:
                    for n in range(300):
                        body = f"child-{child}-{n}"
                        wrong += client.post(URL, content=body).text != body
                except BaseException:
                    wrong = 99
                os.write(write, bytes([min(wrong, 255)]))
                os._exit(0)
            os.close(write)
            children.append((pid, read))
        wrong_here = sum(client.post(URL, content=f"p{n}").text != f"p{n}" for n in range(300))
        wrong = []
        for pid, read in children:
            wrong.append(os.read(read, 1)[0])
            os.close(read)
            os.waitpid(pid, 0)
        assert (wrong, wrong_here) == ([0, 0, 0, 0], 0)


@pytest.mark.fault
def test_a_forked_child_never_uses_a_connection_of_its_parent():
    with Backend() as backend, meshlib.Mesh.from_resources(one_backend(backend.port)) as mesh, mesh.client() as client:
        inherited = client.get("http://reviews:9080/port").text
        assert client.get("http://reviews:9080/port").text == inherited  # kept alive, and used again
        read, write = os.pipe()
        pid = os.fork()
        if pid == 0:
            os.write(write, client.get("http://reviews:9080/port").text.encode())
            os._exit(0)
        os.close(write)
        with os.fdopen(read) as answer:
            assert answer.read() not in ("", inherited)
        os.waitpid(pid, 0)
        assert client.get("http://reviews:9080/port").text == inherited  # the parent's own is unharmed


def in_a_child(work) -> None:
    """Run ``work`` in a forked child, to its good end."""
    pid = os.fork()
    if pid == 0:
        code = 1
        try:
            work()
            code = 0
        finally:
            os._exit(code)
    _, status = os.waitpid(pid, 0)
    assert os.waitstatus_to_exitcode(status) == 0


@pytest.mark.fault
@pytest.mark.parametrize("what", ["reload", "close the client", "close the mesh"])
def test_what_a_child_does_to_its_connections_never_reaches_those_of_its_parent(what):
    def resources(timeout: str) -> list[dict]:
        rule = destination_rule("reviews", "v1", connectionPool={"tcp": {"connectTimeout": timeout}})
        port = {"name": "http2", "port": 9080, "targetPort": "http"}
        return [service("reviews", ports=[port]), pod("reviews", "v1", server.port), rule]

    with H2Server() as server, meshlib.Mesh.from_resources(resources("5s")) as mesh, mesh.client() as client:
        assert client.get("http://reviews:9080/").status_code == 200
        (peer,) = server.peers
        doing = {
            "reload": lambda: mesh.apply(resources("6s")),
            "close the client": client.close,
            "close the mesh": mesh.close,
        }
        in_a_child(doing[what])
        assert client.post("http://reviews:9080/", content=b"x").status_code == 200
        assert (peer.goodbye, server.connections) == (None, 1)


@pytest.mark.fault
def test_a_child_cannot_read_a_response_that_its_parent_is_reading():
    with (
        Backend() as backend,
        meshlib.Mesh.from_resources(one_backend(backend.port)) as mesh,
        mesh.client() as client,
        client.stream("GET", "http://reviews:9080/big") as response,
    ):
        pieces = response.iter_raw()
        first = next(pieces)

        def read_on() -> None:
            with pytest.raises(httpx.RemoteProtocolError):
                for _ in pieces:
                    pass

        in_a_child(read_on)
        assert len(first) + sum(map(len, pieces)) == 2_000_000


@pytest.mark.fault
def test_a_child_forked_in_the_middle_of_a_call_is_not_held_up_by_what_the_parent_holds():
    policy = {"connectionPool": {"tcp": {"maxConnections": 1}, "http": {"http2MaxRequests": 1}}}
    with (
        Backend() as backend,
        meshlib.Mesh.from_resources(one_backend(backend.port, **policy)) as mesh,
        mesh.client(timeout=30) as client,
        client.stream("GET", "http://reviews:9080/big") as response,  # the one slot is taken, and a lock is held
    ):
        state = next(iter(mesh._core.live.states.values()))
        state.lock.acquire()
        pid = os.fork()
        if pid == 0:
            held = []
            thread = threading.Thread(target=lambda: held.append(client.get("http://reviews:9080/x").status_code))
            thread.start()  # the lock's owner is this thread's namesake in the parent: look from another one
            thread.join(30)
            os._exit(0 if held == [200] else 1)
        state.lock.release()
        _, status = os.waitpid(pid, 0)
        assert os.waitstatus_to_exitcode(status) == 0
        assert len(response.read()) == 2_000_000  # the parent's own answer is unharmed


@pytest.mark.fault
def test_sixty_four_threads_on_one_client_count_exactly():
    policy = {"outlierDetection": {"consecutive5xxErrors": 5}, "connectionPool": {"tcp": {"maxConnections": 20}}}
    with (
        Backend() as backend,
        meshlib.Mesh.from_resources(one_backend(backend.port, **policy)) as mesh,
        mesh.client(timeout=30) as client,
    ):
        sent = [0] * 64
        wrong = []

        def work(thread: int) -> None:
            for _ in range(REQUESTS):
                body = f"{thread}-{sent[thread]}"
                response = client.post(URL, content=body)
                sent[thread] += 1
                if response.text != body:
                    wrong.append(body)

        threads = [threading.Thread(target=work, args=(n,)) for n in range(64)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert wrong == []
        assert sent == [REQUESTS] * 64
        (cluster,) = mesh.status()["clusters"]
        assert cluster["requests"] == sum(sent)
        assert (cluster["active"], cluster["failures"], cluster["connections_in_use"], cluster["pending"]) == (
            0,
            0,
            0,
            0,
        )
        assert all(e["active"] == 0 for e in cluster["endpoints"])


@pytest.mark.fault
def test_a_reload_every_50_ms_under_load_fails_no_request():
    with Backend("one") as one, Backend("two") as two:

        def resources(version: str) -> list[dict]:
            return [
                service("reviews"),
                pod("reviews", "v1", one.port),
                pod("reviews", "v2", two.port),
                destination_rule("reviews", "v1", "v2", outlierDetection={"consecutive5xxErrors": 5}),
                virtual_service("reviews", {"route": [to("reviews", version)]}),
            ]

        with meshlib.Mesh.from_resources(resources("v1")) as mesh, mesh.client(timeout=60) as client:
            stop = threading.Event()
            failed, counts = [], {"one": 0, "two": 0}
            lock = threading.Lock()

            def work() -> None:
                while not stop.is_set():
                    try:
                        response = client.get("http://reviews:9080/x")
                    except httpx.HTTPError as error:
                        failed.append(error)
                        continue
                    name = response.text.split()[0]
                    # one snapshot a request: the answer comes from the subset that was decided
                    expected = {"v1": "one", "v2": "two"}[response.extensions["mesh"].subset]
                    if name != expected or response.status_code != 200:
                        failed.append(response)
                    with lock:
                        counts[name] += 1

            threads = [threading.Thread(target=work) for _ in range(4)]
            for thread in threads:
                thread.start()
            for n in range(60):
                mesh.apply(resources("v1" if n % 2 else "v2"))
                answered = sum(counts.values())
                time.sleep(0.05)
                assert eventually(lambda answered=answered: sum(counts.values()) > answered + 4 or failed)
            stop.set()
            for thread in threads:
                thread.join(60)
            assert failed == []
            assert min(counts.values()) > 50


@pytest.mark.fault
def test_a_killed_replica_loses_no_retryable_request():
    with Backend("one") as one, Backend("two", free_port()) as two:
        resources = [
            service("reviews"),
            pod("reviews", "v1", one.port, name="a"),
            pod("reviews", "v1", two.port, name="b"),
            destination_rule("reviews", outlierDetection={"consecutive5xxErrors": 2, "maxEjectionPercent": 50}),
            virtual_service(
                "reviews",
                {
                    "route": [to("reviews")],
                    "retries": {"attempts": 3, "retryOn": "connect-failure,reset,gateway-error"},
                },
            ),
        ]
        with meshlib.Mesh.from_resources(resources) as mesh, mesh.client(timeout=60) as client:
            stop = threading.Event()
            lost, answered = [], [0]

            def work(thread: int) -> None:
                n = 0
                while not stop.is_set():
                    n += 1
                    try:
                        response = client.post(URL, content=f"{thread}-{n}")
                        if response.status_code != 200 or response.text != f"{thread}-{n}":
                            lost.append(response)
                        answered[0] += 1
                    except httpx.HTTPError as error:
                        lost.append(error)

            threads = [threading.Thread(target=work, args=(t,)) for t in range(8)]
            for thread in threads:
                thread.start()
            for _ in range(5):
                for change in (two.kill, two.start):
                    aim = answered[0] + 100
                    assert eventually(lambda aim=aim: answered[0] > aim or lost, 60)
                    change()
            stop.set()
            for thread in threads:
                thread.join(60)
            assert lost == []
            assert mesh.status()["clusters"][0]["retries"] > 0
