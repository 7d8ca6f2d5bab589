"""What we say of WSGI is what the standard library says, and what its validator holds applications and servers to."""

from __future__ import annotations

from wsgiref import types

from meshlib.transport.wsgi import contracts


def test_the_types_are_the_standard_librarys() -> None:
    assert contracts.Application == types.WSGIApplication
    assert contracts.StartResponse is types.StartResponse
    assert set(contracts.__all__) == {"Application", "Environ", "Headers", "Pieces", "StartResponse", "Write"}
