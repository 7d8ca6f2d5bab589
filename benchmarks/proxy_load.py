"""Load on a proxy, by wrk and h2load, on the core that the proxies are not on.

Each request of wrk has another x-request-id and traceparent: a proxy that remembers whole heads would shine with a load
generator that repeats itself, and with no user.
"""

from __future__ import annotations

import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

from benchmarks.proxy_processes import NotMeasured, cores, pinned
from benchmarks.proxy_tools import environment, found

AUTHORITY = "reviews:9080"
FEW, MANY = "2 headers", "13 headers"
TARGETS = {FEW: "/reviews/0", MANY: "/api/v1/products/42/reviews?page=2&size=50"}
FIELDS = {
    FEW: (),
    MANY: (
        "User-Agent: Mozilla/5.0 (X11; Linux x86_64) AppleWebKit/537.36 (KHTML, like Gecko) Chrome/126.0 Safari/537.36",
        "Accept: text/html,application/xhtml+xml,application/xml;q=0.9,*/*;q=0.8",
        "Accept-Language: en-US,en;q=0.5",
        "Accept-Encoding: gzip, deflate, br",
        "Cookie: session=abcdef0123456789; theme=dark; user=mary",
        "x-b3-traceid: 0af7651916cd43dd8448eb211c80319c",
        "x-b3-spanid: b7ad6b7169203331",
        "x-b3-sampled: 1",
        "end-user: mary",
        "Cache-Control: no-cache",
    ),
}
"""Beside Host, which is one of the 13 and not of the 2, and the two that vary."""

_LUA = """
local head = "GET {target} HTTP/1.1\\r\\nHost: {authority}\\r\\n{fields}x-request-id: "
local format, count, run = string.format, 0, {seed}
function request()
  count = count + 1
  return head .. format("%08x-16cd-43dd-8448-%012x\\r\\ntraceparent: 00-%08x16cd43dd8448%012x-b7ad6b71%08x-01\\r\\n\\r\\n",
    run, count, run, count, count)
end
"""
_TIMES = {"us": 1.0, "ms": 1e3, "s": 1e6, "m": 60e6}


@dataclass(frozen=True)
class Load:
    """What a run saw. Latencies in microseconds."""

    requests: int
    per_second: float
    p50: float = 0.0
    p99: float = 0.0


def wrk(
    folder: Path,
    port: int,
    shape: str,
    connections: int,
    seconds: int,
    seed: int,
    target: str = "",
    base: str = "",
) -> Load:
    """``shape``: FEW or MANY. NotMeasured: some response was an error, or a connection was; RuntimeError: wrk failed."""
    binary = found("wrk")
    if binary is None:
        raise NotMeasured("no wrk (make proxy-tools)")
    script = folder / f"wrk-{port}.lua"
    fields = "".join(f"{line}\\r\\n" for line in FIELDS[shape])
    text = _LUA.format(target=target or TARGETS[shape], authority=AUTHORITY, fields=fields, seed=seed)
    script.write_text(text)
    command = [binary, "-t1", f"-c{connections}", f"-d{seconds}s", "--timeout", "10s", "--latency", "-s", str(script)]
    return read_wrk(_said([*command, base or f"http://127.0.0.1:{port}"], seconds + 60))


def read_wrk(said: str) -> Load:
    """Raises NotMeasured: a response or a connection was an error."""
    for bad in (r"Non-2xx or 3xx responses: .*", r"Socket errors: .*"):
        wrong = re.search(bad, said)
        if wrong:
            raise NotMeasured(f"the load was not served: {wrong[0]}")
    times = {
        percent: float(number) * _TIMES[unit]
        for percent, number, unit in re.findall(r"^ +(50|99)% +([\d.]+)(us|ms|s|m) *$", said, re.MULTILINE)
    }
    requests, rate = re.search(r"(\d+) requests in", said), re.search(r"Requests/sec: +([\d.]+)", said)
    if requests is None or rate is None or int(requests[1]) == 0:
        raise NotMeasured("the load was not served: no response came")
    if times.keys() != {"50", "99"}:
        raise RuntimeError(f"wrk said no percentiles: {said}")
    return Load(int(requests[1]), float(rate[1]), times["50"], times["99"])


def h2load(
    port: int, requests: int, connections: int, streams: int, paths: Path, fields: tuple[str, ...], body: Path | None
) -> Load:
    """``paths``: a file with a path a line, which are asked for in turn. NotMeasured: not all requests succeeded."""
    binary = found("h2load")
    if binary is None:
        raise NotMeasured("no h2load (make proxy-tools)")
    command = [binary, "-n", str(requests), "-c", str(connections), "-m", str(streams), "-t1", "-i", str(paths)]
    command += ["-B", f"http://127.0.0.1:{port}", "-T", "20", "-N", "20"]
    for field in (f":authority: {AUTHORITY}", *fields):
        command += ["-H", field]
    if body is not None:
        command += ["-d", str(body)]
    return read_h2load(_said(command, 120), requests)


def read_h2load(said: str, requests: int) -> Load:
    """Raises NotMeasured: not every request was responded to with a 2xx."""
    rate = re.search(r"^finished in [\d.]+\w+, ([\d.]+) req/s", said, re.MULTILINE)
    good = re.search(r"^status codes: (\d+) 2xx", said, re.MULTILINE)
    if rate is None or good is None or int(good[1]) != requests:
        told = re.search(r"^requests: .*", said, re.MULTILINE)
        raise NotMeasured(f"the load was not served: {told[0] if told else said[-200:]!r}")
    return Load(requests, float(rate[1]))


def _said(command: list[str], seconds: float) -> str:
    try:
        done = subprocess.run(
            command,
            capture_output=True,
            text=True,
            timeout=seconds,
            check=False,
            env=environment(),
            preexec_fn=pinned(cores()[1]),
        )
    except subprocess.TimeoutExpired as error:
        raise NotMeasured(f"the load did not end within {seconds:.0f} s") from error
    if done.returncode != 0:
        raise RuntimeError(f"{' '.join(command)} ended with {done.returncode}: {(done.stdout + done.stderr)[-500:]}")
    return done.stdout
