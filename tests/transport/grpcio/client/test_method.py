"""Methods as stubs declare them."""

from __future__ import annotations

import pytest

from meshlib.transport.grpcio.client.method import Method, Named, Stubs

KINDS = ["unary_unary", "unary_stream", "stream_unary", "stream_stream"]


@pytest.mark.parametrize("path", ["/pkg.Service/Method", b"/pkg.Service/Method"])
@pytest.mark.parametrize("kind", KINDS)
def test_a_method_has_a_kind_and_its_path_as_text_and_bytes(kind, path):
    method = Method(kind, path, None, bytes.decode)
    assert (method.path, method.target) == ("/pkg.Service/Method", b"/pkg.Service/Method")
    assert method.streaming is kind.endswith("_stream")
    assert method.key == (kind, bytes.decode)
    assert method.bare == len("POST/pkg.Service/Method") + 5


def test_a_name_is_enough_where_no_call_is_made():
    assert (Named("/s/m").path, Named("/s/\u20ac").target) == ("/s/m", b"/s/?")
    assert Named("/s/m").bare == len("POST/s/m") + 5


@pytest.mark.parametrize("kind", KINDS)
def test_a_stub_gets_a_multicallable_of_its_kind(kind):
    made = []

    class Channel(Stubs):
        pass

    for name in KINDS:
        setattr(
            Channel, f"of_{name}", staticmethod(lambda channel, method, name=name: made.append((name, method)) or name)
        )
    channel = Channel()
    assert getattr(channel, kind)("/s/m", str.encode, bytes.decode, _registered_method=True) == kind
    ((name, method),) = made
    assert (name, method.kind, method.path, method.serialize, method.deserialize) == (
        kind,
        kind,
        "/s/m",
        str.encode,
        bytes.decode,
    )
