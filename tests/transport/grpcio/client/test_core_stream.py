"""A stream of responses is read by grpcio's inner function only where its ``__next__`` does nothing but call that."""

from __future__ import annotations

import grpc

from meshlib.transport.grpcio.client.core_stream import reader_of
from tests.support.grpc_echo import SERVICE, Message, echo_servers, stubs
from tests.support.grpc_runtimes import TARGET, mesh_of


class Grpcios:
    """As grpcio's."""

    def __init__(self):
        self.left = [2, 1]

    def __iter__(self):
        return self

    def __next__(self):
        return self._next()

    def _next(self):
        if not self.left:
            raise StopIteration
        return self.left.pop()


class Watched(Grpcios):
    """One whose reads somebody counts."""

    def __init__(self):
        super().__init__()
        self.seen = 0

    def __next__(self):
        self.seen += 1
        return self._next()


def test_the_installed_grpcio_is_read_at_once():
    with echo_servers(None) as [server], grpc.insecure_channel(server.address) as channel:
        stream = channel.unary_stream(f"/{SERVICE}/Expand")(Message(count=3).SerializeToString())
        read = reader_of(stream)
        assert read == stream._next
        assert Message.FromString(read()).text == "0"
        assert [Message.FromString(left).text for left in stream] == ["1", "2"]


def test_what_calls_nothing_else_is_not_called():
    stream = Grpcios()
    assert reader_of(stream) == stream._next


def test_what_does_more_is_called_and_does_it():
    stream = Watched()
    read = reader_of(stream)
    assert [read(), read(), next(read_to_end(read), None)] == [1, 2, None]
    assert stream.seen == 3


def test_other_iterators_are_read_as_they_are():
    read = reader_of(iter([1]))
    assert list(read_to_end(read)) == [1]
    assert list(read_to_end(reader_of(message for message in "ab"))) == ["a", "b"]


def test_a_stream_of_the_mesh_is_read_so():
    with echo_servers(None) as [server], mesh_of(server) as mesh:
        stream = stubs.EchoStub(mesh.grpc_channel(TARGET)).Expand(Message(count=3))
        assert next(stream).text == "0"
        assert stream._read == stream.run.inner._next
        assert [left.text for left in stream] == ["1", "2"]


def read_to_end(read):
    while True:
        try:
            yield read()
        except StopIteration:
            return
