"""Network namespaces of a test's own."""

from __future__ import annotations

import contextlib
import ctypes
import functools
import os
import shutil
import subprocess
import sys
from collections.abc import Iterator, Sequence

from tests.support.forked import MAIN, Forked

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
TOOLS = ("unshare", "nsenter", "setpriv", "ip", "iptables-nft", "iptables-legacy", "ip6tables-nft")
SECONDS = 60
CLONE_NEWNET = 0x40000000


class Namespace:
    """Runs commands in it. ``pid`` is that of the process that keeps it."""

    def __init__(self, pid: int) -> None:
        self.pid = pid

    def inside(self, command: Sequence[str], group: int | None = None) -> list[str]:
        """The command line that runs this one in there, as this group."""
        who = [] if group is None else [_found("setpriv"), f"--regid={group}", "--clear-groups"]
        return [_found("nsenter"), f"--net=/proc/{self.pid}/ns/net", *who, *command]

    def run(self, *command: str, group: int | None = None, reads: str = "") -> subprocess.CompletedProcess[str]:
        """To its end."""
        line = self.inside([_found(command[0]), *command[1:]], group)
        return subprocess.run(line, input=reads, capture_output=True, text=True, timeout=SECONDS, check=False)

    def python(self, program: str, *arguments: str, group: int | None = None) -> str:
        """What a program of Python prints."""
        done = self.run(sys.executable, "-c", program, *arguments, group=group)
        assert done.returncode == 0, done.stderr
        return done.stdout

    def start(self, command: Sequence[str], group: int | None = None) -> subprocess.Popen[str]:
        """And go on."""
        return subprocess.Popen(
            self.inside(command, group), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True
        )

    def meshlib(self, *arguments: str, group: int | None = None) -> Forked:
        """The command ``meshlib``, forked, as its start is nothing to tests of what it does in there."""
        return Forked(f"from tests.support.namespace import enter; enter({self.pid}, {group}); {MAIN}", *arguments)

    def run_meshlib(self, *arguments: str) -> str:
        """To its end; what it has said."""
        with self.meshlib(*arguments) as process:
            said = process.stdout.read()
            assert process.wait(SECONDS) == 0, said
        return said


def enter(pid: int, group: int | None) -> None:
    """This process is in the network namespace of that one from now on, and of this group alone."""
    with open(f"/proc/{pid}/ns/net", "rb") as there:
        assert ctypes.CDLL(None).setns(there.fileno(), CLONE_NEWNET) == 0, "no way in"
    if group is not None:
        os.setgroups([])
        os.setresgid(group, group, group)


def end(*processes: subprocess.Popen[str] | Forked) -> None:
    """As an operator would."""
    for process in processes:
        process.terminate()
    for process in processes:
        assert process.stdout is not None
        process.stdout.read()
        process.wait(SECONDS)
        process.stdout.close()


@contextlib.contextmanager
def _empty() -> Iterator[Namespace]:
    keeper = subprocess.Popen(
        [_found("unshare"), "--net", sys.executable, "-c", "print('up', flush=True); input()"],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    assert keeper.stdin is not None
    assert keeper.stdout is not None
    try:
        assert keeper.stdout.readline() == "up\n"
        yield Namespace(keeper.pid)
    finally:
        keeper.stdin.close()
        keeper.wait(SECONDS)
        keeper.stdout.close()


@contextlib.contextmanager
def namespaces() -> Iterator[tuple[Namespace, Namespace]]:
    """Two that are connected: 10.1.0.1 and fd00:1::1 is the first, 10.1.9.9 the second. 10.1.0.5 and the like are nobody."""
    with _empty() as here, _empty() as there:
        for made, line in (
            (here, "link set lo up"),
            (there, "link set lo up"),
            (here, f"link add out type veth peer name out netns {there.pid}"),
            (here, "addr add 10.1.0.1/16 dev out"),
            (here, "-6 addr add fd00:1::1/64 dev out nodad"),
            (there, "addr add 10.1.9.9/16 dev out"),
            (here, "link set out up"),
            (there, "link set out up"),
        ):
            done = made.run("ip", *line.split())
            assert done.returncode == 0, (line, done.stderr)
        yield here, there


@contextlib.contextmanager
def namespace() -> Iterator[Namespace]:
    """The first of two."""
    with namespaces() as (made, _):
        yield made


@functools.cache
def why_none() -> str:
    """Why there are none here, "" when there are."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if missing:
        return f"NO {', '.join(missing)}: interception is NOT tested"
    if os.geteuid() != 0:
        return "NOT root: interception is NOT tested"
    try:
        with namespace() as made:
            for flavour in ("nft", "legacy"):
                done = made.run(f"iptables-{flavour}", "-w", "30", "-t", "nat", "-L")
                if done.returncode:
                    return f"NO nat table of {flavour}: interception is NOT tested ({done.stderr.strip()})"
    except (AssertionError, OSError) as error:
        return f"NO network namespaces: interception is NOT tested ({error})"
    return ""


def _found(tool: str) -> str:
    return shutil.which(tool, path=PATH) or tool
