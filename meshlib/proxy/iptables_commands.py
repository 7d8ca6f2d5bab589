"""The rules of ``iptables.py`` put in force, and taken away: by ``iptables-save`` and ``iptables-restore`` of the flavour that
the system has chosen, or that one is told."""

from __future__ import annotations

import contextlib
import shutil
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from enum import Enum
from pathlib import Path

from meshlib.proxy.iptables import (
    ALL_PORTS,
    CHAINS,
    JUMPS,
    MARK,
    ROUTES,
    Family,
    Interception,
    Table,
    removed,
    restored,
)

SECONDS = 30
"""That a command may take; it waits for others that hold the kernel's lock."""
ISTIO = "ISTIO_OUTPUT"
"""A chain that Istio's own interception always has."""
HAS_IPV6 = Path("/proc/net/if_inet6")


class Flavour(Enum):
    """Which of the kernel's two packet filters; the value is part of the commands' names."""

    SYSTEM = ""
    NFT = "-nft"
    LEGACY = "-legacy"


class NotApplied(Exception):
    """What was asked for is not in force, and nothing has changed. The text says why, and what to do."""


Run = Callable[[Sequence[str], str], "subprocess.CompletedProcess[str]"]
"""A command, and what it reads."""


def run(command: Sequence[str], reads: str) -> subprocess.CompletedProcess[str]:
    """Really. Raises ``NotApplied`` where there is no such command, or it does not end."""
    found = shutil.which(command[0]) or shutil.which(command[0], path="/usr/sbin:/sbin:/usr/bin:/bin")
    if found is None:
        package = "iproute2" if command[0] == "ip" else "iptables"
        raise NotApplied(f"there is no {command[0]} here: install the package {package}")
    try:
        return subprocess.run(
            [found, *command[1:]], input=reads, capture_output=True, text=True, timeout=SECONDS, check=False
        )
    except subprocess.TimeoutExpired:
        raise NotApplied(f"{command[0]} has not ended within {SECONDS} s: another program holds its lock") from None


def families(ipv6: bool | None) -> Sequence[Family]:
    """Those to make rules for. ``ipv6`` None: where the machine has addresses of it."""
    wanted = HAS_IPV6.exists() and bool(HAS_IPV6.read_text().strip()) if ipv6 is None else ipv6
    return (Family.IPV4, Family.IPV6) if wanted else (Family.IPV4,)


@dataclass(frozen=True, slots=True)
class Found:
    """What of ours is there: chains, jumps to them (as often as they are), the rules of the chains."""

    chains: Sequence[str] = ()
    jumps: Sequence[str] = ()
    rules: Sequence[str] = ()
    istio: bool = False

    @property
    def nothing(self) -> bool:
        """Of ours."""
        return not (self.chains or self.jumps)


class Tables:
    """The tables of this network namespace."""

    def __init__(self, flavour: Flavour = Flavour.SYSTEM, run: Run = run) -> None:
        self.flavour = flavour
        self._run = run

    def found(self, family: Family, table: Table = Table.NAT) -> Found:
        """Raises ``NotApplied``."""
        return _read(self._checked(f"{family.value}{self.flavour.value}-save", ["-t", table.value], ""))

    def apply(self, wanted: Interception, ipv6: bool | None = None) -> Mapping[Family, bool]:
        """Put these in force in place of ours that are there: for each family whether anything has changed. Where one table's
        cannot be, all are as before. Raises ``NotApplied``."""
        before: dict[tuple[Family, Table], Found] = {}
        for family in families(ipv6):
            found = self.found(family)
            if found.istio:
                raise NotApplied(
                    "Istio's own interception is in force here (the chain ISTIO_OUTPUT): two proxies cannot both take what the "
                    "application sends. Remove the injected sidecar, or run meshlib in a Pod without one"
                )
            before[family, Table.NAT] = found
            for table in (Table.MANGLE, Table.RAW):
                needed = wanted.needs(table, family)
                there = self._there(family, table, needed)
                if needed or not there.nothing:
                    before[family, table] = there
        changed: dict[Family, bool] = {}
        done: list[tuple[Family, Table]] = []
        for (family, table), found in before.items():
            try:
                new = self._apply_one(wanted, family, table, found)
            except NotApplied as error:
                for each in done:
                    self._back(*each, before[each])
                raise NotApplied(f"{error}. Nothing has changed") from None
            done.append((family, table))
            changed[family] = new or changed.get(family, False)
        return changed

    def remove(self) -> Mapping[Family, bool]:
        """Take ours away, whatever is left of them: for each family whether there were any. Raises ``NotApplied``."""
        changed: dict[Family, bool] = {}
        for family in families(None):
            found = self.found(family)
            mangled, raw = (self._there(family, table, False) for table in (Table.MANGLE, Table.RAW))
            changed[family] = not (found.nothing and mangled.nothing and raw.nothing)
            if not raw.nothing:
                self._restore(family, removed(raw.jumps, raw.chains, Table.RAW))
            if not mangled.nothing:
                self._restore(family, removed(mangled.jumps, mangled.chains, Table.MANGLE))
                self._no_routes(family)
            if not found.nothing:
                self._restore(family, removed(found.jumps, found.chains))
                if family is Family.IPV6 and any(family.to_application in rule for rule in found.rules):
                    with contextlib.suppress(NotApplied):  # it may be gone
                        self._own_address(["del", family.to_application])
        return changed

    def _there(self, family: Family, table: Table, needed: bool) -> Found:
        """What there is of ours in a table for TPROXY or for DNS. A kernel without that table has nothing."""
        try:
            return self.found(family, table)
        except NotApplied:
            if needed:
                raise
            return Found()

    def _routes(self, family: Family) -> None:
        """For packets with the mark, which are for this machine whatever their address."""
        self._no_routes(family)
        version = f"-{family.version}"
        every = "0.0.0.0/0" if family is Family.IPV4 else "::/0"
        self._checked("ip", [version, "route", "replace", "local", every, "dev", "lo", "table", str(ROUTES)], "")
        self._checked("ip", [version, "rule", "add", "fwmark", str(MARK), "lookup", str(ROUTES)], "")

    def _no_routes(self, family: Family) -> None:
        version = f"-{family.version}"
        for what in (
            ["rule", "del", "fwmark", str(MARK), "lookup", str(ROUTES)],
            ["route", "flush", "table", str(ROUTES)],
        ):
            with contextlib.suppress(NotApplied):  # there are none
                self._checked("ip", [version, *what], "")

    def _own_address(self, what: Sequence[str]) -> None:
        self._checked("ip", ["-6", "addr", *what, "dev", "lo"], "")

    def _apply_one(self, wanted: Interception, family: Family, table: Table, found: Found) -> bool:
        if not wanted.needs(table, family):
            self._restore(family, removed(found.jumps, found.chains, table))
            if table is Table.MANGLE:
                self._no_routes(family)
            return True
        if table is Table.MANGLE:
            self._routes(family)
        elif table is Table.NAT and family is Family.IPV6 and ALL_PORTS in wanted.inbound:
            self._own_address(["replace", family.to_application])  # IPv4 has all of 127.0.0.0/8
        self._restore(family, restored(wanted, family, found.jumps, table, found.chains))
        return self.found(family, table) != found

    def _back(self, family: Family, table: Table, found: Found) -> None:
        """As it was before ``apply``."""
        now = self.found(family, table)
        self._restore(family, removed(now.jumps, now.chains, table))
        if not found.nothing:
            self._restore(family, _text(found, table))
        elif table is Table.MANGLE:
            self._no_routes(family)

    def _restore(self, family: Family, text: str) -> None:
        self._checked(f"{family.value}{self.flavour.value}-restore", ["--noflush", "-w", str(SECONDS // 2)], text)

    def _checked(self, command: str, options: Sequence[str], reads: str) -> str:
        done = self._run([command, *options], reads)
        if done.returncode == 0:
            return done.stdout
        why = " ".join(done.stderr.split()) or f"exit code {done.returncode}"
        if "ermission denied" in why or "not permitted" in why or "must be root" in why:
            why += ". It takes CAP_NET_ADMIN: run it as root, in Kubernetes in an init container with that capability"
        raise NotApplied(f"{command}: {why}")


def _read(saved: str) -> Found:
    """What ``iptables-save`` says of the table."""
    chains, jumps, rules, istio = [], [], [], False
    for line in saved.splitlines():
        if line.startswith(":"):
            name = line[1:].split(" ", 1)[0]
            istio = istio or name == ISTIO
            if name in CHAINS:
                chains.append(name)
        elif line.startswith("-A "):
            rule = line[3:].rstrip()
            if rule in JUMPS:
                jumps.append(rule)
            elif rule.split(" ", 1)[0] in CHAINS:
                rules.append(rule)
    return Found(tuple(sorted(chains)), tuple(jumps), tuple(rules), istio)


def _text(found: Found, table: Table) -> str:
    """What makes it again."""
    added = (f"-A {rule}" for rule in (*found.rules, *found.jumps))
    return "\n".join([f"*{table.value}", *(f":{chain} - [0:0]" for chain in found.chains), *added, "COMMIT", ""])
