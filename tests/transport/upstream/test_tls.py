"""TLS contexts of connections and the names they accept. (Handshakes: tests/mesh/test_tls.py.)"""

from __future__ import annotations

import ssl
from types import SimpleNamespace

import pytest
import trustme

from meshlib.transport.upstream.followed import Followed
from meshlib.transport.upstream.tls import Offering, PeerNameMismatch, caller_context, check_peer, context_of

NAMES = {"subjectAltName": (("DNS", "reviews.test"), ("URI", "spiffe://a/b"))}


@pytest.mark.parametrize("allowed", [(), ("reviews.test",), ("other.test", "spiffe://a/b")])
def test_a_certificate_with_a_name_that_is_allowed_is_let_through(allowed):
    check_peer(NAMES, allowed)


def test_another_is_told_with_its_names_and_those_that_are_wanted():
    with pytest.raises(
        PeerNameMismatch, match=r"is for reviews\.test, spiffe://a/b; the DestinationRule .* wants one of x\.test"
    ):
        check_peer(NAMES, ("x.test",))
    with pytest.raises(PeerNameMismatch, match="is for no name at all"):
        check_peer({}, ("x.test",))


def test_a_context_that_the_caller_made_stays_as_it_is():
    made = ssl.create_default_context()
    assert caller_context(made, None) is made
    assert context_of(made) is made


def test_files_that_a_caller_names_are_followed(tmp_path, monkeypatch):
    bundle = tmp_path / "ca.pem"
    trustme.CA().cert_pem.write_to_path(str(bundle))
    followed = caller_context(str(bundle), None, trust_env=False)
    assert isinstance(followed, Followed)
    assert followed.files == (str(bundle),)
    first = context_of(followed)
    assert context_of(followed) is first
    trustme.CA().cert_pem.write_to_path(str(bundle))
    assert context_of(followed) is not first
    monkeypatch.setenv("SSL_CERT_FILE", str(bundle))
    monkeypatch.delenv("SSL_CERT_DIR", raising=False)
    assert caller_context(True, None).files == (str(bundle),)
    assert caller_context(True, None, trust_env=False).files == ()


def test_protocols_are_offered_in_one_handshake_whatever_the_context_offers_elsewhere():
    offered: list[list[str]] = []
    context = SimpleNamespace(
        set_alpn_protocols=offered.append,
        wrap_bio=lambda *given: given,
    )
    assert Offering(context, ("h2", "http/1.1")).wrap_bio("in", "out", server_hostname="a") == (
        "in",
        "out",
        False,
        "a",
        None,
    )
    Offering(context, ("http/1.1",)).wrap_bio("in", "out", server_hostname="a")
    assert offered == [["h2", "http/1.1"], ["http/1.1"]]
