"""The cases: a host's rules, and calls to it."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import grpc

from tests.differential.grpcside.ask import KINDS, Ask
from tests.support.grpc_echo import SERVICE
from tests.support.resources import to

Config = dict[str, Any]
ALWAYS = {"value": 100}
NO_RETRY = {"attempts": 0}
FAST = "1ms"


@dataclass(frozen=True)
class Case:
    """Rules of a host of its own (HOST and AUTHORITY stand for its name), and the calls that are made to it in order."""

    name: str
    rules: tuple[Config, ...]
    asks: tuple[Ask, ...] = (Ask(),)


def rule(target: Any = "a", **more: Any) -> Config:
    """A rule that forwards, without retries unless told."""
    targets = [to(target)] if isinstance(target, str) else target
    return {"route": targets, "retries": NO_RETRY, **more}


def abort(**what: Any) -> Config:
    return {"abort": {**what, "percentage": ALWAYS}}


def delay(seconds: str) -> Config:
    return {"delay": {"fixedDelay": seconds, "percentage": ALWAYS}}


def asks(*scripts: str, **more: Any) -> tuple[Ask, ...]:
    return tuple(Ask(script, **more) for script in scripts)


STATUSES = [code.name for code in grpc.StatusCode if code is not grpc.StatusCode.OK]


def faults() -> list[Case]:
    made = [
        Case(f"abort {status}", (rule(fault=abort(httpStatus=status)),))
        for status in (200, 201, 302, 400, 401, 403, 404, 408, 413, 418, 429, 431, 499, 500, 501, 502, 503, 504, 599)
    ]
    made += [Case(f"abort {name}", (rule(fault=abort(grpcStatus=name)),)) for name in STATUSES]
    made.append(Case("abort OK", (rule(fault=abort(grpcStatus="OK")),)))
    made.append(
        Case("abort of every kind of call", (rule(fault=abort(httpStatus=503)),), tuple(Ask(kind=k) for k in KINDS))
    )
    made.append(Case("delay", (rule(fault=delay("150ms")),), (Ask(), Ask(kind="Chat"))))
    made.append(Case("delay and abort", (rule(fault={**delay("150ms"), **abort(httpStatus=429)}),)))
    made.append(Case("delay longer than the route's timeout", (rule(fault=delay("200ms"), timeout="100ms"),)))
    made.append(
        Case(
            "abort for some metadata only",
            (rule(match=[{"headers": {"end-user": {"exact": "jason"}}}], fault=abort(httpStatus=500)), rule("b")),
            (Ask(), Ask(metadata=(("end-user", "jason"),)), Ask(metadata=(("end-user", "jason"), ("end-user", "x")))),
        )
    )
    made.append(
        Case("abort is not retried", (rule(fault=abort(httpStatus=503), retries={"attempts": 3, "retryOn": "5xx"}),))
    )
    made.append(
        Case(
            "abort with header operations",
            (
                rule(
                    fault=abort(httpStatus=503),
                    headers={"request": {"set": {"x-a": "1"}}, "response": {"set": {"x-b": "1"}, "remove": ["server"]}},
                ),
            ),
        )
    )
    return made


def everything(kinds: Any = KINDS) -> tuple[Ask, ...]:
    return tuple(Ask(kind=kind) for kind in kinds)


def matching() -> list[Case]:
    unary, prefix = f"/{SERVICE}/Unary", f"/{SERVICE}/"
    other = "meshlib.test.Other"
    both = tuple(Ask(kind=kind, service=service) for service in (SERVICE, other) for kind in KINDS)

    def by(*blocks: Config) -> tuple[Config, ...]:
        return (rule("b", match=list(blocks)), rule("a"))

    pairs = (
        ((), "nothing"),
        ((("x-k", "one"),), "one"),
        ((("x-k", "ones"),), "longer"),
        ((("x-k", ""),), "empty"),
        ((("x-k", "one"), ("x-k", "two")), "repeated"),
        ((("x-k", "two"), ("x-k", "one")), "repeated the other way"),
        ((("x-k", "ONE"),), "capitals"),
        ((("x-k", "one two"),), "a space"),
    )
    metadata = tuple(Ask(metadata=m) for m, _ in pairs)
    binary = tuple(
        Ask(metadata=m)
        for m in (
            (),
            (("k-bin", b"\x01\x02\xff"),),
            (("k-bin", b"\x01\x02\xff\x00"),),
            (("k-bin", b"\x01"), ("k-bin", b"\x02")),
        )
    )
    made = [
        Case("uri exact", by({"uri": {"exact": unary}}), both),
        Case("uri prefix", by({"uri": {"prefix": prefix}}), both),
        Case("uri prefix of a part", by({"uri": {"prefix": f"{prefix}Un"}}), both),
        Case("uri regex", by({"uri": {"regex": r"/meshlib\.test\.(Echo|X)/(Unary|Chat)"}}), both),
        Case("uri regex of a part", by({"uri": {"regex": r"Echo"}}), both),
        Case("uri in other case", by({"uri": {"exact": unary.lower()}}), both),
        Case("uri ignoring case", by({"uri": {"exact": unary.lower()}, "ignoreUriCase": True}), both),
        Case("method POST", by({"method": {"exact": "POST"}}), both[:1]),
        Case("method GET", by({"method": {"exact": "GET"}}), both[:1]),
        Case("scheme http", by({"scheme": {"exact": "http"}}), both[:1]),
        Case("content-type", by({"headers": {"content-type": {"exact": "application/grpc"}}}), both[:1]),
        Case("te", by({"headers": {"te": {"exact": "trailers"}}}), both[:1]),
        Case("user-agent", by({"headers": {"user-agent": {"regex": "grpc-python.*"}}}), both[:1]),
        Case("grpc-timeout is there", by({"headers": {"grpc-timeout": {}}}), (Ask(), Ask(timeout=None))),
        Case("authority exact", by({"authority": {"exact": "AUTHORITY"}}), both[:1]),
        Case("authority without the port", by({"authority": {"exact": "HOST"}}), both[:1]),
        Case("authority prefix", by({"authority": {"prefix": "HOST"}}), both[:1]),
        Case("authority regex", by({"authority": {"regex": "HOST.*"}}), both[:1]),
        Case("another authority", by({"authority": {"exact": "other.test"}}), both[:1]),
        Case("query parameters", by({"queryParams": {"a": {"exact": "b"}}}), both[:1]),
        Case("without a header", by({"withoutHeaders": {"x-k": {"exact": "one"}}}), metadata),
        Case("without a header at all", by({"withoutHeaders": {"x-k": {}}}), metadata),
        Case("without -bin", by({"withoutHeaders": {"k-bin": {}}}), binary),
        Case("-bin exact", by({"headers": {"k-bin": {"exact": "AQL/"}}}), binary),
        Case("-bin prefix", by({"headers": {"k-bin": {"prefix": "AQL/"}}}), binary),
        Case("-bin regex", by({"headers": {"k-bin": {"regex": "AQ.*"}}}), binary),
        Case("-bin repeated", by({"headers": {"k-bin": {"exact": "AQ,Ag"}}}), binary),
        Case(
            "-bin with padding",
            by({"headers": {"k-bin": {"exact": "AQ=="}}}),
            (*binary, Ask(metadata=(("k-bin", b"\x01"),))),
        ),
        Case(
            "-bin without padding",
            by({"headers": {"k-bin": {"exact": "AQ"}}}),
            (*binary, Ask(metadata=(("k-bin", b"\x01"),))),
        ),
    ]
    for kind, value in (
        ("exact", "one"),
        ("prefix", "one"),
        ("regex", "one.*"),
        ("exact", "one,two"),
        ("regex", "two.*one"),
    ):
        made.append(Case(f"metadata {kind} {value}", by({"headers": {"x-k": {kind: value}}}), metadata))
    made.append(Case("metadata is there", by({"headers": {"x-k": {}}}), metadata))
    made.append(Case("metadata name in capitals", by({"headers": {"X-K": {"exact": "one"}}}), metadata))
    made.append(
        Case(
            "two blocks and two conditions",
            by(
                {"uri": {"exact": unary}, "headers": {"x-k": {"exact": "one"}}}, {"headers": {"x-k": {"exact": "ones"}}}
            ),
            metadata,
        )
    )
    return made


def missing() -> list[Case]:
    out = [
        Case("no route", (rule(match=[{"uri": {"exact": "/else"}}]),), everything()),
        Case("no cluster", (rule("elsewhere.test"),), everything()),
        Case("no subset", (rule([to("a", "v9")]),), everything(("Unary",))),
        Case("no endpoint", (rule("nobody"),), everything()),
        Case("no endpoint with retries", (rule("nobody", retries={"attempts": 2, "retryOn": "5xx,unavailable"}),)),
        Case("refused", (rule("refused"),), everything()),
        Case(
            "refused with retries",
            (rule("refused", retries={"attempts": 2, "retryOn": "connect-failure", "backoff": FAST}),),
        ),
        Case(
            "direct response", ({"directResponse": {"status": 503, "body": {"string": "closed today"}}},), everything()
        ),
        Case("redirect", ({"redirect": {"uri": "/x", "authority": "b.test"}},), everything(("Unary", "Expand"))),
    ]
    out += [
        Case(f"direct response {status}", ({"directResponse": {"status": status}},))
        for status in (200, 204, 301, 400, 401, 403, 404, 418, 429, 500, 502, 504)
    ]
    out.append(
        Case("direct response 200 with a body", ({"directResponse": {"status": 200, "body": {"string": "hello"}}},))
    )
    out.append(
        Case("direct response, odd body", ({"directResponse": {"status": 403, "body": {"string": "nö % \n x"}}},))
    )
    return out


def times() -> list[Case]:
    """Slow servers that know no deadlines, as the raw one, so that it is Envoy's clock that decides."""
    per_try = {"attempts": 2, "perTryTimeout": "80ms", "backoff": FAST}
    made = [
        Case(
            "route timeout",
            (rule("raw", timeout="80ms"),),
            asks("2", "ok") + asks("2", kind="Expand") + asks("2", kind="Chat"),
        ),
        Case(
            "route timeout over a stream",
            (rule("raw", timeout="120ms"),),
            asks("w2", kind="Expand") + asks("w2", kind="Chat"),
        ),
        Case("no route timeout", (rule("raw"),), asks("0.1")),
        Case(
            "per try timeout over a stream",
            (rule("raw", retries={**per_try, "retryOn": "5xx"}),),
            asks("w2", kind="Expand", timeout=0.4, races=True),
        ),
        Case(
            "route timeout during retries",
            (rule("raw", timeout="120ms", retries={**per_try, "retryOn": "5xx"}),),
            asks("2,2,2"),
        ),
        Case(
            "route timeout is retried",
            (rule("raw", timeout="80ms", retries={"attempts": 2, "retryOn": "5xx,unavailable,deadline-exceeded"}),),
            asks("2,ok"),
        ),
        Case(
            "caller's deadline, no route timeout",
            (rule("raw"),),
            asks("2", timeout=0.15, races=True) + asks("2", timeout=0.15, kind="Chat", races=True),
        ),
        Case("caller's deadline below the route's", (rule("raw", timeout="2s"),), asks("2", timeout=0.15, races=True)),
        Case("caller's deadline above the route's", (rule("raw", timeout="100ms"),), asks("2", timeout=5.0)),
        Case(
            "caller's deadline over retries",
            (rule("raw", retries={**per_try, "retryOn": "5xx"}),),
            asks("2,2,2", timeout=0.12, races=True),
        ),
        Case(
            "caller's deadline is told to the server",
            (rule(),),
            (Ask(timeout=5.0), Ask(timeout=None), Ask("s14,ok", timeout=5.0)),
        ),
        Case(
            "the shorter is told to the server",
            (rule(timeout="2s"),),
            (Ask(timeout=5.0), Ask(timeout=1.0), Ask(timeout=None)),
        ),
        Case(
            "per try timeout is told to the server",
            (rule(timeout="3s", retries={**per_try, "perTryTimeout": "1s", "retryOn": "5xx"}),),
            (Ask(timeout=5.0), Ask(timeout=0.5), Ask(timeout=None)),
        ),
        Case(
            "timeout headers of a caller",
            (rule("raw", timeout="2s"),),
            (
                Ask("0.2", metadata=(("x-envoy-upstream-rq-timeout-ms", "100"),)),
                Ask("0.2", metadata=(("x-envoy-upstream-rq-per-try-timeout-ms", "100"),)),
            ),
        ),
    ]
    made += [
        Case(
            f"per try timeout, retry on {c}",
            (rule("raw", retries={**per_try, "retryOn": c}),),
            asks("2,2,2" if c == "5xx" else "2,ok"),
        )
        for c in (
            "5xx",
            "gateway-error",
            "reset",
            "connect-failure",
            "unavailable",
            "deadline-exceeded",
            "cancelled",
            "504",
        )
    ]
    made.append(Case("per try timeout, default conditions", (rule("raw", retries=per_try),), asks("2,ok")))
    return made


def changes() -> list[Case]:
    operations = {
        "request": {
            "set": {"x-set": "new", "x-there": "changed"},
            "add": {"x-there2": "more", "x-add": "1"},
            "remove": ["x-gone"],
        },
        "response": {"set": {"x-back": "set", "x-new": "1"}, "add": {"x-head": "more"}, "remove": ["answered-by"]},
    }
    sent = (
        ("x-there", "old"),
        ("x-there2", "old"),
        ("x-gone", "1"),
        ("x-kept", "1"),
        ("x-kept", "2"),
        ("raw-bin", b"\x00\xff\x10"),
    )
    several = (
        Ask(metadata=sent),
        Ask(metadata=sent, kind="Chat"),
        Ask("s14", metadata=sent),
        Ask("h14", metadata=sent),
    )
    return [
        Case("nothing changed", (rule(),), several),
        Case("header operations", (rule(headers=operations),), several),
        Case("a destination's header operations", (rule([{**to("a"), "headers": operations}]),), several),
        Case(
            "both",
            (
                rule(
                    [
                        {
                            **to("a"),
                            "headers": {
                                "request": {"add": {"x-o": "destination"}},
                                "response": {"add": {"x-o": "destination"}},
                            },
                        }
                    ],
                    headers={"request": {"add": {"x-o": "rule"}}, "response": {"add": {"x-o": "rule"}}},
                ),
            ),
        ),
        Case(
            "operations on a -bin name",
            (rule(headers={"request": {"set": {"k-bin": "AQID"}, "remove": ["raw-bin"]}}),),
            (Ask(metadata=sent),),
        ),
        Case(
            "operators in values",
            (
                rule(
                    headers={"request": {"set": {"x-p": "%REQ(:path)%", "x-m": "%REQ(:method)%", "x-q": "%PROTOCOL%"}}}
                ),
            ),
        ),
        Case(
            "response operations on a local answer",
            (rule("nobody", headers={"response": {"set": {"x-new": "1"}, "add": {"x-add": "2"}}}),),
        ),
        Case(
            "response operations on a direct response",
            ({"directResponse": {"status": 503}, "headers": {"response": {"set": {"x-new": "1"}}}},),
        ),
        Case(
            "remove what gRPC sends",
            (rule(headers={"request": {"remove": ["user-agent", "grpc-timeout"]}}),),
            (Ask(), Ask(kind="Chat")),
        ),
        Case(
            "set grpc-timeout",
            (rule(headers={"request": {"set": {"grpc-timeout": "1S"}}}),),
            (Ask(), Ask(timeout=None)),
        ),
        Case("set grpc-status", (rule(headers={"response": {"set": {"grpc-status": "7"}}}),), asks("ok", "s14", "h14")),
        Case(
            "set grpc-message",
            (rule(headers={"response": {"set": {"grpc-message": "hidden"}}}),),
            asks("ok", "s14", "h14"),
        ),
        Case("rewrite of the authority", (rule(rewrite={"authority": "other.test:81"}),), everything()),
        Case("authority by header operation", (rule(headers={"request": {"set": {"host": "other.test"}}}),)),
        Case(
            "rewrite of the uri",
            (rule(match=[{"uri": {"prefix": f"/{SERVICE}/"}}], rewrite={"uri": "/pkg.New/"}),),
            everything(),
        ),
        Case(
            "rewrite of an exact uri",
            (rule(match=[{"uri": {"exact": f"/{SERVICE}/Unary"}}], rewrite={"uri": "/pkg.New/Unary"}),),
        ),
        Case(
            "rewrite by regex",
            (rule(rewrite={"uriRegexRewrite": {"match": r"^/([^/]+)\.Echo/(.*)$", "rewrite": r"/\1.v2.Echo/\2"}}),),
            everything(),
        ),
        Case(
            "a mirror",
            (rule(mirror={"host": "b"}, headers={"request": {"set": {"x-set": "1"}}}),),
            (Ask(copies=2), Ask(copies=2, kind="Expand"), Ask(copies=2, kind="Chat"), Ask(copies=2, script="s14")),
        ),
        Case("a mirror to nobody", (rule(mirror={"host": "nobody"}),)),
        Case(
            "a mirror and another authority",
            (rule(mirror={"host": "b"}, rewrite={"authority": "other.test:81"}),),
            (Ask(copies=2),),
        ),
    ]


CONDITIONS = (
    "cancelled", "deadline-exceeded", "internal", "resource-exhausted", "unavailable", "5xx", "gateway-error", "reset",
    "connect-failure", "refused-stream", "retriable-4xx", "503", "429", "5xx,unavailable", "reset-before-request",
)  # fmt: skip


def retries() -> list[Case]:
    """Every condition against every status in a trailers-only answer, and against what is no trailers-only answer."""
    made = []
    late = asks("h14,ok", "h1,ok", "h13,ok") + asks("m14,ok", "m13,ok", kind="Expand") + asks("m14,ok", kind="Chat")
    for condition in CONDITIONS:
        policy = {"attempts": 2, "retryOn": condition, "backoff": FAST}
        made.append(
            Case(f"retry on {condition}", (rule(retries=policy),), asks(*(f"s{n},ok" for n in range(1, 17))) + late)
        )
    many = asks("s14,s14,s14,s14,ok", "s14,s1,ok", "s14,s5,ok", "s14,h14,ok", "s14,ok") + asks(
        "s14,m14", "s14", kind="Chat"
    )
    for attempts in (1, 3):
        policy = {"attempts": attempts, "retryOn": "unavailable,cancelled", "backoff": FAST}
        made.append(Case(f"{attempts} retries", (rule(retries=policy),), many))
        made.append(Case(f"{attempts} retries over two endpoints", (rule("ab", retries=policy),), many))
    made.append(
        Case("default retries", ({"route": [to("ab")]},), asks("s14,ok", "s1,ok", "s13,ok", "s14,s14,s14,ok", "s8,ok"))
    )
    headers = (("x-envoy-retry-grpc-on", "internal"), ("x-envoy-max-retries", "1"))
    made.append(
        Case(
            "conditions of the caller",
            (rule(retries={"attempts": 3, "retryOn": "cancelled", "backoff": FAST}),),
            (
                Ask("s13,s13,s13,ok", metadata=headers),
                Ask("s1,s1,ok", metadata=headers),
                Ask("s1,s1,ok", metadata=headers[1:]),
            ),
        )
    )
    made.append(
        Case(
            "attempt counts are told",
            (rule("raw", retries={"attempts": 3, "retryOn": "unavailable", "backoff": FAST}),),
            asks("s14,s14,ok", kind="Chat") + asks("s14,s14,ok", kind="Collect") + asks("s14,s14,ok"),
        )
    )
    return made


BROKEN = (
    "rst0", "rst2", "rst7", "rst8", "rst11", "hrst2", "hrst8", "hrst7", "mrst2", "mrst8", "mrst0", "close", "hclose",
    "mclose", "goaway", "http200", "http404", "http409", "http429", "http500", "http503", "http504", "grpc404", "grpc409",
    "grpc429", "grpc503", "grpc500", "nostatus", "notrailers", "s99", "s16",
)  # fmt: skip


BREAKS = ("5xx", "gateway-error", "reset", "refused-stream", "connect-failure", "unavailable", "retriable-4xx", "503,429",
          "internal", "cancelled")  # fmt: skip

ALIKE = ("hrst2", "hrst7", "mrst8", "mrst0", "mclose", "http409", "http504")
"""Asked once only, without retries: as others of their kind."""


def broken() -> list[Case]:
    """What no gRPC server does, and whether it is tried again."""
    every = tuple(Ask(step, kind=kind) for step in BROKEN for kind in ("Unary", "Expand"))
    made = [Case("broken", (rule("raw"),), every)]
    for condition in BREAKS:
        policy = {"attempts": 2, "retryOn": condition, "backoff": FAST}
        again = asks(*(f"{step},ok" for step in BROKEN if step not in ALIKE))
        again += asks("rst8,ok", "rst7,ok", "close,ok", "hrst8,ok", "hclose,ok", "mrst2,ok", kind="Expand")
        again += asks("rst8,ok", "close,ok", "hrst8,ok", kind="Chat")
        made.append(Case(f"broken, retry on {condition}", (rule("raw", retries=policy),), again))
    return made
