"""The path of a request in every spelling that somebody between the wire and the application may read it in.

An attacker spells a path so that the policy reads one thing and the application another: ``/public/%2e%2e/admin``, ``//admin``,
``/%61dmin``. So a policy that forbids is judged at each spelling, and one that permits must hold at each that counts.

All texts are wire strings (bytes read as latin-1), without query. Pure; what was spelled before is remembered, bounded.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal, TypeAlias

Normalization: TypeAlias = Literal["NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES"]
"""``pathNormalization.normalization`` of Istio's MeshConfig."""
NORMALIZATIONS: tuple[Normalization, ...] = ("NONE", "BASE", "MERGE_SLASHES", "DECODE_AND_MERGE_SLASHES")

BAD_PATH = "bad_path"
"""The reasons of ``PathSpellings.problem`` begin with it: response code details, for people."""

MOST_REMEMBERED = 4096
LONGEST_REMEMBERED = 512
"""Characters: what is longer is spelled anew each time, so that strangers cannot fill the memory."""

_NOT_IN_A_TARGET = re.compile("[^\x21-\x7e]")
_CONTROL = re.compile("[\x00-\x1f]")
_ESCAPE = re.compile("%([0-9a-fA-F]{2})")
_LONE_PERCENT = re.compile("%(?![0-9a-fA-F]{2})")
_NESTED = re.compile("\0(?=[0-9a-fA-F]{2})")
_ESCAPED_SLASH = re.compile("%(?:2[fF]|5[cC])")
_DOTS_WITH_PARAMETERS = re.compile(r"/(\.\.?);[^/]*")
_ESCAPED_BY_ENVOY = re.compile(r'["<>^`{|}]')
_UNESCAPED_BY_ENVOY = frozenset(b"abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ0123456789-._~")
_CURRENT = frozenset((".", "%2e", "%2E"))
_PARENT = frozenset(a + b for a in _CURRENT for b in _CURRENT)


@dataclass(frozen=True, slots=True)
class PathSpellings:
    """``wire``: as sent, without fragment. ``normalized``: as Envoy makes it of that, for its filters and for the
    application behind it. ``decoded``: percent-decoded once, as applications read it. ``resolved``: that with dot segments
    resolved and slashes merged, as file servers and some routers read it. ``problem``: why no policy can judge this path
    (response code details, for people: the request is refused with 400), "" when one can; the others are as ``wire`` then.
    """

    wire: str
    normalized: str
    decoded: str
    resolved: str
    problem: str = ""

    @property
    def forbidden_at(self) -> tuple[str, ...]:
        """Each spelling once, in the order of the fields: where a policy that forbids looks."""
        return tuple(dict.fromkeys((self.wire, self.normalized, self.decoded, self.resolved)))

    @property
    def permitted_at(self) -> tuple[str, ...]:
        """Where a policy that permits must hold: the normalized and the decoded one."""
        return (self.normalized,) if self.normalized == self.decoded else (self.normalized, self.decoded)


is_plain: Callable[[str], object] = re.compile(r"(?:/(?!\.)[A-Za-z0-9\-._~!$&'()*+,;=:@]+)+/?|/").fullmatch
"""Whether (truthy) all spellings of a path are the same, in every normalization, and nothing is the matter with it. Of most
paths that is so."""

_remembered: dict[tuple[str, str], PathSpellings] = {}


def path_spellings(path: str, normalization: Normalization = "BASE") -> PathSpellings:
    """The spellings of a request's ``path`` as sent (without query). Never raises."""
    key = (path, normalization)
    found = _remembered.get(key)
    if found is None:
        found = _spelled(path, normalization)
        if len(path) <= LONGEST_REMEMBERED:
            if len(_remembered) >= MOST_REMEMBERED:
                _remembered.clear()
            _remembered[key] = found
    return found


def remembered() -> int:
    """How many paths are remembered."""
    return len(_remembered)


def forget() -> None:
    """Remember nothing any more."""
    _remembered.clear()


def _spelled(path: str, normalization: Normalization) -> PathSpellings:
    if is_plain(path):
        return PathSpellings(path, path, path, path)
    wire = path.partition("#")[0]
    problem = ""
    if not wire.startswith("/"):
        problem = "it does not begin with /"
    elif _NOT_IN_A_TARGET.search(wire):
        problem = "a byte that no request target has"
    else:
        decoded = decode(wire)
        if _CONTROL.search(decoded):
            problem = "a control character"
        elif not _is_utf8(decoded):
            problem = "not UTF-8"
    if problem:
        return PathSpellings(wire, wire, wire, wire, f"{BAD_PATH}{{{problem}}}")
    return PathSpellings(wire, normalize(wire, normalization), decoded, resolve(decoded))


def _is_utf8(text: str) -> bool:
    if text.isascii():
        return True
    try:
        text.encode("latin-1").decode("utf-8")
    except UnicodeDecodeError:
        return False
    return True


def decode(path: str) -> str:
    """Percent-decoded once. What is not an escape (``%zz``) stays."""
    return _ESCAPE.sub(lambda found: chr(int(found[1], 16)), path) if "%" in path else path


def resolve(path: str) -> str:
    r"""Dot segments resolved, slashes merged, a backslash read as a slash. ``..;x`` is a dot segment too, as servlet
    containers read it."""
    if "//" not in path and "/." not in path and "\\" not in path:
        return path
    kept: list[str] = []
    is_folder = False
    for segment in path.replace("\\", "/").split("/")[1:]:
        name = segment.partition(";")[0]
        is_folder = not segment or name in (".", "..")
        if name == "..":
            del kept[-1:]
        elif not is_folder:
            kept.append(segment)
    return "/" + "/".join(kept) + ("/" if is_folder and kept else "")


def normalize(path: str, normalization: Normalization) -> str:
    """As Envoy's connection manager makes it, set as Istio sets it: NONE changes nothing; BASE resolves dot segments, reads a
    backslash as a slash, takes escapes from letters, digits and ``-._~`` and puts them to what no URL has; MERGE_SLASHES also
    merges slashes; DECODE_AND_MERGE_SLASHES first reads %2F and %5C as slashes. ``path`` begins with a slash and has neither
    query nor fragment."""
    if normalization == "NONE":
        return path
    if normalization == "DECODE_AND_MERGE_SLASHES" and "%" in path:
        path = _ESCAPED_SLASH.sub(lambda found: "/" if found[0][1] == "2" else "\\", path)
    path = _canonical(path)
    if normalization != "BASE" and "//" in path:
        # Envoy's joins what is not empty, between a slash at each end that had one: all slashes come to two
        path = "/" + "/".join([segment for segment in path.split("/") if segment]) + ("/" if path[-1] == "/" else "")
    return path


def _canonical(path: str) -> str:
    path = _DOTS_WITH_PARAMETERS.sub(r"/\1", path)
    kept: list[str] = []
    for segment in path.replace("\\", "/").split("/")[1:]:
        if segment in _CURRENT:
            is_folder = True
        elif segment in _PARENT:
            is_folder = True
            del kept[-1:]
        else:
            is_folder = False
            kept.append(_escaped_as_envoy(segment))
    return "/" + "/".join(kept) + ("/" if is_folder and kept else "")


def _escaped_as_envoy(segment: str) -> str:
    if "%" in segment:
        # a % that began no escape must not begin one once what follows is unescaped: %4%31 comes to %2541
        segment = _ESCAPE.sub(_unescaped, _LONE_PERCENT.sub("\0", segment))
        segment = _NESTED.sub("%25", segment).replace("\0", "%")
    return _ESCAPED_BY_ENVOY.sub(lambda found: f"%{ord(found[0]):02X}", segment)


def _unescaped(found: re.Match[str]) -> str:
    code = int(found[1], 16)
    return chr(code) if code in _UNESCAPED_BY_ENVOY else found[0]
