"""The headers of a response as its client gets them."""

from __future__ import annotations

from dataclasses import replace
from types import SimpleNamespace

import pytest

from meshlib.compiler.mesh_settings import DEFAULTS
from meshlib.engine.outcome import Outcome
from meshlib.proxy.sent_headers import sent_headers

OVERLOADED = (b"X-Envoy-Overloaded", b"true")
OTHER = (b"a", b"b")


def call(debug=True, took=12.7):
    mesh = replace(DEFAULTS, proxy_headers=replace(DEFAULTS.proxy_headers, debug=debug))
    live = SimpleNamespace(snapshot=SimpleNamespace(inbound=SimpleNamespace(default=SimpleNamespace(mesh=mesh))))
    return SimpleNamespace(live=live, record=SimpleNamespace(upstream_ms=took))


def test_an_upstreams_response_says_how_long_it_took():
    assert sent_headers(call(), Outcome(status=200, headers=[OTHER]), False) == [
        OTHER,
        (b"x-envoy-upstream-service-time", b"12"),
    ]


def test_where_that_is_not_known_it_took_no_time():
    assert sent_headers(call(took=None), Outcome(status=200, headers=[]), False)[0][1] == b"0"


def test_a_response_of_our_own_took_no_upstream_any_time():
    assert sent_headers(call(), Outcome(status=503, headers=[OVERLOADED]), True) == [OVERLOADED]


@pytest.mark.parametrize(("local", "left"), [(True, [OTHER]), (False, [OVERLOADED, OTHER])])
def test_without_debug_headers_what_is_ours_is_left_out_and_what_came_stays(local, left):
    assert sent_headers(call(debug=False), Outcome(status=503, headers=[OVERLOADED, OTHER]), local) == left
