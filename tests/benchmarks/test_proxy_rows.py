"""The proxy's figures: what a load generator says is read right, a proxy that cheats is not measured, and rounds are paired."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner

from benchmarks import proxy_backends, proxy_collector, proxy_http1_rows, proxy_policy_rows, proxy_tools
from benchmarks.__main__ import GROUPS, ROWS, main
from benchmarks.processes import envoy_binary
from benchmarks.proxy_envoy import Scene, inbound, outbound
from benchmarks.proxy_http1_rows import counted
from benchmarks.proxy_load import FIELDS, MANY, Load, read_h2load, read_wrk
from benchmarks.proxy_processes import BASE, ENVOY, MESHLIB, NotMeasured
from benchmarks.proxy_rounds import Figure, Taken, row, rows, spread
from meshlib.telemetry import otlp_spans as otlp

WRK = """Running 3s test @ http://127.0.0.1:12345
  1 threads and 64 connections
  Thread Stats   Avg      Stdev     Max   +/- Stdev
    Latency     8.12ms    3.20ms  30.11ms   70.00%
    Req/Sec     7.90k   500.00     8.90k    70.00%
  Latency Distribution
     50%    7.91ms
     75%    9.00ms
     90%   12.00ms
     99%    1.02s
  23700 requests in 3.00s, 5.10MB read
{bad}Requests/sec:   7900.00
Transfer/sec:      1.70MB
"""

H2LOAD = """starting benchmark...
finished in 1.20s, 8300.50 req/s, 1.10MB/s
requests: 10000 total, 10000 started, 10000 done, {good} succeeded, {bad} failed, 0 errored, 0 timeout
status codes: {good} 2xx, 0 3xx, {bad} 4xx, 0 5xx
"""


def test_wrks_percentiles_are_told_in_microseconds():
    assert read_wrk(WRK.format(bad="")) == Load(23_700, 7_900.0, 7_910.0, 1_020_000.0)
    padded = WRK.replace("1.02s\n", "1.02s \n")  # as wrk writes seconds
    assert read_wrk(padded.format(bad="")).p99 == 1_020_000.0


@pytest.mark.parametrize(
    "bad", ["  Non-2xx or 3xx responses: 3\n", "  Socket errors: connect 0, read 5, write 0, timeout 0\n"]
)
def test_a_load_with_errors_is_no_figure(bad):
    with pytest.raises(NotMeasured, match="not served"):
        read_wrk(WRK.format(bad=bad))


def test_h2load_counts_only_when_every_call_succeeded():
    assert read_h2load(H2LOAD.format(good=10_000, bad=0), 10_000) == Load(10_000, 8_300.5)
    with pytest.raises(NotMeasured, match="9999 succeeded"):
        read_h2load(H2LOAD.format(good=9_999, bad=1), 10_000)


def test_many_headers_are_thirteen_with_host_and_the_two_that_vary():
    assert len(FIELDS[MANY]) + 3 == 13


class Backend:
    """Says what nginx would: each look is a connection and a request of its own."""

    def __init__(self, connections: int, requests: int) -> None:
        self._looks = [(0, 0), (connections + 1, requests + 1)]

    def counts(self) -> tuple[int, int]:
        return self._looks.pop(0)


def test_a_load_counts_when_the_backend_saw_it_on_few_connections():
    assert counted(Backend(connections=256, requests=5_000), 64, lambda: Load(5_000, 1.0)).requests == 5_000


def test_a_proxy_that_connects_for_each_request_is_not_measured():
    with pytest.raises(NotMeasured, match="not reused: 5000 new ones"):
        counted(Backend(connections=5_000, requests=5_000), 64, lambda: Load(5_000, 1.0))


def test_a_proxy_that_responds_itself_is_not_measured():
    with pytest.raises(NotMeasured, match="only 10 of 5000"):
        counted(Backend(connections=1, requests=10), 64, lambda: Load(5_000, 1.0))


def taken(cpu: float, waited: float = 0.0) -> Taken:
    return Taken(Load(1_000, 1.0), cpu, 0.9, waited, 50.0)


FIGURE = Figure("CPU", lambda round_: round_.cpu, "us", 0.7, 0.55)


def test_a_row_is_the_median_of_the_ratios_of_paired_rounds():
    # the machine was slow in the second round, for both
    made = row(FIGURE, {MESHLIB: [taken(50), taken(120), taken(60)], ENVOY: [taken(100), taken(200), taken(100)]})
    assert made.value == pytest.approx(0.6)
    assert made.met
    assert made.details == "0.50 to 0.60 in 3 rounds; 60 against 100 us; stretch 0.55 missed"
    assert spread([0.5, 0.6, 0.6]) == (0.6, 0.5, 0.6)


def test_a_row_says_that_the_machine_was_not_idle():
    made = row(FIGURE, {MESHLIB: [taken(50, 0.4)], ENVOY: [taken(100, 0.4)]})
    assert "NOT AN IDLE MACHINE: waited for its core 40% of the time" in made.details


def test_another_tree_is_told_beside_envoy_and_has_no_target():
    both = rows([FIGURE], {MESHLIB: [taken(50)], ENVOY: [taken(100)], BASE: [taken(80)]})
    assert [(each.name.rpartition(" / ")[2], each.value, each.target) for each in both] == [
        (ENVOY, 0.5, 0.7),
        (BASE, pytest.approx(0.625), None),
    ]


def test_figures_are_those_that_were_asked_for():
    asked = {figure.name: figure for each in proxy_http1_rows.FIGURES.values() for figure in each if figure.must}
    assert {name: (each.must, each.stretch) for name, each in asked.items() if "2 headers" in name} == {
        "HTTP/1.1, 2 headers, 64 connections, requests a second of CPU": (1.4, 1.8),
        "HTTP/1.1, 2 headers, CPU a request": (0.70, 0.55),
        "HTTP/1.1, 2 headers, p99 at 64 connections": (0.9, 0.6),
        "HTTP/1.1, 2 headers, p99 at 1000 connections": (1.2, None),
        "HTTP/1.1, 2 headers, 1000 connections, requests a second of CPU": (1.4, 1.8),
    }


@pytest.mark.parametrize(
    ("name", "tool"),
    [("proxy-http1", "nginx"), ("proxy-http2", "nghttpd"), ("proxy-mtls", "nginx"), ("proxy-policies", "nginx")],
)
def test_a_tool_that_cannot_be_had_is_said_and_its_rows_are_not_counted(name, tool, monkeypatch):
    monkeypatch.setattr(proxy_backends, "found", lambda tool: None)
    monkeypatch.setattr(proxy_backends, "missing", lambda *tools: list(tools))
    result = CliRunner().invoke(main, ["--quick", "--only", name])
    assert result.exit_code == 0, result.output
    assert f"not measured: no {tool} (make proxy-tools)" in result.output
    assert "MISSED" not in result.output


@pytest.mark.skipif(envoy_binary() is None, reason="NO ENVOY: bootstraps of the proxy's figures are NOT checked")
@pytest.mark.parametrize(
    "scene",
    [
        pytest.param(Scene(), id="http1"),
        pytest.param(Scene(http2=True, retry_on="unavailable"), id="http2"),
        pytest.param(proxy_policy_rows._scene(Path("/dev/null"), 1), id="everything on"),
        pytest.param(proxy_policy_rows._scene(Path("/dev/null"), None), id="without traces"),
    ],
)
def test_a_real_envoy_takes_the_bootstrap(scene, tmp_path):
    for made in (outbound(1, 2, scene), inbound(1, 2, scene)):
        file = tmp_path / "envoy.json"
        file.write_text(json.dumps(made))
        command = [envoy_binary(), "--mode", "validate", "-c", str(file), "-l", "error"]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
        assert done.returncode == 0, done.stderr[-2000:]


def test_the_tools_of_the_machine_come_before_those_that_were_unpacked(tmp_path, monkeypatch):
    for folder in ("path", "unpacked/usr/bin"):
        (tmp_path / folder).mkdir(parents=True)
        for tool in ("wrk", "h2load") if folder != "path" else ("wrk",):
            (tmp_path / folder / tool).write_text("#!/bin/sh\n")
            (tmp_path / folder / tool).chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path / "path"))
    monkeypatch.setattr(proxy_tools, "UNPACKED", tmp_path / "unpacked")
    assert proxy_tools.found("wrk") == str(tmp_path / "path" / "wrk")
    assert proxy_tools.found("h2load") == str(tmp_path / "unpacked/usr/bin/h2load")


def test_proxy_is_all_rows_of_the_proxy():
    assert set(GROUPS["proxy"]) == {name for name in ROWS if name.startswith("proxy-")}
    assert proxy_tools.missing("no-such-tool") == ["no-such-tool"]


def test_spans_are_counted_by_whose_they_are():
    counts = proxy_collector.Counts()
    for scope, spans in (("envoy", 2), ("meshlib", 3), ("meshlib", 1)):
        one = otlp.span(bytes(16), bytes(8), b"", b"a", 2, 1, 2, otlp.attribute("guid:x-request-id", "1"), otlp.LOCAL)
        counts.add(otlp.request(otlp.resource_of({}), scope, [one] * spans))
    assert json.loads(counts.told()) == {"Envoy": 2, "meshlib": 4}


def test_a_proxy_that_sends_fewer_spans_than_it_had_requests_is_not_measured(monkeypatch):
    came = {ENVOY: 1000, MESHLIB: 1000}
    monkeypatch.setattr(proxy_policy_rows, "spans_at", lambda _port: came)
    monkeypatch.setattr(proxy_policy_rows, "SENT_WITHIN", -1.0)
    proxy_policy_rows.see_spans(1, {ENVOY: 1000, MESHLIB: 1000})
    with pytest.raises(NotMeasured, match=r"1000 of 1100 from meshlib"):
        proxy_policy_rows.see_spans(1, {ENVOY: 1000, MESHLIB: 1100})
