"""``Mesh.from_yaml``: a text instead of files, for examples, tests and notebooks."""

from __future__ import annotations

import pytest

import meshlib
from meshlib.problems import ConfigError

TEXT = """
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: reviews}
spec:
  hosts: [reviews.example]
  http:
  - match: [{uri: {prefix: /old}}]
    redirect: {uri: /new}
---
apiVersion: networking.istio.io/v1
kind: VirtualService
metadata: {name: ratings}
spec:
  hosts: [ratings.example]
  http:
  - directResponse: {status: 418}
"""


def test_every_document_of_the_text_acts():
    with meshlib.Mesh.from_yaml(TEXT) as mesh, mesh.client() as client:
        assert client.get("http://reviews.example/old").headers["location"].endswith("/new")
        assert client.get("http://ratings.example/").status_code == 418


def test_a_mistake_is_told_with_its_line():
    with pytest.raises(ConfigError) as raised:
        meshlib.Mesh.from_yaml(TEXT.replace("redirect: {uri: /new}", "redirekt: {uri: /new}"))
    (problem,) = raised.value.problems
    assert (problem.file, problem.line) == ("<yaml>", 9)
    assert "redirekt" in problem.message


def test_later_resources_replace_those_of_the_text():
    with meshlib.Mesh.from_yaml(TEXT) as mesh:
        mesh.apply([])
        assert mesh.explain(url="http://ratings.example/").resource == ""
