"""meshlib/demo/observability: dashboards that Grafana can load, whose every query a real Prometheus responds to with data, and
alerts that promtool has seen fire and not fire."""

from __future__ import annotations

import json
import re
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import httpx
import pytest
import yaml
from prometheus_client import CollectorRegistry, start_http_server

import meshlib
from meshlib.demo.bookinfo.play.where_to_look import where_to_look, write_prometheus
from meshlib.telemetry.mesh_metrics import FAMILIES
from meshlib.workload import Workload
from tests.support.eventually import eventually
from tests.support.identities import TodaysClock, World
from tests.support.prometheus import needs_prometheus, prometheus, promtool
from tests.support.resources import destination_rule, pod, service, to, virtual_service

pytestmark = pytest.mark.slow

__all__ = ["prometheus"]

ROOT = Path(__file__).parents[2]
FOLDER = ROOT / "meshlib" / "demo" / "observability"
GRAFANA = FOLDER / "grafana"
DASHBOARDS = sorted((GRAFANA / "dashboards").glob("*.json"))
ALERTS = FOLDER / "alerts.yml"
ISTIO = {"istio_requests_total", "istio_request_duration_milliseconds_bucket"}


def dashboard(file: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads(file.read_text())
    return found


def queries() -> list[tuple[str, str]]:
    return [
        (f"{file.stem}: {panel['title']}", target["expr"])
        for file in DASHBOARDS
        for panel in dashboard(file)["panels"]
        for target in panel.get("targets", [])
    ]


def rules() -> list[dict[str, Any]]:
    return [rule for group in yaml.safe_load(ALERTS.read_text())["groups"] for rule in group["rules"]]


# -- what the files are ---------------------------------------------------------------------------------------------------

# Grafana's model of a dashboard (schemaVersion 36 and later), as far as these use it: nothing else may be there
TEXT, NUMBER, FLAG, MANY = str, int, bool, list
PANEL = {"id": NUMBER, "type": TEXT, "title": TEXT, "gridPos": {"h": NUMBER, "w": NUMBER, "x": NUMBER, "y": NUMBER}}
SOURCE = {"type": TEXT, "uid": TEXT}
SHOWN = {
    **PANEL,
    "description": TEXT,
    "datasource": SOURCE,
    "fieldConfig": {"defaults": {"unit": TEXT}, "overrides": MANY},
    "options": dict,
    "targets": MANY,
}
SCHEMAS: dict[str, dict[str, Any]] = {
    "row": {**PANEL, "collapsed": FLAG, "panels": MANY},
    "timeseries": SHOWN,
    "stat": SHOWN,
    "target": {"refId": TEXT, "datasource": SOURCE, "expr": TEXT, "legendFormat": TEXT, "range": FLAG},
    "dashboard": {
        "uid": TEXT,
        "title": TEXT,
        "description": TEXT,
        "tags": MANY,
        "editable": FLAG,
        "schemaVersion": NUMBER,
        "version": NUMBER,
        "timezone": TEXT,
        "refresh": TEXT,
        "time": {"from": TEXT, "to": TEXT},
        "graphTooltip": NUMBER,
        "links": MANY,
        "annotations": {"list": MANY},
        "templating": {"list": MANY},
        "panels": MANY,
    },
}
UNITS = {"reqps", "percentunit", "ms", "s", "short"}
"""Of Grafana, those that are used."""


def conforms(value: Any, schema: Any, where: str) -> None:
    if isinstance(schema, dict):
        assert set(value) == set(schema), f"{where}: {set(value) ^ set(schema)}"
        for key, below in schema.items():
            conforms(value[key], below, f"{where}.{key}")
    else:
        assert type(value) is schema, f"{where} is {value!r}, not {schema.__name__}"


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_is_one_that_grafana_loads(file: Path) -> None:
    board = dashboard(file)
    conforms(board, SCHEMAS["dashboard"], "dashboard")
    assert board["schemaVersion"] >= 36
    assert re.fullmatch(r"[\w-]{1,40}", board["uid"])
    taken: set[tuple[int, int]] = set()
    for panel in board["panels"]:
        conforms(panel, SCHEMAS[panel["type"]], panel["title"])
        at = panel["gridPos"]
        cells = {(x, y) for x in range(at["x"], at["x"] + at["w"]) for y in range(at["y"], at["y"] + at["h"])}
        assert not cells & taken, f"{panel['title']} covers another panel"
        assert at["x"] + at["w"] <= 24
        taken |= cells
        if panel["type"] != "row":
            assert panel["fieldConfig"]["defaults"]["unit"] in UNITS
            assert panel["targets"]
            for target in panel["targets"]:
                conforms(target, SCHEMAS["target"], panel["title"])
            assert len({target["refId"] for target in panel["targets"]}) == len(panel["targets"])
    assert len({panel["id"] for panel in board["panels"]}) == len(board["panels"])


@pytest.mark.parametrize("file", DASHBOARDS, ids=lambda file: file.stem)
def test_a_dashboard_uses_the_variables_that_it_has(file: Path) -> None:
    board = dashboard(file)
    variables = {each["name"] for each in board["templating"]["list"]}
    used = set(re.findall(r"\$\{?(\w+)", json.dumps(board["panels"] + board["templating"]["list"])))
    assert used - {"__rate_interval", "__all"} == variables


def test_what_is_provisioned_is_there() -> None:
    (source,) = yaml.safe_load((GRAFANA / "provisioning/datasources/prometheus.yml").read_text())["datasources"]
    assert (source["type"], source["url"]) == ("prometheus", "http://localhost:9090")
    (provider,) = yaml.safe_load((GRAFANA / "provisioning/dashboards/meshlib.yml").read_text())["providers"]
    assert (provider["type"], provider["options"]["path"]) == ("file", "${GRAFANA_DASHBOARDS}")
    assert [file.name for file in DASHBOARDS] == ["meshlib.json"]


def named(expression: str) -> set[str]:
    return set(re.findall(r"\b(?:istio|meshlib)_\w+", re.sub(r"\w*:\w+:\w+|ALERTS", "", expression)))


def test_queries_and_alerts_name_metrics_that_there_are() -> None:
    known = ISTIO | {family.name for family in FAMILIES}
    used: set[str] = set()
    for expression in [*(expr for _, expr in queries()), *(rule["expr"] for rule in rules())]:
        assert named(expression) - {"meshlib_errors"} <= known
        used |= named(expression)
    assert {family.name for family in FAMILIES} - used <= NOT_SHOWN, "a metric that no dashboard and no alert looks at"


NOT_SHOWN = {
    "meshlib_attempts_allowed",
    "meshlib_certificate_rotations_total",
    "meshlib_config_last_success_timestamp_seconds",
    "meshlib_config_resources",
    "meshlib_connections_allowed",
    "meshlib_endpoints_healthy",
    "meshlib_pending_allowed",
}


def test_each_alert_says_what_happens_and_leads_to_its_section_of_the_page() -> None:
    page = (ROOT / "docs" / "observability.md").read_text()
    anchors = {
        re.sub(r"[^\w -]", "", title.lower()).replace(" ", "-") for title in re.findall(r"^#+ (.+)$", page, re.M)
    }
    alerts = [rule for rule in rules() if "alert" in rule]
    assert len({rule["alert"] for rule in alerts}) == len(alerts) > 15
    for rule in alerts:
        assert rule["labels"]["severity"] in ("page", "ticket")
        assert set(rule["annotations"]) == {"summary", "description", "runbook"}
        file, _, anchor = rule["annotations"]["runbook"].partition("#")
        assert (file, anchor in anchors) == ("docs/observability.md", True), rule["annotations"]["runbook"]
        assert f"`{rule['alert']}`" in page, f"{rule['alert']} is not on the page"


# -- what Prometheus makes of them ----------------------------------------------------------------------------------------


@needs_prometheus
def test_promtool_takes_the_rules_and_bookinfos_configuration(tmp_path: Path) -> None:
    children: Any = [
        SimpleNamespace(service=name, pod=f"{name}-v1-1", port=1234, address="http://127.0.0.1:1234")
        for name in ("productpage", "details")
    ]
    write_prometheus(tmp_path / "prometheus.yml", children)
    status, said = promtool("check", "config", str(tmp_path / "prometheus.yml"))
    assert status == 0, said
    assert "22 rules found" in said
    metrics, *_ = where_to_look(tmp_path, children)
    assert metrics == "Metrics: http://127.0.0.1:1234/metrics (productpage-v1-1)", "details has no mesh"


@needs_prometheus
@pytest.mark.parametrize("file", ["alerts_test.yml", "alerts_slow_test.yml"])
def test_alerts_fire_where_they_have_to_and_nowhere_else(file: str) -> None:
    # of series that are longer than a day and a half promtool makes blocks while it evaluates: on a busy machine it sometimes
    # finds nothing at all (2 of 10). A rule that is wrong is wrong each time.
    for _ in range(6):
        status, said = promtool("test", "rules", str(FOLDER / file))
        if status == 0:
            return
    raise AssertionError(said)


def test_each_alert_is_tested_both_ways() -> None:
    tested: dict[str, set[bool]] = {}
    for file in ("alerts_test.yml", "alerts_slow_test.yml"):
        for test in yaml.safe_load((FOLDER / file).read_text())["tests"]:
            for each in test["promql_expr_test"]:
                name = re.search(r'alertname="(\w+)"', each["expr"])
                assert name is not None
                tested.setdefault(name[1], set()).add(bool(each.get("exp_samples")))
    assert set(tested) == {rule["alert"] for rule in rules() if "alert" in rule}
    alone = {name for name, ways in tested.items() if ways != {True, False}}
    # what else would fire them stands beside in the same test: another series, which is not among the samples
    assert alone <= {
        "MeshlibCircuitBreakerOpen",
        "MeshlibErrorBudgetBurns",
        "MeshlibErrorBudgetBurnsSlowly",
        "MeshlibOverflows",
        "MeshlibRetryStorm",
        "MeshlibTelemetryDropped",
        "MeshlibTrustExpires",
    }


class Shop:
    """A mesh of which every panel has something to show."""

    def __init__(self) -> None:
        self.registry = CollectorRegistry()
        world = World(of_a_mesh=True)
        world.rotate()
        outlier = {
            "consecutive5xxErrors": 1,
            "baseEjectionTime": "1000s",
            "interval": "1000s",
            "maxEjectionPercent": 50,
        }
        policy = {
            "apiVersion": "meshlib.dev/v1",
            "kind": "ResiliencePolicy",
            "metadata": {"name": "p", "namespace": "default"},
            "spec": {
                "targetRefs": [{"kind": "Service", "name": "reviews"}],
                "circuitBreaker": {"failureThreshold": 1000, "resetTimeout": "10s"},
                "bulkhead": {"maxConcurrent": 10, "maxWaiting": 1},
                "retryBudget": {"percent": 100, "minPerSecond": 10},
                "adaptiveConcurrency": {"minLimit": 1, "maxLimit": 20},
            },
        }
        self.mesh = meshlib.Mesh.from_resources(
            [
                service("reviews"),
                *[pod("reviews", "v1", n) for n in (1, 2)],
                destination_rule("reviews", outlierDetection=outlier, connectionPool={"http": {"maxRetries": 5}}),
                virtual_service("reviews", {"route": [to("reviews")], "retries": {"attempts": 2, "retryOn": "5xx"}}),
                policy,
            ],
            registry=self.registry,
            workload=Workload("productpage-v1"),
            identity=world.identity,
            clock=TodaysClock(),
        )
        self.statuses = [200, 500, 200]

    def call(self) -> None:
        inner = httpx.MockTransport(lambda request: httpx.Response(self.statuses.pop(0) if self.statuses else 200))
        with httpx.Client(transport=self.mesh.http_transport(inner=inner)) as client:
            for _ in range(3):
                client.get("http://reviews:9080/")

    def fail_once(self) -> None:
        self.statuses = [500, 500, 500, 500, 500]
        self.call()


@needs_prometheus
def test_every_query_of_every_dashboard_has_data_from_a_mesh_at_work(prometheus: Any) -> None:
    shop = Shop()
    server, thread = start_http_server(0, "127.0.0.1", shop.registry)
    try:
        shop.call()
        prometheus.scrape("shop", f"127.0.0.1:{server.server_port}")
        prometheus.scraped("shop", 1)
        shop.fail_once()  # seen from its first scrape on, so that rates have something to show
        shop.mesh._core.telemetry.failures += 1
        prometheus.scraped("shop", 2)

        def without() -> set[str]:
            found = set()
            for title, expression in queries():
                for variable, value in {"$workload": ".*", "$service": ".*", "$__rate_interval": "1m"}.items():
                    expression = expression.replace(variable, value)
                if not prometheus.query(expression):
                    found.add(title)
            return found

        # what other tests of this process have dropped is in its registry, too. Data are there again with the next scrape where
        # one has taken a busy machine too long
        nothing = {"meshlib: Telemetry that failed or was dropped"}
        assert eventually(lambda: without() <= nothing), without()
        prometheus.until('meshlib_endpoints_ejected{workload="productpage-v1"} == 1')
    finally:
        server.shutdown()
        server.server_close()
        thread.join(60)
        shop.mesh.close()
