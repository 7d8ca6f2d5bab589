"""Who renews nothing hears of it in time."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest

from meshlib.identity.expiry import DAY, expiry_notice
from meshlib.identity.identity import Identity
from meshlib.security.authority import SKEW, Authority
from tests.support.credential_files import REVIEWS, Files, HandAlarms
from tests.support.fake_clock import FakeClock

NOW = FakeClock().time()
ROOT = Authority.root("cluster.local", NOW)
HOUR = 3600.0


@pytest.mark.parametrize(
    ("life", "in_trouble", "said"),
    [
        (30 * DAY, False, DAY),
        (30 * DAY, True, DAY),
        (30 * HOUR, False, (30 * HOUR + SKEW) / 5),
        (30 * HOUR, True, DAY),
        (DAY, True, (DAY + SKEW) / 5),
        (HOUR, False, (HOUR + SKEW) / 5),
    ],
)
def test_it_is_said_a_day_before_or_when_a_fifth_of_a_short_life_is_left(
    life: float, in_trouble: bool, said: float
) -> None:
    svid = ROOT.issue(REVIEWS, NOW, ttl=life)
    assert expiry_notice(svid, svid.not_after - said - 1, in_trouble=in_trouble) == ""
    assert "has not been renewed" in expiry_notice(svid, svid.not_after - said + 1, in_trouble=in_trouble)
    assert "has expired" in expiry_notice(svid, svid.not_after + 1, in_trouble=in_trouble)


def test_a_broken_file_is_said_at_once_and_a_day_before_the_end_and_at_the_end(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("meshlib.identity.files.LOOK", HOUR / 2)
    monkeypatch.setattr("meshlib.identity.identity.LOOK", HOUR / 2)
    files, clock = Files(tmp_path), FakeClock()
    files.write(ROOT.issue(REVIEWS, NOW, ttl=3 * DAY), ROOT)
    identity = Identity.from_files(files.certificate, files.key, files.bundle)
    identity.start(clock, alarms := HandAlarms(clock))
    files.key.write_bytes(b"garbage")
    said = []
    for _ in range(80):
        caplog.clear()
        alarms.advance(HOUR)
        said += [(round((clock.time() - NOW) / HOUR), r.message) for r in caplog.records if r.levelno == logging.ERROR]
    assert [hour for hour, _ in said] == [1, 48, 73]
    assert "is not PEM" in said[0][1]
    assert "has not been renewed" in said[1][1]
    assert "is not PEM" in said[1][1]
    assert "has expired" in said[2][1]
    assert not identity.ready
    assert "has expired" in str(identity.status()["problem"])
    files.write(ROOT.issue(REVIEWS, clock.time()))
    assert identity.ready
    assert identity.problem == ""


@pytest.mark.parametrize("jump", [HOUR, -HOUR])
def test_a_clock_that_jumps_is_noticed_within_a_minute(jump: float, tmp_path: Path) -> None:
    """By the wall clock: the monotonic one, by which alarms ring, does not jump with it."""
    files, clock = Files(tmp_path), FakeClock()
    files.write(ROOT.issue(REVIEWS, NOW, ttl=HOUR / 2), ROOT)
    identity = Identity.from_files(files.certificate, files.key, files.bundle)
    identity.start(clock, alarms := HandAlarms(clock))
    wall = clock.time
    clock.time = lambda: wall() + jump  # type: ignore[method-assign]
    alarms.advance(60)
    assert identity._expiry.startswith(f"the certificate of {REVIEWS} has expired") == (jump > 0)
    assert not identity.ready
