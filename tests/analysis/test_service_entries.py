"""ServiceEntries."""

from __future__ import annotations

from tests.support.analysis import expect


def entry(name: str, ports: str, more: str = "", namespace: str = "default") -> str:
    return f"""
apiVersion: networking.istio.io/v1
kind: ServiceEntry
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  hosts: [db.example]
  resolution: DNS
  {more}
  ports:
{ports}
---
"""


def test_tcp_ports_need_addresses():
    ports = """
  - number: 5432
    name: sql
    protocol: tcp  # IST0134
  - number: 5433  # IST0134
    name: other
  - {number: 80, name: http, protocol: HTTP}
"""
    expect(entry("db", ports), "IST0134")
    expect(entry("db", ports.replace("  # IST0134", ""), "addresses: [10.0.0.1]"), "IST0134")


def test_addresses_that_a_cluster_has_given_count():
    text = entry("db", "  - {number: 5432, name: sql, protocol: TCP}").replace(
        "---", "status: {addresses: [{value: 240.240.0.1}]}\n---"
    )
    expect(text, "IST0134")


def test_entries_that_disagree_about_a_protocol():
    one = entry("one", "  - {number: 80, name: a, protocol: HTTP}  # IST0177")
    other = entry("other", "  - {number: 80, name: a, protocol: GRPC}  # IST0177")
    expect(one + other, "IST0177")


def test_entries_that_agree_or_do_not_meet():
    port = "  - {number: 80, name: a, protocol: HTTP}"
    expect(entry("one", port) + entry("other", port.replace("HTTP", "http")), "IST0177")
    expect(entry("one", port) + entry("other", port.replace("80", "81").replace("HTTP", "GRPC")), "IST0177")
    own = 'exportTo: ["."]'
    grpc = port.replace("HTTP", "GRPC")
    expect(entry("one", port, own, "a") + entry("other", grpc, own, "b"), "IST0177")
    marked = port + "  # IST0177", grpc + "  # IST0177"
    expect(entry("one", marked[0], own, "a") + entry("other", marked[1], "", "b"), "IST0177")
