"""``meshlib proxy --gateway`` as processes: ports that the workers share, files that change, and the end."""

from __future__ import annotations

import re
import signal

import pytest
from click.testing import CliRunner

from meshlib.cli.main import main
from tests.support.eventually import eventually
from tests.support.gateway_certificates import certificate_pem, key_pem, leaf
from tests.support.proxy import Client
from tests.support.proxy_command import ProxyCommand, free_port
from tests.support.servers import EchoServer

pytestmark = pytest.mark.slow

GATEWAY = """
---
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {name: public, namespace: edge}
spec:
  selector: {istio: ingress}
  servers:
"""
SERVER = """
  - port: {number: NUMBER, name: http-NUMBER, protocol: HTTP}
    hosts: ["*"]
"""
ROUTES = """
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: shop, namespace: default}
spec:
  gateways: [edge/public]
  hosts: [shop.test]
  http: [{route: [{destination: {host: reviews.example}}]}]
"""


def gateway(*numbers):
    return GATEWAY + "".join(SERVER.replace("NUMBER", str(number)) for number in numbers) + ROUTES


def status(port, host="shop.test"):
    try:
        with Client(port) as client:
            return client.get("/", "GET", host).status
    except ConnectionError:
        return 0


def test_workers_share_the_ports_and_files_that_change_bring_others(tmp_path):
    first, second = free_port(), free_port()
    places = [f"--gateway-port=80=127.0.0.1:{first}", f"--gateway-port=81=127.0.0.1:{second}"]
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "gateway.yaml").write_text(gateway(80))
    with (
        EchoServer("app") as app,
        ProxyCommand(
            tmp_path, app.port, "--gateway=edge/public", *places, "--workers=2", "--drain=1", outbound=False
        ) as proxy,
    ):
        line = proxy.says(f"listening on 127.0.0.1:{first}", times=2)
        assert re.search(r"serving Gateway/edge/public servers\[0\] \(.*gateway.yaml:10\)", line), line
        assert [status(first) for _ in range(8)] == [200] * 8
        assert status(second) == 0
        (tmp_path / "mesh" / "gateway.yaml").write_text(gateway(80, 81))
        proxy.says(f"listening on 127.0.0.1:{second}", times=2)
        assert [status(second) for _ in range(8)] == [200] * 8
        (tmp_path / "mesh" / "gateway.yaml").write_text(gateway(81))
        proxy.says("gateway:80: no Gateway has this port any more", times=2)
        assert eventually(lambda: status(first) == 0)
        assert status(second) == 200
        proxy.process.send_signal(signal.SIGTERM)
        assert proxy.ends() == 0


@pytest.mark.parametrize("workers", ["1", "2"])
def test_a_port_that_is_taken_ends_it_with_the_server_and_the_remedy(tmp_path, workers):
    (tmp_path / "mesh").mkdir()
    (tmp_path / "mesh" / "gateway.yaml").write_text(gateway(80))
    with EchoServer("app") as app:
        place = f"--gateway-port=80=127.0.0.1:{app.port}"
        with ProxyCommand(
            tmp_path, app.port, "--gateway=edge/public", place, f"--workers={workers}", outbound=False
        ) as proxy:
            assert proxy.ends() == 1
            told = "\n".join(proxy.lines)
            assert f"port {app.port} is in use" in told
            assert "Gateway/edge/public servers[0]" in told


def test_check_tells_of_a_certificate_that_cannot_be_used(tmp_path):
    (tmp_path / "shop.crt").write_text("none")
    tls = f"tls: {{mode: SIMPLE, serverCertificate: {tmp_path}/shop.crt, privateKey: {tmp_path}/shop.key}}"
    https = SERVER.replace("NUMBER", "443").replace("HTTP}", "HTTPS}") + f"    {tls}\n"
    (tmp_path / "mesh.yaml").write_text(GATEWAY + https + ROUTES)
    arguments = ["proxy", "--config", str(tmp_path / "mesh.yaml"), "--gateway", "edge/public", "--check"]
    result = CliRunner().invoke(main, arguments)
    told = " ".join(result.output.split())
    assert result.exit_code == 1
    assert "error: Gateway/edge/public servers[0] is not served: tls of" in told
    assert f"cannot be used ({tmp_path}/shop.crt, {tmp_path}/shop.key)" in told


@pytest.mark.parametrize(("labels", "said"), [("istio=other", True), ("istio=ingress", False)])
def test_check_warns_where_nobody_would_be_served(tmp_path, labels, said):
    (tmp_path / "mesh.yaml").write_text(GATEWAY + SERVER.replace("NUMBER", "8080") + ROUTES)
    arguments = ["--config", str(tmp_path / "mesh.yaml"), "--gateways", "--labels", labels, "--check"]
    result = CliRunner().invoke(main, ["proxy", "--namespace", "edge", *arguments])
    assert result.exit_code == 0
    assert ("warning: nothing is listened on" in result.output) is said


def test_check_warns_of_a_certificate_that_clients_will_refuse(tmp_path):
    (tmp_path / "shop.crt").write_bytes(certificate_pem(leaf("bank.test")))
    (tmp_path / "shop.key").write_bytes(key_pem(leaf("bank.test")))
    tls = f"tls: {{mode: SIMPLE, serverCertificate: {tmp_path}/shop.crt, privateKey: {tmp_path}/shop.key}}"
    https = SERVER.replace("NUMBER", "443").replace("HTTP}", "HTTPS}") + f"    {tls}\n"
    (tmp_path / "mesh.yaml").write_text(GATEWAY + https.replace('["*"]', "[shop.test]") + ROUTES)
    arguments = ["proxy", "--config", str(tmp_path / "mesh.yaml"), "--gateway", "edge/public", "--check"]
    result = CliRunner().invoke(main, arguments)
    assert result.exit_code == 0
    assert "warning: Gateway/edge/public servers[0]: clients will refuse its certificate" in result.output
