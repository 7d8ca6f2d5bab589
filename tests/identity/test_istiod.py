"""An identity from istiod: asked for, renewed in time, kept while istiod is away."""

from __future__ import annotations

import logging
import random
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from meshlib.ca.certificates import CertificateService
from meshlib.clock import SystemClock
from meshlib.identity.errors import BadCredentials
from meshlib.identity.istiod import LOOK, IstiodSource
from meshlib.security.authority import Authority
from meshlib.security.svid import Svid
from tests.support.istiod import REVIEWS, TOKEN, Istiod
from tests.support.standing import Standing
from tests.support.workload_api import LONG, Jumping, Listener, clock_at


@pytest.fixture
def istiod(tmp_path: Path) -> Iterator[Istiod]:
    with Istiod(tmp_path) as made:
        yield made


def listener(istiod: Istiod, clock: Jumping | None = None, patience: float = LONG, **options: float) -> Listener:
    source = IstiodSource(
        istiod.address,
        istiod.token_file,
        istiod.root_file,
        rng=random.Random(1),
        patience=patience,
        **options,  # type: ignore[arg-type]
    )
    return Listener(source, clock or clock_at(SystemClock.time()))


def renewed(heard: Listener, step: float = 1.0) -> Svid:
    """The next certificate, as the clock goes on by what a look and a retry take."""
    for _ in range(round(LONG / 0.02)):
        heard.clock.advance(step)
        if not heard.published.empty():
            break
        heard.rest(0.02)
    return heard.next()[0]


def test_by_the_token_the_first_time(istiod: Istiod) -> None:
    with listener(istiod) as heard:
        svid, bundles = heard.published.get_nowait()
        assert svid.identity.text == REVIEWS
        assert bundles == istiod.standing.bundles
        assert heard.problem == ""


def test_renewed_between_half_and_four_fifths_of_its_life(istiod: Istiod) -> None:
    with listener(istiod, ttl=3600) as heard:
        heard.next()
        heard.clock.advance(1799)
        heard.rest(0.1)
        assert heard.published.empty()
        begin = heard.clock.now
        renewed(heard, 30.0)
        assert heard.clock.now - begin < 3600 * 0.3 + 4 * LOOK


def test_renewed_by_the_old_certificate_without_a_token(istiod: Istiod) -> None:
    with listener(istiod, ttl=3600) as heard:
        first = heard.next()[0]
        istiod.token_file.unlink()
        heard.clock.advance(3600 * 0.8 + LOOK)
        assert renewed(heard).leaf != first.leaf
        assert heard.problem == ""


def test_a_server_that_does_not_take_the_old_certificate_is_given_the_token(istiod: Istiod) -> None:
    """Nor its own new root: the handshake fails, and the token is let in."""
    with listener(istiod, ttl=3600) as heard:
        heard.next()
        other = Authority.root("cluster.local", SystemClock.time())
        istiod.standing = Standing(other, istiod.bundles(other))
        istiod.write_roots()
        heard.clock.advance(3600 * 0.8 + LOOK)
        heard.hears_that_all_is_well()
        renewed(heard)
        assert heard.problem == ""


def test_the_token_is_read_again_for_each_call(istiod: Istiod) -> None:
    istiod.token_file.write_text("of-yesterday\n")
    with listener(istiod) as heard:
        assert "UNAUTHENTICATED" in heard.problem
        assert "audience (istio-ca)" in heard.problem
        istiod.token_file.write_text(TOKEN)
        assert renewed(heard).identity.text == REVIEWS
        heard.hears_that_all_is_well()


def test_a_change_of_the_roots_has_it_renewed_at_once(istiod: Istiod) -> None:
    with listener(istiod) as heard:
        heard.next()
        coming = Authority.root("cluster.local", SystemClock.time())
        istiod.standing = Standing(istiod.standing.signer, istiod.bundles(istiod.root, coming))
        istiod.write_roots()
        heard.clock.advance(LOOK)
        _, bundles = heard.next()
        assert bundles.roots_of("cluster.local") == (istiod.root.root_der, coming.root_der)


def test_late_by_five_seconds(istiod: Istiod) -> None:
    istiod.stop()
    with listener(istiod) as heard:
        said = heard.problem
        assert "UNAVAILABLE" in said
        assert "there is no certificate yet, so no mTLS" in said
        heard.clock.advance(5)
        istiod.start()
        renewed(heard)
        heard.hears_that_all_is_well()


def test_down_at_renewal_the_last_one_stays_and_it_is_asked_again(istiod: Istiod) -> None:
    with listener(istiod, ttl=3600) as heard:
        heard.next()
        istiod.stop()
        heard.clock.advance(3600 * 0.8 + LOOK)
        heard.hears("UNAVAILABLE")
        assert heard.published.empty()
        istiod.start()
        renewed(heard)
        heard.hears_that_all_is_well()


@pytest.mark.parametrize("jump", [3600.0, -3600.0])
def test_a_clock_that_jumps_by_an_hour(istiod: Istiod, jump: float) -> None:
    """Forward: what is due by then is renewed. Back, and what istiod gives is not valid yet: the last one stays."""
    with listener(istiod, ttl=3600) as heard:
        heard.next()
        heard.clock.jumped = jump
        heard.clock.advance(LOOK)
        if jump > 0:
            heard.hears("has expired")  # istiod's own clock has not jumped: what it gives ends now
            heard.clock.jumped = 0.0
            renewed(heard)
            heard.hears_that_all_is_well()
        else:
            heard.rest(0.1)
            assert heard.published.empty()
            assert heard.problem == ""


@pytest.mark.parametrize(
    ("token", "roots", "why"),
    [
        (None, "", r"the token in .*token cannot be read: No such file"),
        ("", "", "token is empty"),
        ("c4n4ry c4n4ry", "", "is not a valid bearer token"),
        (TOKEN, None, r"the roots of istiod in .*roots.pem cannot be read: No such file"),
        (TOKEN, "garbage", r"roots.pem: the bundle is not PEM"),
    ],
)
def test_files_that_cannot_be_used_are_named(istiod: Istiod, token: str | None, roots: str | None, why: str) -> None:
    if token is None:
        istiod.token_file.unlink()
    else:
        istiod.token_file.write_text(token)
    if roots is None:
        istiod.root_file.unlink()
    elif roots:
        istiod.root_file.write_text(roots)
    with listener(istiod) as heard:
        assert re.search(why, heard.problem), heard.problem
        assert "c4n4ry" not in heard.problem
        istiod.token_file.write_text(TOKEN)
        istiod.write_roots()
        renewed(heard)


def test_who_is_not_istiod_is_given_no_token(istiod: Istiod) -> None:
    """Another root has signed its certificate, or it is of another name."""
    asked: list[object] = []
    istiod.service.create = lambda *given: asked.append(given) or b""  # type: ignore[method-assign,assignment,func-returns-value]
    source = IstiodSource(istiod.address, istiod.token_file, istiod.root_file, server_name="evil.test", patience=LONG)
    with Listener(source, clock_at(SystemClock.time())) as heard:
        assert "do the roots verify its certificate, and the name in it?" in heard.problem
    istiod.root_file.write_text(istiod.bundles(Authority.root("cluster.local", SystemClock.time())).pem)
    with listener(istiod) as heard:
        assert "UNAVAILABLE" in heard.problem
    assert not asked


@pytest.mark.parametrize("raw", [b"", b"\xff\xffgarbage", b"\x0a\x03abc\x0a\x03def"])
def test_garbage_is_not_used_and_asked_for_again(istiod: Istiod, raw: bytes) -> None:
    real = istiod.service.create
    istiod.service.create = lambda *_: raw  # type: ignore[method-assign]
    with listener(istiod) as heard:
        assert "has sent what is not used" in heard.problem
        istiod.service.create = real  # type: ignore[method-assign]
        renewed(heard)
        heard.hears_that_all_is_well()


def test_a_certificate_of_another_trust_domain_is_not_used(istiod: Istiod) -> None:
    source = IstiodSource(
        istiod.address, istiod.token_file, istiod.root_file, trust_domain="prod.example", patience=LONG
    )
    with Listener(source, clock_at(SystemClock.time())) as heard:
        assert "is of the trust domain cluster.local" in heard.problem
        assert heard.published.empty()


def test_a_ttl_that_istiod_does_not_give_is_said(istiod: Istiod) -> None:
    istiod.service = CertificateService(lambda: istiod.standing, istiod.by_token, SystemClock(), most=60)
    istiod.stop()
    istiod.start()
    with listener(istiod, ttl=3600) as heard:
        assert "INVALID_ARGUMENT: CSR signing error (requested TTL 3600s is greater than" in heard.problem


def test_closed_it_asks_no_more(istiod: Istiod) -> None:
    with listener(istiod, ttl=3600) as heard:
        heard.next()
    heard.clock.advance(3600)
    heard.rest(0.1)
    assert heard.published.empty()


@pytest.mark.parametrize("address", ["istiod", ":15012", "istiod:", "https://istiod:15012/", "istiod:x"])
def test_what_is_no_address_is_said_at_once(address: str, tmp_path: Path) -> None:
    with pytest.raises(BadCredentials, match="is not an address of istiod: write it as"):
        IstiodSource(address, tmp_path / "token", tmp_path / "roots")


def test_neither_token_nor_key_is_in_what_is_said(istiod: Istiod, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.DEBUG)
    with listener(istiod, ttl=3600) as heard:
        svid = heard.next()[0]
        istiod.stop()
        heard.clock.advance(3600 * 0.8 + LOOK)
        heard.hears("UNAVAILABLE")
        shown = caplog.text + repr(heard.source) + " ".join(heard.said)
        assert TOKEN not in shown
        assert svid.key_pem.decode().splitlines()[1][:24] not in shown
