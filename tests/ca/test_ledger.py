"""What was issued to files is remembered by its folder."""

from __future__ import annotations

from pathlib import Path

import pytest

from meshlib.ca.folders import BadStore
from meshlib.ca.ledger import FILE, Entry, Ledger

ENTRY = Entry("spiffe://a/b", ("x",), 60.0, False, "/out")


def test_the_last_of_a_folder_counts(tmp_path: Path) -> None:
    assert Ledger.of(tmp_path).entries == {}
    Ledger.of(tmp_path).noted(ENTRY).write()
    again = Entry("spiffe://a/c", (), 5.0, True, "/out")
    Ledger.of(tmp_path).noted(again).write()
    assert list(Ledger.of(tmp_path).entries.values()) == [again]
    Ledger.of(tmp_path).without("/out").write()
    assert Ledger.of(tmp_path).entries == {}


@pytest.mark.parametrize(
    "text", [b"", b"[]", b'{"issued": [{"dns": []}]}', b'{"issued": [3]}', b"\xff", b"[" * 100_000]
)
def test_damage_is_said_with_the_file(tmp_path: Path, text: bytes) -> None:
    (tmp_path / FILE).write_bytes(text)
    with pytest.raises(BadStore, match=r"issued\.json is damaged; remove it"):
        Ledger.of(tmp_path)
