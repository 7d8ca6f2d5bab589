"""``meshlib iptables``: what is typed, and what is said. (The rules: tests/proxy/test_iptables.py.)"""

from __future__ import annotations

import subprocess

import pytest
from click.testing import CliRunner

from meshlib.cli.main import main
from meshlib.proxy import iptables_commands, resolv_conf


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


def test_queries_of_dns_are_led_on_request():
    assert "53" not in typed("print", "--no-ipv6").stdout.replace("15053", "")
    printed = typed("print", "--dns-capture", "--dns-servers", "10.96.0.10,fd00::a", "--no-ipv6").stdout
    assert "-A MESHLIB_OUTPUT -d 10.96.0.10/32 -p tcp --dport 53 -j REDIRECT --to-ports 15053\n" in printed
    assert "*raw\n" in printed
    assert "fd00" not in printed
    every = typed("print", "--dns-capture", "--dns-servers", "*", "--dns-port", "1053", "--no-ipv6").stdout
    assert "-A MESHLIB_DNS -p udp --dport 53 -j REDIRECT --to-ports 1053\n" in every


def test_the_resolvers_of_this_machine_are_meant_where_none_are_named(monkeypatch, tmp_path):
    (tmp_path / "conf").write_text("nameserver 10.96.0.10\nnameserver fe80::1%eth0\n")
    monkeypatch.setattr(resolv_conf.read, "__defaults__", (str(tmp_path / "conf"),))
    printed = typed("print", "--dns-capture", "--ipv6").stdout
    assert "-d 10.96.0.10/32" in printed
    assert "-d fe80::1/128" in printed
    monkeypatch.setattr(resolv_conf.read, "__defaults__", (str(tmp_path / "none"),))
    done = typed("print", "--dns-capture")
    assert done.exit_code == 2
    assert "name the resolvers with --dns-servers" in " ".join(done.output.split())


@pytest.mark.parametrize(
    ("words", "why"),
    [
        (["--dns-port", "53"], "are of --dns-capture: give that, too"),
        (["--dns-capture", "--dns-servers", "x"], "x is not the address of a resolver"),
        (["--dns-capture", "--dns-servers", ","], "--dns-servers names no resolver"),
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
