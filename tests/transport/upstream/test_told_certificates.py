"""What OpenSSL tells of a certificate is read once, and never told where nobody has verified the certificate."""

from __future__ import annotations

import ssl
from typing import Any

import pytest

from meshlib.transport.upstream import told_certificates
from meshlib.transport.upstream.told_certificates import told_of

NAMES = {"subjectAltName": (("DNS", "reviews.test"),)}


class Shaken:
    """A connection whose peer has shown ``leaf``; as Python, it tells nothing of one that was not verified."""

    def __init__(self, leaf: bytes | None, mode: ssl.VerifyMode = ssl.CERT_REQUIRED, unreadable: bool = False) -> None:
        self.context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self.context.verify_mode = mode
        self.leaf, self.mode, self.unreadable = leaf, mode, unreadable
        self.read = 0

    def getpeercert(self, binary_form: bool = False) -> Any:
        if binary_form or self.leaf is None:
            return self.leaf
        self.read += 1
        if self.unreadable:
            raise UnicodeDecodeError("utf-8", b"\xff", 0, 1, "invalid start byte")
        return {} if self.mode is ssl.CERT_NONE else dict(NAMES)


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_certificates, "_told", {})


def test_the_same_bytes_are_read_once() -> None:
    first, again = Shaken(b"a"), Shaken(b"a")
    assert told_of(first) == told_of(again) == NAMES
    assert (first.read, again.read) == (1, 0)


def test_one_byte_more_is_another_certificate() -> None:
    told_of(Shaken(b"a"))
    other = Shaken(b"ab")
    assert told_of(other) == NAMES
    assert other.read == 1


def test_of_a_certificate_that_nobody_has_verified_nothing_is_told_though_it_was_verified_elsewhere() -> None:
    told_of(Shaken(b"a"))
    assert told_of(Shaken(b"a", ssl.CERT_NONE)) == {}


def test_what_is_told_of_an_unverified_certificate_is_not_kept_for_one_that_is_verified() -> None:
    assert told_of(Shaken(b"a", ssl.CERT_NONE)) == {}
    assert told_of(Shaken(b"a")) == NAMES


def test_who_has_shown_none_has_none_told() -> None:
    assert told_of(Shaken(None, ssl.CERT_OPTIONAL)) is None


def test_names_that_are_not_text_are_refused_each_time() -> None:
    for _ in range(2):
        with pytest.raises(UnicodeDecodeError):
            told_of(Shaken(b"a", unreadable=True))


def test_what_is_kept_has_a_bound(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(told_certificates, "MOST", 3)
    for number in range(10):
        assert told_of(Shaken(b"%d" % number)) == NAMES
    assert len(told_certificates._told) <= 3
