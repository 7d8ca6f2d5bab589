"""Where the demo's metrics are, and a configuration with which a Prometheus scrapes all of them."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path

from meshlib.demo.bookinfo.play.process import Child
from meshlib.demo.bookinfo.services.metrics import PATH

OBSERVABILITY = Path(__file__).parents[2] / "observability"
"""Alerts, and what Grafana is provisioned with."""


def with_metrics(children: Sequence[Child]) -> list[Child]:
    """Those that call others through a mesh."""
    return [child for child in children if child.service in ("productpage", "reviews")]


def write_prometheus(file: Path, children: Sequence[Child]) -> None:
    """The configuration, in JSON, which is YAML."""
    targets = [
        {"targets": [f"127.0.0.1:{child.port}"], "labels": {"pod": child.pod}} for child in with_metrics(children)
    ]
    config = {
        "global": {"scrape_interval": "5s", "evaluation_interval": "5s"},
        "rule_files": [str(OBSERVABILITY / "alerts.yml")],
        "scrape_configs": [{"job_name": "bookinfo", "metrics_path": PATH, "static_configs": targets}],
    }
    file.write_text(json.dumps(config, indent=1) + "\n")


def where_to_look(file: Path, children: Sequence[Child]) -> list[str]:
    """In sentences; ``file`` is that of ``write_prometheus``."""
    each = ", ".join(f"{child.address}{PATH} ({child.pod})" for child in with_metrics(children))
    return [
        f"Metrics: {each}",
        f"All of them in Prometheus, with our alerts: prometheus --config.file={file}",
        f"For Grafana: GRAFANA_DASHBOARDS={OBSERVABILITY / 'grafana' / 'dashboards'}, provisioning beside it",
    ]
