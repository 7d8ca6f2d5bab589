"""What a verified token says of the request: its principal, issuer and subject, and its claims."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TypeAlias

from meshlib.policy.authorization.patterns import Entries, Patterns

Issued: TypeAlias = tuple[str | None, str | None]
"""Issuer and subject; None: the token has no such text, or there is no token."""


class VerifiedClaims(dict[str, object]):
    """The claims of a token that was verified, as they will always be. ``found`` is what one table of rules has found of them
    (a mark of the table, and its clauses that they leave), ``decided`` what its policies have decided of the last request (a
    mark, the clauses that all else has left, and the decision): the next one with this token need only ask for it."""

    __slots__ = ("decided", "found")

    def __init__(self, claims: Mapping[str, object]) -> None:
        super().__init__(claims)
        self.found: tuple[object, int] = (None, 0)
        self.decided: tuple[object, int, object] = (None, 0, None)

    def __repr__(self) -> str:
        return f"<VerifiedClaims {', '.join(self)}>"  # no values: they are about a person


def issued(claims: Mapping[str, object] | None) -> Issued:
    """Issuer and subject of the token with these claims."""
    if claims is None:
        return None, None
    issuer, subject = claims.get("iss"), claims.get("sub")
    return issuer if isinstance(issuer, str) else None, subject if isinstance(subject, str) else None


class RequestPrincipals:
    """Which bits have a pattern of a token's ``issuer/subject`` (``halves``)."""

    __slots__ = ("_exact", "_others")

    def __init__(self, entries: Entries, certain: int = 0) -> None:
        self._exact: dict[Issued, int] = {}
        others: dict[tuple[Half, Half, bool], int] = {}
        for bits, values in entries:
            for value in values:
                for some, surely in ((bits & certain, True), (bits & ~certain, False)):
                    issuer, subject = halves(value, surely)
                    if issuer[0] == subject[0] == "exact":
                        exact = issuer[1], subject[1]
                        self._exact[exact] = self._exact.get(exact, 0) | some
                    elif some:
                        others[issuer, subject, surely] = others.get((issuer, subject, surely), 0) | some
        self._others = [
            (bits, _test(issuer, surely), _test(subject, surely)) for (issuer, subject, surely), bits in others.items()
        ]

    def __call__(self, who: Issued) -> int:
        """The bits."""
        issuer, subject = who
        if issuer is None or subject is None:
            return 0
        found = self._exact.get(who, 0)
        for bits, issuers, subjects in self._others:
            if issuers(issuer) and subjects(subject):
                found |= bits
        return found


Half: TypeAlias = tuple[str, str]
"""``exact``, ``prefix``, ``suffix`` or ``any``, and the text."""
_ANY = ("any", "")


def halves(value: str, certain: bool = False) -> tuple[Half, Half]:
    """What issuer and subject must be. A value is split at its last slash. When ``certain`` a ``*`` is one where Istio takes it
    for one: at the beginning of the whole value, else at its end; of ``*/*`` it makes the subject ``*`` to the letter. Else
    it is one at either end of either half, which is what people mean, and more than Istio matches."""
    issuer, slash, subject = value.rpartition("/")
    if value == "*":
        return _ANY, _ANY
    if not slash:
        if value.startswith("*"):
            return _ANY, _half(value)
        return (_half(value), _ANY) if value.endswith("*") else (("exact", value), ("exact", ""))
    if not certain:
        return _half(issuer), _half(subject)
    if value.startswith("*"):
        return _half(issuer), ("exact", subject)
    return ("exact", issuer), _half(subject) if value.endswith("*") else ("exact", subject)


def _half(pattern: str) -> Half:
    if pattern == "*":
        return _ANY
    if pattern.startswith("*"):
        return "suffix", pattern[1:]
    return ("prefix", pattern[:-1]) if pattern.endswith("*") else ("exact", pattern)


def _test(half: Half, certain: bool) -> Callable[[str], object]:
    kind, text = half
    if kind == "exact":
        return text.__eq__
    if kind == "any":
        return Patterns([(1, ["*"])], int(certain))
    return (lambda value: value.startswith(text)) if kind == "prefix" else (lambda value: value.endswith(text))


Reader: TypeAlias = Callable[[Mapping[str, object] | None], tuple[str, ...]]


def claim_reader(names: tuple[str, ...]) -> Reader:
    """Reads the texts of a claim, the names of objects around it first: a text, or those in a list."""

    def read(claims: Mapping[str, object] | None) -> tuple[str, ...]:
        found: object = claims
        for name in names:
            if not isinstance(found, Mapping):
                return ()
            found = found.get(name)
        if isinstance(found, str):
            return (found,)
        if isinstance(found, list | tuple):
            return tuple([item for item in found if isinstance(item, str)])
        return ()

    return read


def claim_names(key: str) -> tuple[str, ...]:
    """The names in ``[a][b]``; in anything else one name, which is all between the first and the last bracket."""
    inner = key[1:-1]
    names = inner.split("][")
    return (inner,) if any("[" in name or "]" in name for name in names) else tuple(names)


class Claims:
    """Which bits have a pattern of one of the texts of a claim."""

    __slots__ = ("_patterns",)

    def __init__(self, entries: Entries, certain: int = 0) -> None:
        self._patterns = Patterns(entries, certain)

    def __call__(self, texts: tuple[str, ...]) -> int:
        """The bits."""
        found = 0
        for text in texts:
            found |= self._patterns(text)
        return found
