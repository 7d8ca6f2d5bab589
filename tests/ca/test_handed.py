"""An SVID as files: turned in one step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from meshlib.ca.folders import BadStore
from meshlib.ca.handed import hand_bundle, hand_out, holder_of
from meshlib.security.authority import Authority
from tests.support.stores import RATINGS, REVIEWS, Crash, crashing_at, is_a_pair

NOW = 1_790_000_000.0
ROOT = Authority.root("cluster.local", NOW)
FIRST, SECOND, OTHER = ROOT.issue(REVIEWS, NOW), ROOT.issue(REVIEWS, NOW), ROOT.issue(RATINGS, NOW)


def test_a_pair_is_a_pair_wherever_the_writer_dies(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    hand_out(tmp_path, FIRST, b"one")
    crashed = 0
    for count in range(20):
        with crashing_at(count, monkeypatch):
            try:
                hand_out(tmp_path, SECOND if count % 2 else FIRST, b"two")
            except Crash:
                crashed += 1
        assert is_a_pair(tmp_path), count
        assert str(holder_of(tmp_path)) == REVIEWS
    assert 3 < crashed < 20
    left = {each.name for each in tmp_path.iterdir()}
    assert left == {"cert.pem", "key.pem", "bundle.pem", "..data", os.readlink(tmp_path / "..data")}


def test_a_reader_that_has_opened_the_old_files_reads_them_to_the_end(tmp_path: Path) -> None:
    hand_out(tmp_path, FIRST, b"")
    with (tmp_path / "key.pem").open("rb") as opened:
        hand_out(tmp_path, SECOND, b"")
        assert opened.read() == FIRST.key_pem
    assert (tmp_path / "key.pem").read_bytes() == SECOND.key_pem


def test_the_certificate_of_another_is_not_replaced_unasked(tmp_path: Path) -> None:
    hand_out(tmp_path, FIRST, b"")
    with pytest.raises(BadStore, match="has the certificate of .*/sa/reviews, not of .*/sa/ratings; name another"):
        hand_out(tmp_path, OTHER, b"")
    assert str(holder_of(tmp_path)) == REVIEWS
    assert not hand_out(tmp_path, OTHER, b"", force=True)
    assert str(holder_of(tmp_path)) == RATINGS


@pytest.mark.parametrize("name", ["cert.pem", "key.pem", "bundle.pem"])
def test_files_of_somebody_else_are_not_replaced_unasked(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text("mine")
    with pytest.raises(BadStore, match=f"{name} is there already and was not written by meshlib ca"):
        hand_out(tmp_path, FIRST, b"")
    assert [each.name for each in tmp_path.iterdir()] == [name]
    hand_out(tmp_path, FIRST, b"", force=True)
    assert is_a_pair(tmp_path)


def test_a_new_bundle_leaves_the_pair(tmp_path: Path) -> None:
    hand_out(tmp_path, FIRST, b"one")
    assert hand_bundle(tmp_path, b"two")
    assert not hand_bundle(tmp_path, b"two")
    assert (tmp_path / "bundle.pem").read_bytes() == b"two"
    assert (tmp_path / "key.pem").read_bytes() == FIRST.key_pem


def test_nobody_holds_an_empty_folder(tmp_path: Path) -> None:
    assert holder_of(tmp_path) is None
    (tmp_path / "cert.pem").write_text("garbage")
    assert holder_of(tmp_path) is None
