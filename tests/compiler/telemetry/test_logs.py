"""``accessLogging`` of Telemetry, and ``accessLogFile`` of MeshConfig: the situations of istiod's own tests."""

from __future__ import annotations

from typing import Any

import pytest

from meshlib.compiler.telemetry.logs import json_format
from meshlib.policy.telemetry_settings import AccessLog
from meshlib.resources.loader import load_objects
from tests.support.mesh_config import config_map, mesh_config
from tests.support.telemetry import in_root, providers, telemetry, told

LABELS = {"status": "%RESPONSE_CODE%", "nested": {"path": "%REQ(:PATH)%"}}
LOGS = [
    {"name": "text", "envoyFileAccessLog": {"path": "/var/log/t", "logFormat": {"text": "%DURATION%\n"}}},
    {"name": "json", "envoyFileAccessLog": {"logFormat": {"labels": LABELS}, "omitEmptyValues": True}},
    {
        "name": "otel",
        "envoyOtelAls": {
            "service": "otel.logs.svc.cluster.local",
            "port": 4317,
            "logName": "ours",
            "logFormat": {"text": "%PROTOCOL%", "labels": {"a": "%DURATION%"}},
        },
    },
    {"name": "als", "envoyHttpAls": {"service": "als", "port": 1}},
]
CONFIG = mesh_config(extensionProviders=LOGS)


def logging(*by: str, **entry: Any) -> dict[str, Any]:
    return {**({"providers": providers(*by)} if by else {}), **entry}


def only(expression: str) -> dict[str, Any]:
    return {"filter": {"expression": expression}}


def client(*resources: dict[str, Any]) -> list[AccessLog]:
    return list(told(*resources).client.access_logs)


def names(*resources: dict[str, Any]) -> list[str]:
    return [log.provider for log in client(*resources)]


def test_nothing_is_logged_where_nothing_is_said():
    assert client() == []
    assert client(CONFIG) == []


def test_istio_brings_envoy_along_which_writes_to_standard_output():
    assert client(telemetry(accessLogging=[logging("envoy")])) == [AccessLog("envoy", path="/dev/stdout")]


def test_formats_of_files():
    assert client(CONFIG, telemetry(accessLogging=[logging("text", "json")])) == [
        AccessLog("json", path="/dev/stdout", labels=LABELS, omit_empty=True),
        AccessLog("text", path="/var/log/t", text="%DURATION%\n"),
    ]


def test_a_log_over_otlp():
    (found,) = client(CONFIG, telemetry(accessLogging=[logging("otel")]))
    assert (found.sink, found.service, found.port, found.log_name) == (
        "otlp",
        "otel.logs.svc.cluster.local",
        4317,
        "ours",
    )
    assert (found.text, found.labels) == ("%PROTOCOL%", {"a": "%DURATION%"})


def test_default_providers_where_no_telemetry_says_anything():
    config = mesh_config(extensionProviders=LOGS, defaultProviders={"accessLogging": ["text"]})
    assert names(config) == ["text"]
    assert names(config, telemetry(accessLogging=[logging("json")])) == ["json"]
    assert names(config, telemetry(accessLogging=[logging(**only("true"))])) == ["text"]


def test_providers_of_a_nearer_telemetry_replace_those_of_a_wider_one():
    assert names(CONFIG, in_root(accessLogging=[logging("text")]), telemetry(accessLogging=[logging("json")])) == [
        "json"
    ]


def test_a_nearer_telemetry_without_providers_has_those_of_the_wider_one():
    root = in_root(accessLogging=[logging("text")])
    assert names(CONFIG, root, telemetry(accessLogging=[logging()])) == ["text"]
    assert names(CONFIG, root, telemetry(accessLogging=[logging(disabled=True)])) == []
    assert names(CONFIG, root, telemetry(tracing=[{}])) == ["text"]


def test_one_of_several_is_switched_off():
    root = in_root(accessLogging=[logging("text", "json")])
    both = [logging("text", disabled=True), logging("json")]
    assert names(CONFIG, root, telemetry(accessLogging=both)) == ["json"]


def test_a_filter_is_that_of_the_last_entry_that_names_the_provider():
    one, two = logging("text", **only("response.code >= 500")), logging("text", **only("response.code >= 400"))
    (found,) = client(CONFIG, telemetry(accessLogging=[one, two]))
    assert found.expression == "response.code >= 400"
    (found,) = client(CONFIG, in_root(accessLogging=[one]), telemetry(accessLogging=[logging("text")]))
    assert found.expression == "", "the nearer one names the provider, and no filter"
    (found,) = client(CONFIG, in_root(accessLogging=[one]), telemetry(accessLogging=[logging()]))
    assert found.expression == "response.code >= 500"


def test_calls_made_and_calls_served():
    root = in_root(accessLogging=[logging("text", match={"mode": "CLIENT"}), logging("json", match={"mode": "SERVER"})])
    found = told(CONFIG, root)
    assert [log.provider for log in found.client.access_logs] == ["text"]
    assert [log.provider for log in found.server.access_logs] == ["json"]
    off = telemetry(accessLogging=[logging(disabled=True, match={"mode": "CLIENT"})])
    found = told(CONFIG, in_root(accessLogging=[logging("text")]), off)
    assert [log.provider for log in found.client.access_logs] == []
    assert [log.provider for log in found.server.access_logs] == ["text"]


# -- accessLogFile


@pytest.mark.parametrize("written", [config_map, mesh_config])
def test_the_file_of_mesh_config(written):
    assert client(written(accessLogFile="/dev/stdout")) == [AccessLog("", path="/dev/stdout")]
    assert client(written(accessLogFile="")) == []


def test_its_format_is_a_text_or_an_object():
    assert client(mesh_config(accessLogFile="/l", accessLogFormat="%DURATION%")) == [
        AccessLog("", path="/l", text="%DURATION%")
    ]
    json = {"accessLogFile": "/l", "accessLogEncoding": "JSON"}
    assert client(mesh_config(**json)) == [AccessLog("", path="/l", labels={})]
    assert client(mesh_config(**json, accessLogFormat='{"d": "%DURATION%"}')) == [
        AccessLog("", path="/l", labels={"d": "%DURATION%"})
    ]
    assert client(mesh_config(**json, accessLogFormat="{not json")) == [AccessLog("", path="/l", labels={})]


def test_the_provider_envoy_has_that_format_too_unless_it_has_one_of_its_own():
    log = telemetry(accessLogging=[logging("envoy")])
    (found,) = client(mesh_config(accessLogFormat="%PROTOCOL%"), log)
    assert (found.path, found.text) == ("/dev/stdout", "%PROTOCOL%")
    own = [{"name": "envoy", "envoyFileAccessLog": {"path": "/e", "logFormat": {"text": "%DURATION%"}}}]
    (found,) = client(mesh_config(accessLogFormat="%PROTOCOL%", extensionProviders=own), log)
    assert (found.path, found.text) == ("/e", "%DURATION%")


def test_the_file_of_mesh_config_counts_where_telemetries_come_to_no_provider():
    config = mesh_config(accessLogFile="/l", extensionProviders=LOGS)
    assert names(config, telemetry(accessLogging=[logging("text")])) == ["text"]
    assert names(config, telemetry(accessLogging=[logging("nobody")])) == [""]
    assert names(config, telemetry(accessLogging=[logging("text", match={"mode": "SERVER"})])) == [""]
    assert names(config, telemetry(accessLogging=[logging("text", disabled=True)])) == []
    assert names(config, telemetry(accessLogging=[logging("als")])) == [], "Envoy's own writes it, here nobody"


def test_a_format_of_json_is_an_object():
    assert json_format("") == {}
    assert json_format('{"a": 1}') == {"a": 1}
    assert json_format("[1]") is json_format("{") is None


@pytest.mark.parametrize(
    ("provider", "field"),
    [
        ({"envoyFileAccessLog": {"path": 1}}, "path"),
        ({"envoyOtelAls": {"port": "many"}}, "port"),
        ({"envoyFileAccessLog": {"logFormat": {"labels": "x"}}}, "labels"),
    ],
)
def test_settings_of_a_wrong_type_are_refused_at_their_field(provider, field):
    (problem,) = load_objects([mesh_config(extensionProviders=[{"name": "x", **provider}])]).errors
    assert field in problem.path
