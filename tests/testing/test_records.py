"""Where the record of a call is found."""

from __future__ import annotations

import httpx
import pytest

from meshlib.testing.records import record_of


def test_a_response_has_it_among_its_extensions(mesh):
    response = mesh().client(local_replies="respond").get("http://127.0.0.1:1/")
    assert record_of(response) is response.extensions["mesh"]


def test_an_exception_has_it_as_exchange(mesh):
    with pytest.raises(httpx.ConnectError) as raised:
        mesh().client().get("http://127.0.0.1:1/")
    assert record_of(raised) is record_of(raised.value) is raised.value.exchange
