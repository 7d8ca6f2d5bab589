"""``meshlib proxy``: what it says of a wrong command line."""

from __future__ import annotations

import socket

import pytest
from click.testing import CliRunner

from meshlib.cli.main import main


def run(*arguments):
    return CliRunner().invoke(main, ["proxy", *arguments], env={"MESHLIB_CONFIG": ""})


def test_it_asks_for_resources():
    result = run("--outbound", "127.0.0.1:0")
    assert result.exit_code == 2
    assert "--config is required: give the folder with the resources of the mesh" in result.output


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


def test_a_port_that_is_taken_is_named_with_the_remedy(tmp_path):
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        result = run("--config", str(tmp_path), "--outbound", f"127.0.0.1:{port}")
    assert result.exit_code == 1
    assert f"port {port} is in use" in result.output
    assert "--outbound" in result.output


def test_resources_that_are_wrong_are_named_with_their_place(tmp_path):
    (tmp_path / "a.yaml").write_text(
        "kind: VirtualService\napiVersion: networking.istio.io/v1\nmetadata: {name: a}\nspec: {}\n"
    )
    result = run("--config", str(tmp_path), "--outbound", "127.0.0.1:0")
    assert result.exit_code == 1
    assert "a.yaml:4" in result.output
