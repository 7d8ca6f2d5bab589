"""Passwords and query strings of URLs are shown nowhere: not in errors, logs, explanations, status or what commands print.

A canary goes into the password and the query of every URL that somebody hands in; then all that is said is searched for it.
"""

from __future__ import annotations

import asyncio
import json
import logging
import traceback
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from click.testing import CliRunner

import meshlib
from meshlib.cli.main import main
from meshlib.errors import ConfigError, MeshError
from tests.support.evil_server import EvilServer
from tests.support.resources import pod, service, to, virtual_service

CANARY = "canary7c1"
QUERY = f"?token={CANARY}&q={CANARY}"
USER = f"user:{CANARY}@"
RULES = [
    {"name": "by-query", "match": [{"queryParams": {"access_token": {"exact": "x"}}}], "route": [to("reviews")]},
    {"match": [{"uri": {"prefix": "/moved"}}], "redirect": {"uri": "/elsewhere"}},
    {"route": [to("reviews")], "timeout": "1s", "retries": {"attempts": 1, "retryOn": "connect-failure,reset"}},
]  # fmt: skip


class Heard(logging.Handler):
    """All that is logged, but by the test's own httpx, which logs URLs as it likes."""

    def __init__(self) -> None:
        super().__init__(logging.DEBUG)
        self.said: list[str] = []

    def emit(self, record: logging.LogRecord) -> None:
        if record.name.partition(".")[0] not in ("httpx", "httpcore"):
            self.said.append(self.format(record))


@pytest.fixture
def heard() -> Iterator[Heard]:
    handler, root = Heard(), logging.getLogger()
    before = root.level
    root.addHandler(handler)
    root.setLevel(logging.DEBUG)
    yield handler
    root.setLevel(before)
    root.removeHandler(handler)


def everything_about(error: BaseException) -> Iterator[str]:
    yield "".join(traceback.format_exception_only(type(error), error))
    yield repr(error)
    exchange = getattr(error, "exchange", None)
    yield str(exchange)
    yield repr(exchange)
    yield json.dumps(exchange.to_dict()) if exchange is not None else ""
    for under in (error.__cause__, error.__context__):
        if under is not None:
            yield from everything_about(under)


def call(mesh: meshlib.Mesh, runtime: str, url: str, **options: Any) -> Iterator[str]:
    """What is said of a call, whatever comes of it."""

    async def later() -> httpx.Response:
        async with mesh.async_client(timeout=60) as client:
            return await client.get(url, **options)

    def now() -> httpx.Response:
        with mesh.client(timeout=60) as client:
            return client.get(url, **options)

    try:
        response = asyncio.run(later()) if runtime == "async" else now()
    except Exception as error:
        yield from everything_about(error)
    else:
        exchange = response.extensions["mesh"]
        yield from (str(exchange), repr(exchange), json.dumps(exchange.to_dict()))


def hang_up(connection: Any) -> None:
    connection.close()


def nonsense(connection: Any) -> None:
    connection.recv(65536)
    connection.sendall(b"not http\r\n\r\n")


@pytest.mark.parametrize("runtime", ["sync", "async"])
@pytest.mark.parametrize(
    "url",
    [
        f"http://{USER}reviews:9080/x{QUERY}",
        f"http://{USER}reviews:9080/moved{QUERY}",
        f"https://{USER}reviews:9080/x{QUERY}",
        f"http://{USER}reviews:9081/x{QUERY}",
        f"http://{USER}nobody.onion/x{QUERY}",
        f"http://{USER}127.0.0.1:1/x{QUERY}",
        f"http://{USER}reviews:99999/x{QUERY}",
        f"ftp://{USER}reviews/x{QUERY}",
        f"http:///x{QUERY}",
    ],
)
def test_a_call_that_fails_shows_neither_password_nor_query(heard, runtime, url):
    resources = [service("reviews"), pod("reviews", "v1", 1), virtual_service("reviews", *RULES)]
    with meshlib.Mesh.from_resources(resources) as mesh:
        said = [*call(mesh, runtime, url), json.dumps(mesh.status())]
    assert said[0]
    assert not [text for text in [*said, *heard.said] if CANARY in text]


@pytest.mark.parametrize("runtime", ["sync", "async"])
@pytest.mark.parametrize("behave", [b"not http\r\n\r\n", b"HTTP/1.1 200 OK\r\nContent-Length: 9\r\n\r\nx", b""])
def test_a_broken_response_shows_neither(heard, runtime, behave):
    with EvilServer([behave, "close"]) as server:
        with meshlib.Mesh.from_resources([service("reviews"), pod("reviews", "v1", server.port)]) as mesh:
            said = list(call(mesh, runtime, f"http://{USER}reviews:9080/x{QUERY}"))
    assert said[0]
    assert not [text for text in [*said, *heard.said] if CANARY in text]


EXPLAINED = [
    f"http://{USER}reviews:9080/x{QUERY}",
    f"https://{USER}reviews:9080/x{QUERY}",
    f"http://{USER}reviews:9080/x?access_token={CANARY}",
    f"http://{USER}nobody/x{QUERY}",
    f"grpc://{USER}{QUERY}",
    f"gopher://{USER}reviews/x{QUERY}",
    f"http:///x{QUERY}",
    f"http://{USER}a b/{QUERY}",
    f"http://{USER}reviews:x/{QUERY}",
]


@pytest.mark.parametrize("url", EXPLAINED)
def test_an_explanation_shows_neither(url):
    resources = [service("reviews"), pod("reviews", "v1", 1), virtual_service("reviews", *RULES)]
    with meshlib.Mesh.from_resources(resources) as mesh:
        try:
            found = mesh.explain(url=url)
            said = str(found) + json.dumps(found.to_dict()) + repr(found)
        except MeshError as error:
            said = "".join(everything_about(error))
    assert said
    assert CANARY not in said


@pytest.mark.parametrize("url", EXPLAINED)
@pytest.mark.parametrize("style", ["text", "json"])
def test_the_command_explain_shows_neither(tmp_path, url, style):
    resources = [service("reviews"), pod("reviews", "v1", 1), virtual_service("reviews", *RULES)]
    (tmp_path / "mesh.json").write_text("\n---\n".join(map(json.dumps, resources)))
    result = CliRunner().invoke(main, ["explain", str(tmp_path), url, "--format", style])
    assert result.exit_code in (0, 2), result.output
    assert result.output
    assert CANARY not in result.output


def test_the_mistakes_of_other_options_do_not_show_the_url(tmp_path):
    (tmp_path / "mesh.json").write_text(json.dumps(service("reviews")))
    url = f"http://{USER}reviews:9080/x{QUERY}"
    for arguments in (
        ["explain", url],
        ["explain", str(tmp_path), url, "-H", "nonsense"],
        ["explain", url, str(tmp_path)],
    ):
        result = CliRunner().invoke(main, arguments)
        assert result.exit_code != 0
        assert CANARY not in result.output


def resource(kind: str, version: str, spec: dict[str, Any]) -> dict[str, Any]:
    return {"apiVersion": version, "kind": kind, "metadata": {"name": "p", "namespace": "default"}, "spec": spec}


def redis(url: str) -> dict[str, Any]:
    breaker = {"storage": {"redis": {"url": url}}}
    return resource("ResiliencePolicy", "meshlib.dev/v1", {"host": "reviews", "circuitBreaker": breaker})


def keys(url: str) -> dict[str, Any]:
    rule = {"issuer": "https://idp.example", "jwksUri": url}
    return resource("RequestAuthentication", "security.istio.io/v1", {"jwtRules": [rule]})


@pytest.mark.parametrize("make", [redis, keys])
@pytest.mark.parametrize(
    "url",
    [
        f"redis://{USER}redis:6379/0{QUERY}",
        f"rediss//{USER}redis:6379{QUERY}",
        f"https://{USER}idp.example/keys{QUERY}",
        f"https://{USER}idp example/keys{QUERY}",
        f"//{USER}x",
    ],
)
def test_urls_of_a_configuration_are_shown_without_them(heard, tmp_path: Path, make: Callable[[str], Any], url: str):
    written = [service("reviews"), make(url)]
    try:
        with meshlib.Mesh.from_resources(written) as mesh:
            said = [
                json.dumps(mesh.status()),
                repr(mesh._configuration.resources),
                str(mesh.explain(url="http://reviews:9080/")),
            ]
    except ConfigError as error:
        said = list(everything_about(error))
    (tmp_path / "mesh.json").write_text("\n---\n".join(json.dumps(each, indent=1) for each in written))
    for command in ("validate", "analyze", "coverage", "status"):
        said.append(CliRunner().invoke(main, [command, str(tmp_path)]).output)
    for style in ("json", "github"):
        said.append(CliRunner().invoke(main, ["validate", str(tmp_path), "--format", style]).output)
    assert all(said[-6:])
    assert not [text for text in [*said, *heard.said] if CANARY in text]
