"""What becomes of connections when the certificates that they stand on do not count any more. (How the pools do it, on real
sockets: tests/transport/core/test_trust_watch.py.)"""

from __future__ import annotations

from types import SimpleNamespace

from meshlib.identity.servers import Standing
from meshlib.transport.upstream.mutual_connections import any_mutual, let_go


def connection(name: str, standing: Standing | None) -> SimpleNamespace:
    return SimpleNamespace(name=name, vouched=None if standing is None else SimpleNamespace(standing=standing))


def test_connections_are_drained_and_then_cut_as_they_stand_and_others_left_alone():
    done: list[str] = []
    let_go(
        [
            connection("plain text", None),
            connection("current", Standing.USED),
            connection("replaced", Standing.DRAINED),
            connection("worthless", Standing.CUT),
        ],
        lambda vouched: vouched.standing,
        lambda one: done.append(f"drain {one.name}"),
        lambda one: done.append(f"cut {one.name}"),
    )
    assert done == ["drain replaced", "drain worthless", "cut worthless"]


def test_whether_there_are_any():
    assert not any_mutual([])
    assert not any_mutual([connection("plain text", None)])
    assert any_mutual([connection("plain text", None), connection("replaced", Standing.DRAINED)])
