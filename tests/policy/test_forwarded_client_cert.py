"""X-Forwarded-Client-Cert."""

from __future__ import annotations

import pytest

from meshlib.policy.forwarded_client_cert import CertDetails, ForwardClientCert, ShownCertificate, element, forwarded

SHOWN = ShownCertificate(
    ("spiffe://cluster.local/ns/default/sa/reviews",),
    "84c5",
    "CN=a,O=b",
    ("spiffe://cluster.local/ns/default/sa/productpage",),
    ("productpage", "p.default"),
    "-----BEGIN CERTIFICATE-----\nAA+/=\n-----END CERTIFICATE-----\n",
    "-----BEGIN CERTIFICATE-----\nBB\n-----END CERTIFICATE-----\n",
)
ME = b"By=spiffe://td/a;Hash=1"


def test_an_element_has_our_names_the_hash_and_what_istio_asks_for_in_envoys_order():
    assert element(SHOWN, CertDetails()) == (
        b"By=spiffe://cluster.local/ns/default/sa/reviews;Hash=84c5;"
        b'Subject="CN=a,O=b";URI=spiffe://cluster.local/ns/default/sa/productpage;DNS=productpage;DNS=p.default'
    )


def test_certificate_and_chain_are_pem_as_urls_have_it():
    details = CertDetails(subject=False, cert=True, chain=True, dns=False, uri=False)
    begin, end = b"-----BEGIN%20CERTIFICATE-----%0A", b"%0A-----END%20CERTIFICATE-----%0A"
    assert element(SHOWN, details).split(b";")[2:] == [
        b'Cert="' + begin + b"AA%2B%2F%3D" + end + b'"',
        b'Chain="' + begin + b"BB" + end + b'"',
    ]


def test_subject_and_uri_are_named_even_where_there_are_none():
    assert element(ShownCertificate((), "0a"), CertDetails()) == b'Hash=0a;Subject="";URI='


@pytest.mark.parametrize("evil", ["a;URI=spiffe://td/admin", "a,By=b", 'a"b', "a=b"])
def test_a_name_that_would_write_pairs_or_elements_of_its_own_is_put_in_quotes(evil):
    found = element(ShownCertificate((), "0a", "", (evil,)), CertDetails(subject=False)).decode()
    assert found == 'Hash=0a;URI="' + evil.replace('"', '\\"') + '"'


@pytest.mark.parametrize("control", ["\r\n", "\n", "\0", "\x7f"])
def test_no_name_in_a_certificate_ends_the_header_or_the_head(control):
    evil = f"a{control}x-admin: 1{control}{control}GET / HTTP/1.1"
    found = element(ShownCertificate((evil,), "0a", f"CN={evil}", (evil,), (evil,)), CertDetails())
    assert not found.translate(None, bytes(range(0x20, 0x7F)))
    written = "".join([f"\\{ord(each):02X}" for each in control])
    assert f'Subject="CN=a{written}x-admin'.encode() in found


@pytest.mark.parametrize(
    ("mode", "over_mtls", "in_plain_text"),
    [
        ("SANITIZE", None, None),
        ("FORWARD_ONLY", b"a,b", None),
        ("APPEND_FORWARD", b"a,b," + ME, None),
        ("SANITIZE_SET", ME, None),
        ("ALWAYS_FORWARD_ONLY", b"a,b", b"a,b"),
    ],
)
def test_what_a_caller_sends_is_believed_as_the_mode_says(mode, over_mtls, in_plain_text):
    assert forwarded(ForwardClientCert(mode), [b"a", b"b"], ME) == over_mtls
    assert forwarded(ForwardClientCert(mode), [b"a", b"b"], None) == in_plain_text


def test_values_that_say_nothing_leave_no_comma():
    assert forwarded(ForwardClientCert.APPEND_FORWARD, [b"", b"a", b""], ME) == b"a," + ME
    assert forwarded(ForwardClientCert.FORWARD_ONLY, [b""], ME) == b""


@pytest.mark.parametrize("mode", ForwardClientCert)
def test_without_the_header_only_our_element_can_come(mode):
    sets = mode in (ForwardClientCert.APPEND_FORWARD, ForwardClientCert.SANITIZE_SET)
    assert forwarded(mode, [], ME) == (ME if sets else None)
    assert forwarded(mode, [], None) is None
