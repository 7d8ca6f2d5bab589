"""Which calls go the other way, and that a mount which never acts is said once."""

from __future__ import annotations

from types import SimpleNamespace

import pytest

from meshlib.transport.httpx.other_way import OtherWay


def call(known: bool):
    snapshot = SimpleNamespace(
        virtual_host=lambda dialled, scheme: (dialled, scheme), is_unknown=lambda vhost: not known
    )
    request = SimpleNamespace(dialled="reviews:9080", scheme="http")
    return SimpleNamespace(live=SimpleNamespace(snapshot=snapshot), request=request)


def test_a_host_outside_the_registry_goes_the_other_way():
    assert OtherWay("runtime", "").takes(call(known=False))
    assert OtherWay("runtime", "all://reviews").takes(call(known=False))


@pytest.mark.parametrize(
    ("pattern", "said"), [("all://reviews", 1), ("http://*.test", 1), ("all://", 0), ("all://*", 0), ("", 0)]
)
def test_a_host_of_the_mesh_does_not_and_a_mount_that_names_one_is_told_of_once(pattern, said, caplog):
    way = OtherWay("runtime", pattern)
    assert not way.takes(call(known=True))
    assert not way.takes(call(known=True))
    assert len(caplog.records) == said
    if said:
        assert "has no effect for reviews:9080" in caplog.text
