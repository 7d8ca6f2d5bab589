"""Headers of a response, decoded once a head, are httpx's own in all that can be seen of them."""

from __future__ import annotations

import copy
import pickle

import httpx
import httpx2
import pytest

from meshlib.transport.httpx.met_headers import Head, met_headers_of

MODULES = pytest.mark.parametrize("module", [httpx, httpx2], ids=["httpx", "httpx2"])
PAIRS = [(b"Server", b"a"), (b"Set-Cookie", b"b=1"), (b"set-cookie", b"c=2"), (b"X-Empty", b"")]
RAW = pytest.mark.parametrize(
    "raw",
    [[], PAIRS, [*PAIRS, (b"X-Name", "\xe9".encode())], [*PAIRS, (b"X-Name", b"\xe9")], [(b"X-\xe9", b"1")]],
    ids=["none", "ascii", "utf-8", "latin-1", "name"],
)


def pair(module, raw, head=None):
    """Ours, of a head that may have been met before, and httpx's."""
    triples = [(name, name.lower(), value) for name, value in raw]
    kind = met_headers_of(module.Headers)
    ours = kind.__new__(kind)
    ours._list, ours._encoding, ours._met = triples.copy(), None, head or Head(triples, False, False)
    return ours, module.Headers(raw)


def same(ours, theirs):
    assert ours.multi_items() == theirs.multi_items()
    assert ours.encoding == theirs.encoding
    assert (ours == theirs, repr(ours), list(ours.items()), ours.raw) == (
        True,
        repr(theirs),
        list(theirs.items()),
        theirs.raw,
    )


@MODULES
@RAW
def test_the_first_and_any_later_response_with_a_head_have_its_items(module, raw):
    head = None
    for _ in range(3):
        ours, theirs = pair(module, raw, head)
        same(ours, theirs)
        same(ours, theirs)
        head = ours._met
    assert (head.items or []) == theirs.multi_items()


@MODULES
@RAW
@pytest.mark.parametrize(
    "change",
    [
        lambda headers: headers.update({"x-more": "1"}),
        lambda headers: headers.update({"server": "b"}),
        lambda headers: headers.__setitem__("Server", "other"),
        lambda headers: headers.__setitem__("X-New", "1"),
        lambda headers: headers.pop("server", None),
        lambda headers: headers.setdefault("server", "c"),
        lambda headers: setattr(headers, "encoding", "iso-8859-1"),
    ],
)
@pytest.mark.parametrize("looked", [False, True])
def test_what_has_been_changed_since_is_seen(module, raw, change, looked):
    before, _ = pair(module, raw)
    before.multi_items()
    ours, theirs = pair(module, raw, before._met)
    if looked:
        same(ours, theirs)
    change(ours)
    change(theirs)
    same(ours, theirs)
    untouched, as_it_came = pair(module, raw, before._met)
    same(untouched, as_it_came)


@MODULES
def test_a_list_that_a_caller_changes_is_the_callers(module):
    ours, theirs = pair(module, PAIRS)
    for _ in range(3):
        ours.multi_items().clear()
    same(ours, theirs)


@MODULES
def test_an_encoding_is_remembered_with_the_first_look_as_by_httpx(module):
    met, _ = pair(module, PAIRS)
    met.multi_items()
    ours, theirs = pair(module, PAIRS, met._met)
    for headers in (ours, theirs):
        headers["x-before"] = "\xe9"
    same(ours, theirs)
    ours, theirs = pair(module, PAIRS, met._met)
    for headers in (ours, theirs):
        headers.multi_items()
        with pytest.raises(UnicodeEncodeError):
            headers["x-after"] = "\xe9"


@MODULES
def test_pickles_and_copies_are_of_httpxs_class(module):
    ours, theirs = pair(module, PAIRS)
    for made in (pickle.loads(pickle.dumps(ours)), copy.copy(ours), copy.deepcopy(ours), ours.copy()):
        assert type(made) is module.Headers
        same(made, theirs)


def test_no_cookie_is_shown():
    triples = [(name, name.lower(), value) for name, value in PAIRS]
    assert "b=1" not in repr(Head(triples, True, False))
