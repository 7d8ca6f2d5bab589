"""An explanation of a request that comes in, as people and programs read it."""

from __future__ import annotations

from meshlib.engine.inbound_explanation import InboundExplanation, PolicyConsidered

DENY = PolicyConsidered("foo/no-admin", "DENY", False, True, 2, "DENY: rule 2 matches: paths /admin* (path /admin)")
TRIAL = PolicyConsidered(
    "foo/trial", "ALLOW", True, False, None, "ALLOW (dry run): it has no rules, which match nothing"
)


def test_programs_get_all_of_it_under_stable_keys():
    found = InboundExplanation(
        False, 403, "refused", "GET /admin", "foo/no-admin", 2, policies=(DENY, TRIAL), notes=("n",)
    )
    assert found.to_dict() == {
        "allowed": False,
        "status": 403,
        "grpc_status": None,
        "policy": "foo/no-admin",
        "rule": 2,
        "resource": "AuthorizationPolicy/foo/no-admin",
        "reason": "refused",
        "request": "GET /admin",
        "policies": [
            {
                "policy": "foo/no-admin",
                "action": "DENY",
                "dry_run": False,
                "matched": True,
                "rule": 2,
                "reason": "DENY: rule 2 matches: paths /admin* (path /admin)",
            },
            {
                "policy": "foo/trial",
                "action": "ALLOW",
                "dry_run": True,
                "matched": False,
                "rule": None,
                "reason": "ALLOW (dry run): it has no rules, which match nothing",
            },
        ],
        "notes": ["n"],
        "mtls": "PERMISSIVE",
        "mtls_policy": "",
    }


def test_no_policy_has_decided_is_empty_and_none():
    found = InboundExplanation(True, 200, "let in", "GET /").to_dict()
    assert (found["policy"], found["rule"], found["resource"]) == ("", None, "")


def test_people_read_the_decision_first_and_each_policy_in_a_line():
    found = InboundExplanation(False, 403, "refused", "GET /admin", "foo/no-admin", 2, policies=(DENY,), notes=("so",))
    assert str(found).splitlines() == [
        "refused  403 refused",
        "request  GET /admin",
        "policy   foo/no-admin  DENY: rule 2 matches: paths /admin* (path /admin)",
        "note     so",
    ]
    assert "none applies" in str(InboundExplanation(True, 200, "let in", "GET /"))


def test_a_mode_is_shown_with_its_policy_and_who_refuses_is_the_resource():
    found = InboundExplanation(
        False, 403, "r", "GET /", mtls="STRICT", mtls_policy="foo/all", refused_by="PeerAuthentication/foo/all"
    )
    assert found.resource == "PeerAuthentication/foo/all"
    assert str(found).splitlines() == [
        "refused  403 r",
        "request  GET /",
        "mtls     STRICT by PeerAuthentication/foo/all",
        "policy   none is asked",
    ]
    assert "mtls" not in str(InboundExplanation(True, 200, "let in", "GET /"))
