"""What is a SPIFFE ID, and what is none: every MUST of the specification."""

from __future__ import annotations

import string

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.policy.spiffe_id import LONGEST, SpiffeId, why_not

GOOD = "spiffe://cluster.local/ns/default/sa/client"


def test_its_parts_are_named() -> None:
    found = SpiffeId.parse(GOOD)
    assert found is not None
    assert (found.trust_domain, found.path) == ("cluster.local", "/ns/default/sa/client")
    assert (found.namespace, found.service_account) == ("default", "client")
    assert str(found) == found.text == GOOD
    assert why_not(GOOD) == ""


@pytest.mark.parametrize(
    "text",
    [
        "spiffe://td",
        "spiffe://a.b-c_d9/x",
        "spiffe://1.2.3.4/x",
        "spiffe://td/Path/with.UPPER-case_9",
        "spiffe://td/...",
        "spiffe://td/.hidden/a..b",
        "spiffe://" + "d" * 255 + "/x",
        "spiffe://td/" + "a" * (LONGEST - len("spiffe://td/")),
    ],
)
def test_what_the_specification_allows(text: str) -> None:
    found = SpiffeId.parse(text)
    assert found is not None
    assert found.text == text


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "does not begin with spiffe://"),
        ("https://cluster.local/ns/d/sa/c", "does not begin with spiffe://"),
        ("SPIFFE://cluster.local/ns/d/sa/c", "does not begin with spiffe://"),
        (" " + GOOD, "does not begin with spiffe://"),
        ("spiffe:/cluster.local/x", "does not begin with spiffe://"),
        ("cluster.local/ns/d/sa/c", "does not begin with spiffe://"),
        ("spiffe://", "has no trust domain"),
        ("spiffe:///ns/d/sa/c", "has no trust domain"),
        (GOOD + "?", "has a query"),
        (GOOD + "?x=1", "has a query"),
        ("spiffe://cluster.local?x/ns/d/sa/c", "has a query"),
        (GOOD + "#", "has a fragment"),
        (GOOD + "#x", "has a fragment"),
        ("spiffe://cluster.local:8080/ns/d/sa/c", "has a port after its trust domain"),
        ("spiffe://cluster.local:/ns/d/sa/c", "has a port after its trust domain"),
        ("spiffe://[::1]/ns/d/sa/c", "has a port after its trust domain"),
        ("spiffe://u@cluster.local/ns/d/sa/c", "has userinfo before its trust domain"),
        ("spiffe://u:p@cluster.local/ns/d/sa/c", "has userinfo before its trust domain"),
        ("spiffe://@cluster.local/ns/d/sa/c", "has userinfo before its trust domain"),
        ("spiffe://Cluster.local/ns/d/sa/c", "has a character in its trust domain"),
        ("spiffe://clüster.local/ns/d/sa/c", "has a character in its trust domain"),
        ("spiffe://cluster local/ns/d/sa/c", "has a character in its trust domain"),
        ("spiffe://cluster.local\n/ns/d/sa/c", "has a character in its trust domain"),
        ("spiffe://cluster%2elocal/x", "has a percent-encoded character"),
        ("spiffe://cluster.local/ns/d/sa/%63", "has a percent-encoded character"),
        ("spiffe://" + "d" * 256 + "/x", "has a trust domain longer than 255 bytes"),
        ("spiffe://td/", "ends with a slash"),
        (GOOD + "/", "ends with a slash"),
        ("spiffe://cluster.local//ns/d/sa/c", "has an empty path segment"),
        ("spiffe://cluster.local/ns//sa/c", "has an empty path segment"),
        ("spiffe://cluster.local/ns/./sa/c", "has a path segment that is '.' or '..'"),
        ("spiffe://cluster.local/ns/../sa/c", "has a path segment that is '.' or '..'"),
        (GOOD + "\n", "has a character in its path"),
        (GOOD + "\0", "has a character in its path"),
        (GOOD + ":80", "has a character in its path"),
        ("spiffe://td/ns/d/sa/c;x", "has a character in its path"),
        ("spiffe://td/ns/d\\sa", "has a character in its path"),
        ("spiffe://td/ns/٣/sa/c", "has a character in its path"),  # a digit, of another script
        ("spiffe://td/" + "a" * (LONGEST - len("spiffe://td/") + 1), "is longer than 2048 bytes"),
    ],
)
def test_what_breaks_a_must_is_none_and_says_which(text: str, why: str) -> None:
    assert SpiffeId.parse(text) is None
    assert why_not(text).startswith(why)


@pytest.mark.parametrize(
    "path", ["", "/ns/d", "/ns/d/sa", "/sa/c/ns/d", "/NS/d/sa/c", "/ns/d/sa/c/x", "/region/ns/d/sa/c", "/ns/d/xx/sa/c"]
)
def test_only_kubernetes_paths_have_a_namespace_and_a_service_account(path: str) -> None:
    """As Istio's ParseIdentity: five parts, neither more nor less."""
    found = SpiffeId.parse(f"spiffe://td{path}")
    assert found is not None
    assert (found.namespace, found.service_account) == ("", "")


def test_equal_ids_are_one_key_and_none_can_be_changed() -> None:
    one, same, other = (SpiffeId.parse(t) for t in (GOOD, GOOD, GOOD + "2"))
    assert one == same != other
    assert len({one, same, other}) == 2
    with pytest.raises(AttributeError):
        one.path = "/ns/kube-system/sa/admin"  # type: ignore[union-attr, misc]


TRUST_DOMAIN = st.text(string.ascii_lowercase + string.digits + ".-_", min_size=1, max_size=40)
SEGMENT = st.text(string.ascii_letters + string.digits + ".-_", min_size=1, max_size=20).filter(
    lambda text: text not in (".", "..")
)


@given(TRUST_DOMAIN, st.lists(SEGMENT, max_size=6))
def test_what_is_made_by_the_grammar_is_read_back(trust_domain: str, segments: list[str]) -> None:
    found = SpiffeId.parse(f"spiffe://{trust_domain}" + "".join("/" + s for s in segments))
    assert found is not None
    assert found.trust_domain == trust_domain
    assert found.path.split("/")[1:] == segments


@given(st.one_of(st.text(), st.text("spiffe:/.%?#@-_aZ9\n\0 é", max_size=40).map(lambda text: "spiffe://" + text)))
def test_whatever_is_accepted_has_nothing_but_allowed_characters(text: str) -> None:
    found = SpiffeId.parse(text)
    assert (found is None) == bool(why_not(text))
    if found is not None:
        assert found.text == text
        assert set(found.trust_domain) <= set(string.ascii_lowercase + string.digits + ".-_")
        assert set(found.path) <= set(string.ascii_letters + string.digits + ".-_/")
        assert not {"", ".", ".."} & set(found.path.split("/")[1:])
