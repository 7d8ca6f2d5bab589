"""A check may see the beginning of a body; the application reads all of it, and nothing beyond its end is asked for."""

from __future__ import annotations

import io
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.transport.wsgi.body import Body


class Strict(io.BytesIO):
    """A server's input that does not know where it ends: whoever reads beyond it waits for ever."""

    def __init__(self, body: bytes) -> None:
        super().__init__(body + b"the next request")
        self.left = len(body)

    def _took(self, piece: bytes) -> bytes:
        self.left -= len(piece)
        assert self.left >= 0, "read beyond the end"
        return piece

    def read(self, size: int | None = -1) -> bytes:
        return self._took(super().read(size))

    def readline(self, size: int | None = -1) -> bytes:
        return self._took(super().readline(size))


def environ(body: bytes, terminated: bool, length: str | None = None) -> dict[str, Any]:
    made: dict[str, Any] = {"wsgi.input": io.BytesIO(body) if terminated else Strict(body)}
    if terminated:
        made["wsgi.input_terminated"] = True
    if length is not None:
        made["CONTENT_LENGTH"] = length
    return made


@pytest.mark.parametrize("terminated", [True, False])
def test_the_beginning_is_seen_and_more_of_it_when_more_is_asked(terminated: bool) -> None:
    made = environ(b"abcdef", terminated, "6")
    body = Body(made)
    assert body.peek(2) == (b"ab", False)
    assert body.peek(2) == (b"ab", False)
    assert body.peek(4) == (b"abcd", False)
    head, ended = body.peek(100)
    assert (head, ended) == (b"abcdef", True)
    assert made["wsgi.input"].read() == b"abcdef"
    assert made["wsgi.input"].read() == b""


def test_nobody_touches_the_input_unless_asked() -> None:
    made = environ(b"abc", False, "3")
    source = made["wsgi.input"]
    Body(made)
    assert made["wsgi.input"] is source
    assert source.left == 3


@pytest.mark.parametrize("length", [None, "", "0", "x"])
def test_without_a_length_there_is_no_body_where_the_input_does_not_end(length: str | None) -> None:
    assert Body(environ(b"", False, length)).peek(10) == (b"", True)


def test_a_body_of_chunks_has_no_length_and_its_input_ends() -> None:
    made = environ(b"abc", True)
    assert Body(made).peek(10) == (b"abc", True)
    assert list(made["wsgi.input"]) == [b"abc"]


def test_a_client_that_goes_away_meanwhile_is_its_servers_to_tell() -> None:
    class Gone(io.BytesIO):
        def read(self, size: int | None = -1) -> bytes:
            raise ConnectionResetError

    with pytest.raises(ConnectionResetError):
        Body({"wsgi.input": Gone(), "CONTENT_LENGTH": "3"}).peek(1)


READS = st.lists(
    st.tuples(st.sampled_from(["read", "readline", "readlines", "iterate"]), st.none() | st.integers(0, 12)), max_size=6
)


@given(st.lists(st.sampled_from([b"a", b"bc", b"\n", b"\n\n"])).map(b"".join), st.integers(0, 12), st.booleans(), READS)
def test_what_has_been_seen_reads_like_any_file(
    body: bytes, peeked: int, terminated: bool, reads: list[tuple[str, int | None]]
) -> None:
    made = environ(body, terminated, str(len(body)))
    head, ended = Body(made).peek(peeked)
    assert body.startswith(head)
    assert len(head) >= min(peeked, len(body))
    if ended:
        assert head == body
    elif not terminated:
        assert len(body) > peeked
    file, like = made["wsgi.input"], io.BytesIO(body)
    for how, size in reads:
        if not terminated and size is None:
            size = 3
        if how == "iterate":
            if terminated:
                assert next(iter(file), b"") == next(like, b"")
            continue
        if not terminated:
            size = min(size or 0, len(body) - like.tell())
            how = "read" if how == "readlines" else how
        assert getattr(file, how)(size) == getattr(like, how)(size)
