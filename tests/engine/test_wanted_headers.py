"""Several headers at once: what ``joined_value`` says of each, whatever their names are spelled like and however often."""

from __future__ import annotations

import random

from meshlib.engine import wanted_headers
from meshlib.engine.wanted_headers import WantedHeaders
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
