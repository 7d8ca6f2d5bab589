"""Several headers at once: what ``joined_value`` says of each, whatever their names are spelled like and however often."""

from __future__ import annotations

import random

import pytest

from meshlib.engine import wanted_headers
from meshlib.engine.wanted_headers import Values, WantedHeaders
from meshlib.engine.wire_headers import joined_value

NAMES = [b"Host", b"host", b"User-Agent", b"x-a", b"X-A", b"x-b", b"x-\xe9"]


def test_it_says_what_looking_for_each_says() -> None:
    rng = random.Random(17)
    wanted = WantedHeaders(("host", "x-a", "x-none", "user-agent", "x-\xe9"))
    for _ in range(300):
        headers = [
            (rng.choice(NAMES), bytes([rng.randrange(32, 256)]) * rng.randrange(3)) for _ in range(rng.randrange(6))
        ]
        each = wanted.of_texts(joined_value(headers, name) for name in wanted.names)
        assert wanted.values(headers) == each, headers
        names = b"\n".join(name for name, _ in headers).lower()
        assert wanted.learn(names, headers)(headers) == each == wanted.takes[names](headers), headers


def test_it_says_which_are_there() -> None:
    """One that is empty is, too."""
    wanted = WantedHeaders(("x-a", "x-none", "x-b"))
    assert wanted.values([(b"x-b", b"1"), (b"x-a", b"")]) == (0b101, b"", b"", b"1")
    assert wanted.of_texts(("", None, "\xe9")) == (0b101, b"", b"", b"\xe9")
    assert wanted.of_texts((None, None, "\u20ac")) == (0b100, b"", b"", "\u20ac".encode())


def test_the_same_names_have_other_values_each_time() -> None:
    wanted = WantedHeaders(("x-a",))
    assert [wanted.values([(b"X-A", value), (b"x-b", b"")]) for value in (b"1", b"2", b"")] == [
        (1, b"1"),
        (1, b"2"),
        (1, b""),
    ]


def test_names_that_strangers_choose_are_bounded_in_number_and_size() -> None:
    wanted = WantedHeaders(("x-a",))
    for n in range(wanted_headers.MOST + 10):
        assert wanted.values([(b"x-%d" % n, b""), (b"X-A", b"1")]) == (1, b"1")
    assert len(wanted.takes) <= wanted_headers.MOST
    known = len(wanted.takes)
    assert wanted.values([(b"x" * wanted_headers.LONGEST, b""), (b"X-A", b"1")]) == (1, b"1")
    assert len(wanted.takes) == known


LINES = b"X-A: 1\r\nhost: a\r\nx-b:\t2 \r\nX-B: 3\r\nx-empty:\r\n"


def of_lines(wanted: WantedHeaders) -> Values:
    return wanted.of_lines(LINES, b"\r\n" + LINES.lower(), {"x-b": "2,3"}.get)


def test_they_are_found_in_lines() -> None:
    assert of_lines(WantedHeaders(("x-b", "x-none", "x-a", "x-empty"))) == (0b1101, b"2,3", b"", b"1", b"")
    assert of_lines(WantedHeaders(())) == (0,)


@pytest.mark.parametrize("names", [("x-a",), ("x-a", "x-b"), ("x-empty", "x-none"), ("host", "x-a", "x-none"), ()])
@pytest.mark.parametrize("others", [("x-a",), ("x-none", "x-b", "x-a"), ("x-c",), ("host", "x-empty", "x-none"), ()])
def test_those_that_somebody_has_looked_for_are_not_looked_for_again(names, others) -> None:
    wanted, known = WantedHeaders(names), WantedHeaders(others)
    for _ in range(2):  # the second time it is known how
        read = wanted.readings.get(known) or wanted.beside(known)
        assert read(LINES, b"\r\n" + LINES.lower(), {"x-b": "2,3"}.get, of_lines(known)) == of_lines(wanted)
    # which is seen by lines that have none of what is known
    read = wanted.readings[known]
    assert read(b"", b"\r\n", {}.get, of_lines(known))[0].bit_count() == len(
        {*names} & {*others} & {"host", "x-a", "x-b", "x-empty"}
    )


def test_a_traceparent_is_always_looked_for() -> None:
    """It may have become another one."""
    wanted = WantedHeaders(("traceparent",))
    read = wanted.beside(WantedHeaders(("x", "traceparent")))
    assert read(b"traceparent: b\r\n", b"\r\ntraceparent: b\r\n", {}.get, (0b10, b"", b"a")) == (1, b"b")
