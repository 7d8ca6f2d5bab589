"""Network namespaces on this machine, as Kubernetes makes them: one a pod, all at one bridge of a node. The node's own is made
by ``unshare``, in whose processes this runs: nothing of it outlives them, and nothing of the machine's network is touched."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path

PATH = f"{os.environ.get('PATH', '')}:/usr/sbin:/sbin"
TOOLS = ("unshare", "nsenter", "setpriv", "ip", "iptables", "mount")
SECONDS = 60
GROUP = 1337
"""What proxies run as, whose connections nothing leads back to them."""
NODE, WIDTH = "10.97.0.1", 16
BRIDGE = "meshlib0"
HOSTS = "/etc/hosts"
KEEPER = "print('up', flush=True); input()"
MESHLIB = "from meshlib.cli.main import main; main()"


class NoNamespaces(RuntimeError):
    """Something that the namespaces are made with has failed; the message has what it said."""


def why_none() -> str:
    """Why namespaces cannot be had here, "" when they can."""
    missing = [tool for tool in TOOLS if shutil.which(tool, path=PATH) is None]
    if missing:
        return f"there is no {', '.join(missing)}"
    if os.geteuid() != 0:
        return "this is not root"
    tried = subprocess.run(
        [
            *apart(),
            _found("sh"),
            "-c",
            f"{_found('ip')} link add {BRIDGE} type bridge && {_found('iptables')} -t nat -L >/dev/null",
        ],
        capture_output=True,
        text=True,
        timeout=SECONDS,
        check=False,
    )
    return f"the kernel refuses ({tried.stderr.strip()})" if tried.returncode else ""


def apart() -> list[str]:
    """What a command begins with that runs in a node of its own."""
    return [_found("unshare"), "--net", "--mount", "--propagation", "private"]


class Node:
    """The namespace that this process is in (``apart``). ``pod`` makes another one."""

    def __init__(self) -> None:
        self._pods: list[Pod] = []
        _run("ip", "link", "set", "lo", "up")
        _run("ip", "link", "add", BRIDGE, "type", "bridge")
        _run("ip", "addr", "add", f"{NODE}/{WIDTH}", "dev", BRIDGE)
        _run("ip", "link", "set", BRIDGE, "up")

    def names(self, addresses: Mapping[str, str], file: Path) -> None:
        """Let all processes here find these hosts at these addresses, as a cluster's DNS would."""
        lines = ["127.0.0.1 localhost", *(f"{address} {name}" for name, address in addresses.items())]
        file.write_text("\n".join(lines) + "\n")
        _run("mount", "--bind", str(file), HOSTS)

    def pod(self) -> Pod:
        """One more, at an address of its own."""
        made = Pod(len(self._pods) + 1)
        self._pods.append(made)
        return made

    def stop(self) -> None:
        """End all that keeps the namespaces of pods."""
        for pod in self._pods:
            pod.stop()
        self._pods.clear()


class Pod:
    """A ``Place`` whose applications know of no proxy, once ``lead`` has been called."""

    led = True

    def __init__(self, number: int) -> None:
        self.host = f"10.97.1.{number}"
        self._keeper = subprocess.Popen(
            [_found("unshare"), "--net", sys.executable, "-c", KEEPER],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            start_new_session=True,
        )
        assert self._keeper.stdout is not None
        if self._keeper.stdout.readline() != b"up\n":
            raise NoNamespaces(f"the namespace of {self.host} was not made")
        pid = str(self._keeper.pid)
        _run("ip", "link", "add", f"pod{number}", "type", "veth", "peer", "name", "eth0", "netns", pid)
        _run("ip", "link", "set", f"pod{number}", "master", BRIDGE)
        _run("ip", "link", "set", f"pod{number}", "up")
        for line in (
            "link set lo up",
            f"addr add {self.host}/{WIDTH} dev eth0",
            "link set eth0 up",
            f"route add default via {NODE}",
        ):
            _run(*self._inside([_found("ip"), *line.split()]))

    def lead(self, port: int, inbound: int, outbound: int) -> None:
        """Lead what comes to the application's ``port``, and what it sends, to the proxy's ports. Raises NoNamespaces."""
        command = [sys.executable, "-c", MESHLIB, "iptables", "apply", "--proxy-group", str(GROUP), "--no-ipv6"]
        command += ["--inbound", f"{port}:{inbound}", "--outbound-port", str(outbound)]
        _run(*self._inside(command))

    def app(self, command: Sequence[str]) -> list[str]:
        """In the namespace."""
        return self._inside(command)

    def proxy(self, command: Sequence[str]) -> list[str]:
        """In the namespace, as the group whose connections are left alone."""
        return self._inside([_found("setpriv"), f"--regid={GROUP}", "--clear-groups", *command])

    def stop(self) -> None:
        """End what keeps the namespace."""
        self._keeper.kill()
        self._keeper.wait()
        for stream in (self._keeper.stdin, self._keeper.stdout):
            if stream is not None:
                stream.close()

    def _inside(self, command: Sequence[str]) -> list[str]:
        return [_found("nsenter"), f"--net=/proc/{self._keeper.pid}/ns/net", *command]


def _run(*command: str) -> None:
    """Raises NoNamespaces with what it said."""
    line = [_found(command[0]), *command[1:]]
    done = subprocess.run(line, capture_output=True, text=True, timeout=SECONDS, check=False)
    if done.returncode:
        raise NoNamespaces(f"{' '.join(command)}: {done.stderr.strip() or done.stdout.strip()}")


def _found(tool: str) -> str:
    return shutil.which(tool, path=PATH) or tool
