"""A format that is none is told where it stands, with what is known."""

from __future__ import annotations

import pytest

from meshlib.compiler.telemetry.formats import problems_of_formats
from meshlib.compiler.telemetry.providers import Providers
from meshlib.problems import Severity
from tests.support.telemetry import said

CONFIG = """apiVersion: meshlib.dev/v1
kind: MeshConfig
metadata: {name: m}
spec:
"""
FILE = "  extensionProviders:\n  - name: l\n    envoyFileAccessLog:\n      logFormat:\n"
OTEL = "  extensionProviders:\n  - name: l\n    envoyOtelAls:\n      logFormat:\n"
TAGS = """apiVersion: telemetry.istio.io/v1
kind: Telemetry
metadata: {name: t}
spec:
  tracing:
  - customTags:
      a:
        formatter:
          value: "%DURATON%"
"""


@pytest.mark.parametrize(
    ("text", "place", "message"),
    [
        (CONFIG + FILE + '        text: "a %RESPONSE_COD%"\n', (9, 9), "character 3: unknown operator %RESPONSE_COD%"),
        (CONFIG + FILE + '        labels:\n          x: {y: "%REQ%"}\n', (10, 15), "key x.y, character 1: %REQ% needs"),
        (CONFIG + OTEL + '        text: "%DURATION"\n', (9, 9), "its closing % is missing"),
        (
            CONFIG + OTEL + '        labels:\n          x: ["a", "%Q%"]\n',
            (10, 20),
            "key x[1], character 1: unknown operator",
        ),
        (CONFIG + '  accessLogFormat: "%NOPE%"\n', (5, 3), "unknown operator %NOPE%"),
        (
            CONFIG + '  accessLogEncoding: JSON\n  accessLogFormat: \'{"a": "%NOPE%"}\'\n',
            (6, 3),
            "key a, character 1: unknown operator %NOPE%",
        ),
        (TAGS, (9, 11), "unknown operator %DURATON%: did you mean %DURATION% or %"),
    ],
)
def test_an_operator_that_does_not_exist_is_told_where_it_stands(text, place, message):
    (problem,) = said(text)
    assert (problem.code, problem.severity) == ("bad-format", Severity.WARNING)
    assert (problem.file, problem.line, problem.column) == ("mesh.yaml", *place)
    assert message in problem.message
    assert problem.message.endswith(("this log is not written", "the tag is left out"))


def test_an_operator_that_only_a_proxy_knows_is_a_notice():
    (problem,) = said(CONFIG + FILE + '        text: "%DURATION% %DOWNSTREAM_TLS_VERSION% %UNIQUE_ID%"\n')
    assert (problem.code, problem.severity) == ("always-absent", Severity.NOTICE)
    assert "%DURATION%" not in problem.message


def test_formats_that_are_right_say_nothing():
    assert said(CONFIG + FILE + '        text: "[%START_TIME%] %REQ(:METHOD)% %RESPONSE_CODE%"\n') == []
    assert said(TAGS.replace("DURATON", "DURATION")) == []
    assert list(problems_of_formats((), Providers())) == []
