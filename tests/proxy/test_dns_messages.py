"""DNS in bytes: what is asked, and what is responded."""

from __future__ import annotations

import contextlib

import dns.flags
import dns.message
import dns.opcode
import dns.rcode
import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.proxy.dns_messages import (
    MOST,
    Malformed,
    Outcome,
    failed,
    fitting,
    is_response_to,
    numbered,
    query_of,
    told,
)
from meshlib.proxy.dns_names import Found


def asked(name: str = "web.ns1", kind: str = "A", **more: object):
    return query_of(dns.message.make_query(name, kind, **more).to_wire())


def read(wire: bytes) -> dns.message.Message:
    return dns.message.from_wire(wire)


@pytest.mark.parametrize(
    ("name", "kind", "addresses"),
    [
        ("Web.NS1.", "A", 4),
        ("web.ns1", "AAAA", 6),
        ("web.ns1", "MX", 0),
        ("web.ns1", "HTTPS", 0),
        ("web.ns1", "PTR", 0),
    ],
)
def test_a_question_is_a_name_and_which_addresses(name, kind, addresses):
    found = asked(name, kind)
    assert (found.name, found.addresses, found.refused, found.room) == ("web.ns1", addresses, None, 512)


def test_other_classes_ask_for_no_addresses():
    assert asked("version.bind", "TXT", rdclass="CH").addresses == 0
    assert asked("web.ns1", "A", rdclass="CH").addresses == 0


@pytest.mark.parametrize(("payload", "room"), [(1232, 1232), (100, 512), (65535, 65535)])
def test_a_client_says_how_much_it_takes(payload, room):
    assert asked(use_edns=0, payload=payload).room == room


def test_other_operations_and_other_numbers_of_questions_are_refused():
    update = dns.message.make_query("web.ns1", "A")
    update.set_opcode(dns.opcode.STATUS)
    found = query_of(update.to_wire())
    assert read(failed(found, found.refused)).rcode() == dns.rcode.NOTIMP
    none = dns.message.make_query("web.ns1", "A")
    none.question = []
    found = query_of(none.to_wire())
    assert read(failed(found, found.refused)).rcode() == dns.rcode.FORMERR


WEB = dns.message.make_query("web", "A", id=1)  # a number of its own would be another one in each process of xdist


@pytest.mark.parametrize(
    "wire",
    [
        b"",
        b"\x00" * 11,
        dns.message.make_response(WEB).to_wire(),
        WEB.to_wire() + b"more",
        WEB.to_wire()[:-3],
        b"\x00\x01\x01\x00\x00\x01\x00\x00\x00\x00\x00\x00\xc0\x0c\x00\x01\x00\x01",  # a name that is itself
    ],
)
def test_what_is_no_query_is_malformed(wire):
    with pytest.raises(Malformed):
        query_of(wire)


@given(st.binary(max_size=600) | st.binary(max_size=60).map(lambda rest: asked(id=1).wire[:20] + rest))
def test_garbage_is_malformed_or_a_query_and_nothing_else(wire):
    with contextlib.suppress(Malformed):
        found = query_of(wire)
        assert len(failed(found)) >= 12


@given(st.binary(max_size=600), st.binary(max_size=100))
def test_garbage_is_no_response(wire, rest):
    query = asked()
    is_response_to(wire, query, b"\x12\x34")
    is_response_to(b"\x12\x34" + rest, query, b"\x12\x34")
    assert len(fitting(b"\x00" * 4 + wire, query, 512)) <= 512 or len(wire) <= 508


def test_addresses_are_told_for_half_a_minute():
    query = asked("Web.ns1")
    response = read(told(query, Found(("10.1.0.1",), ()), ["10.1.0.1"], 512))
    assert response.id == query.message.id
    assert response.flags == dns.flags.QR | dns.flags.AA | dns.flags.RD | dns.flags.RA
    assert response.question == query.message.question
    assert [str(each) for each in response.answer] == ["Web.ns1. 30 IN A 10.1.0.1"]
    assert response.edns == -1


def test_a_name_without_addresses_of_the_family_is_there():
    response = read(told(asked(kind="AAAA"), Found(("10.1.0.1",), ()), [], 512))
    assert response.rcode() == dns.rcode.NOERROR
    assert response.answer == []


def test_what_a_name_stands_for_is_told_with_its_addresses():
    query = asked("api.com.ns1.svc.cluster.local", "AAAA", use_edns=0)
    response = read(told(query, Found((), ("fd00::1",), "api.com"), ["fd00::1"], 512))
    assert [str(each) for each in response.answer] == [
        "api.com.ns1.svc.cluster.local. 30 IN CNAME api.com.",
        "api.com. 30 IN AAAA fd00::1",
    ]
    assert response.edns == 0


@pytest.mark.parametrize(("kind", "family"), [("A", "10.1.0.{}"), ("AAAA", "fd00::{:x}")])
@pytest.mark.parametrize("target", ["", "a.target.com"])
def test_as_many_addresses_are_told_as_the_client_takes(kind, family, target):
    all_of_them = [family.format(i) for i in range(1, 201)]
    query = asked(kind=kind)
    short = told(query, Found((), (), target), all_of_them, 512)
    one_more = len(short) + (16 if kind == "A" else 28)
    response = read(short)
    assert response.flags & dns.flags.TC
    assert len(short) <= 512 < one_more
    assert [str(each) for each in response.answer[-1]] == all_of_them[: len(response.answer[-1])]
    whole = read(told(query, Found((), (), target), all_of_them, MOST))
    assert len(whole.answer[-1]) == 200
    assert not whole.flags & dns.flags.TC


def test_the_largest_service_is_told_over_tcp():
    everyone = [f"fd00::{i:x}" for i in range(1, 10_000)]
    response = read(told(asked(kind="AAAA"), Found((), ()), everyone, MOST))
    assert len(response.answer[0]) == 2000


def test_what_is_too_long_of_a_resolver_is_told_as_truncated():
    query = asked()
    response = dns.message.make_response(query.message)
    response.set_rcode(dns.rcode.NXDOMAIN)
    wire = response.to_wire()
    assert fitting(wire, query, 512) is wire
    short = read(fitting(wire + b"\x00" * 600, query, 512))
    assert short.flags & dns.flags.TC
    assert short.rcode() == dns.rcode.NXDOMAIN
    assert short.id == query.message.id


def test_a_response_has_the_number_and_the_question_of_its_query():
    query = asked()
    number = b"\xab\xcd"
    right = numbered(dns.message.make_response(query.message).to_wire(), number)
    assert is_response_to(right, query, number)
    assert not is_response_to(right, query, b"\xab\xce")
    assert not is_response_to(numbered(query.wire, number), query, number)
    other = numbered(dns.message.make_response(asked("other").message).to_wire(), number)
    assert not is_response_to(other, query, number)
    assert not is_response_to(right[:14], query, number)


def test_who_refuses_a_question_may_leave_it_out():
    query = asked()
    refusal = dns.message.make_response(query.message)
    refusal.question = []
    assert not is_response_to(numbered(refusal.to_wire(), b"ab"), query, b"ab")
    refusal.set_rcode(dns.rcode.REFUSED)
    assert is_response_to(numbered(refusal.to_wire(), b"ab"), query, b"ab")


def test_failures_say_so():
    assert read(failed(asked())).rcode() == dns.rcode.SERVFAIL
    assert read(failed(asked(), Outcome.NOTIMP)).rcode() == dns.rcode.NOTIMP
