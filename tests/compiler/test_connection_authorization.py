"""What AuthorizationPolicies say of connections whose requests nobody sees."""

from __future__ import annotations

import pytest

from meshlib.compiler.connection_authorization import for_connections
from meshlib.policy.authorization.rules import Condition, Policy, Rule

FROM = Condition("source.ip", ("10.0.0.1",))
GET = Condition("methods", ("GET",))


def of(action, *rules):
    (made,) = for_connections([Policy("ns", "p", action, rules)])
    return made.action, [list(rule.clauses()) for rule in made.rules]


def test_an_allow_rule_that_asks_for_a_request_lets_nobody_in():
    assert of("ALLOW", Rule(((FROM,),), ((GET,),))) == ("ALLOW", [])
    assert of("ALLOW", Rule(((FROM,),))) == ("ALLOW", [[(FROM,)]])
    assert of("ALLOW", Rule(((FROM,),), ((GET,), ()))) == ("ALLOW", [[(FROM,)]]), "the operation without it does"


def test_a_deny_rule_is_asked_without_what_is_of_requests():
    assert of("DENY", Rule(((FROM,),), ((GET,),))) == ("DENY", [[(FROM,)]])
    assert of("DENY", Rule((), ((GET,),))) == ("DENY", [[()]]), "it refuses everything"


@pytest.mark.parametrize("key", ["paths", "request.auth.principal", "request.headers[x]", "request.auth.claims[a]"])
def test_facts_of_requests_are_not_known(key):
    assert of("ALLOW", Rule(when=(Condition(key, ("x",)),))) == ("ALLOW", [])


def test_where_an_authorizer_would_be_asked_nobody_comes_in():
    assert of("CUSTOM", Rule(((FROM,),))) == ("DENY", [[(FROM,)]])
