"""Whose files these are. PyPI's distribution ``meshlib`` (with ``meshlib-core``) is a 3D geometry library that installs into
the same folder; ours is called ``sidecarless``. Both cannot live in one environment: the one that is installed, updated or
uninstalled last takes files of the other with it."""

from __future__ import annotations

import os
import sys
from typing import NamedTuple

NAME = "sidecarless"
REMEDY = f"pip uninstall meshlib meshlib-core, then pip install --force-reinstall {NAME}"

POSIX_ONLY = (
    f"{NAME} runs on POSIX systems only (Linux, macOS), not on {{}}: it needs fork, Unix sockets and signals. "
    "On Windows run it in WSL 2 or in a Linux container"
)

_OTHERS = ("meshlib-", "meshlib_core-")
_INFO = ".dist-info"


class Other(NamedTuple):
    """Another distribution with files in the package meshlib."""

    name: str  # as ``meshlib 3.1.4``
    folder: str  # where it is installed
    info: str  # its .dist-info folder


def others() -> list[Other]:
    """The other distributions that are installed. Looks at folder names only: importing must stay cheap."""
    found = []
    for folder in dict.fromkeys(sys.path):
        if os.path.basename(folder) not in ("site-packages", "dist-packages"):
            continue
        try:
            names = os.listdir(folder)
        except OSError:
            continue  # not every entry of sys.path exists
        for name in names:
            if name.startswith(_OTHERS) and name.endswith(_INFO):
                distribution, _, version = name.removesuffix(_INFO).partition("-")
                found.append(Other(f"{distribution.replace('_', '-')} {version}", folder, os.path.join(folder, name)))
    return sorted(found)


def check() -> None:
    """For the package's ``__init__``: warn when another distribution is installed beside this one (an update or removal of it
    takes files away from us), raise ``ImportError`` when it has replaced files of ours, and on systems that are not POSIX."""
    if os.name != "posix":
        raise ImportError(POSIX_ONLY.format(sys.platform))
    there = others()
    if not there:
        return
    replaced = [path for other in there for path in _replaced_by(other)]
    names = ", ".join(other.name for other in there)
    if replaced:
        raise ImportError(f"{NAME}: {names} has replaced files of this package ({', '.join(replaced[:5])}). {REMEDY}")
    import warnings

    warnings.warn(
        f"the distribution {names} is installed beside {NAME} and uses the same import name: an update or removal of it "
        f"will break this one. {REMEDY}",
        RuntimeWarning,
        stacklevel=3,
    )


def require_ours() -> None:
    """For the modules inside: raise ``ImportError`` when the package's ``__init__`` is not ours (any more), so that this code
    runs inside somebody else's package, or in what was left of ours."""
    package = sys.modules.get("meshlib")
    if getattr(package, "__distribution__", "") == NAME:
        return
    there = ", ".join(other.name for other in others())
    what = f"was replaced by the distribution {there}" if there else "is missing or not ours"
    raise ImportError(f"{NAME}: the package meshlib {what} (in {os.path.dirname(__file__)}). {REMEDY}")


def _replaced_by(other: Other) -> list[str]:
    """Files that both distributions have, and whose content is the other's. Read only when there is another."""
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__)))
    if os.path.realpath(other.folder) != os.path.realpath(here):
        return []
    mine = next((n for n in os.listdir(here) if n.startswith(f"{NAME}-") and n.endswith(".dist-info")), "")
    ours, theirs = _record(os.path.join(here, mine)), _record(other.info)
    return [
        path
        for path, digest in theirs.items()
        if digest and path in ours and ours[path] != digest and _digest(os.path.join(here, path)) == digest
    ]


def _record(info: str) -> dict[str, str]:
    """Path -> digest of an installed distribution's files under meshlib/."""
    import csv

    try:
        with open(os.path.join(info, "RECORD"), newline="", encoding="utf-8") as lines:
            return {row[0]: row[1] for row in csv.reader(lines) if len(row) > 1 and row[0].startswith("meshlib/")}
    except OSError:
        return {}  # a distribution without a list of its files says nothing about them


def _digest(path: str) -> str:
    import base64
    import hashlib

    try:
        with open(path, "rb") as file:
            digest = hashlib.sha256(file.read()).digest()
    except OSError:
        return ""
    return "sha256=" + base64.urlsafe_b64encode(digest).rstrip(b"=").decode()
