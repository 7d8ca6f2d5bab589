"""A WSGI application behind the mesh: what each server and client may do meanwhile, and what is told of it."""

from __future__ import annotations

import gc
import io
from collections.abc import Iterator
from typing import Any
from wsgiref.validate import validator

import pytest

from meshlib.engine import deadlines, inbound_context
from meshlib.engine.inbound_request import InboundRequest
from meshlib.policy.refusal import Refusal
from tests.support.wsgi import Answered, Watched, environ, watched

TEXT = [("Content-Type", "text/plain")]
DENIED = Refusal(403, "RBAC: access denied", detail="rbac_access_denied_matched_policy[none]")


@pytest.fixture
def served() -> Iterator[Watched]:
    with watched() as made:
        yield made


def hello(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
    start_response("200 OK", TEXT)
    return [b"hello"]


def serve(app: Any, target: str = "/", method: str = "GET", **more: Any) -> Answered:
    return Answered().serve(app, environ(target, method, **more))


def denied(_request: InboundRequest) -> Refusal:
    return DENIED


# -- as if nothing were there ------------------------------------------------------------------------------------------


def test_both_sides_keep_to_the_standard(served: Watched) -> None:
    app = validator(served.around(validator(hello)))
    assert serve(app).body == [b"hello"]
    refusing = validator(served.around(validator(hello), denied))
    for method in ("GET", "HEAD"):
        serve(refusing, method=method)
    assert served.results == [(200, ""), (403, ""), (403, "")]


def test_each_piece_goes_on_as_it_comes(served: Watched) -> None:
    made: list[int] = []

    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        for n in range(3):
            made.append(n)
            yield b"%d" % n

    answered = Answered()
    pieces = served.around(app)(environ(), answered.start_response)
    assert made == []
    for n in range(3):
        assert next(iter(pieces)) == b"%d" % n
        assert made == list(range(n + 1))
    assert served.results == [(0, "")]  # it is not over
    assert next(iter(pieces), None) is None
    assert served.results == [(200, "")]
    assert served.calls[0].response_bytes == 3


def test_a_generator_that_begins_its_response_late_may(served: Watched) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        yield b""
        start_response("202 Accepted", TEXT)
        yield b""
        yield b"a"

    assert serve(served.around(app)).begun == [("202 Accepted", TEXT, False)]
    assert served.results == [(202, "")]


def test_what_is_written_goes_at_once_and_is_counted(served: Watched) -> None:
    answered = Answered()

    def app(_environ: dict[str, Any], start_response: Any) -> list[bytes]:
        write = start_response("200 OK", TEXT)
        write(b"ab")
        assert answered.body == [b"ab"]
        return [b"c"]

    answered.serve(served.around(app), environ())
    assert answered.body == [b"ab", b"c"]
    assert (served.results, served.calls[0].response_bytes) == ([(200, "")], 3)


def test_the_input_is_the_applications_and_nobody_has_read_of_it(served: Watched) -> None:
    body = io.BytesIO(b"abc")

    def app(environ: dict[str, Any], start_response: Any) -> list[bytes]:
        assert environ["wsgi.input"] is body
        start_response("200 OK", TEXT)
        return [environ["wsgi.input"].read()]

    assert serve(served.around(app), method="POST", CONTENT_LENGTH="3", **{"wsgi.input": body}).body == [b"abc"]
    assert served.calls[0].request_bytes == 3
    refused = io.BytesIO(b"abc")
    serve(served.around(app, denied), method="POST", CONTENT_LENGTH="3", **{"wsgi.input": refused})
    assert refused.tell() == 0


def test_the_only_piece_of_a_list_can_still_be_measured(served: Watched) -> None:
    pieces: Any = served.around(hello)(environ(), Answered().start_response)
    assert len(pieces) == 1  # of which servers make a Content-Length
    pieces = served.around(lambda e, s: iter(hello(e, s)))(environ(), Answered().start_response)
    assert not hasattr(pieces, "__len__")


def test_a_file_stays_in_the_wrapper_of_its_server(served: Watched) -> None:
    class Wrapper:
        def __init__(self, file: io.BytesIO) -> None:
            self.close = file.close

        def __iter__(self) -> Iterator[bytes]:
            raise AssertionError("this server sends files without reading them")

    file = io.BytesIO(b"12345")

    def app(environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", [*TEXT, ("Content-Length", "5")])
        return environ["wsgi.file_wrapper"](file)

    pieces: Any = served.around(app)(environ(**{"wsgi.file_wrapper": Wrapper}), Answered().start_response)
    assert type(pieces) is Wrapper
    assert served.results == [(0, "")]
    pieces.close()
    assert file.closed
    assert (served.results, served.calls[0].response_bytes) == ([(200, "")], 5)


def test_a_file_in_a_wrapper_that_is_no_object_of_python_is_read_piece_by_piece(served: Watched) -> None:
    class Closed:
        __slots__ = ("closed",)

        def __iter__(self) -> Iterator[bytes]:
            yield b"1"

        def close(self) -> None:
            self.closed = True

    made = Closed()

    def app(_environ: dict[str, Any], start_response: Any) -> Any:
        start_response("200 OK", TEXT)
        return made

    assert serve(served.around(app), **{"wsgi.file_wrapper": Closed}).body == [b"1"]
    assert made.closed
    assert served.results == [(200, "")]


# -- what applications and clients do ----------------------------------------------------------------------------------


def test_an_application_that_raises_before_the_head_is_a_500(served: Watched) -> None:
    def app(_environ: dict[str, Any], _start_response: Any) -> list[bytes]:
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        serve(served.around(app))
    assert served.results == [(500, "")]


def test_one_that_begins_a_response_and_raises_before_its_first_byte_is_a_500(served: Watched) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        raise ValueError("mine")
        yield b""

    with pytest.raises(ValueError, match="mine"):
        serve(served.around(app))
    assert served.results == [(500, "")]


def test_one_that_raises_after_its_first_byte_has_sent_its_status(served: Watched) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("206 Partial Content", TEXT)
        yield b"a"
        raise ValueError("mine")

    with pytest.raises(ValueError, match="mine"):
        serve(served.around(app))
    assert served.results == [(206, "UC")]


def test_another_response_may_take_the_place_of_one_whose_head_has_not_gone(served: Watched) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        try:
            raise ValueError("mine")
        except ValueError as error:
            start_response("503 Service Unavailable", TEXT, (ValueError, error, error.__traceback__))
        yield b"sorry"

    answered = serve(served.around(app))
    assert [(status, again) for status, _, again in answered.begun] == [
        ("200 OK", False),
        ("503 Service Unavailable", True),
    ]
    assert served.results == [(503, "")]


def test_but_not_of_one_whose_head_has(served: Watched) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"a"
        try:
            raise ValueError("mine")
        except ValueError as error:
            start_response("503 Service Unavailable", TEXT, (ValueError, error, error.__traceback__))

    with pytest.raises(ValueError, match="mine"):
        serve(served.around(app))
    assert served.results == [(200, "UC")]


def test_an_application_that_never_begins_its_response_is_a_500(served: Watched) -> None:
    assert serve(served.around(lambda _environ, _start: [])).begun == []
    assert served.results == [(500, "")]


def test_an_application_that_returns_nothing_is_a_500(served: Watched) -> None:
    with pytest.raises(TypeError):
        serve(served.around(lambda _environ, _start: None))
    assert served.results == [(500, "")]


@pytest.mark.parametrize("fails_at", [0, 1])
def test_a_client_that_goes_away_has_got_the_status_that_was_sent(served: Watched, fails_at: int) -> None:
    closed: list[str] = []

    class Pieces:
        def __iter__(self) -> Iterator[bytes]:
            return iter([b"a", b"b", b"c"])

        def close(self) -> None:
            request = served.mesh.inbound()
            closed.append(request.path if request is not None else "nobody's")

    def app(_environ: dict[str, Any], start_response: Any) -> Pieces:
        start_response("200 OK", TEXT)
        return Pieces()

    with pytest.raises(BrokenPipeError):
        Answered(fails_at).serve(served.around(app), environ("/x"))
    assert closed == ["/x"]
    assert served.results == [(200, "DC")]
    assert served.counted() == {("200", "DC"): 1}


def test_a_client_that_goes_away_before_the_head_has_got_none(served: Watched) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response("200 OK", TEXT)
        yield b"a"

    pieces: Any = served.around(app)(environ(), Answered().start_response)
    pieces.close()
    pieces.close()
    assert served.results == [(0, "DC")]
    assert served.counted() == {("0", "DC"): 1}


def test_a_stream_of_http_2_is_reset_by_its_client(served: Watched) -> None:
    pieces: Any = served.around(hello)(environ(SERVER_PROTOCOL="HTTP/2.0"), Answered().start_response)
    pieces.close()
    assert served.results == [(0, "DR")]


@pytest.mark.parametrize(
    ("method", "status", "headers", "read"),
    [
        ("HEAD", "200 OK", [], 0),
        ("GET", "304 Not Modified", [], 0),
        ("GET", "204 No Content", [], 0),
        ("GET", "200 OK", [("content-length", "1")], 1),
    ],
)
def test_a_server_that_needs_no_more_of_a_response_may_close_it(
    served: Watched, method: str, status: str, headers: list[tuple[str, str]], read: int
) -> None:
    def app(_environ: dict[str, Any], start_response: Any) -> Iterator[bytes]:
        start_response(status, headers)
        return iter([b"a", b""])

    pieces: Any = served.around(app)(environ(method=method), Answered().start_response)
    for _ in range(read):
        next(pieces)
    pieces.close()
    assert served.results == [(int(status[:3]), "")]


def test_a_response_that_is_dropped_is_recorded_and_leaves_nothing(served: Watched) -> None:
    app = served.around(hello)
    gc.collect()
    gc.disable()
    try:
        for _ in range(10):
            app(environ(), Answered().start_response)
        del app
        assert served.counted() == {("0", "DC"): 10}  # without a cycle that only the collector finds
    finally:
        gc.enable()


# -- what is current ---------------------------------------------------------------------------------------------------


def test_the_request_is_current_in_each_piece_and_never_between_them(served: Watched) -> None:
    seen: list[str] = []

    def look(where: str) -> None:
        request = served.mesh.inbound()
        seen.append(f"{where} {request.path if request else None}")

    class Pieces:
        _left = 2

        def __iter__(self) -> Pieces:
            look("iter")
            return self

        def __next__(self) -> bytes:
            look("next")
            self._left -= 1
            if self._left < 0:
                raise StopIteration
            return b"a"

        def close(self) -> None:
            look("close")

    def app(_environ: dict[str, Any], start_response: Any) -> Pieces:
        look("call")
        start_response("200 OK", TEXT)
        return Pieces()

    pieces: Any = served.around(app)(environ("/x"), Answered().start_response)
    look("between")
    for _ in pieces:
        look("between")
    pieces.close()
    look("after")
    assert seen == [
        "call /x", "iter /x", "between None", "next /x", "between None", "next /x", "between None", "next /x", "close /x",
        "after None",
    ]  # fmt: skip
    assert inbound_context.current.get() is None


def test_the_callers_deadline_is_the_handlers_and_ends_with_the_response(served: Watched) -> None:
    seen: list[float | None] = []

    class Pieces(list[bytes]):
        def close(self) -> None:
            seen.append(deadlines.around())

    def app(_environ: dict[str, Any], start_response: Any) -> Pieces:
        seen.append(deadlines.around())
        start_response("200 OK", TEXT)
        return Pieces([b"a"])

    now = served.clock.monotonic()
    serve(served.around(app), HTTP_X_REQUEST_DEADLINE="nonsense", HTTP_GRPC_TIMEOUT="5S")
    assert seen == [now + 5, None]  # what close() does is bound by it no longer
    serve(served.around(app), HTTP_X_REQUEST_DEADLINE="0")
    assert served.results == [(200, ""), (408, "")]
