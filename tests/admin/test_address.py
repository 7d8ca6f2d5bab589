"""``admin=``: which addresses there may be, and what is said of others."""

from __future__ import annotations

import pytest

from meshlib.admin.address import TcpAddress, UnixAddress, parse_address
from meshlib.problems import ConfigError


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("unix", UnixAddress("")),
        ("unix:/run/app/admin.sock", UnixAddress("/run/app/admin.sock")),
        ("unix:///run/app/admin.sock", UnixAddress("/run/app/admin.sock")),
        ("unix:admin-{pid}.sock", UnixAddress("admin-{pid}.sock")),
        ("127.0.0.1:15000", TcpAddress("127.0.0.1", 15000)),
        ("127.8.0.1:0", TcpAddress("127.8.0.1", 0)),
        ("localhost:15000", TcpAddress("127.0.0.1", 15000)),
        ("[::1]:15000", TcpAddress("::1", 15000)),
    ],
)
def test_an_address_is_read_and_written_as_it_is_given(text, found):
    assert parse_address(text) == found
    assert parse_address(str(found)) == found


@pytest.mark.parametrize(
    ("text", "why", "remedy"),
    [
        ("0.0.0.0:15000", "can be reached from other machines", "write 127.0.0.1:15000"),
        ("[::]:15000", "can be reached from other machines", "write 127.0.0.1:15000"),
        ("10.0.0.7:80", "can be reached from other machines", "kubectl port-forward"),
        (":15000", "has a host that is not an IP address", "write unix"),
        ("admin.local:15000", "has a host that is not an IP address", "write unix"),
        ("::1:15000", "has a host that is not an IP address", "write unix"),
        ("[127.0.0.1]:1", "has a host that is not an IP address", "write unix"),
        ("127.0.0.1", "is not a unix socket and not HOST:PORT", "write unix"),
        ("127.0.0.1:65536", "is not a unix socket and not HOST:PORT", "write unix"),
        ("127.0.0.1:٣", "is not a unix socket and not HOST:PORT", "write unix"),
        (15000, "15000 is not an address", "write unix"),
        ("15000", "is not a unix socket and not HOST:PORT", "write unix"),
        ("unix:@abstract", "every user could read it", "write unix"),
        ("unix:/run/", "does not name a file", "write unix"),
        ("unix:/" + "a" * 107, "is longer than a unix socket's path may be", "write unix"),
    ],
)
def test_what_is_none_or_could_be_reached_from_elsewhere_is_refused_with_the_remedy(text, why, remedy):
    with pytest.raises(ConfigError) as raised:
        parse_address(text, "MESHLIB_ADMIN")
    (problem,) = raised.value.problems
    assert (problem.code, problem.file) == ("admin-address", "MESHLIB_ADMIN")
    assert why in problem.message
    assert remedy in problem.hint


def test_a_process_has_its_own_socket_where_the_path_has_its_number():
    assert UnixAddress("/run/a-{pid}.sock").of(7) == "/run/a-7.sock"
    assert [a.each_process for a in (UnixAddress("/run/a-{pid}.sock"), UnixAddress(""), UnixAddress("/run/a"))] == [
        True,
        True,
        False,
    ]
    assert not TcpAddress("127.0.0.1", 1).each_process
