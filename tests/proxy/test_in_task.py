"""Requests that a task runs: those whose bodies are still coming, for one."""

from __future__ import annotations

import json

import pytest

from meshlib.proxy import in_task
from tests.support.eventually import eventually
from tests.support.proxy import Proxy
from tests.support.resources import pod, service
from tests.support.servers import EchoServer

HEAD = b"POST / HTTP/1.1\r\nHost: reviews:9080\r\nContent-Length: 6\r\n\r\n"


@pytest.fixture(scope="module")
def server():
    with EchoServer("v1") as made:
        yield made


@pytest.fixture(scope="module")
def proxy(server):
    with Proxy([service("reviews"), pod("reviews", "v1", server.port)]) as made:
        yield made


@pytest.fixture
def tasks(proxy, monkeypatch):
    """Those that have begun."""
    begun = []
    long_way = in_task.InTask._long_way

    def noted(self, *how):
        begun.append(self)
        return long_way(self, *how)

    monkeypatch.setattr(in_task.InTask, "_long_way", noted)
    return begun


def test_a_body_that_is_still_coming_and_its_response_go_on_in_a_task(proxy, tasks):
    with proxy.client() as client:
        client.send(HEAD + b"abc")
        assert eventually(lambda: len(tasks) == 1)
        client.send(b"def")
        response = client.response()
        assert (response.status, json.loads(response.body)["body"]) == (200, "abcdef")
        assert client.get().status == 200  # on the same connection


def test_a_client_that_goes_amid_its_body_ends_the_task_and_leaves_no_connection(proxy, tasks):
    with proxy.client() as client:
        client.send(HEAD + b"abc")
        assert eventually(lambda: len(tasks) == 1)
    assert eventually(lambda: proxy.process.listener.connections == 0 and tasks[0]._over and tasks[0]._task is None)


def test_a_bug_in_the_task_is_a_500_and_in_the_log(proxy, monkeypatch, caplog):
    async def breaks(*_):
        raise ZeroDivisionError

    monkeypatch.setattr(in_task, "run_async", breaks)
    monkeypatch.setattr(type(proxy.process.listener.forwarder.runtime), "send", breaks)
    with proxy.client() as client:
        client.send(HEAD + b"abc")
        assert client.head().status == 500
    assert "could not be forwarded" in caplog.text
