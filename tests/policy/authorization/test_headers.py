"""Headers: Envoy reads lines, applications read what stands between commas."""

from __future__ import annotations

import pytest

from meshlib.policy.authorization.decision import Authorization
from meshlib.policy.authorization.headers import HeaderLines, Lines
from tests.policy.authorization.requests import one, policy, request, when


@pytest.mark.parametrize(
    ("pattern", "lines", "certain", "maybe"),
    [
        ("admin", "admin", True, True),
        ("admin", " admin\t", True, True),
        ("admin", ("admin", "user"), False, True),
        ("admin", ("admin", "admin"), True, True),
        ("admin", "user,admin", False, True),
        ("*admin", "user, admin", False, True),
        ("admin*", "admin,user", False, True),
        ("adm*", "admin,admit", True, True),
        ("a,b", "a,b", True, True),
        ("a,b", ("a", "b"), False, True),
        ("a,b", "a, b", False, False),
        ("*", "", True, True),
        ("*", (), False, False),
        ("a", (), False, False),
        ("a", "A", False, False),
    ],
)
def test_any_line_or_item_maybe_and_each_for_certain(pattern: str, lines: Lines, certain: bool, maybe: bool) -> None:
    assert bool(HeaderLines([(1, [pattern])], certain=-1)(lines)) == certain
    assert bool(HeaderLines([(1, [pattern])])(lines)) == maybe


def test_items_may_match_different_values_but_the_line_must_match_one() -> None:
    assert HeaderLines([(1, ["a", "b", "a*"])], certain=-1)("a,b") == 1
    assert HeaderLines([(1, ["a", "b"])], certain=-1)("a,b") == 0
    assert HeaderLines([(1, ["caf\xe9"])], certain=-1)("caf\xc3\xa9") == 1


class TestLinesThatNobodyKnows:
    """gRPC core keeps the last line of some headers alone."""

    CASES = (
        ("DENY", "no such line", True),
        ("DENY", "*", True),
        ("ALLOW", "10.1.2.3", False),
        ("ALLOW", "*", True),
    )

    @pytest.mark.parametrize(("action", "value", "matches"), CASES)
    @pytest.mark.parametrize("name", ["x-forwarded-for", "X-Forwarded-Host"])
    def test_count_against_the_caller_but_are_there(self, action, value, matches, name):
        rule = when(one(f"request.headers[{name}]", value))
        judged = Authorization([policy(action, rule)], "BASE")

        def status(**more):
            return judged.decide(request(headers=[(name.lower(), "10.1.2.3")], **more)).status

        let_in = 200 if matches is (action == "ALLOW") else 403
        assert (status(protocol="grpc", host=None) or 200) == let_in
        known = value in ("*", "10.1.2.3")
        assert (status(protocol="grpc") or 200) == (200 if known is (action == "ALLOW") else 403), (
            "a proxy knows all lines"
        )

    @pytest.mark.parametrize(("action", "status"), [("DENY", 403), ("ALLOW", 403)])
    def test_what_is_excluded_counts_against_him_too(self, action, status):
        rule = when(one("request.headers[x-forwarded-for]", none_of=["10.1.2.3"]))
        asked = request(headers=[("x-forwarded-for", "10.1.2.3")], protocol="grpc", host=None)
        assert Authorization([policy(action, rule)], "BASE").decide(asked).status == status

    def test_of_other_headers_and_without_one_all_is_known(self):
        rule = when(one("request.headers[x-a]", "1"))
        allowed = Authorization([policy("ALLOW", rule)], "BASE")
        assert not allowed.decide(request(headers=[("x-a", "1")], protocol="grpc", host=None)).status
        denied = Authorization([policy("DENY", when(one("request.headers[x-forwarded-for]", "10.1.2.3")))], "BASE")
        assert not denied.decide(request(protocol="grpc", host=None)).status
