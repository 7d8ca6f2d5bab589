"""The load generator: it makes the calls that are asked for, and a response that is not good is no figure."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable

import pytest

from meshlib.bench.generator import Load
from meshlib.bench.http_client import Wrong
from meshlib.bench.measuring import Asked, Taken

GOOD = b"HTTP/1.1 200 OK\r\nContent-Length: 3\r\n\r\nabc"


def against(respond: Callable[[asyncio.StreamWriter], None], *asked: Asked) -> tuple[list[Taken], list[bytes]]:
    """Rounds, and the heads of the requests that came."""
    heads: list[bytes] = []
    writers: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writers.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                heads.append(await reader.readuntil(b"\r\n\r\n"))
                respond(writer)

    async def main() -> list[Taken]:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            load = Load(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            try:
                return [await load.round(each) for each in asked]
            finally:
                load.close()
                for writer in writers:
                    writer.close()
                    with contextlib.suppress(ConnectionError):
                        await writer.wait_closed()

    return asyncio.run(main()), heads


def good(writer: asyncio.StreamWriter) -> None:
    writer.write(GOOD)


def test_a_closed_loop_calls_until_its_time_is_up_and_connections_are_kept() -> None:
    taken, heads = against(good, Asked(3, 3, 0.05), Asked(3, 3, 0.05))
    assert sum(len(each.latencies) for each in taken) == len(heads)
    assert all(len(each.latencies) >= 3 and not each.late for each in taken)


def test_no_request_is_like_another() -> None:
    _, heads = against(good, Asked(2, 3, 0.02))
    assert len(set(heads)) == len(heads)


def test_an_open_loop_makes_all_calls_that_are_due_whoever_is_busy() -> None:
    (taken,), heads = against(good, Asked(2, 3, 0.1, rate=200))
    assert len(taken.latencies) == len(heads) == len(taken.late) == 20


def test_a_response_may_come_in_pieces() -> None:
    async def later(writer: asyncio.StreamWriter) -> None:
        for at in range(len(GOOD)):
            writer.write(GOOD[at : at + 1])
            await asyncio.sleep(0)

    tasks = []
    (taken,), heads = against(lambda writer: tasks.append(asyncio.ensure_future(later(writer))), Asked(1, 3, 0.02))
    assert len(taken.latencies) == len(heads) == len(tasks)


@pytest.mark.parametrize(
    ("response", "said"),
    [
        (b"HTTP/1.1 503 Service Unavailable\r\ncontent-length: 0\r\n\r\n", "503"),
        (b"HTTP/1.1 200 OK\r\ncontent-length: 2\r\n\r\nab", "content-length 2, not 3"),
        (b"HTTP/1.1 200 OK\r\ntransfer-encoding: chunked\r\n\r\n0\r\n\r\n", "content-length None, not 3"),
    ],
)
def test_a_response_that_was_not_asked_for_is_no_figure(response: bytes, said: str) -> None:
    with pytest.raises(Wrong, match=said):
        against(lambda writer: writer.write(response), Asked(1, 3, 5.0))


def test_a_connection_that_is_closed_between_rounds_is_made_anew() -> None:
    served: list[asyncio.StreamWriter] = []

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        served.append(writer)
        with contextlib.suppress(asyncio.IncompleteReadError, ConnectionError):
            while True:
                await reader.readuntil(b"\r\n\r\n")
                writer.write(GOOD)

    async def main() -> int:
        server = await asyncio.start_server(serve, "127.0.0.1", 0)
        async with server:
            load = Load(f"http://127.0.0.1:{server.sockets[0].getsockname()[1]}")
            await load.round(Asked(1, 3, 0.01))
            served[0].close()
            while not load._kept[0].closed:
                await asyncio.sleep(0.001)
            calls = len((await load.round(Asked(1, 3, 0.01))).latencies)
            load.close()
            for writer in served:
                writer.close()
                with contextlib.suppress(ConnectionError):
                    await writer.wait_closed()
            return calls

    assert asyncio.run(main()) > 0
    assert len(served) == 2


def test_a_connection_that_is_closed_ends_the_round() -> None:
    with pytest.raises(ConnectionError):
        against(lambda writer: writer.close(), Asked(1, 3, 5.0))
