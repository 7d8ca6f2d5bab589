"""Requests that ``mesh.client()`` builds of what it remembers equal those that httpx builds anew."""

from __future__ import annotations

import copy
import pickle
import random

import httpx
import pytest

import meshlib
from meshlib.transport.httpx.built_requests import (
    FEW_MISSES,
    LONGEST_URL,
    MOST_TEMPLATES,
    MOST_URLS,
    SELDOM,
    triples_of,
)
from tests.support.shortcuts import NEEDS_SHORTCUTS

HOSTS = (
    "reviews:9080",
    "reviews",
    "REVIEWS:80",
    "user:secret@reviews",
    "b\u00fccher.example",
    "[::1]:8080",
    "10.0.0.1",
    "",
)
PATHS = ("", "/", "/a", "/a b", "/%41/../b", "/\u00e9", "/x?a=1&b=%20", "?q", "/a#part", "/a?", "//twice")
RELATIVE = ("", "/", "a", "/a?b=c", "./a", "?q=1", "#part")
BAD = ("http://[::1", "http://a:b/", "http://reviews:99999999/", "\x00", "http://\x7f/", 7, None)
METHODS = ("GET", "get", "POST", "PUT", "PATCH", "DELETE", "HEAD", "M-SEARCH")
NAMES = ("accept", "Accept", "User-Agent", "Host", "host", "X-Own", "x-own", "content-length", "Transfer-Encoding",
         "Content-Type", "Cookie", "connection", b"x-bytes", b"Host", "x-\u00e9")  # fmt: skip
VALUES = ("1", "", "multipart/form-data; boundary=x", "text/plain", b"bytes", "\u00e9", "chunked", 7)
TIMEOUTS = ("default", None, 3, 2.5, (1, 2, 3, 4), httpx.Timeout(9, connect=1), "soon")
MISSING = object()


def urls(rng):
    kind = rng.random()
    if kind < 0.05:
        return rng.choice(BAD)
    if kind < 0.25:
        return rng.choice(RELATIVE)
    url = f"{rng.choice(('http', 'https', 'HTTP', 'ws', 'ftp'))}://{rng.choice(HOSTS)}{rng.choice(PATHS)}"
    return httpx.URL(url) if kind < 0.35 and "[::1" not in url else url


def _plain(pair):
    return all(type(part) is bytes or (type(part) is str and part.isascii()) for part in pair)


def headers(rng):
    if rng.random() < 0.4:
        return None
    made = {rng.choice(NAMES): rng.choice(VALUES[: rng.choice((4, 4, 4, 8))]) for _ in range(rng.randrange(4))}
    return rng.choice(
        (
            made,
            made,
            made,
            list(made.items()),
            lambda: httpx.Headers({**made, "x-own": "1"} if all(map(_plain, made.items())) else {}),
        )
    )


def given(rng):
    """What a request is asked for with: mostly little, as programs do."""
    made = {"headers": headers(rng), "timeout": rng.choice(TIMEOUTS[: rng.choice((1, 6, 6, 7))])}
    if rng.random() < 0.3:
        name, value = rng.choice((
            ("content", b"body"), ("content", ""), ("data", {"a": "1"}), ("data", {}), ("json", {"a": 1}), ("json", 0),
            ("files", {"f": b"x"}), ("params", {"p": "1"}), ("params", {}), ("params", "a=b"), ("cookies", {"c": "1"}),
            ("cookies", {}), ("extensions", {"sni_hostname": "x"}), ("extensions", {}),
            ("extensions", {"timeout": {"read": 1}}),
        ))  # fmt: skip
        made[name] = value
    return made


def change(rng, clients):
    """The same change to every client."""
    kind, value = rng.randrange(6), rng.choice(("1", "2"))
    for client in clients:
        if kind == 0:
            client.headers["x-client"] = value
        elif kind == 1:
            client.headers = {"x-own": value, "Accept": "text/html"}
        elif kind == 2:
            client.base_url = f"http://base{value}:8000/sub/"
        elif kind == 3:
            client.cookies = {"c": value} if value == "1" else {}
        elif kind == 4:
            client.params = {"p": value} if value == "1" else {}
        else:
            client.timeout = float(value)


def built(client, method, url, asked):
    asked = {name: value() if callable(value) else copy.deepcopy(value) for name, value in asked.items()}
    if asked["timeout"] == "default":
        del asked["timeout"]
    try:
        request = client.build_request(method, url, **asked)
    except Exception as error:
        return type(error), str(error)
    raw, extensions, takes = request.headers.raw, copy.deepcopy(request.extensions), changed(request)
    boundary = any(b"multipart/form-data" in value for _, value in raw)
    return {
        "method": request.method,
        "url": (request.url, str(request.url), request.url.raw_path, request.url.netloc, request.url.fragment),
        "headers": [pair for pair in raw if not boundary or pair[0].lower() != b"content-type"],
        "extensions": extensions,
        "stream": type(request.stream),
        "content": None if boundary else request.read() if hasattr(request, "_content") else MISSING,
        "has": sorted(vars(request)),
        "again": vars(pickle.loads(pickle.dumps(request)))["method"],
        "takes any text": takes,
        "encoding": request.headers.encoding,
    }


def changed(request):
    """What is done to one request is not to be seen in the next."""
    request.extensions["x"] = 1
    request.extensions["timeout"]["read"] = 77
    try:
        request.headers["x-later"] = "\u00fc"
    except UnicodeEncodeError as error:
        return str(error)
    return request.headers.raw[-1]


@pytest.mark.parametrize("kind", ["client", "async_client"])
def test_they_equal_httpxs(kind):
    rng = random.Random(12)
    same = failed = 0
    with meshlib.Mesh.from_resources([]) as mesh:
        for _ in range(12):
            settings = rng.choice((
                {}, {"base_url": "http://reviews:9080"}, {"base_url": "http://reviews/sub"}, {"headers": {"x-client": "0"}},
                {"headers": [("x-client", "0"), ("x-client", "1")]}, {"timeout": None},
            ))  # fmt: skip
            theirs = (httpx.Client if kind == "client" else httpx.AsyncClient)(**settings)
            mine = getattr(mesh, kind)(**settings)
            known = [(urls(rng), rng.choice(METHODS)) for _ in range(12)]
            for _ in range(150):
                if rng.random() < 0.04:
                    change(rng, (theirs, mine))
                url, method = rng.choice(known) if rng.random() < 0.9 else (urls(rng), rng.choice(METHODS))
                asked = given(rng)
                expected = built(theirs, method, url, asked)
                assert built(mine, method, url, asked) == expected, (method, url, asked)
                same += 1
                failed += type(expected) is tuple
    assert same == 1800
    assert failed < same / 3


@NEEDS_SHORTCUTS
def test_what_is_remembered_is_bounded():
    with meshlib.Mesh.from_resources([]) as mesh, mesh.client() as client:
        for number in range(2000):
            client.build_request("GET", f"http://host-{number}/")
        client.build_request("GET", "http://reviews/" + "x" * LONGEST_URL)
        assert len(client._built.urls) <= MOST_URLS
        assert len(client._built.templates) <= MOST_TEMPLATES
        assert max(map(len, client._built.urls)) < LONGEST_URL


@NEEDS_SHORTCUTS
def test_where_every_url_is_another_few_are_remembered():
    with meshlib.Mesh.from_resources([]) as mesh, mesh.client() as client:
        for number in range(FEW_MISSES + 4 * SELDOM):
            client.build_request("GET", f"http://reviews/{number}")
        assert len(client._built.urls) == FEW_MISSES + 4
        for _ in range(2 * SELDOM):
            client.build_request("GET", "http://reviews/again")
        assert "http://reviews/again" in client._built.urls


@pytest.mark.parametrize(
    "headers",
    [
        {"Accept": "x"},
        {"x-a": "1", "X-A": "2"},
        {"x-a": b"1"},
        {b"x-a": "1"},
        {"x-a": "\u00fc"},
        {"x-\u00fc": "1"},
        {"x-a": 1},
    ],
)
def test_headers_with_which_httpx_does_more_are_left_to_it(headers):
    taken = frozenset([b"accept"])
    assert triples_of({"x-B": "1", "c": ""}, taken) == [(b"x-B", b"x-b", b"1"), (b"c", b"c", b"")]
    assert triples_of({"x-B": "1", **headers}, taken) is None


def test_a_request_that_is_changed_changes_no_other():
    with meshlib.Mesh.from_resources([]) as mesh, mesh.client() as client:
        first = client.build_request("GET", "http://reviews/")
        before = first.headers.raw
        first.headers["x-mine"] = "1"
        first.headers.pop("host")
        assert client.build_request("GET", "http://reviews/").headers.raw == before
