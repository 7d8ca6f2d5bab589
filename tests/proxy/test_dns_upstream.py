"""Resolvers: who is asked, in which order, and what counts as a response."""

from __future__ import annotations

import asyncio

import dns.message

from meshlib.proxy.dns_messages import numbered, query_of
from meshlib.proxy.dns_upstream import Resolvers
from tests.support.resolver import addresses, resolver, silent

QUERY = query_of(dns.message.make_query("example.org", "A").to_wire())


def ask(resolvers: Resolvers, *, tcp: bool = False) -> bytes | None:
    return asyncio.run(resolvers.ask(QUERY, tcp=tcp))


def test_the_response_has_the_clients_number():
    for tcp in (False, True):
        with resolver(addresses("9.9.9.9")) as upstream:
            wire = ask(Resolvers([upstream.place]), tcp=tcp)
        assert wire is not None
        assert wire[:2] == QUERY.number


def test_the_next_is_asked_where_one_does_not_respond_and_that_one_last_from_then_on():
    with silent() as nobody:
        pass
    with resolver(addresses("9.9.9.9")) as upstream:
        resolvers = Resolvers([nobody, upstream.place], patience=60)
        assert ask(resolvers) is not None
        assert (resolvers.asked, resolvers.failures) == (2, 1)
        assert ask(resolvers) is not None
        assert (resolvers.asked, resolvers.failures) == (3, 1)


def test_a_port_where_nobody_is_does_not_take_its_time():
    with silent() as (host, port):
        pass
    for tcp in (False, True):
        with resolver(addresses("9.9.9.9")) as upstream:
            resolvers = Resolvers([(host, port), upstream.place], patience=60)
            assert ask(resolvers, tcp=tcp) is not None
            assert resolvers.failures == 1


def test_the_log_is_told_once_of_a_resolver_that_does_not_respond(caplog):
    def silence(query, protocol):
        return None

    with caplog.at_level("WARNING", logger="meshlib.proxy"), resolver(silence) as upstream:
        resolvers = Resolvers([upstream.place])
        said = f"resolver 127.0.0.1:{upstream.port} does not respond about example.org"
        for says, times in ((silence, 1), (silence, 1), (addresses("9.9.9.9"), 1), (silence, 2)):
            upstream.says = says
            assert (ask(resolvers, tcp=True) is None) is (says is silence)
            assert caplog.text.count(said) == times


def test_each_is_asked_once():
    with silent() as one, silent() as other:
        resolvers = Resolvers([one, other], patience=0.1)
        assert ask(resolvers) is None
        assert (resolvers.asked, resolvers.failures, resolvers.outstanding) == (2, 2, 0)


def test_over_udp_what_is_no_response_to_the_query_is_passed_over():
    class Spoofed:
        """Says something else first."""

        def __init__(self) -> None:
            self.right = addresses("9.9.9.9")

        def __call__(self, query, protocol):
            wrong = dns.message.make_query("other.org", "A")
            wrong.id = query.id
            return dns.message.make_response(wrong).to_wire()

    with resolver(Spoofed()) as upstream:
        resolvers = Resolvers([upstream.place], patience=0.2)
        assert ask(resolvers) is None
        assert ask(resolvers, tcp=True) is None
        assert resolvers.failures == 2


def test_over_tcp_a_resolver_that_closes_has_not_responded():
    with resolver(lambda query, protocol: None) as upstream:
        resolvers = Resolvers([upstream.place], patience=60)
        assert ask(resolvers, tcp=True) is None
        assert resolvers.failures == 1


def test_queries_have_numbers_that_nobody_can_foretell():
    seen: list[int] = []

    def says(query, protocol):
        seen.append(query.id)
        return addresses("9.9.9.9")(query, protocol)

    with resolver(says) as upstream:
        resolvers = Resolvers([upstream.place])
        for _ in range(10):
            assert numbered(ask(resolvers) or b"", QUERY.number)
    assert len(set(seen)) > 5
