"""Listening sockets: a port that somebody has is refused, also where SO_REUSEPORT would have let both listen; and the slot of
a worker keeps its queue whoever serves it."""

from __future__ import annotations

import contextlib
import socket
from collections.abc import Iterator

import pytest

from meshlib.problems import MeshError
from meshlib.proxy.places import TcpPlace
from meshlib.proxy.sockets import listening

HERE = TcpPlace("127.0.0.1", 0)


@contextlib.contextmanager
def closing(sockets: list[socket.socket]) -> Iterator[list[socket.socket]]:
    try:
        yield sockets
    finally:
        for each in sockets:
            each.close()


def place_of(made: list[socket.socket]) -> TcpPlace:
    return TcpPlace("127.0.0.1", made[0].getsockname()[1])


def test_every_slot_has_a_socket_of_its_own_at_the_same_port() -> None:
    with closing(listening(HERE, "--outbound", 3)) as made:
        assert len({each.fileno() for each in made}) == 3
        assert len({each.getsockname() for each in made}) == 1
        with closing([socket.create_connection(made[0].getsockname()) for _ in range(64)]):
            taken = [sum(1 for _ in accepted(each)) for each in made]
        assert sum(taken) == 64
        assert all(taken), "the kernel deals them out"


def accepted(listener: socket.socket) -> Iterator[None]:
    with contextlib.suppress(BlockingIOError):
        while True:
            listener.accept()[0].close()
            yield


@pytest.mark.parametrize("slots", [1, 2])
@pytest.mark.parametrize("others", [1, 2])
def test_a_port_in_use_is_refused_with_the_way_to_find_who_has_it(slots: int, others: int) -> None:
    with closing(listening(HERE, "--outbound", others)) as made:
        with pytest.raises(MeshError) as caught:
            listening(place_of(made), "--inbound", slots)
    port = made_port = place_said(caught.value)
    assert str(caught.value) == (
        f"--inbound 127.0.0.1:{port}: port {made_port} is in use; stop who has it (ss -ltnp 'sport = :{port}' shows who), or "
        "give --inbound another port"
    )


def place_said(error: MeshError) -> int:
    return int(str(error).split(":")[1])


def test_two_proxies_share_a_port_only_where_both_want_it() -> None:
    with closing(listening(HERE, "--outbound", 1, share=True)) as old:
        with closing(listening(place_of(old), "--outbound", 2, share=True)) as new:
            assert new[1].getsockname() == old[0].getsockname()


def test_an_address_of_another_machine_is_refused() -> None:
    with pytest.raises(MeshError, match=r"192\.0\.2\.1 is not an address of this machine"):
        listening(TcpPlace("192.0.2.1", 0), "--outbound")


def test_all_addresses_of_both_families_can_be_listened_at() -> None:
    try:
        made = listening(TcpPlace("::", 0), "--outbound")
    except MeshError:
        pytest.skip("no IPv6 here")
    with closing(made):
        socket.create_connection(("127.0.0.1", made[0].getsockname()[1])).close()
