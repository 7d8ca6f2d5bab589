"""Keys, rings and Maglev tables: stable, fair, and Envoy's own."""

from __future__ import annotations

import random
from collections import Counter

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from meshlib.engine.plain_request import PlainRequest
from meshlib.policy.consistent_hash import Cookie, HashPolicy, combined, cookie_value, hash_of, new_cookie_value
from meshlib.policy.endpoint import EndpointState

TABLES = [HashPolicy(header="x", size=1024), HashPolicy(header="x", maglev=True, size=65537)]


def endpoints(count: int) -> list[EndpointState]:
    return [EndpointState(f"10.0.{number // 250}.{number % 250}:80") for number in range(count)]


def view(target: str = "/", **headers: str) -> PlainRequest:
    return PlainRequest("GET", "http", "a", target, {k.replace("_", "-"): v for k, v in headers.items()})


# -- keys -------------------------------------------------------------------------------------------------------------


def test_the_hash_is_xxhash64():
    assert hash_of("") == 0xEF46DB3751D8E999
    assert hash_of("a") == 0xD24EC4F1A98C6E5B


@pytest.mark.parametrize(
    ("policy", "request_view", "key"),
    [
        (HashPolicy(header="x-user"), view(x_user="jo"), "jo"),
        (HashPolicy(header="x-user"), view(), None),
        (HashPolicy(query="q"), view("/?p=1&q=2&q=3"), "2"),
        (HashPolicy(query="q"), view("/?p=1"), None),
        (HashPolicy(cookie=Cookie("c")), view(cookie="a=b; c=d"), "d"),
        (HashPolicy(cookie=Cookie("c")), view(cookie="a=b"), None),
        (HashPolicy(source=True), view(), "10.1.2.3"),
    ],
)
def test_the_policy_names_the_key(policy, request_view, key):
    assert policy.request_hash(request_view, "10.1.2.3") == (None if key is None else hash_of(key))


def test_a_hash_by_several_policies_is_turned_by_each_so_that_two_alike_do_not_cancel_out():
    """Envoy's ``generateHash``."""
    assert combined(None, 5) == 5
    assert combined(5, 5) == 5 << 1 ^ 5
    assert combined(1 << 63 | 1, 0) == 3


@pytest.mark.parametrize("policy", [HashPolicy(header="a"), HashPolicy(header="a", maglev=True, size=251)])
def test_further_attempts_lead_to_other_places_of_the_table(policy):
    table = policy.table([(EndpointState(f"10.0.0.{n}:80"), 1.0) for n in range(5)])
    assert table.find(7, 0) is table.find(7)
    assert len({table.find(7, attempt).key for attempt in range(20)}) > 1
    if policy.maglev:
        assert table.find(7, 3) is table.find(7 ^ 2**64 - 3)


@pytest.mark.parametrize(
    ("header", "value"),
    [("a=1; b=2", "1"), ("b=2;a=1", "1"), ('a="1"', "1"), ("aa=1", ""), ("", ""), ("a", ""), ("b=2; a=", "")],
)
def test_a_cookie_is_found_by_name(header, value):
    assert cookie_value(header, "a") == value


@pytest.mark.parametrize(
    ("cookie", "text"),
    [
        (Cookie("c", 60.0, "/p"), 'c="v"; Max-Age=60; Path=/p; HttpOnly'),
        (Cookie("c", 0.0), 'c="v"; HttpOnly'),
        (
            Cookie("c", 5.0, "", (("SameSite", "Strict"), ("Secure", ""))),
            'c="v"; Max-Age=5; SameSite=Strict; Secure; HttpOnly',
        ),
    ],
)
def test_a_made_cookie_is_written_as_envoy_does(cookie, text):
    assert cookie.set_cookie("v") == text


def test_made_cookies_replay_from_the_seed():
    assert (
        new_cookie_value(random.Random(1)) == new_cookie_value(random.Random(1)) != new_cookie_value(random.Random(2))
    )


# -- tables -----------------------------------------------------------------------------------------------------------


def spread(policy: HashPolicy, members: list[tuple[EndpointState, float]], keys: int = 20_000) -> Counter[str]:
    table = policy.table(members)
    return Counter(table.find(hash_of(f"key-{n}")).key for n in range(keys))


@pytest.mark.parametrize("policy", TABLES, ids=["ring", "maglev"])
def test_a_key_stays_with_its_endpoint_when_others_leave(policy):
    members = [(e, 1.0) for e in endpoints(10)]
    before, after = policy.table(members), policy.table(members[:-1])
    gone = members[-1][0]
    keys = [hash_of(str(n)) for n in range(5000)]
    staying = [k for k in keys if before.find(k) is not gone]
    moved = sum(before.find(k) is not after.find(k) for k in staying)
    assert moved / len(staying) < 0.1  # a plain modulo would move 90 %


@pytest.mark.parametrize("policy", TABLES, ids=["ring", "maglev"])
def test_endpoints_get_their_share(policy):
    counts = spread(policy, [(e, 1.0) for e in endpoints(5)])
    tolerance = 0.25 if not policy.maglev else 0.08
    assert all(abs(n / 4000 - 1) < tolerance for n in counts.values()), counts


@pytest.mark.parametrize("policy", TABLES, ids=["ring", "maglev"])
def test_weights_count(policy):
    light, heavy = endpoints(2)
    counts = spread(policy, [(light, 1.0), (heavy, 3.0)])
    assert 2.4 < counts[heavy.key] / counts[light.key] < 3.7


@given(st.sets(st.integers(0, 255), min_size=1, max_size=8), st.integers(0, 2**64 - 1), st.booleans())
@settings(max_examples=60, deadline=None)
def test_the_choice_depends_on_who_is_there_and_on_nothing_else(numbers, value, maglev):
    policy = HashPolicy(header="x", maglev=maglev, size=251 if maglev else 64)
    one = [(EndpointState(f"10.0.0.{n}:80"), 1.0) for n in sorted(numbers)]
    other = [(EndpointState(f"10.0.0.{n}:80"), 1.0) for n in sorted(numbers)]
    assert policy.table(one).find(value).key == policy.table(other).find(value).key


@pytest.mark.parametrize("policy", TABLES, ids=["ring", "maglev"])
def test_a_known_table_is_found_again_over_the_new_endpoints(policy):
    one, other = endpoints(3), endpoints(3)
    policy.table([(e, 1.0) for e in one])
    assert policy.table([(e, 1.0) for e in other]).find(5) in other


def test_the_ring_has_at_least_the_size_asked_for():
    table = HashPolicy(header="x", size=1000).table([(e, 1.0) for e in endpoints(7)])
    assert 1000 <= len(table._hashes) < 1010


def test_a_hash_beyond_the_last_point_goes_round_to_the_first():
    table = HashPolicy(header="x", size=16).table([(e, 1.0) for e in endpoints(4)])
    assert table.find(2**64 - 1) is table.find(0)
