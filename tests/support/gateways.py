"""Gateways, and a Pod with a Service that runs them, as YAML."""

from __future__ import annotations


def gateway(name: str, selector: str, *servers: str, namespace: str = "default") -> str:
    lines = "\n".join(f"  - {server}" for server in servers)
    return f"""
apiVersion: networking.istio.io/v1
kind: Gateway
metadata: {{name: {name}, namespace: {namespace}}}
spec:
  selector:
    {selector}
  servers:
{lines}
---
"""


def server(port: int, hosts: str = "[shop.example]", more: str = "") -> str:
    return f"port: {{number: {port}, name: http-{port}, protocol: HTTP}}\n    hosts: {hosts}\n    {more}"


POD = """
apiVersion: v1
kind: Pod
metadata: {name: edge-1, namespace: infra, labels: {app: edge, track: canary}}
spec: {containers: [{name: proxy}]}
---
apiVersion: v1
kind: Service
metadata: {name: edge, namespace: infra}
spec: {selector: {app: edge}, ports: [{name: http, port: 80, targetPort: 8080}, {name: dns, port: 53, protocol: UDP}]}
---
"""
