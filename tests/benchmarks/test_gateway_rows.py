"""Figures of gateways beside Envoy: what many certificates keep resident, and bootstraps that a real Envoy takes."""

from __future__ import annotations

import contextlib
import json
import subprocess
from types import SimpleNamespace

import pytest

from benchmarks import gateway_rows
from benchmarks.certificates import write_certificates
from benchmarks.processes import envoy_binary
from benchmarks.proxy_processes import ENVOY, MESHLIB, NotMeasured


def proxy(name, memory):
    return SimpleNamespace(name=name, memory=lambda: memory)


def test_memory_is_that_of_proxies_of_which_each_certificate_was_asked_for(tmp_path, monkeypatch):
    asked, configured = [], []
    monkeypatch.setattr(gateway_rows, "CERTIFICATES", 3)
    monkeypatch.setattr(gateway_rows, "nginx", lambda: contextlib.nullcontext(SimpleNamespace(port=1)))
    monkeypatch.setattr(gateway_rows, "envoy_proxy", lambda folder, made: contextlib.nullcontext(proxy(ENVOY, 100.0)))

    def gateway(folder, resources):
        configured.extend(server["tls"]["serverCertificate"] for server in resources[0]["spec"]["servers"])
        return contextlib.nullcontext(proxy(MESHLIB, 75.0))

    monkeypatch.setattr(gateway_rows, "gateway_proxy", gateway)
    monkeypatch.setattr(gateway_rows, "_ask_once", lambda context, to, name: asked.append((to.name, name)))
    (row,) = gateway_rows._certificates(tmp_path, True, "")
    assert asked == [(name, f"host-{number}.test") for name in (ENVOY, MESHLIB) for number in range(3)]
    assert configured == [str(tmp_path / f"cert-{number}.pem") for number in range(3)], "files of its own each"
    assert (row.value, row.target, row.lower_is_better) == (0.75, 0.8, True)
    assert "75 against 100 MB" in row.details


def test_what_cannot_be_had_is_said_and_is_no_figure(monkeypatch):
    def none():
        raise NotMeasured("no nginx (make proxy-tools)")

    monkeypatch.setattr(gateway_rows, "nginx", none)
    monkeypatch.setattr(gateway_rows, "envoy_proxy", lambda *_: none())
    rows = gateway_rows.gateways(quick=True)
    assert [row.target for row in rows] == [None] * 4
    assert all("not measured: no nginx" in row.details for row in rows)


@pytest.mark.skipif(envoy_binary() is None, reason="NO ENVOY: bootstraps of the gateway's figures are NOT checked")
@pytest.mark.parametrize("what", ["certificates", "TCP", "TLS"])
def test_a_real_envoy_takes_the_bootstrap(what, tmp_path):
    write_certificates(tmp_path)
    pair = {kind: str(tmp_path / f"{kind}.pem") for kind in ("cert", "key")}
    made = (
        gateway_rows._many_chains(1, 2, [pair, pair])
        if what == "certificates"
        else gateway_rows._tcp_envoy(1, 2, by_name=what == "TLS")
    )
    file = tmp_path / "envoy.json"
    file.write_text(json.dumps(made))
    command = [envoy_binary(), "--mode", "validate", "-c", str(file), "-l", "error"]
    done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 0, done.stderr[-2000:]
