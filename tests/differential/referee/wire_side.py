"""The cases through ``meshlib proxy``, over the wire, with Envoy's echo behind it: what is compared is what arrives there and
what comes back. ``python -m tests.differential.referee.wire_side --decisions N --seed S``."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import logging
import sys
import time
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

from benchmarks.free_ports import free_port
from tests.differential.envoy_process import running
from tests.differential.referee.answers import Answer
from tests.differential.referee.envoy_side import CONNECTIONS, ECHO, EnvoySide, configuration
from tests.differential.referee.generate import HOSTS, SUBSETS, Case, Request, cases, infrastructure
from tests.differential.referee.verdict import Difference, Tally, kind
from tests.support.proxy import Proxy

CASES, REQUESTS, SHOWN = 250, 40, 5
DRAWS = 40
"""Rounds of as many requests as there are connections until our side has drawn the destination that Envoy drew."""
AT = "x-echo-at"
TELLS = ECHO.replace('["x-resp"]', f'["{AT}"] = handle:streamInfo():downstreamLocalAddress(), ["x-resp"]')
"""The echo says at which of its addresses it was called, too."""


def address(host: str, subset: str) -> str:
    """The echo's for a subset of a host."""
    return f"127.0.1.{10 * HOSTS.index(host) + SUBSETS.index(subset) + 1}"


def addresses(cluster: str) -> set[str]:
    """Those that a cluster of Envoy's stands for."""
    if not cluster:
        return {""}
    _, _, subset, host = cluster.split("|")
    return {address(host, each) for each in ((subset,) if subset else SUBSETS)}


def resources(made: Sequence[Case], echo: int) -> list[dict[str, Any]]:
    """Those of the cases, which lead to the echo."""
    every = [*infrastructure(), *(case.service for case in made)]
    for each in every:
        if each["kind"] == "ServiceEntry":
            spec = each["spec"]
            host = spec["hosts"][0]
            spec["endpoints"] = [
                {"address": address(host, version), "ports": {"http": echo}, "labels": {"version": version}}
                for version in SUBSETS
            ]
    return every


@contextlib.contextmanager
def sides(made: Sequence[Case]) -> Iterator[tuple[EnvoySide, EnvoySide]]:
    """Envoy and our proxy, both at work."""
    listen, echo, admin = free_port(), free_port(), free_port()
    config = configuration([case.service for case in made], listen, echo, admin)
    front, behind = config["static_resources"]["listeners"]
    front["filter_chains"][0]["filters"][0]["typed_config"]["normalize_path"] = True  # Istio's default, BASE
    behind["address"]["socket_address"]["address"] = "0.0.0.0"
    lua = behind["filter_chains"][0]["filters"][0]["typed_config"]["http_filters"][0]
    lua["typed_config"]["default_source_code"]["inline_string"] = TELLS
    with running(config, admin), Proxy(resources(made, echo), loops=fastest()) as proxy:
        yield EnvoySide(listen), EnvoySide(proxy.port, AT)


def fastest() -> Any:
    """The event loop of ``meshlib proxy``."""
    try:
        import uvloop
    except ImportError:
        return asyncio.new_event_loop
    return uvloop.new_event_loop


def same(ours: Answer, theirs: Answer) -> bool:
    """Whether they arrived at the same place, and are equal in all else."""
    where = ours.cluster.rpartition(":")[0]
    return where in addresses(theirs.cluster) and replace(ours, cluster=theirs.cluster, route=theirs.route) == theirs


def draws(case: Case) -> bool:
    """Whether a rule leads to several destinations."""
    return any(len(rule.get("route", ())) > 1 for rule in case.service["spec"]["http"])


def judge(made: Sequence[Case]) -> Tally:
    """Ask both sides, and compare."""
    tally = Tally()
    asked: list[tuple[Case, Request]] = [(case, request) for case in made for request in case.requests]
    with sides(made) as (envoy, proxy):
        theirs, ours = (side.ask([request for _, request in asked]) for side in (envoy, proxy))
        for (case, request), their, first in zip(asked, theirs, ours, strict=True):
            our = first
            left = DRAWS if draws(case) else 0
            while left and not same(our, their):  # each side draws its own destination
                drawn = proxy.ask([request] * CONNECTIONS)
                our = next((each for each in drawn if same(each, their)), our)
                left -= 1
            tally.kinds[kind(their)] += 1
            if same(our, their):
                tally.equal += 1
            else:
                tally.laxer.append(Difference(case, request, our, their))
    return tally


def say(*parts: object) -> None:
    sys.stdout.write(" ".join(map(str, parts)) + "\n")
    sys.stdout.flush()


def main(arguments: list[str] | None = None) -> int:
    """0: no difference."""
    logging.disable(logging.WARNING)  # what the loader has to say of generated resources
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--decisions", type=int, default=20_000)
    parser.add_argument("--seed", type=int, default=1)
    options = parser.parse_args(arguments)
    total, number, began = Tally(), options.seed, time.monotonic()
    while total.decisions < options.decisions and len(total.laxer) < 1000:
        count = min(CASES, -(-(options.decisions - total.decisions) // REQUESTS))
        found = judge(cases(number, count, REQUESTS))
        total.add(found)
        number += 1
        rate = total.decisions / (time.monotonic() - began)
        say(
            f"{total.decisions:,} of {options.decisions:,}: {total.equal:,} equal, {len(total.laxer):,} not ({rate:,.0f}/s)"
        )
        for difference in found.laxer[:SHOWN]:
            say(difference)
    say("what they were about:", ", ".join(f"{name} {count:,}" for name, count in total.kinds.most_common()))
    return 1 if total.laxer else 0


if __name__ == "__main__":
    sys.exit(main())
