"""LocalEndpoints as YAML: every problem with its line and column."""

from __future__ import annotations

import pytest

from meshlib.resources.loader import load_text

HEAD = """\
apiVersion: meshlib.dev/v1
kind: LocalEndpoints
metadata: {name: local, namespace: prod}
spec:
  hosts:
"""


def test_every_field_is_read():
    text = f"{HEAD}  - {{host: reviews, subset: v1, port: 9080, addresses: ['localhost:9081', '[::1]:9081']}}\n"
    result = load_text(text)
    assert not result.problems
    (resource,) = result.resources
    (host,) = resource.spec.hosts
    assert (host.host, host.subset, host.port) == ("reviews", "v1", 9080)
    assert host.addresses == ["localhost:9081", "[::1]:9081"]
    assert not resource.is_argument


@pytest.mark.parametrize(
    ("entry", "place", "message"),
    [
        ("{host: '*.example.com', addresses: [a]}", (6, 6), "is a wildcard"),
        ("{host: 2001:db8::1, addresses: [a]}", (6, 6), "is not a host name"),
        ("{host: reviews}", (6, 5), "the field addresses is missing"),
        ("{host: reviews, addresses: []}", (6, 21), "there is no address"),
        ("{host: reviews, addresses: localhost}", (6, 21), "addresses is a list, found a text"),
        ("{host: reviews, addresses: [a, 'http://b:1']}", (6, 36), "an address has no scheme"),
        ("{host: reviews, addresses: [9081]}", (6, 33), "an address is a text, found 9081"),
        ("{host: reviews, addresses: ['a:1', 'a:1']}", (6, 40), "a:1 is there twice"),
        ("{host: reviews, subset: '', addresses: [a]}", (6, 21), "a subset is the name"),
        ("{host: reviews, port: 0, addresses: [a]}", (6, 21), "port 0 is outside 1..65535"),
        ("{host: reviews, adresses: [a], addresses: [a]}", (6, 21), "unknown field 'adresses'"),
    ],
)
def test_problems_have_their_place(entry, place, message):
    result = load_text(f"{HEAD}  - {entry}\n", "local.yaml")
    (problem,) = result.errors
    assert message in problem.message
    assert (problem.file, problem.line, problem.column) == ("local.yaml", *place)
    assert problem.hint
