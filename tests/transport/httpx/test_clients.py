"""``mesh.client(...)`` and ``mesh.async_client(...)``: what they take is what httpx takes, and it acts."""

from __future__ import annotations

import asyncio
import ssl
import sys
from typing import Any

import httpx
import pytest
import trustme

import meshlib
from meshlib.transport.httpx.clients import ThriftyCookies
from tests.support.evil_server import OK, EvilServer
from tests.support.h2_server import H2Server
from tests.support.resources import pod, service
from tests.support.servers import EchoServer
from tests.support.shortcuts import NEEDS_SHORTCUTS


@pytest.fixture(params=["threads", "asyncio"])
def runtime(request: pytest.FixtureRequest) -> str:
    return request.param


@pytest.fixture(scope="module")
def authority() -> trustme.CA:
    return trustme.CA()


@pytest.fixture
def trusting(authority) -> ssl.SSLContext:
    context = ssl.create_default_context()
    authority.configure_trust(context)
    return context


def server_side(authority: trustme.CA, *protocols: str) -> ssl.SSLContext:
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


@pytest.fixture
def empty():
    with meshlib.Mesh.from_resources([]) as mesh:
        yield mesh


def get(runtime: str, mesh: meshlib.Mesh, url: str, times: int = 1, **options: Any) -> httpx.Response:
    if runtime == "threads":
        with mesh.client(**options) as client:
            return [client.get(url) for _ in range(times)][-1]

    async def go() -> httpx.Response:
        async with mesh.async_client(**options) as client:
            return [await client.get(url) for _ in range(times)][-1]

    return asyncio.run(go())


# -- http1=, http2= -------------------------------------------------------------------------------------------------------


def test_http2_true_offers_http2_to_https_urls(runtime, empty, authority, trusting):
    with H2Server(tls=server_side(authority, "h2")) as server:
        response = get(runtime, empty, f"https://localhost:{server.port}/", http2=True, verify=trusting)
    assert response.http_version == "HTTP/2"


def test_http2_true_leaves_the_choice_to_the_server(runtime, empty, authority, trusting):
    with EvilServer([OK, OK], tls=server_side(authority, "http/1.1")) as server:
        url = f"https://localhost:{server.port}/"
        response = get(runtime, empty, url, times=2, http2=True, verify=trusting)
    assert response.http_version == "HTTP/1.1"


def test_without_http2_no_https_url_is_offered_it(runtime, empty, authority, trusting):
    with EvilServer([OK], tls=server_side(authority, "h2", "http/1.1")) as server:
        response = get(runtime, empty, f"https://localhost:{server.port}/", verify=trusting)
    assert response.http_version == "HTTP/1.1"


def test_http2_does_not_matter_to_plaintext_where_the_mesh_decides(runtime):
    with EchoServer("one") as one, H2Server() as two:
        resources = [
            service("one"),
            pod("one", "v1", one.port),
            service("two", ports=[{"name": "http2-web", "port": 9080, "targetPort": two.port}]),
            pod("two", "v1", two.port),
        ]
        with meshlib.Mesh.from_resources(resources) as mesh:
            for http2 in (True, False):
                assert get(runtime, mesh, "http://one:9080/", http2=http2).http_version == "HTTP/1.1"
                assert get(runtime, mesh, "http://two:9080/", http2=http2).http_version == "HTTP/2"


def test_http1_false_is_refused_with_the_remedy(runtime, empty):
    make = empty.client if runtime == "threads" else empty.async_client
    with pytest.raises(ValueError, match="h2UpgradePolicy"):
        make(http1=False, http2=True)
    make(http1=True)


def test_http2_without_any_of_its_packages_says_what_to_install(runtime, empty, monkeypatch):
    for library in ("ngh2", "h2"):
        monkeypatch.setitem(sys.modules, library, None)
    make = empty.client if runtime == "threads" else empty.async_client
    with pytest.raises(ImportError, match=r"\[http2\]"):
        make(http2=True)


# -- the others -----------------------------------------------------------------------------------------------------------


def test_trust_env_false_does_not_read_the_authorities_of_the_environment(
    runtime, empty, authority, tmp_path, monkeypatch
):
    authority.cert_pem.write_to_path(str(tmp_path / "ca.pem"))
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    with EvilServer([OK] * 9, tls=server_side(authority)) as server:
        url = f"https://localhost:{server.port}/"
        assert get(runtime, empty, url).status_code == 200
        with pytest.raises(httpx.ConnectError, match="not trusted"):
            get(runtime, empty, url, trust_env=False)


def test_arguments_of_the_client_itself_act_as_in_httpx(runtime):
    seen: list[str] = []

    def hook(request: httpx.Request) -> None:
        seen.append(str(request.url))

    async def async_hook(request: httpx.Request) -> None:
        seen.append(str(request.url))

    def behave(handler: Any) -> bool:
        if handler.path.startswith("/old"):
            handler.answer(302, location="/api/new")
            return True
        if handler.path.startswith("/text"):
            handler.answer(200, "é".encode("latin-1"), content_type="text/plain")
            return True
        return False

    with EchoServer("reviews", behave) as server:
        resources = [service("reviews"), pod("reviews", "v1", server.port)]
        options = {
            "base_url": "http://reviews:9080/",
            "auth": ("user", "word"),
            "cookies": {"a": "b"},
            "headers": {"x-mine": "1"},
            "params": {"q": "1"},
            "follow_redirects": True,
            "default_encoding": "latin-1",
            "event_hooks": {"request": [hook if runtime == "threads" else async_hook]},
        }
        with meshlib.Mesh.from_resources(resources) as mesh:
            about = get(runtime, mesh, "old", **options).json()
            assert get(runtime, mesh, "text", **options).text == "é"
    assert about["path"] == "/api/new"
    assert about["headers"]["authorization"].startswith("Basic ")
    assert about["headers"]["cookie"] == "a=b"
    assert about["headers"]["x-mine"] == "1"
    assert seen[0] == "http://reviews:9080/old?q=1"


# -- cookies --------------------------------------------------------------------------------------------------


class Told(httpx.Response):
    """A response that knows of its head whether it sets a cookie, as ours do."""

    sets_cookie = False


@pytest.mark.parametrize(
    ("kind", "taken"), [(httpx.Response, {"a": "b"}), pytest.param(Told, {}, marks=NEEDS_SHORTCUTS)]
)
def test_cookies_are_looked_for_unless_the_response_says_that_there_is_none(kind, taken):
    cookies = ThriftyCookies()
    for headers in ({"x": "1"}, {"set-cookie": "a=b"}):
        cookies.extract_cookies(kind(200, headers=headers, request=httpx.Request("GET", "http://reviews/")))
    assert dict(cookies) == taken


def test_cookies_that_are_given_to_a_client_later_are_sent_and_kept(empty):
    with empty.client(cookies={"a": "1"}) as client:
        assert dict(client.cookies) == {"a": "1"}
        assert client.cookies is client.cookies
        client.cookies = {"b": "2"}
        assert dict(client.cookies) == {"b": "2"}
