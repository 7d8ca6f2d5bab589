"""What notebooks show of an exchange: text of strangers stays text."""

from __future__ import annotations

import html
import re

import pytest

import meshlib
from meshlib.engine.explain_html import as_html

HOSTILE = "<script>alert(1)</script><img src=x onerror='alert(2)'>\"&amp;</pre><b>"


def tags(text: str) -> list[str]:
    return re.findall(r"<[^>]*>", text)


def test_text_is_shown_as_it_is() -> None:
    shown = as_html(f"host  {HOSTILE}\n  rule 0")
    assert tags(shown) == ["<pre>", "</pre>"]
    assert html.unescape(shown.removeprefix("<pre>").removesuffix("</pre>")) == f"host  {HOSTILE}\n  rule 0"
    assert '"' not in shown
    assert "'" not in shown


@pytest.fixture
def mesh():
    rule = {
        "name": HOSTILE,
        "match": [{"headers": {"x-user": {"exact": HOSTILE}}}],
        "route": [{"destination": {"host": "reviews"}}],
    }
    virtual = {"hosts": ["reviews"], "http": [rule]}
    with meshlib.Mesh.from_resources(
        [
            {
                "apiVersion": "networking.istio.io/v1",
                "kind": "VirtualService",
                "metadata": {"name": "reviews"},
                "spec": virtual,
            }
        ],
        endpoints={"reviews": "127.0.0.1:9080"},
    ) as mesh:
        yield mesh


def test_an_exchange_of_hostile_names_and_urls_is_a_block_of_text(mesh) -> None:
    found = mesh.explain(url=f"http://reviews:9080/<script>?q={HOSTILE}", headers={"x-other": HOSTILE})
    assert "<script>" in str(found), "or this test would show nothing"
    assert tags(found._repr_html_()) == ["<pre>", "</pre>"]


def test_so_is_a_decision_about_a_request_that_comes_in(mesh) -> None:
    found = mesh.explain_inbound(path="/<script>", headers={"x": HOSTILE}, host="a<b>")
    assert "<script>" in str(found), "or this test would show nothing"
    assert tags(found._repr_html_()) == ["<pre>", "</pre>"]
