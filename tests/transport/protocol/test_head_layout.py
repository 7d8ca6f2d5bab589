"""What heads of requests have in common is known of the next one like them: never more of it than a look at it would say."""

from __future__ import annotations

import re

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.engine.wanted_headers import WantedHeaders
from meshlib.proxy.forwarded_path import KEPT
from meshlib.transport.protocol import head_layout as module
from meshlib.transport.protocol.head_layout import LONGEST, MAY_COME, TIMES, HeadLayout, layout_of
from meshlib.transport.protocol.http1_request import METHODS, Refused, RequestReader
from meshlib.transport.protocol.special_lines import MOST_READINGS, SPECIAL, SpecialLines
from tests.proxy.malformed.corpus import all_cases

PLAIN = b"GET /a HTTP/1.1\r\nHost: reviews\r\nX-Mine: 1\r\nAccept: text/plain \r\n\r\n"


@pytest.fixture(autouse=True)
def nothing_is_known(monkeypatch):
    monkeypatch.setattr(module, "_layouts", {})
    monkeypatch.setattr(module, "_met", {})


def read(data, reader=None):
    reader = reader or RequestReader()
    reader.feed(data)
    return reader.head()


def learnt(data):
    found = [layout_of(read(data)) for _ in range(TIMES)]
    assert found[:-1] == [None] * (TIMES - 1)
    return found[-1]


def taken(data, layout):
    """What is known of ``data``, by a reader that has read another request before, as a head would say it; None: nothing."""
    reader = RequestReader()
    read(PLAIN, reader)
    reader.feed(data)
    found = layout.match(data)
    if found is None or not reader.takes(data):
        assert reader.rest == data
        return None
    assert reader.rest == b""
    assert reader.ended
    return layout.method, found[1], data[layout.before + len(found[1]) : -2], found[layout.host], tuple(layout.special)


def said(head):
    assert (head.length, head.close, head.upgrade, head.expects_continue) == (0, False, b"", False)
    return head.method, head.target, head.lines, head.host, tuple(head.special)


def test_a_head_like_many_before_is_known_with_what_it_says():
    layout = learnt(PLAIN)
    other = PLAIN.replace(b"/a", b"/b/c?d=e").replace(b"reviews", b"ratings:9080").replace(b": 1\r\n", b": \t 23 \r\n")
    found = layout.match(other)
    assert (found[1], found[layout.host]) == (b"/b/c?d=e", b"ratings:9080")
    assert found[layout.at["x-mine"]].strip() == b"23"
    assert (layout.method, layout.lines, layout.has_id, layout.hurries) == (b"GET", 3, False, False)
    assert taken(other, layout) == said(read(other))


def test_what_comes_more_than_once_or_may_be_added_has_to_be_looked_for():
    layout = learnt(b"GET / HTTP/1.1\r\nHost: a\r\nX-A: 1\r\nx-a: 2\r\nUser-Agent: b\r\n\r\n")
    assert layout.at == {"host": 2, "x-a": 0, "user-agent": 5, **dict.fromkeys(MAY_COME, 0)}


def test_what_reads_headers_is_made_once_for_each_list_of_them_and_not_kept_without_end():
    layout = learnt(PLAIN)
    wanted = [WantedHeaders(("x-mine", f"x-{n}")) for n in range(MOST_READINGS + 3)]
    for each in wanted:
        assert layout.reading(each) is layout.readings[each]
        assert layout.reading(each)(layout.match(PLAIN), None) == (1, b"1", b"")
        assert len(layout.readings) <= MOST_READINGS


@pytest.mark.parametrize(
    "other",
    [
        *(PLAIN.replace(b"GET", b"PUT"), PLAIN.replace(b"X-Mine", b"x-mine"), PLAIN.replace(b"/a", b"http://b/a")),
        *(PLAIN.replace(b"/a", b"/%61"), PLAIN.replace(b"/a", b"/a#b"), PLAIN.replace(b"1.1", b"1.0"), PLAIN + b"x"),
        *(PLAIN[:-2], PLAIN.replace(b"reviews", b"a b"), PLAIN.replace(b"X-Mine: 1\r\n", b""), b"\r\n" + PLAIN, b""),
        *(PLAIN.replace(b"X-Mine: 1", b"X-Mine : 1"), PLAIN.replace(b": 1\r\n", b": 1\r\n 2\r\n"), PLAIN + PLAIN),
        PLAIN.replace(b": 1\r\n", b": 1\r\nContent-Length: 3\r\n"),
    ],
)
def test_what_is_laid_out_otherwise_is_looked_at(other):
    assert taken(other, learnt(PLAIN)) is None


@pytest.mark.parametrize("value", [b"1\n2", b"1\0", b"1\x7f", b"1\r2"])
def test_what_the_parser_does_not_take_is_refused_as_ever(value):
    layout, other = learnt(PLAIN), PLAIN.replace(b": 1\r\n", b": " + value + b"\r\n")
    assert taken(other, layout) is None
    with pytest.raises(Refused):
        read(other)


def test_a_reader_that_was_told_of_the_last_request_takes_no_more():
    reader = RequestReader()
    read(PLAIN, reader)
    read(PLAIN.replace(b"X-Mine: 1", b"Connection: close"), reader)
    reader.feed(PLAIN)
    assert not reader.takes(PLAIN)


def test_a_head_that_was_looked_at_while_it_came_is_looked_at_to_its_end():
    layout, reader = learnt(PLAIN), RequestReader()
    read(PLAIN, reader)
    assert read(PLAIN[:30], reader) is None
    reader.feed(PLAIN[30:])
    assert layout.match(reader.rest)
    assert not reader.takes(PLAIN)


def test_an_empty_line_is_passed_over_before_a_head_that_is_taken_and_before_the_next():
    layout, reader = learnt(PLAIN), RequestReader()
    read(PLAIN, reader)
    for _ in range(2):
        assert read(b"\r\n", reader) is None
        reader.feed(PLAIN)
        assert layout.match(reader.rest)
        assert reader.takes(reader.rest)


def test_blanks_around_a_host_are_none_of_it():
    layout = learnt(PLAIN)
    other = PLAIN.replace(b"Host: reviews", b"Host:\t ratings \t")
    assert taken(other, layout) == said(read(other))
    assert layout.match(other)[layout.host] == b"ratings"


@pytest.mark.parametrize(
    "line",
    [
        *(b"Content-Length: 0", b"Connection: close", b"X-Envoy-Max-Retries: 1", b"X-Forwarded-Proto: https"),
        *(b"X-Forwarded-Client-Cert: Hash=1", b"TE: trailers", b"Content-Type: application/grpc"),
    ],
)
def test_heads_that_ask_for_more_than_a_response_have_no_layout(line):
    data = PLAIN.replace(b"X-Mine: 1", line)
    assert [layout_of(read(data)) for _ in range(TIMES + 1)] == [None] * (TIMES + 1)


def test_neither_have_those_of_many_lines():
    data = PLAIN.replace(b"X-Mine: 1", b"\r\n".join(b"x-%d: 1" % n for n in range(LONGEST)))
    assert [layout_of(read(data)) for _ in range(TIMES + 1)] == [None] * (TIMES + 1)


def test_neither_have_those_of_long_names():
    data = PLAIN.replace(b"X-Mine", b"X" * module.MOST_BYTES)
    assert [layout_of(read(data)) for _ in range(TIMES + 1)] == [None] * (TIMES + 1)
    assert not module._met


@pytest.mark.parametrize("value", [b"application/grpc", b" Application/GRPC+proto", b"\tapplication/grpc"])
def test_a_type_that_may_be_grpcs_is_looked_at(value):
    data = PLAIN.replace(b"X-Mine: 1", b"Content-Type: text/plain")
    layout = learnt(data)
    assert taken(data, layout) == said(read(data))
    assert taken(data.replace(b" text/plain", value), layout) is None


def test_names_that_strangers_choose_take_no_more_room_than_some(monkeypatch):
    monkeypatch.setattr(module, "MOST_MET", 4)
    monkeypatch.setattr(module, "MOST_LAYOUTS", 3)
    for number in range(9):
        layout_of(read(PLAIN.replace(b"X-Mine", b"X-%d" % number)))
        assert len(module._met) <= 4
    for number in range(9):
        assert learnt(PLAIN.replace(b"X-Mine", b"Y-%d" % number)).lines == 3
        assert len(module._layouts) <= 3
        assert not [key for key in module._met if b"Y-%d" % number in key]


def test_targets_are_those_that_no_normalization_changes():
    pattern = re.compile(module._TARGET)
    taken = {byte for byte in range(256) if pattern.fullmatch(b"/" + bytes([byte]))}
    assert taken == set(KEPT) - set(b"#")


# -- whatever comes, it is known as it would be read ----------------------------------------------------------------------


def lenient(data):
    """The layout that ``data`` seems to have to somebody who does not look closely."""
    head = data.partition(b"\r\n\r\n")[0]
    first, *lines = head.split(b"\r\n")
    names = tuple(line.partition(b":")[0] for line in lines)
    special = SpecialLines(SPECIAL.findall(b"\r\n".join((b"", *lines)).lower()))
    method = first.partition(b" ")[0]
    if method not in METHODS - {b"CONNECT"} or len(names) > LONGEST:
        return None
    if not special.usual or not special.unproxied or special.grpc is not False:
        return None
    return HeadLayout(method, names, special)


def test_no_case_of_the_malformed_corpus_is_known_as_something_else():
    known = 0
    for case in all_cases():
        data = case.data
        for each in (data, data.partition(b"\r\n\r\n")[0] + b"\r\n\r\n"):
            layout = lenient(each)
            found = None if layout is None else taken(each, layout)
            if found is not None:
                known += 1
                assert found == said(read(each))
    assert known > 100  # or this says nothing


LINES = st.lists(
    st.tuples(
        st.sampled_from(
            [b"Host", b"host", b"X-A", b"Cookie", b"Content-Type", b"X-Request-Id", b"te", b"X Y", b"Accept"]
        ),
        st.sampled_from([b"a", b" b ", b"\tc\t", b"", b"  ", b" x\n y", b"\r", b" application/grpc", b" a: b"]),
    ),
    max_size=5,
)


@given(LINES, st.sampled_from([b"/", b"/a?b=//", b"/a b", b"*", b"/\xe4", b"/~%"]), st.sampled_from([b"GET", b"HEAD"]))
def test_no_head_is_known_as_something_else(lines, target, method):
    pairs = [(b"Host", b" reviews"), *lines]
    data = b"%b %b HTTP/1.1\r\n%b\r\n" % (method, target, b"".join([b"%b:%b\r\n" % pair for pair in pairs]))
    layout = lenient(data)
    found = None if layout is None else taken(data, layout)
    assert found is None or found == said(read(data))
