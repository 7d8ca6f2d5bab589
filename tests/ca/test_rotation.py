"""A change of the authority: three steps, each carried through, none out of order."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest
from cryptography import x509

from meshlib.ca.folders import BadStore
from meshlib.ca.rotation import STEPS, due, take
from meshlib.ca.store import Store
from meshlib.security.issuers import signed_by
from tests.support.fake_clock import FakeClock
from tests.support.stores import RATINGS, REVIEWS, Crash, crashing_at, is_a_pair, roots_in, store


def root_of(folder: Path) -> x509.Certificate:
    """Who stands above the SVID in the folder."""
    return next(root for root in roots_in(folder / "bundle.pem") if signed_by(roots_in(folder / "cert.pem")[1], root))


def test_three_steps_and_what_holders_have_after_each(tmp_path: Path) -> None:
    made = store(tmp_path)
    inside, outside = made.issue(REVIEWS).folder, made.issue(RATINGS, out=tmp_path / "elsewhere").folder
    old = root_of(inside)
    taken = take(made)
    assert (taken.step, taken.next) == ("trust", "sign")
    for folder in (inside, outside):
        assert len(roots_in(folder / "bundle.pem")) == 2
        assert root_of(folder) == old, "the old one goes on signing"
    taken = take(made)
    assert (taken.step, taken.next) == ("sign", "drop")
    for folder in (inside, outside):
        assert is_a_pair(folder)
        assert len(roots_in(folder / "bundle.pem")) == 2, "who has an old SVID is still let in"
        assert root_of(folder) != old
    taken = take(made)
    assert (taken.step, taken.next) == ("drop", "trust")
    for file in (inside / "bundle.pem", outside / "bundle.pem", made.folder / "bundle.pem"):
        assert old not in roots_in(file)
    assert [each.name for each in (made.folder / "authorities").iterdir()] == ["2"], "its keys are gone"
    assert root_of(made.issue(REVIEWS).folder) == root_of(inside)


def test_what_is_issued_again_is_as_it_was_asked_for(tmp_path: Path) -> None:
    made = store(tmp_path)
    folder = made.issue(REVIEWS, dns=("reviews",), ttl=7200, rsa=True).folder
    before = roots_in(folder / "cert.pem")[0]
    take(made)
    take(made)
    after = roots_in(folder / "cert.pem")[0]
    assert after.public_key() != before.public_key()
    assert type(after.public_key()) is type(before.public_key())
    names = [each.extensions.get_extension_for_class(x509.SubjectAlternativeName) for each in (before, after)]
    assert names[0] == names[1]
    assert (
        after.not_valid_after_utc - after.not_valid_before_utc
        == before.not_valid_after_utc - before.not_valid_before_utc
    )


@pytest.mark.parametrize("before", range(3))
def test_a_step_out_of_order_is_refused_and_changes_nothing(tmp_path: Path, before: int) -> None:
    made = store(tmp_path)
    for _ in range(before):
        take(made)
    state = made.current().state
    assert due(made) == STEPS[before]
    for step in STEPS:
        if step != STEPS[before]:
            with pytest.raises(BadStore, match=f"not ready for the step {step}: the next one is {STEPS[before]} "):
                take(made, step)
    assert made.current().state == state
    assert take(made, STEPS[before]).step == STEPS[before]


@pytest.mark.parametrize("step", range(3))
def test_a_step_that_was_interrupted_anywhere_is_carried_through(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, step: int
) -> None:
    """Whenever the process dies, the store can be read, pairs are pairs, and running it again ends the change."""
    made = store(tmp_path)
    folders = [made.issue(REVIEWS).folder, made.issue(RATINGS).folder]
    old = root_of(folders[0])
    for _ in range(step):
        take(made)
    shutil.copytree(made.folder, tmp_path / "kept", symlinks=True)
    crashed = 0
    for count in range(100):
        shutil.rmtree(made.folder)
        shutil.copytree(tmp_path / "kept", made.folder, symlinks=True)
        made = Store.open(made.folder, FakeClock())
        with crashing_at(count, monkeypatch):
            try:
                take(made)
            except Crash:
                crashed += 1
            else:
                break
        again = Store.open(made.folder, FakeClock())
        for folder in folders:
            assert is_a_pair(folder)
            assert root_of(folder), "its own bundle vouches for it"
        if due(again) == "trust" and step == 2:
            continue  # all of it was done before the last thing reached the disk
        steps = [
            take(again).step for _ in range(4) if due(again) != "trust" or old in roots_in(again.folder / "bundle.pem")
        ]
        assert steps[-1] == "drop"
        assert len(steps) <= 4 - step
        for folder in folders:
            assert roots_in(folder / "bundle.pem") == [root_of(folder)] != [old]
        assert len(list((again.folder / "authorities").iterdir())) == 1
    assert crashed > 5


def test_the_old_root_is_not_dropped_while_a_folder_has_an_svid_of_it(tmp_path: Path) -> None:
    made = store(tmp_path)
    folder = made.issue(REVIEWS).folder
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept, symlinks=True)
    take(made)
    take(made)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder, symlinks=True)  # somebody puts a backup back
    with pytest.raises(BadStore, match="the next one is sign"):
        take(made, "drop")
    assert take(made).step == "sign"
    assert take(made).step == "drop"


def test_who_insists_drops_the_old_root_all_the_same(tmp_path: Path) -> None:
    made = store(tmp_path)
    folder = made.issue(REVIEWS).folder
    kept = tmp_path / "kept"
    shutil.copytree(folder, kept, symlinks=True)
    take(made)
    take(made)
    shutil.rmtree(folder)
    shutil.copytree(kept, folder, symlinks=True)
    assert take(made, "drop", force=True).step == "drop"
    with pytest.raises(BadStore, match="the next one is trust"):
        take(made, "drop", force=True)


def test_a_folder_that_is_gone_or_has_become_anothers_is_left_alone(tmp_path: Path) -> None:
    made = store(tmp_path)
    gone = made.issue(REVIEWS, out=tmp_path / "gone").folder
    others = made.issue(RATINGS, out=tmp_path / "others").folder
    shutil.rmtree(gone)
    (others / "cert.pem").unlink()
    (others / "cert.pem").write_text("theirs")
    take(made)
    assert any(f"{gone} is gone" in line for line in take(made).lines)
    take(made)
    assert not gone.exists()
    assert (others / "cert.pem").read_text() == "theirs"
