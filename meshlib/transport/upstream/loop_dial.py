"""New connections of an event loop: to an address, to the first address of a name that answers, or to a path; TLS done."""

from __future__ import annotations

import asyncio
import ipaddress
import socket
import ssl
from collections.abc import Callable, Collection, Sequence
from typing import TYPE_CHECKING

from meshlib.transport.upstream.from_source import reach_as
from meshlib.transport.upstream.loop_tls import LoopTls
from meshlib.transport.upstream.mutual import Handshake
from meshlib.transport.upstream.names import Names
from meshlib.transport.upstream.network_stream import AsyncPooledStream, PooledStream
from meshlib.transport.upstream.refused_certificates import may_refuse_late
from meshlib.transport.upstream.switched import readable
from meshlib.transport.upstream.target import Target, keep_alive
from meshlib.transport.upstream.tls import UNREADABLE, Offering, PeerNameMismatch, check_peer, handshake_of

if TYPE_CHECKING:
    from meshlib.transport.upstream.trace import Trace


async def dial(
    loop: asyncio.AbstractEventLoop,
    names: Names,
    protocol: asyncio.Protocol,
    target: Target,
    protocols: Sequence[str],
    trace: Trace | None,
) -> asyncio.Transport:
    """The transport of a new connection for ``protocol``, TLS done and ``protocols`` offered in it. Raises OSError,
    PeerNameMismatch."""
    handshake = None if target.tls is None else handshake_of(target.tls, protocols)

    def make() -> asyncio.Protocol:
        if handshake is None:
            return protocol
        return LoopTls(loop, protocol, handshake, target.server_hostname or target.host)

    try:
        if trace is not None:
            transport = await _dial_traced(loop, names, make, target, handshake, trace)
        elif target.host.startswith("unix://"):
            path = target.host.removeprefix("unix://")
            transport = await _secured(*await loop.create_unix_connection(make, path))
        else:
            transport = await _dial_host(loop, names, make, target)
    except UnicodeDecodeError as error:  # asyncio reads the certificate before anybody asks for it
        raise PeerNameMismatch(UNREADABLE) from error
    try:
        if handshake is not None:
            handshake.done(transport.get_extra_info("ssl_object"))
        if target.subject_alt_names:
            check_peer(transport.get_extra_info("peercert") or {}, target.subject_alt_names)
    except BaseException:
        transport.abort()
        raise
    sock = transport.get_extra_info("socket")
    if sock is not None and not target.host.startswith("unix://"):  # to ask for its family takes 40 steps
        sock.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        if target.keepalive is not None:
            keep_alive(sock, target.keepalive)
    return transport


def leads_to(own: Collection[tuple[str, int]], transport: asyncio.Transport) -> bool:
    """Whether a connection has its other end at one of ``own``, addresses at which this process listens, all of its machine's
    (0.0.0.0, ::) among them."""
    there = transport.get_extra_info("peername")
    if not isinstance(there, tuple):
        return False  # a unix socket, or it is lost already
    mine = {_ip(host) for host, port in own if port == there[1]}
    here = transport.get_extra_info("sockname") if mine else None
    if not isinstance(here, tuple):
        return False
    other = _ip(there[0])
    return other in mine or (any(ip.is_unspecified for ip in mine) and (other.is_loopback or other == _ip(here[0])))


def _ip(host: str) -> ipaddress.IPv4Address | ipaddress.IPv6Address:
    """Of a socket's name; of an IPv4 address that is written as one of IPv6, that."""
    found = ipaddress.ip_address(host.partition("%")[0])
    return getattr(found, "ipv4_mapped", None) or found


READING_TURNS = 4
"""Of a loop, from bytes in the socket to a TLS connection that is lost for what they say."""


async def hear_refusal(transport: asyncio.Transport) -> None:
    """Let the loop read what the server has sent already, if it may be its verdict on our certificate: asyncio drops what it
    has not read once a write fails, and behind a refusal every write does. (One that comes between this and the first write is
    read by ``LoopTls`` where it can; on uvloop it is a reset, with a hint.)"""
    if not may_refuse_late(transport.get_extra_info("ssl_object")):
        return
    sock = transport.get_extra_info("socket")
    if sock is None or not readable(sock.fileno()):
        return
    for _ in range(READING_TURNS):
        await asyncio.sleep(0)
        if not transport.is_closing() and not readable(sock.fileno()):
            return  # it was something else, as tickets are, and is read


async def _secured(transport: asyncio.Transport, protocol: asyncio.Protocol) -> asyncio.Transport:
    """The transport to use, its handshake done. Raises OSError, UnicodeDecodeError."""
    if not isinstance(protocol, LoopTls):
        return transport
    try:
        await protocol.handshake
    except BaseException:
        transport.abort()
        raise
    return protocol


async def _dial_host(
    loop: asyncio.AbstractEventLoop, names: Names, make: Callable[[], asyncio.Protocol], target: Target
) -> asyncio.Transport:
    """To the address, or to the first address of the name that answers."""
    if not target.is_name:
        target.admit(target.host)
        if target.source is not None or target.preface:
            sock = await reach_as(loop, target, target.host)
            return await _secured(*await loop.create_connection(make, sock=sock))
        return await _secured(*await loop.create_connection(make, target.host, target.port))
    failed: OSError | None = None
    for address in await names.resolve_async(target.host):
        try:
            target.admit(address)
            if target.preface:
                return await _secured(*await loop.create_connection(make, sock=await reach_as(loop, target, address)))
            return await _secured(*await loop.create_connection(make, address, target.port))
        except ssl.SSLError:
            raise  # the address answered; another one would not be more trustworthy
        except OSError as error:
            failed = error
    raise failed or OSError(f"the name {target.host} has no address")


async def _dial_traced(
    loop: asyncio.AbstractEventLoop,
    names: Names,
    make: Callable[[], asyncio.Protocol],
    target: Target,
    handshake: Offering | Handshake | None,
    trace: Trace,
) -> asyncio.Transport:
    """In two steps, so that the trace can tell them apart."""
    sock: socket.socket | None = None
    try:
        await trace.connecting(target, target.connect_timeout)
        if target.host.startswith("unix://"):
            sock = await _reach(loop, socket.AF_UNIX, target.host.removeprefix("unix://"))
        elif target.source is not None or target.preface:
            sock = await reach_as(loop, target, target.host)
        else:
            addresses = await names.resolve_async(target.host) if target.is_name else [target.host]
            sock = await _reach_one(loop, addresses, target)
        await trace.complete(PooledStream(sock))
        if handshake is not None:
            await trace.starting_tls(target, handshake.context, target.connect_timeout)
        made = await loop.create_connection(make, sock=sock)
        sock = None
        transport = await _secured(*made)
        if handshake is not None:
            await trace.complete(AsyncPooledStream(transport))
    except BaseException as error:
        if sock is not None:
            sock.close()
        if not isinstance(error, asyncio.CancelledError):
            await trace.failed(error)
        raise
    return transport


async def _reach_one(loop: asyncio.AbstractEventLoop, addresses: Sequence[str], target: Target) -> socket.socket:
    failed: OSError | None = None
    for address in addresses:
        family = socket.AF_INET6 if ":" in address else socket.AF_INET
        try:
            target.admit(address)
            return await _reach(loop, family, (address, target.port))
        except OSError as error:
            failed = error
    raise failed or OSError(f"the name {target.host} has no address")


async def _reach(loop: asyncio.AbstractEventLoop, family: int, address: str | tuple[str, int]) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM)
    sock.setblocking(False)
    try:
        await loop.sock_connect(sock, address)
    except BaseException:
        sock.close()
        raise
    return sock
