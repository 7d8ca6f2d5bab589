"""What one side made of a request, in a form that compares."""

from __future__ import annotations

from dataclasses import dataclass

Pairs = tuple[tuple[str, str], ...]

NOT_POLICY = frozenset(
    (
        "x-forwarded-proto",
        "x-forwarded-for",
        "x-request-id",
        "x-envoy-expected-rq-timeout-ms",
        "x-envoy-internal",
        "x-envoy-external-address",
        "content-length",  # of an empty body: codecs differ in when they say 0
    )
)
"""Request headers that a proxy adds for itself."""
COMPARED_ANSWERS = ("x-back", "x-resp", "x-new", "location", "access-control-")


@dataclass(frozen=True)
class Answer:
    """``cluster`` "" and ``method`` "" when nothing was sent upstream; then ``status`` and ``body`` are the local answer's.
    Header names are lower case; requests keep their order."""

    route: str
    status: int
    cluster: str = ""
    method: str = ""
    target: str = ""
    authority: str = ""
    request_headers: Pairs = ()
    body: str = ""
    response_headers: Pairs = ()

    def differences(self, other: Answer) -> list[str]:
        """Fields that differ, with both values."""
        return [
            f"{name}: {mine!r} | {theirs!r}"
            for name in self.__dataclass_fields__
            if (mine := getattr(self, name)) != (theirs := getattr(other, name))
        ]


def request_headers(pairs: list[tuple[str, str]]) -> Pairs:
    """Those that policy may have changed, in order."""
    return tuple((n.lower(), v) for n, v in pairs if n.lower() not in NOT_POLICY and n.lower() != "host")


def response_headers(pairs: list[tuple[str, str]]) -> Pairs:
    """Those that policy may have changed, sorted by name (values of one name in order)."""
    kept = [(n.lower(), v) for n, v in pairs if n.lower().startswith(COMPARED_ANSWERS)]
    return tuple(sorted(kept, key=lambda pair: pair[0]))
