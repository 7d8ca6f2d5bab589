"""URLs of Redis: what the library redis would read otherwise than it was meant is refused, at its place, without a password."""

from __future__ import annotations

from urllib.parse import unquote

import pytest
from hypothesis import given
from hypothesis import strategies as st

import meshlib
from meshlib.errors import ConfigError
from meshlib.resources.validation.redis_urls import redis_url_problem

CANARY = "canary4d2"


@pytest.mark.parametrize(
    "url",
    [
        "redis://redis",
        "redis://redis:6379",
        "redis://redis:6379/",
        "redis://redis:6379/0",
        "rediss://user:p%40ss%2F@redis.prod.svc.cluster.local:6380/12?ssl_cert_reqs=none",
        "redis://:password@127.0.0.1/0",
        "redis://[::1]:6379/0",
        "redis://my_redis:6379?db=3",
        "unix:///run/redis.sock",
        "unix://user:password@/run/redis.sock?db=0",
        "unix:///run/a@b.sock",
    ],
)
def test_what_is_a_url_of_redis(url):
    assert redis_url_problem(url) is None


@pytest.mark.parametrize(
    ("url", "said"),
    [
        ("", "is empty"),
        (f"redis://:{CANARY} x@redis", "blank or a control character"),
        ("redis://redis:6379\n", "blank or a control character"),
        ("redis:6379", "does not begin with redis://"),
        (f"https://:{CANARY}@redis", "does not begin with redis://"),
        (f"REDIS://:{CANARY}@redis", "does not begin with redis://"),
        ("redis://", "has no host"),
        ("redis:///0", "has no host"),
        (f"rediss://:{CANARY}@/0", "has no host"),
        (f"redis://:{CANARY}@:6379", "has no host"),
        (f"redis://:{CANARY}@re dis", "blank"),
        (f"redis://:{CANARY}@-redis", "is not a host name or IP address"),
        (f"redis://:{CANARY}@[::x]", "cannot be read"),
        (f"redis://:{CANARY}@redis:six", "cannot be read"),
        (f"redis://:{CANARY}@redis:65536", "cannot be read"),
        (f"redis://:{CANARY}@redis:0", "has port 0"),
        (f"redis://:{CANARY}/x@redis:6379", "cannot be read"),
        (f"redis://user/{CANARY}@redis:6379", "has an @ behind the first /"),
        (f"redis://user?{CANARY}@redis:6379", "has an @ behind the first /"),
        (f"redis://u#{CANARY}@redis:6379", "has a #"),
        (f"redis://:{CANARY}@redis/main", "is not the number of a database"),
        (f"redis://:{CANARY}@redis?db={CANARY}", "db is not a number"),
        (f"unix://:{CANARY}@var/run/redis.sock", "has a host before the socket's path"),
        ("unix://", "has no path of a socket"),
    ],
)
def test_what_is_not_says_why_without_any_of_it(url, said):
    message, hint = redis_url_problem(url)
    assert said in message
    assert hint
    assert CANARY not in message + hint


@pytest.mark.parametrize("storage", ["circuitBreaker", "rateLimits", "quotas"])
def test_every_storage_says_it_at_the_line_of_the_url(tmp_path, storage):
    url = f'{{redis: {{url: "redis://:{CANARY}@redis/main"}}}}'
    spec = {
        "circuitBreaker": f"  circuitBreaker:\n    storage: {url}\n",
        "rateLimits": f"  inbound:\n    rateLimits: [{{requests: 5,\n    storage: {url}}}]\n",
        "quotas": f"  inbound:\n    quotas: [{{requests: 5, per: 24h,\n    storage: {url}}}]\n",
    }[storage]
    of = "  host: reviews\n" if storage == "circuitBreaker" else ""
    file = tmp_path / "policy.yaml"
    file.write_text(
        f"apiVersion: meshlib.dev/v1\nkind: ResiliencePolicy\nmetadata: {{name: p}}\nspec:\n{of}{spec}",
        encoding="utf-8",
    )
    with pytest.raises(ConfigError) as raised:
        meshlib.Mesh.from_path(str(file))
    (problem,) = raised.value.problems
    assert (problem.code, problem.line, problem.column) == ("bad-redis-url", 7, 23)
    assert problem.path.endswith("storage.redis.url")
    assert CANARY not in str(raised.value)


PARTS = st.sampled_from(
    ["redis://", "rediss://", "unix://", "/", "?", "#", "@", ":", "[", "]", "%", "db=", "6379", "r", " "]
)


@given(st.lists(PARTS | st.text(max_size=4)).map("".join))
def test_what_passes_is_read_by_the_library_as_it_stands(url):
    """Any text is judged without an error of our own, and what is not refused leads where it says."""
    redis = pytest.importorskip("redis")
    if redis_url_problem(url) is None:
        read = redis.connection.parse_url(url)
        place = read["path"] if url.startswith("unix") else read["host"]
        assert place
        assert place.casefold() in unquote(url).casefold()
