"""DNS in bytes, by dnspython: what is asked, and what is responded. No sockets, and nothing is decided here.

What is forwarded goes on as the bytes that came, under a number of ours: what an application asks beyond a name and a type is
between it and its resolver."""

from __future__ import annotations

import struct
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum

from meshlib.problems import MeshError

try:
    import dns.exception
    import dns.flags
    import dns.message
    import dns.name
    import dns.opcode
    import dns.rcode
    import dns.rdataclass
    import dns.rdatatype
    import dns.rrset
except ImportError as error:
    raise MeshError(f"--dns-capture needs dnspython: pip install 'sidecarless[proxy]' ({error})") from error

from meshlib.proxy.dns_names import Found

TTL = 30
"""Seconds, as Istio's: what keeps a response asks again soon enough to see a reload."""
HEADER = 12
LEAST_UDP, MOST = 512, 65535
"""Bytes of a response over UDP that every client takes, and of any message."""
ADDRESSES = 2000
"""That a response may have: those of IPv6 are 56,000 bytes."""
_RECORD = {4: 16, 6: 28}
"""Bytes of an address in a response, whose name is a pointer."""


class Malformed(ValueError):
    """These bytes are no query of DNS: nothing is responded."""


class Outcome(Enum):
    """What is said without anybody's being asked."""

    SERVFAIL = "SERVFAIL"
    FORMERR = "FORMERR"
    NOTIMP = "NOTIMP"


@dataclass(frozen=True, slots=True)
class Query:
    """``name`` in lower case, without the dot at its end; ``addresses`` the version of IP whose addresses are asked for, 0: it
    asks for something else. ``room``: the bytes that the client takes over UDP. ``refused``: what is responded, whatever it
    asks."""

    wire: bytes
    name: str
    addresses: int
    room: int
    message: dns.message.Message
    refused: Outcome | None = None

    @property
    def number(self) -> bytes:
        """By which the client knows its response."""
        return self.wire[:2]


def query_of(wire: bytes) -> Query:
    """Raises ``Malformed``."""
    try:
        message = dns.message.from_wire(wire, keyring=False)
        if message.flags & dns.flags.QR:
            raise Malformed("it is a response")
        question = message.question
        refused = None
        if message.opcode() != dns.opcode.QUERY:
            refused = Outcome.NOTIMP
        elif len(question) != 1:
            refused = Outcome.FORMERR
        if refused is not None:
            return Query(wire, "", 0, LEAST_UDP, message, refused)
        asked = question[0]
        name = asked.name.to_text(omit_final_dot=True).lower()
    except Malformed:
        raise
    except (dns.exception.DNSException, ValueError, struct.error, IndexError, OverflowError) as error:
        raise Malformed(str(error) or type(error).__name__) from error
    version = 0
    if asked.rdclass == dns.rdataclass.IN:
        version = {dns.rdatatype.A: 4, dns.rdatatype.AAAA: 6}.get(asked.rdtype, 0)
    room = max(LEAST_UDP, message.payload) if message.edns >= 0 else LEAST_UDP
    return Query(wire, name, version, room, message)


def told(query: Query, found: Found, addresses: Sequence[str], most: int) -> bytes:
    """The response that a name of the mesh has these addresses, of the family that is asked for; none: it has none of that
    family, and is there all the same. ``most``: the bytes that it may have."""
    addresses = addresses[:ADDRESSES]
    made = _told(query, found.target, addresses)
    wire = made.to_wire(max_size=MOST, want_shuffle=False)  # the order is ours
    if len(wire) <= most:
        return wire
    # as many as there is room for: some clients (musl before 1.2.4) never ask over TCP
    kept = len(addresses) + (most - len(wire)) // _RECORD[query.addresses]
    made = _told(query, found.target, addresses[: max(0, kept)])
    made.flags |= dns.flags.TC
    return made.to_wire(max_size=MOST, want_shuffle=False)


def _told(query: Query, target: str, addresses: Sequence[str]) -> dns.message.Message:
    made = _skeleton(query)
    made.flags |= dns.flags.AA
    asked = query.message.question[0].name
    if target and addresses:
        name = dns.name.from_text(target)
        made.answer.append(dns.rrset.from_text(asked, TTL, dns.rdataclass.IN, dns.rdatatype.CNAME, name.to_text()))
        asked = name
    if addresses:
        kind = dns.rdatatype.A if query.addresses == 4 else dns.rdatatype.AAAA
        made.answer.append(dns.rrset.from_text_list(asked, TTL, dns.rdataclass.IN, kind, addresses))
    return made


def failed(query: Query, outcome: Outcome = Outcome.SERVFAIL) -> bytes:
    """The response that there is none."""
    made = _skeleton(query)
    made.set_rcode(dns.rcode.from_text(outcome.value))
    return made.to_wire()


def _skeleton(query: Query) -> dns.message.Message:
    message = query.message
    made = dns.message.Message(id=message.id)
    made.flags = dns.flags.QR | dns.flags.RA | (message.flags & dns.flags.RD)
    made.set_opcode(message.opcode())
    made.question = list(message.question)
    if message.edns >= 0:
        made.use_edns(0, 0, LEAST_UDP)
    return made


def numbered(wire: bytes, number: bytes) -> bytes:
    """The same message under another number."""
    return number + wire[2:]


def is_response_to(wire: bytes, query: Query, number: bytes) -> bool:
    """Whether a resolver's bytes respond to this query, which it was sent under this number."""
    if len(wire) < HEADER or wire[:2] != number or not wire[2] & 0x80:
        return False
    try:
        response = dns.message.from_wire(wire, keyring=False, question_only=True)
    except (dns.exception.DNSException, ValueError, struct.error, IndexError, OverflowError):
        return False
    # some servers leave the question out when they refuse it
    return response.question == query.message.question or (
        not response.question and response.rcode() != dns.rcode.NOERROR
    )


def fitting(wire: bytes, query: Query, most: int) -> bytes:
    """A resolver's response as the client takes it: as it is where it is not too long, else without its records and marked as
    truncated, so that the client asks again over TCP."""
    if len(wire) <= most:
        return wire
    made = _skeleton(query)
    made.flags |= dns.flags.TC
    made.set_rcode(dns.rcode.Rcode(wire[3] & 0x0F))
    return made.to_wire()
