"""Secrets of a gateway that become bad while it serves: what was good before stands in, and nothing else does."""

from __future__ import annotations

import ssl

import pytest

from meshlib.proxy.gateway_listeners import GatewayListeners
from tests.support.eventually import eventually
from tests.support.gateway_certificates import (
    certificate_pem,
    client,
    key_pem,
    leaf,
    revoked,
    root,
    secret,
    tls_secret,
)
from tests.support.gateway_proxy import Gateway, gateway, server
from tests.support.resources import virtual_service

SHOP, BANK = leaf("shop.test"), leaf("bank.test")
SOMEBODY, STRANGER = leaf("somebody.test"), leaf("stranger.test", of="another")
ROUTES = virtual_service("all", {"directResponse": {"status": 200}}, hosts=["*"], gateways=["gw"])
GOOD = {"tls_crt": certificate_pem(SHOP), "tls_key": key_pem(SHOP)}
BAD = {"tls_crt": certificate_pem(SHOP), "tls_key": key_pem(BANK)}
TODO = b"-----BEGIN CERTIFICATE-----\nTODO\n"
JUNK = {"tls_crt": TODO, "tls_key": TODO.replace(b"CERTIFICATE", b"PRIVATE KEY"), "ca_crt": TODO}
STAYS = "; the last good certificate stays in use for new connections"


def https(*hosts, mode="SIMPLE", credentialName="shop", **tls):  # noqa: N803 (Istio's)
    tls = {"mode": mode, "credentialName": credentialName, **tls}
    return server(*hosts, port=443, protocol="HTTPS", name=hosts[0], tls=tls)


def served(gw, context, name="shop.test"):
    """Whether a client is: it may be let in, or not."""
    try:
        with gw.client(443, lambda sock: context.wrap_socket(sock, server_hostname=name)) as made:
            return made.get("/", "GET", name).status == 200
    except (ssl.SSLError, ConnectionError):
        return False


def shown(gw, name="shop.test"):
    """The last name of the certificate that a client sees."""
    with client().wrap_socket(gw.client(443).sock, server_hostname=name) as sock:
        return sock.getpeercert()["subjectAltName"][-1][1]


def apply(gw, *resources):
    """And wait until certificates have been looked at."""
    number = len(LOOKED)
    gw.mesh.apply([ROUTES, *resources])
    assert eventually(lambda: len(LOOKED) > number)


LOOKED: list[None] = []


@pytest.fixture(autouse=True)
def _looks(monkeypatch):
    follow = GatewayListeners.follow

    async def counted(self):
        await follow(self)
        LOOKED.append(None)

    monkeypatch.setattr(GatewayListeners, "follow", counted)


@pytest.mark.parametrize("broken", [{"tls_key": key_pem(SHOP)[:60]}, {"tls_key": key_pem(BANK)}], ids=["half", "other"])
def test_a_secret_that_becomes_bad_leaves_the_last_good_one_in_use(caplog, broken):
    of_shop = gateway(https("shop.test"))
    with Gateway(ROUTES, of_shop, secret("shop", **GOOD)) as gw:
        for number in range(2):  # a reload later, too
            apply(gw, of_shop, secret("shop", **{**GOOD, **broken}), secret(f"more{number}", **GOOD))
            assert shown(gw) == "shop.test"
        assert STAYS in caplog.text
        assert "(Secret default/shop)" in caplog.text
        apply(gw, of_shop, tls_secret("shop", leaf("shop.test", "new.shop.test")))
        assert shown(gw) == "new.shop.test"


def test_of_two_secrets_that_become_bad_alike_each_falls_back_on_its_own():
    servers = gateway(
        https("shop.test", mode="MUTUAL", caCertCredentialName="clients"),
        https("bank.test", mode="MUTUAL", credentialName="bank", caCertCredentialName="others"),
    )
    roots = [
        secret("clients", ca_crt=certificate_pem(root("root"))),
        secret("others", ca_crt=certificate_pem(root("another"))),
    ]

    def let_in():
        return [served(gw, client(who), at) for who in (SOMEBODY, STRANGER) for at in ("shop.test", "bank.test")]

    with Gateway(ROUTES, servers, *roots, tls_secret("shop", SHOP), tls_secret("bank", BANK)) as gw:
        assert let_in() == [True, False, False, True]
        apply(gw, servers, *roots, secret("shop", **JUNK), secret("bank", **JUNK))
        assert let_in() == [True, False, False, True]


def test_of_two_that_are_the_same_but_for_their_secrets_each_shows_what_was_in_its_own():
    servers = gateway(https("shop.test"), https("bank.test", credentialName="bank"))
    with Gateway(ROUTES, servers, tls_secret("shop", SHOP), tls_secret("bank", BANK)) as gw:
        apply(gw, servers, secret("shop", **JUNK), secret("bank", **JUNK))
        assert (shown(gw), shown(gw, "bank.test")) == ("shop.test", "bank.test")


def test_the_roots_of_clients_do_not_stand_in_nor_does_anything_where_they_are_bad_too(caplog):
    servers = gateway(https("shop.test", mode="MUTUAL"), https("bank.test", mode="MUTUAL", credentialName="bank"))
    good = [tls_secret("shop", SHOP, root("root")), tls_secret("bank", BANK, root("another"))]
    with Gateway(ROUTES, servers, *good) as gw:
        assert served(gw, client(SOMEBODY))
        apply(gw, servers, secret("shop", **JUNK), secret("bank", **JUNK))
        for who in (SOMEBODY, STRANGER):
            assert not served(gw, client(who))
            assert not served(gw, client(who), "bank.test")
        assert STAYS not in caplog.text
        assert "servers[0] is not served: tls of" in caplog.text


def test_what_is_asked_of_clients_counts_as_it_is_now_while_a_key_is_bad():
    def of_clients(name="clients", ca="root", without=(), **tls):
        crl = revoked(*without, of=ca)
        return (
            gateway(https("shop.test", mode="MUTUAL", caCertCredentialName=name, **tls)),
            secret(name, ca_crt=certificate_pem(root(ca)), ca_crl=crl),
        )

    def let_in():
        return served(gw, client(SOMEBODY)), served(gw, client(STRANGER))

    with Gateway(ROUTES, *of_clients(), secret("shop", **GOOD)) as gw:
        assert let_in() == (True, False)
        bad = secret("shop", **BAD)
        apply(gw, *of_clients(), bad)
        assert let_in() == (True, False)
        apply(gw, *of_clients(without=[SOMEBODY]), bad)
        assert let_in() == (False, False), "revoked"
        apply(gw, *of_clients(ca="another"), bad)
        assert let_in() == (False, True), "other roots in the same Secret"
        apply(gw, *of_clients("others"), bad)
        assert let_in() == (True, False), "another Secret of roots"
        apply(gw, *of_clients(subjectAltNames=["nobody.test"]), bad)
        assert let_in() == (False, False), "other names"


def test_clients_are_asked_for_a_certificate_from_the_reload_on_that_says_so_though_its_key_is_bad():
    roots = {"ca_crt": certificate_pem(root("root"))}
    with Gateway(ROUTES, gateway(https("shop.test")), secret("shop", **GOOD, **roots)) as gw:
        assert served(gw, client())
        apply(gw, gateway(https("shop.test", mode="MUTUAL")), secret("shop", **BAD, **roots))
        assert not served(gw, client())
        assert served(gw, client(SOMEBODY))


def test_what_was_in_another_secret_stands_in_for_none():
    with Gateway(ROUTES, gateway(https("shop.test")), secret("shop", **GOOD)) as gw:
        apply(gw, gateway(https("shop.test", credentialName="other")), secret("shop", **GOOD), secret("other", **BAD))
        assert not served(gw, client())
        apply(gw, gateway(https("shop.test")), secret("shop", **BAD))
        assert not served(gw, client()), "nor what it was before it was left"


def test_what_was_good_stands_in_wherever_the_secret_is_shown():
    names = ("more.test", "most.test", "shop.test")
    with Gateway(ROUTES, gateway(https("shop.test")), tls_secret("shop", leaf(*names))) as gw:
        apply(gw, gateway(https("more.test"), https("shop.test", "most.test")), secret("shop", **BAD))
        assert [shown(gw, name) for name in names] == ["shop.test"] * 3


def test_until_a_secret_has_been_looked_at_what_was_good_is_shown(monkeypatch):
    with Gateway(ROUTES, gateway(https("shop.test")), secret("shop", **GOOD)) as gw:
        assert shown(gw) == "shop.test"
        reached = []

        async def later(self, ports):
            reached.append(ports)

        monkeypatch.setattr(GatewayListeners, "_look_at", later)
        for content in (BAD, {**GOOD, "tls_crt": certificate_pem(leaf("new.test"))}):
            apply(gw, gateway(https("shop.test")), secret("shop", **content))
            assert shown(gw) == "shop.test"
        assert len(reached) == 2
