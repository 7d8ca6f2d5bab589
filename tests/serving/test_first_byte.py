"""What becomes of a connection, by its first byte and the mode of its port."""

from __future__ import annotations

import pytest

from meshlib.policy.mtls_mode import MtlsMode
from meshlib.serving.first_byte import HANDSHAKE, Refusal, Verdict, verdict, why_reset

PLAIN, TLS, RESET = Verdict.PLAIN, Verdict.TLS, Verdict.RESET


@pytest.mark.parametrize(
    ("mode", "tls", "plain"),
    [(MtlsMode.STRICT, TLS, RESET), (MtlsMode.PERMISSIVE, TLS, PLAIN), (MtlsMode.DISABLE, PLAIN, PLAIN)],
)
def test_the_mode_decides_by_the_first_byte(mode: MtlsMode, tls: Verdict, plain: Verdict) -> None:
    assert verdict(HANDSHAKE, mode, True) is tls
    assert verdict(ord("G"), mode, True) is plain


def test_without_a_certificate_nobody_is_spoken_to_over_tls_and_strict_serves_nothing() -> None:
    assert verdict(HANDSHAKE, MtlsMode.PERMISSIVE, False) is RESET
    assert verdict(ord("G"), MtlsMode.PERMISSIVE, False) is PLAIN
    assert {verdict(first, MtlsMode.STRICT, False) for first in range(256)} == {RESET}


def test_whatever_is_no_handshake_is_plain_text() -> None:
    """An SSL 2 greeting (0x80), the other types of records (0x14, 0x15, 0x17), a NUL: STRICT resets them all."""
    for first in set(range(256)) - {HANDSHAKE}:
        assert verdict(first, MtlsMode.STRICT, True) is RESET
        assert verdict(first, MtlsMode.PERMISSIVE, True) is PLAIN


def test_unset_that_nobody_has_settled_lets_no_plain_text_in() -> None:
    for mode in MtlsMode:
        if mode not in (MtlsMode.PERMISSIVE, MtlsMode.DISABLE):
            assert verdict(ord("G"), mode, True) is RESET


def test_a_reset_is_for_plain_text_or_for_want_of_a_certificate() -> None:
    assert why_reset(HANDSHAKE) is Refusal.NO_CERTIFICATE
    assert {why_reset(first) for first in set(range(256)) - {HANDSHAKE}} == {Refusal.PLAIN_TEXT}
