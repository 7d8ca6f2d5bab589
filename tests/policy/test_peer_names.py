"""subjectAltNames against the names of a certificate."""

from __future__ import annotations

import pytest

from meshlib.policy.peer_names import allows, dns_name_matches, type_of

SPIFFE = "spiffe://cluster.local/ns/default/sa/reviews"


@pytest.mark.parametrize(
    ("name", "pattern", "same"),
    [
        ("api.example.test", "api.example.test", True),
        ("API.example.TEST", "api.Example.test", True),
        ("api.example.test", "*.example.test", True),
        ("api.example.test", "a*i.example.test", True),
        ("api.example.test", "api*.example.test", True),
        ("api.example.test", "apix*.example.test", False),
        ("aa.example.test", "aa*a.example.test", False),
        ("api.example.test", "*.*.test", False),
        ("api.example.test", "api.*.test", False),
        ("api.example.test", "**.example.test", False),
        ("api.example.test", "*i*.example.test", False),
        ("a.b.example.test", "*.example.test", False),
        ("example.test", "*.example.test", False),
        ("example", "*", False),
        ("test", "*.", False),
        ("xn--a.example.test", "xn--*.example.test", False),
        ("xn--a.example.test", "*.example.test", True),
        ("api.example.test", "api.example.test\0.evil.test", False),
        ("api.example.test", "api.example.test.", False),
        ("api.example.test", "", False),
        # an allowed name with a wildcard is a name like another: only the certificate's widens
        ("*.example.test", "api.example.test", False),
        ("*.example.test", "*.example.test", True),
    ],
)
def test_dns_names_compare_as_envoys_dns_name_match(name, pattern, same):
    assert dns_name_matches(name, pattern) is same


@pytest.mark.parametrize(
    ("text", "kind"),
    [
        ("api.test", "DNS"),
        ("*.api.test", "DNS"),
        (SPIFFE, "URI"),
        ("urn:uuid:1", "URI"),
        ("10.0.0.1", "IP Address"),
        ("2001:db8::1", "IP Address"),
        ("someone@api.test", "email"),
    ],
)
def test_the_type_of_an_allowed_name_is_what_it_looks_like(text, kind):
    assert type_of(text) == kind


@pytest.mark.parametrize(
    ("allowed", "names", "good"),
    [
        ([SPIFFE], [("URI", SPIFFE)], True),
        ([SPIFFE], [("DNS", SPIFFE)], False),
        ([SPIFFE], [("URI", SPIFFE + "/")], False),
        ([SPIFFE], [("URI", SPIFFE.upper())], False),
        ([SPIFFE], [("URI", SPIFFE), ("DNS", "reviews.test")], True),
        ([SPIFFE], [("URI", SPIFFE), ("URI", "spiffe://cluster.local/ns/default/sa/other")], False),
        ([SPIFFE], [("URI", SPIFFE), ("URI", SPIFFE)], False),
        ([SPIFFE, "reviews.test"], [("URI", SPIFFE), ("URI", "spiffe://x/y"), ("DNS", "reviews.test")], False),
        (["reviews.test"], [("URI", SPIFFE), ("URI", "spiffe://x/y"), ("DNS", "reviews.test")], True),
        (["reviews.test"], [("URI", "reviews.test")], False),
        (["reviews.test"], [("email", "reviews.test")], False),
        (["10.0.0.1"], [("IP Address", "10.0.0.1")], True),
        (["10.0.0.1"], [("DNS", "10.0.0.1")], False),
        (["2001:db8::1"], [("IP Address", "2001:DB8:0:0:0:0:0:1\n")], True),
        (["10.0.0.1"], [("IP Address", "<invalid>")], False),
        (["a@api.test"], [("email", "a@api.test")], True),
        (["api.test"], [("DNS", "x, DNS:api.test")], False),
        (["api.test"], [("othername", "<unsupported>")], False),
        (["api.test"], [], False),
    ],
)
def test_names_are_only_compared_with_names_of_their_type(allowed, names, good):
    assert allows(allowed, names) is good
