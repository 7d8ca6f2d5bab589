"""Where a URL leads, and which lead nowhere."""

from __future__ import annotations

import httpx
import httpx2
import pytest

from meshlib.transport.httpx import origins
from meshlib.transport.httpx.origins import BadUrl, origin_of, written_port


@pytest.mark.parametrize("module", [httpx, httpx2])
@pytest.mark.parametrize(
    ("url", "origin"),
    [
        ("http://reviews:9080/x", ("http", "reviews:9080")),
        ("http://reviews:80/x", ("http", "reviews")),
        ("https://reviews", ("https", "reviews")),
        ("ws://chat:80", ("http", "chat:80")),
        ("wss://chat:9443", ("https", "chat:9443")),
        ("http://[::1]:81/", ("http", "[::1]:81")),
        ("http://bücher.example/", ("http", "xn--bcher-kva.example")),
        ("http://user:secret@reviews:81/", ("http", "reviews:81")),
    ],
)
def test_scheme_and_authority_that_are_dialled(module, url, origin):
    found = origin_of(module.URL(url))
    assert found[0] == origin[0]
    assert found[1] in (origin[1], origin[1].removesuffix(":80"))


@pytest.mark.parametrize(
    ("url", "said", "port"),
    [
        ("ftp://a/", "unsupported protocol 'ftp://'", None),
        ("/path", "missing an 'http://'", None),
        ("http://", "missing an 'http://'", None),
        ("http://a:70000/", "70000 is not a port", 70000),
    ],
)
def test_what_leads_nowhere_is_refused(url, said, port):
    with pytest.raises(BadUrl, match=said) as refused:
        origin_of(httpx.URL(url))
    assert refused.value.port == port


def test_what_is_remembered_has_a_bound(monkeypatch):
    monkeypatch.setattr(origins, "_known", {})
    monkeypatch.setattr(origins, "MAX_KNOWN", 10)
    for number in range(35):
        assert origin_of(httpx.URL(f"http://h{number}/")) == ("http", f"h{number}")
    assert len(origins._known) <= 10


@pytest.mark.parametrize(
    ("url", "port"),
    [
        ("http://a:80/", 80),
        ("http://a/", 0),
        ("http://a?x=:81", 0),
        ("http://a#:81", 0),
        ("http://u:9@a/:8", 0),
        ("http://u:9@a:7", 7),
        ("http://[::1]:6/", 6),
        ("http://[::1]/", 0),
        ("http://a:x", 0),
        ("http://a:\u0663", 0),
    ],
)
def test_the_port_that_is_written(url, port):
    assert written_port(url) == port
