"""``meshlib iptables``: what is typed, and what is said. (The rules: tests/proxy/test_iptables.py.)"""

from __future__ import annotations

import subprocess

import pytest
from click.testing import CliRunner

from meshlib.cli.main import main
from meshlib.proxy import iptables_commands


def typed(*words: str):
    return CliRunner().invoke(main, ["iptables", *words])


def test_rules_are_printed_as_they_are_restored():
    done = typed("print", "--inbound", "8080:15006", "--exclude-outbound-ports", "25", "--proxy-user", "7", "--no-ipv6")
    assert done.exit_code == 0
    assert done.stdout.startswith("# iptables-restore --noflush\n*nat\n")
    assert "-A MESHLIB_INBOUND -p tcp --dport 8080 -j REDIRECT --to-ports 15006\n" in done.stdout
    assert "-A MESHLIB_OUTPUT -p tcp --dport 25 -j RETURN\n" in done.stdout
    assert "-m owner --uid-owner 7 -j RETURN" in done.stdout
    assert "ip6tables" not in done.stdout
    assert "# ip6tables-restore --noflush" in typed("print", "--ipv6").stdout


def test_tproxy_is_printed_with_its_routes():
    printed = typed("print", "--inbound", "*:15006", "--interception-mode", "TPROXY", "--no-ipv6").stdout
    assert "# ip -4 rule add fwmark 1337 lookup 133\n" in printed
    assert "*mangle\n" in printed
    assert "--dport 15021 -j RETURN" in printed


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--inbound", "8080"], "8080 is not PORT:PROXY_PORT, such as 8080:15006"),
        (["--outbound-port", "0"], "nothing is led to the proxy"),
        (["--include-outbound-ip-ranges", "10.0.0.1/8"], "10.0.0.1/8 is not a network"),
        (["--exclude-outbound-ip-ranges", "*"], "leaves nothing: say --outbound-port 0"),
    ],
)
def test_wrong_options_are_told_with_the_reason(words, why):
    done = typed("print", *words)
    assert done.exit_code == 2
    assert why in " ".join(done.output.split())


def kernel(monkeypatch, **told: subprocess.CompletedProcess):
    """What commands end with, by the last word of their names."""
    read: list[str] = []

    def run(command, reads):
        read.append(reads)
        return told[command[0].rpartition("-")[2]]

    monkeypatch.setattr(iptables_commands, "run", run)
    monkeypatch.setattr(iptables_commands.Tables.__init__, "__defaults__", (iptables_commands.Flavour.SYSTEM, run))
    return read


def ended(code: int = 0, says: str = "", wrong: str = "") -> subprocess.CompletedProcess:
    return subprocess.CompletedProcess([], code, says, wrong)


def test_what_is_done_is_said(monkeypatch):
    read = kernel(monkeypatch, save=ended(), restore=ended())
    done = typed("apply", "--no-ipv6")
    assert (done.exit_code, done.stdout) == (0, "iptables: were in force already\n")  # the same before and after, here
    assert any("-A OUTPUT -p tcp -j MESHLIB_OUTPUT" in text for text in read)
    done = typed("remove")
    assert done.exit_code == 0
    assert done.stdout.startswith("iptables: there were none\n")


def test_what_is_not_done_is_an_error(monkeypatch):
    kernel(monkeypatch, save=ended(4, wrong="Permission denied (you must be root)\n"))
    for words in (["apply"], ["remove"]):
        done = typed(*words)
        assert done.exit_code == 1
        assert done.stderr.startswith(
            "error: iptables-save: Permission denied (you must be root). It takes CAP_NET_ADMIN"
        )
