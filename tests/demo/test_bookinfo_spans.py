"""``meshlib demo bookinfo --otlp URL``: where spans go, and what a person is told of them."""

from __future__ import annotations

import time
from io import StringIO

import httpx
from rich.console import Console

from meshlib.demo.bookinfo.play.process import Child
from meshlib.demo.bookinfo.play.session import where_spans_are
from meshlib.demo.bookinfo.runner import PROBLEM, run
from tests.support.otlp_receiver import OtlpReceiver

TRACE, CALLER = "80f198ee56343ba864fe8b2a57d3eff7", "e457b5a2e4d86bd1"


def test_a_service_sends_the_spans_of_what_it_serves(tmp_path):
    mesh = tmp_path / "mesh"
    mesh.mkdir()
    (mesh / "empty.yaml").write_text("")
    with OtlpReceiver() as receiver:
        child = Child("ratings", "v1", "ratings-v1-1", mesh, tmp_path, otlp=receiver.http)
        try:
            child.wait_ready(time.monotonic() + 120)
            headers = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
            assert httpx.get(f"{child.address}/ratings/0", headers=headers, trust_env=False).status_code == 200
            receiver.wait_for(lambda there: there.spans)
        finally:
            child.terminate()
            child.join(20)
    [span] = [span for span in receiver.spans if span.attributes["url.path"] == "/ratings/0"]
    assert (span.resource["service.name"], span.item.trace_id.hex()) == ("ratings-v1", TRACE)
    assert span.item.parent_span_id.hex() == CALLER


def test_a_person_is_told_where_to_look():
    assert where_spans_are("http://user:canary@jaeger:4318") == (
        "spans go to http://jaeger:4318: look for the service visitor (Jaeger's page: http://jaeger:16686)"
    )
    assert "--otlp http://127.0.0.1:4318" in where_spans_are("")


def test_what_is_no_receiver_is_said_before_anything_starts():
    said = StringIO()
    assert run(once=True, otlp="jaeger:4318", console=Console(file=said, width=200)) == PROBLEM
    assert "is not the URL of an OTLP receiver" in said.getvalue()
    assert "starting Bookinfo" not in said.getvalue()
