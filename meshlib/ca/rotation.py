"""A change of the authority in three steps, of which none fails a call:

trust   a new root is made and put into the bundle, beside the old one, which goes on signing
sign    the new one signs; what was issued to files is issued again; the old root is still trusted
drop    the old root leaves the bundle, and its keys are deleted

Between two steps everybody must have got what the last one made: before ``sign`` the new bundle, before ``drop`` an SVID of the
new root. What is in folders that the store knows it sees to and checks; of others it says what to do.
"""

from __future__ import annotations

import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from meshlib.ca.folders import BadStore, locked
from meshlib.ca.handed import BUNDLE, CERT, KEY, hand_bundle, hand_out, holder_of
from meshlib.ca.ledger import Ledger
from meshlib.ca.state import State, Step

if TYPE_CHECKING:
    from meshlib.ca.ledger import Entry
    from meshlib.ca.store import Store

STEPS = ("trust", "sign", "drop")
AFTER = {Step.NONE: "trust", Step.TRUST: "sign", Step.SIGN: "drop"}
"""By what was done last: what comes next."""
ASKED = {
    "trust": "start a change",
    "sign": "once every workload has the new bundle, sign with the new root",
    "drop": "once every workload has an SVID from the new root, drop the old one",
}


@dataclass(frozen=True, slots=True)
class Taken:
    """A step that was taken: what it did, in lines for people, and the next one."""

    step: str
    lines: tuple[str, ...]
    next: str


def take(store: Store, step: str = "", *, force: bool = False) -> Taken:
    """The next step, or the part of the last one that an interruption has left. ``step``: only if it is this one. ``force``:
    drop the old root although SVIDs of it are in use. Raises ``BadStore``."""
    with locked(store.folder, store.clock):
        state = store.current().state
        wanted = due(store)
        if force and step == "drop" and state.step is Step.SIGN:
            wanted = "drop"
        if step and step != wanted:
            raise BadStore(
                f"{store.folder} is not ready for the step {step}: the next one is {wanted} ({ASKED[wanted]}): "
                f"meshlib ca rotate {store.folder} --step {wanted}"
            )
        try:
            lines = {"trust": _trust, "sign": _sign, "drop": _drop}[wanted](store, state)
        except OSError as error:
            where = error.filename or store.folder
            raise BadStore(f"{where} cannot be written: {error.strerror}; repair that, then run it again") from error
        return Taken(wanted, tuple(lines), due(store))


def due(store: Store) -> str:
    """The step that ``take`` would take."""
    state = store.current().state
    return _unfinished(store, state) or AFTER[state.step]


def _unfinished(store: Store, state: State) -> str:
    """The step that was decided and not carried through: its files are not all as it makes them."""
    if state.step is Step.NONE:
        return "drop" if _left(store, state) else ""
    if state.step is Step.SIGN and _of_others(store):
        return "sign"
    bundle = store.current().bundle_pem
    stale = any((each / BUNDLE).read_bytes() != bundle for each in [*_known(store), store.folder])
    return state.step.value if stale else ""


def _left(store: Store, state: State) -> list[Path]:
    """Authorities that were dropped, and are still there."""
    there = [each for each in store.place(1).parent.iterdir() if each.name.isdecimal()]
    return [each for each in there if int(each.name) < min(state.trusted)]


def _trust(store: Store, state: State) -> list[str]:
    lines = []
    if state.step is Step.NONE:
        number = state.signing + 1
        store.add_authority(number, state.trust_domain, rsa=state.rsa, ttl=state.ttl)
        state = state.trusting((*state.trusted, number))
        lines.append(f"made a new root, and put it into {store.folder / 'bundle.pem'} beside the old one")
    store.decide(state)
    return [*lines, *_spread(store)]


def _sign(store: Store, state: State) -> list[str]:
    lines = []
    if state.step is Step.TRUST:
        state = state.signed_by(max(state.trusted))
        lines.append("the new root signs from now on")
    store.decide(state)
    for entry in _of_others(store):
        folder = Path(entry.folder)
        signer, now = store.current().signer, store.clock.time()
        svid = signer.issue(entry.identity, now, ttl=entry.ttl, dns=entry.dns, rsa=entry.rsa)
        hand_out(folder, svid, store.current().bundle_pem)
        lines.append(f"issued again {entry.identity} in {folder}")
    ledger = Ledger.of(store.folder)
    for entry in ledger.entries.values():
        if not (Path(entry.folder) / CERT).is_file():
            ledger = ledger.without(entry.folder)
            lines.append(f"{entry.folder} is gone: {entry.identity} is not issued again")
    ledger.write()
    return [*lines, *_spread(store)]


def _drop(store: Store, state: State) -> list[str]:
    state = state.trusting((state.signing,))
    store.decide(state)
    lines = _spread(store)
    for left in _left(store, state):  # last: as long as one is there, this step is not done
        shutil.rmtree(left)
    return ["dropped the old root from the bundle, and deleted its keys", *lines]


def _spread(store: Store) -> list[str]:
    """The bundle as it is now, to every folder that the store knows."""
    bundle = store.current().bundle_pem
    return [f"the bundle in {folder} is the new one" for folder in _known(store) if hand_bundle(folder, bundle)]


def _known(store: Store) -> list[Path]:
    """Folders that have what the store put there."""
    folders = [Path(each.folder) for each in Ledger.of(store.folder).entries.values()]
    return [each for each in folders if all((each / name).is_file() for name in (CERT, KEY, BUNDLE))]


def _of_others(store: Store) -> list[Entry]:
    """What is in the store's folders and was not signed by who signs now. What somebody else has put there is theirs."""
    signer = store.current().signer
    found = []
    for entry in Ledger.of(store.folder).entries.values():
        folder = Path(entry.folder)
        holder = holder_of(folder)
        if (
            holder is not None
            and holder.text == entry.identity
            and signer.chain_pem not in (folder / CERT).read_bytes()
        ):
            found.append(entry)
    return found
