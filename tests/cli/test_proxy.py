"""``meshlib proxy``: what it says of a wrong command line."""

from __future__ import annotations

import socket
import sys
from pathlib import Path

import pytest
from click.testing import CliRunner

from meshlib.cli.main import main
from meshlib.cli.proxy import proxy


def run(*arguments):
    return CliRunner().invoke(main, ["proxy", *arguments], env={"MESHLIB_CONFIG": ""})


def test_it_asks_for_resources():
    result = run("--outbound", "127.0.0.1:0")
    assert result.exit_code == 2
    assert "--config is required: give the folder with the resources of the mesh, --config mesh/" in result.output


@pytest.mark.parametrize("given", ["15001", "localhost", ":15001", "127.0.0.1:", "127.0.0.1:http", "127.0.0.1:65536"])
@pytest.mark.parametrize("option", ["--outbound", "--inbound"])
def test_an_address_is_a_host_and_a_port(given, option, tmp_path):
    result = run("--config", str(tmp_path), option, given, *(("--app", "127.0.0.1:1") if option == "--inbound" else ()))
    assert result.exit_code == 2
    assert f"{option} {given}: " in result.output
    assert "127.0.0.1:15001" in result.output


def test_there_must_be_something_to_do(tmp_path):
    result = run("--config", str(tmp_path))
    assert result.exit_code == 2
    assert "give --outbound 127.0.0.1:15001" in result.output


def test_every_inbound_has_its_application(tmp_path):
    result = run("--config", str(tmp_path), "--inbound", "127.0.0.1:0")
    assert result.exit_code == 2
    assert "--inbound is given once and --app not at all: they are pairs" in result.output


def test_a_unix_socket_is_known_by_a_port(tmp_path):
    result = run("--config", str(tmp_path), "--inbound", "127.0.0.1:0", "--app", "unix:/run/app.sock")
    assert result.exit_code == 2
    assert "give --app-port 8080" in result.output


@pytest.mark.parametrize(
    ("given", "said"),
    [
        (("--dns-port", "53"), "--dns-port is of --dns-capture: give that, too"),
        (("--resolv-conf", "x"), "--resolv-conf is of --dns-capture: give that, too"),
        (("--dns-capture",), "give --transparent and --outbound 127.0.0.1:15001, too"),
        (("--dns-capture", "--transparent", "--dns-port", "15001"), "127.0.0.1:15001 is listened on twice"),
    ],
)
def test_names_are_told_where_their_addresses_are_taken(given, said, tmp_path):
    result = run("--config", str(tmp_path), "--outbound", "127.0.0.1:15001", *given)
    assert result.exit_code == 2
    assert said in result.output


def test_a_resolv_conf_that_is_not_there_is_found_by_check(tmp_path):
    (tmp_path / "mesh.yaml").write_text(
        "apiVersion: v1\nkind: Service\nmetadata: {name: web}\nspec: {ports: [{port: 80}]}\n"
    )
    mesh = str(tmp_path / "mesh.yaml")
    led = ("--config", mesh, "--outbound", "127.0.0.1:15001", "--transparent", "--dns-capture", "--check")
    result = run(*led, "--resolv-conf", str(tmp_path / "none"))
    assert result.exit_code == 1
    assert "none cannot be read" in result.output
    (tmp_path / "conf").write_text("nameserver 10.0.0.1\n")
    assert run(*led, "--resolv-conf", str(tmp_path / "conf")).exit_code == 0


def test_without_dnspython_it_says_what_to_install(tmp_path, monkeypatch):
    for name in [name for name in sys.modules if name.startswith("meshlib.proxy.dns_")]:
        monkeypatch.delitem(sys.modules, name)
    for name in [name for name in sys.modules if name.partition(".")[0] == "dns"]:
        monkeypatch.delitem(sys.modules, name)
    monkeypatch.setitem(sys.modules, "dns", None)
    result = run(
        "--config", str(tmp_path), "--outbound", "127.0.0.1:15001", "--transparent", "--dns-capture", "--check"
    )
    assert result.exit_code == 1
    assert "--dns-capture needs dnspython: pip install 'sidecarless[proxy]'" in result.output


def test_all_that_is_wrong_is_said_at_once():
    result = run("--outbound", "15001", "--workers", "0", "--admin", "0.0.0.0:15000", "--check")
    assert result.exit_code == 1, "--check"
    assert [line.split(" ")[1] for line in result.output.splitlines()] == [
        "--config",
        "--outbound",
        "--admin",
        "--workers",
    ]


def test_a_port_that_is_taken_is_named_with_the_remedy(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--config", str(tmp_path), "--outbound", f"127.0.0.1:{port}")
    assert result.exit_code == 1
    assert f"--outbound 127.0.0.1:{port}: port {port} is in use; stop who has it" in result.output


def test_every_option_and_its_variable_is_in_the_docs():
    page = (
        (Path(__file__).parents[2] / "docs/proxy.md").read_text().partition("\n## Options\n")[2].partition("\n## ")[0]
    )
    for option in proxy.params:
        assert f"`{option.opts[0]}" in page, option.opts
        assert option.envvar is None or f"`{option.envvar}`" in page


def test_help_shows_examples_exit_codes_and_where_to_read_on():
    shown = run("--help").output
    assert "Examples:\n  meshlib proxy --config mesh/ --outbound 127.0.0.1:15001\n" in shown.replace("\n    ", "\n  ")
    assert "Exit code: 0 stopped, or nothing wrong; 1 it could not begin" in shown
    assert "docs/proxy.md" in shown
    assert "FLOAT RANGE" not in shown


GOOD = """
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {name: reviews, namespace: shop}
spec:
  hosts: [reviews]
  ports: [{number: 80, name: http, protocol: HTTP}]
  resolution: STATIC
  endpoints: [{address: 127.0.0.1}]
---
apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ratings, namespace: shop}
spec: {selector: {matchLabels: {app: ratings}}}
"""


def test_check_says_what_there_is_and_binds_nothing(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--config", str(tmp_path), "--outbound", f"127.0.0.1:{port}", "-n", "shop", "--check")
    assert result.exit_code == 0, result.output
    assert "ok: 2 resources, workload unknown in shop, identity none" in result.output
    assert "for other workloads, without effect in this proxy" in result.output
    assert "give --labels, or MESHLIB_LABELS" in result.output


FRONT = """apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: front}
spec:
  servers: [{port: {number: 8080, name: http, protocol: HTTP}, hosts: ["*.test"]}]
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: pages}
spec:
  hosts: [pages.test]
  gateways: [BOUND]
  http: [{directResponse: {status: 200}}]
"""


@pytest.mark.parametrize("engine", ["meshlib", "envoy"])
def test_check_of_a_gateway_says_which_rules_are_bound_to_none(engine, tmp_path):
    def told(bound, *options):
        (tmp_path / "a.yaml").write_text(FRONT.replace("BOUND", bound))
        result = run("--config", str(tmp_path), *options, "--engine", engine, "--check")
        assert result.exit_code == 0, result.output
        return [line for line in result.output.splitlines() if "spec.gateways" in line]

    (line,) = told("frnt", "--gateway", "default/front")
    assert ": warning: VirtualService default/pages spec.gateways[0]: the gateway default/frnt does not exist" in line
    assert told("front", "--gateway", "default/front") == []
    assert told("frnt", "--outbound", "127.0.0.1:15001") == []  # a sidecar has no part in gateways


def test_check_of_a_gateway_that_is_not_there_says_so_without_a_file(tmp_path):
    (tmp_path / "a.yaml").write_text(FRONT.replace("BOUND", "front"))
    result = run("--config", str(tmp_path), "--gateway", "default/none", "--check")
    assert result.exit_code == 0, result.output
    said = [line for line in result.output.splitlines() if "there is no Gateway default/none" in line]
    assert said[-1].startswith("warning: Gateway/default/none: there is no Gateway default/none among the resources")


def test_endpoints_are_those_of_the_environment(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    options = ["proxy", "--config", str(tmp_path), "--outbound", "127.0.0.1:15001", "--check"]
    assert CliRunner().invoke(main, options, env={"MESHLIB_ENDPOINTS": "dns"}).exit_code == 0
    result = CliRunner().invoke(main, options, env={"MESHLIB_ENDPOINTS": "reviews=:99999"})
    assert result.exit_code == 1
    assert "MESHLIB_ENDPOINTS" in result.output
    assert "99999" in result.output


def test_check_refuses_resources_that_are_wrong(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD.replace("kind: ServiceEntry", "kind: VirtualService"))
    result = run("--config", str(tmp_path), "--outbound", "127.0.0.1:15001", "--check")
    assert result.exit_code == 1
    assert "a.yaml:" in result.output


ASKS_NOBODY = """apiVersion: security.istio.io/v1
kind: AuthorizationPolicy
metadata: {name: ask}
spec:
  action: CUSTOM
  provider: {name: nobody}
  rules: [{}]
"""


@pytest.mark.parametrize(
    ("command", "place"),
    [(("proxy", "--inbound=127.0.0.1:0", "--app=127.0.0.1:80", "--check", "--config"), "1:1"), (("validate",), "6:14")],
)
def test_what_refuses_requests_is_an_error_for_who_checks(command, place, tmp_path):
    """The proxy would begin, and refuse: no pipeline ought to let that pass."""
    (tmp_path / "a.yaml").write_text(ASKS_NOBODY)
    result = CliRunner().invoke(main, [*command, str(tmp_path)])
    assert result.exit_code == 1
    assert (
        f"a.yaml:{place}: error: AuthorizationPolicy/default/ask: spec.provider.name: MeshConfig has no"
        in result.output
    )
    assert "warning: " not in result.output
    assert "ok: " not in result.output


@pytest.mark.parametrize("check", [["--check"], []])
def test_a_certificate_without_its_key_is_told(check, tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    result = run("--config", str(tmp_path), "--outbound", "127.0.0.1:0", "--cert", "cert.pem", *check)
    assert result.exit_code == (1 if check else 2)
    assert "--key and --bundle are required with --cert" in result.output


def test_check_refuses_a_certificate_that_is_not_there(tmp_path):
    (tmp_path / "a.yaml").write_text(GOOD)
    missing = [f"--{what}={tmp_path}/{what}.pem" for what in ("cert", "key", "bundle")]
    result = run("--config", str(tmp_path), "--outbound", "127.0.0.1:0", *missing, "--check")
    assert result.exit_code == 1
    assert f"{tmp_path}/" in result.output
    assert ".pem" in result.output


def test_resources_that_are_wrong_are_named_with_their_place(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "kind: VirtualService\napiVersion: networking.istio.io/v1\nmetadata: {name: a}\nspec: {}\n"
    )
    result = run("--config", str(tmp_path), "--outbound", "127.0.0.1:0")
    assert result.exit_code == 1
    assert "a.yaml:4" in result.output
