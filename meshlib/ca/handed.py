"""SVIDs as files for their holders: ``cert.pem``, ``key.pem``, ``bundle.pem`` in a folder, for ``Identity.from_files``.

The three are links through one link, ``..data``, which is turned in one step (as kubelet does with a mounted Secret): whoever
follows the files never finds a certificate that stays beside another one's key, not even after a crash.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from meshlib.ca.folders import OURS, SECRET, BadStore, make_folder, settle, write_new
from meshlib.security.peer_certificate import identity_of

if TYPE_CHECKING:
    from meshlib.policy.spiffe_id import SpiffeId
    from meshlib.security.svid import Svid

CERT, KEY, BUNDLE = "cert.pem", "key.pem", "bundle.pem"
DATA = "..data"


def hand_out(folder: Path, svid: Svid, bundle: bytes, *, force: bool = False) -> bool:
    """Write an SVID and the bundle; whether there was an SVID of the same identity before (it was renewed). Raises
    ``BadStore``, and writes nothing, when the folder has somebody else's files (unless ``force``)."""
    before = holder_of(folder)
    if not force:
        _require_nobody_elses(folder, before, svid)
    if not folder.is_dir():
        make_folder(folder)
    _turn(folder, {CERT: svid.chain_pem, KEY: svid.key_pem, BUNDLE: bundle})
    return before == svid.identity


def hand_bundle(folder: Path, bundle: bytes) -> bool:
    """Write a new bundle beside an SVID that stays; whether it was another one before."""
    now = {name: (folder / name).read_bytes() for name in (CERT, KEY, BUNDLE)}
    if now[BUNDLE] == bundle:
        return False
    _turn(folder, {**now, BUNDLE: bundle})
    return True


def holder_of(folder: Path) -> SpiffeId | None:
    """Whose SVID is in the folder; None when there is none that is valid."""
    try:
        return identity_of((folder / CERT).read_bytes())
    except OSError:
        return None


def _require_nobody_elses(folder: Path, before: SpiffeId | None, svid: Svid) -> None:
    remedy = "name another folder with --out, or --force to replace it"
    if before is not None and before != svid.identity:
        raise BadStore(f"{folder} has the certificate of {before}, not of {svid.identity}; {remedy}")
    for name in (CERT, KEY, BUNDLE):
        file = folder / name
        if os.path.lexists(file) and not (file.is_symlink() and os.readlink(file) == f"{DATA}/{name}"):
            raise BadStore(f"{file} is there already and was not written by meshlib ca; {remedy}")


def _turn(folder: Path, files: dict[str, bytes]) -> None:
    """Everything into a folder of its own, then the one link. A run that was interrupted leaves what the next takes away."""
    link = folder / DATA
    before = os.readlink(link) if link.is_symlink() else ""
    name = "..1" if before == "..0" else "..0"
    shutil.rmtree(folder / name, ignore_errors=True)
    (folder / name).mkdir(OURS)
    for file, content in files.items():
        write_new(folder / name / file, content, SECRET)
    settle(folder / name)
    _point(link, name)
    for file in files:
        if not (folder / file).is_symlink():
            _point(folder / file, f"{DATA}/{file}")
    settle(folder)
    if before:
        shutil.rmtree(folder / before, ignore_errors=True)


def _point(link: Path, target: str) -> None:
    beside = link.with_name(f"{link.name}.new")
    beside.unlink(missing_ok=True)
    beside.symlink_to(target)
    beside.replace(link)
