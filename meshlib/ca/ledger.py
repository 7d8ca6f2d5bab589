"""What an authority on disk has issued to files: what a change of the authority issues again."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass, field
from pathlib import Path

from meshlib.ca.folders import SECRET, BadStore, replace

FILE = "issued.json"


@dataclass(frozen=True, slots=True)
class Entry:
    """What was asked for, and the folder it went to."""

    identity: str
    dns: tuple[str, ...]
    ttl: float
    rsa: bool
    folder: str


@dataclass(frozen=True, slots=True)
class Ledger:
    """Entries by folder: one SVID a folder, the last."""

    file: Path
    entries: dict[str, Entry] = field(default_factory=dict)

    @classmethod
    def of(cls, store: Path) -> Ledger:
        """That of a store. Raises ``BadStore`` for one that is damaged."""
        file = store / FILE
        try:
            found = json.loads(file.read_bytes())
            entries = [Entry(**{**each, "dns": tuple(each["dns"])}) for each in found["issued"]]
        except FileNotFoundError:
            entries = []
        except (ValueError, KeyError, TypeError, RecursionError):
            raise BadStore(
                f"{file} is damaged; remove it: what was issued is not issued again by a change of the CA then"
            ) from None
        return cls(file, {each.folder: each for each in entries})

    def noted(self, entry: Entry) -> Ledger:
        """With one more."""
        return Ledger(self.file, {**self.entries, entry.folder: entry})

    def without(self, folder: str) -> Ledger:
        """Without that of a folder that is gone."""
        return Ledger(self.file, {name: each for name, each in self.entries.items() if name != folder})

    def write(self) -> None:
        """Replace the file."""
        document = {"issued": [asdict(each) for each in self.entries.values()]}
        replace(self.file, json.dumps(document, indent=2).encode() + b"\n", SECRET)
