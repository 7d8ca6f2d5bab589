"""STRICT: who has no identity is refused, and the refusal says why."""

from __future__ import annotations

from meshlib.compiler.inbound import Inbound, InboundPorts
from meshlib.engine.inbound_state import InboundState
from meshlib.engine.peer_check import BODY, PeerCheck, PeerCounts
from meshlib.policy.authorization.decision import Authorization
from meshlib.policy.authorization.rules import Rule
from meshlib.policy.mtls_mode import MtlsMode
from tests.policy.authorization.requests import policy, request
from tests.support.fake_clock import FakeClock

WEB = "spiffe://cluster.local/ns/shop/sa/web"


def test_who_has_an_identity_comes_in() -> None:
    counts = PeerCounts()
    assert PeerCheck("shop/cart", counts)(request("/", principal=WEB)) is None
    assert counts.refused() == {}


def test_the_caller_learns_what_to_do_and_the_operator_which_policy() -> None:
    check = PeerCheck("shop/cart", PeerCounts())
    plain, tls = check(request("/")), check(request("/", secure=True))
    assert plain is not None
    assert tls is not None
    for refusal in (plain, tls):
        assert (refusal.status, refusal.grpc, refusal.text) == (403, 7, BODY)
        assert "cart" not in refusal.text
    assert plain.detail == "mtls_required_policy[shop/cart]_plain_text"
    assert tls.detail == "mtls_required_policy[shop/cart]_no_identity"


def test_what_is_refused_is_counted_by_policy_and_heard_of() -> None:
    counts, heard = PeerCounts(), []
    counts.report = lambda what, asked, detail: heard.append((what, asked.path, detail))
    PeerCheck("shop/cart", counts)(request("/a"))
    PeerCheck("shop/cart", counts)(request("/b"))
    counts.after_fork()
    assert counts.refused() == {"shop/cart": 2}
    assert heard[1] == ("denied", "/b", "mtls_required_policy[shop/cart]_plain_text")


def never_asked(_request: object, _timeout: object) -> None:
    raise AssertionError("no check of these asks")


def test_it_is_the_first_check_of_a_strict_port_and_of_no_other() -> None:
    judged = Authorization((policy("DENY", Rule()),))
    ports = {
        number: Inbound((lambda _request: None,), authorization=judged, mtls=mode, mtls_policy="shop/cart")
        for number, mode in enumerate(MtlsMode, 1)
    }
    bound = InboundState(FakeClock(), never_asked).take(InboundPorts(Inbound(), ports))  # type: ignore[arg-type]
    first = {ports[number].mtls: type(bound.of(number).checks[0]) for number in ports}
    assert first[MtlsMode.STRICT] is PeerCheck
    assert PeerCheck not in (first[MtlsMode.PERMISSIVE], first[MtlsMode.DISABLE])
    assert all(len([c for c in bound.of(n).checks if isinstance(c, PeerCheck)]) <= 1 for n in ports)
