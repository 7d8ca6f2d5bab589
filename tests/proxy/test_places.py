"""Places of the proxy's command line: what they mean, and what is said of those that cannot be."""

from __future__ import annotations

import pytest

from meshlib.proxy.places import TcpPlace, UnixPlace, WrongPlace, app_place, listen_place


@pytest.mark.parametrize(
    ("text", "host", "port", "shown"),
    [
        ("127.0.0.1:15001", "127.0.0.1", 15001, "127.0.0.1:15001"),
        ("localhost:0", "127.0.0.1", 0, "127.0.0.1:0"),
        ("0.0.0.0:80", "0.0.0.0", 80, "0.0.0.0:80"),
        ("[::1]:15001", "::1", 15001, "[::1]:15001"),
    ],
)
def test_a_listener_is_at_an_address_of_this_machine(text: str, host: str, port: int, shown: str) -> None:
    place = listen_place(text)
    assert (place.host, place.port, str(place)) == (host, port, shown)


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("15001", "is not HOST:PORT; write it as 127.0.0.1:15001"),
        (":15001", "is not HOST:PORT"),
        ("127.0.0.1:http", "'http' is not a port; write a number from 0 to 65535"),
        ("127.0.0.1:65536", "port 65536 is not between 0 and 65535"),
        ("127.0.0.1:-1", "'-1' is not a port"),
        ("127.0.0.1:٣", "is not a port"),
        ("::1:15001", "write an IPv6 address in brackets: [::1]:15001"),
        ("[127.0.0.1]:80", "brackets are for those"),
        ("http://127.0.0.1:80", "is a URL; write 127.0.0.1:15001, without a scheme and a path"),
        ("reviews:80", "'reviews' is not an IP address; a listener binds an address of this machine"),
    ],
)
def test_a_wrong_listener_is_told_with_its_remedy(text: str, said: str) -> None:
    with pytest.raises(WrongPlace) as caught:
        listen_place(text)
    assert said in str(caught.value)


def test_an_application_may_have_a_name_or_be_a_unix_socket() -> None:
    assert app_place("app:8080") == TcpPlace("app", 8080)
    assert app_place("localhost:8080") == TcpPlace("127.0.0.1", 8080)
    assert app_place("unix:/run/app.sock") == UnixPlace("/run/app.sock")
    assert app_place("unix:///run/app.sock") == UnixPlace("/run/app.sock")
    assert str(app_place("unix:/run/app.sock")) == "unix:/run/app.sock"


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("app:0", "port 0 is not between 1 and 65535"),
        ("unix:", "does not name a socket; write unix:/run/app.sock"),
        ("unix:/run/", "does not name a socket"),
        ("unix:@app", "is an abstract socket, which has no permissions"),
        ("unix:/" + "a" * 108, "is longer than a unix socket's path may be (107 bytes)"),
        ("app/v1:80", "is not a host; write 127.0.0.1:8080 or unix:/run/app.sock, without a scheme and a path"),
    ],
)
def test_a_wrong_application_is_told_with_its_remedy(text: str, said: str) -> None:
    with pytest.raises(WrongPlace) as caught:
        app_place(text)
    assert said in str(caught.value)


@pytest.mark.parametrize(
    ("text", "others"),
    [("127.0.0.1:1", False), ("127.1.2.3:1", False), ("[::1]:1", False), ("0.0.0.0:1", True), ("[::]:1", True)],
)
def test_whether_other_machines_can_reach_it_is_known(text: str, others: bool) -> None:
    assert listen_place(text).for_others is others
