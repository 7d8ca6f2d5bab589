"""The access log that Envoy writes."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from meshlib.envoy.access_log import access_log, logged, refused
from meshlib.envoy.configuration import configuration
from meshlib.envoy.messages import LISTENER, packed
from tests.support.envoy_engine import EnvoyCommand, Json, snapshot_of
from tests.support.eventually import eventually
from tests.support.resources import service, service_entry
from tests.support.servers import EchoServer

LOG, FORMAT, RATE = "MESHLIB_ACCESS_LOG", "MESHLIB_ACCESS_LOG_FORMAT", "MESHLIB_ACCESS_LOG_RATE"


def form_of(**environ: str) -> Json:
    made = access_log({LOG: "stdout", **environ})
    assert made is not None
    found: Json = made["typed_config"]["log_format"]
    return found


def text_of(form: Json) -> str:
    return str(form["text_format_source"]["inline_string"])


def test_without_one_nothing_is_written() -> None:
    assert access_log({}) is None
    assert refused({RATE: "1/second"}) == []


@pytest.mark.parametrize(
    ("to", "name", "message"),
    [
        ("stdout", "envoy.access_loggers.stdout", "access_loggers.stream.v3.StdoutAccessLog"),
        ("stderr", "envoy.access_loggers.stderr", "access_loggers.stream.v3.StderrAccessLog"),
        ("/var/log/mesh.log", "envoy.access_loggers.file", "access_loggers.file.v3.FileAccessLog"),
    ],
)
def test_lines_go_where_they_are_wanted(to: str, name: str, message: str) -> None:
    made = access_log({LOG: to})
    assert made is not None
    assert made["name"] == name
    assert made["typed_config"]["@type"].endswith(message)
    assert made["typed_config"].get("path") == (to if to.startswith("/") else None)


def test_named_formats_are_istios_and_envoys_without_queries_in_which_secrets_are() -> None:
    for name in ("", "text", "envoy"):
        form = text_of(form_of(**({FORMAT: name} if name else {})))
        assert '"%REQ(:METHOD)% %PATH(NQ:ORIG_OR_PATH)% %PROTOCOL%" %RESPONSE_CODE%' in form
        assert form.endswith("\n")
    labels = form_of(**{FORMAT: "json"})["json_format"]
    assert (labels["path"], labels["response_code"]) == ("%PATH(NQ:ORIG_OR_PATH)%", "%RESPONSE_CODE%")


def test_a_format_of_ones_own_is_taken_as_it_is_with_the_end_of_a_line() -> None:
    assert text_of(form_of(**{FORMAT: "%REQ(:PATH)% %DURATION%"})) == "%REQ(:PATH)% %DURATION%\n"


@pytest.mark.parametrize(
    ("environ", "words"),
    [
        ({RATE: "10/second"}, "MESHLIB_ACCESS_LOG_RATE"),
        ({FORMAT: "%REQ(AUTHORIZATION)%"}, "leave authorization out"),
        ({FORMAT: "%REQ(X-NAME?COOKIE)%"}, "leave cookie out"),
        ({FORMAT: "%RESP(SET-COOKIE)%"}, "leave set-cookie out"),
        ({FORMAT: "%QUERY_PARAM(access_token)%"}, "leave access_token out"),
        ({FORMAT: "%REQ_WITHOUT_QUERY(Cookie)%"}, "leave cookie out"),
        ({FORMAT: "%CEL(request.path)%"}, "no expressions"),
    ],
)
def test_what_envoy_would_do_otherwise_is_refused(environ: dict[str, str], words: str) -> None:
    (said,) = refused({LOG: "stdout", **environ})
    assert "is not for --engine envoy" in said
    assert words in said
    assert refused({LOG: "stdout", FORMAT: "%REQ(X-NAME)% %QUERY_PARAM(page)% %RESPONSE_CODE%"}) == []


@pytest.mark.parametrize("transparent", [False, True])
def test_all_connections_are_written_down_whoever_serves_them(transparent: bool) -> None:
    snapshot = snapshot_of(
        service("web"),
        service_entry("raw", "raw.test", ports=[{"number": 5432, "name": "tcp", "protocol": "TCP"}]),
    )
    logger = access_log({LOG: "stdout"})
    made = configuration(snapshot, [("127.0.0.1", 15001)], transparent=transparent, logger=logger)
    for listener in made.listeners.values():
        packed(LISTENER, listener)
        for chain in [*listener["filter_chains"], *filter(None, [listener.get("default_filter_chain")])]:
            assert chain["filters"][-1]["typed_config"]["access_log"] == [logger]
    bare: dict[str, Json] = {"a": {"filter_chains": [{"filters": [{"name": "other", "typed_config": {}}]}]}}
    logged(bare, logger)
    assert bare["a"]["filter_chains"][0]["filters"][0]["typed_config"] == {}


def lines_of(path: Path) -> list[Any]:
    """Those that are whole."""
    text = path.read_text() if path.exists() else ""
    return [json.loads(line) for line in text.split("\n")[:-1]]


def test_envoy_writes_a_line_of_each_request(tmp_path: Path) -> None:
    path = tmp_path / "lines.json"
    with (
        EchoServer() as server,
        EnvoyCommand(tmp_path, server.port, env={LOG: str(path), FORMAT: "json"}) as proxy,
        proxy.client() as client,
    ):
        assert client.get("/there?token=secret", "GET", "reviews.example").status == 200
        assert client.get("/", "GET", "nobody.example:1").status != 200
        assert eventually(lambda: len(lines_of(path)) == 2)
    first, second = lines_of(path)
    assert (first["method"], first["path"], first["response_code"]) == ("GET", "/there", 200)
    assert second["authority"] == "nobody.example:1"
    assert "secret" not in path.read_text()


def test_lines_go_to_the_proxys_own_output(tmp_path: Path) -> None:
    with (
        EchoServer() as server,
        EnvoyCommand(tmp_path, server.port, env={LOG: "stdout"}) as proxy,
        proxy.client() as client,
    ):
        assert client.get("/there", "GET", "reviews.example").status == 200
        proxy.says(r'"GET /there HTTP/1.1" 200')
