"""AuthorizationPolicy, field by field. (Each kind of value has a test of its own in ``tests/policy/authorization``.)"""

from __future__ import annotations

from meshlib.compiler.semantics.table import Row, approximated, honoured, ignored

COMPILER = "tests/compiler/test_authorization.py"
CUSTOM = "tests/mesh/test_custom_policies.py"
NO_IDENTITY = (
    "a peer without identity matches none of these in ALLOW rules (stricter than Envoy), all of them in DENY rules"
)


def _both(path: str, does: str, tested: str, stricter: str = "", not_stricter: str = "") -> tuple[Row, Row]:
    """A field and its ``not`` twin."""
    parent, _, name = path.rpartition(".")
    twin = f"{parent}.not{name[0].upper()}{name[1:]}"
    rows = []
    for where, what, reason in ((path, does, stricter), (twin, f"none of them: {does}", not_stricter or stricter)):
        rows.append(approximated(where, what, tested, reason) if reason else honoured(where, what, tested))
    return rows[0], rows[1]


_SOURCE = "rules.from.source."
_OPERATION = "rules.to.operation."

ROWS: tuple[Row, ...] = (
    honoured("selector.matchLabels", "workloads it is for; in the root namespace, of every namespace", COMPILER, "all"),
    ignored("targetRef", "it is a gateway (meshlib proxy --gateway acts on it), waypoint or Service"),
    ignored("targetRefs", "they are gateways (meshlib proxy --gateway acts on them), waypoints and Services"),
    honoured("action", "DENY before ALLOW; ALLOW without rules allows no request", COMPILER, "ALLOW"),
    approximated(
        "action", "AUDIT: counted and logged, decides nothing", COMPILER, "Envoy marks an access log", value="AUDIT"
    ),
    approximated(
        "action",
        "CUSTOM: before all others; a request that matches comes in only if the provider lets it",
        CUSTOM,
        "a path that is not normalized must be let in as it was sent, too; see docs/parity.md",
        value="CUSTOM",
    ),
    honoured(
        "provider.name",
        "one of MeshConfig's extensionProviders; one that cannot be asked: what the rules match is refused",
        CUSTOM,
    ),
    *_both(
        f"{_SOURCE}principals", "the peer's SPIFFE id, in the trust domain and its aliases", COMPILER, "", NO_IDENTITY
    ),
    *_both(f"{_SOURCE}namespaces", "of the peer's SPIFFE id", COMPILER, "", NO_IDENTITY),
    *_both(f"{_SOURCE}serviceAccounts", "of the peer's SPIFFE id", COMPILER, "", NO_IDENTITY),
    *_both(f"{_SOURCE}trustDomains", "of the peer's SPIFFE id, with aliases", COMPILER, "", NO_IDENTITY),
    *_both(f"{_SOURCE}requestPrincipals", "issuer/subject of the token that was verified", COMPILER),
    *_both(f"{_SOURCE}ipBlocks", "the address at the other end of the connection", COMPILER),
    *_both(
        f"{_SOURCE}remoteIpBlocks",
        "the last of X-Forwarded-For, as a sidecar believes it; else the peer's address",
        COMPILER,
    ),
    *_both(
        f"{_OPERATION}hosts",
        "Host in any case; DENY looks past its port and final dot, too",
        COMPILER,
        "gRPC servers do not report the host: DENY is taken to match there, ALLOW not to",
    ),
    *_both(
        f"{_OPERATION}ports",
        "the port that the request came to",
        COMPILER,
        "unknown if the server does not report it: then DENY is taken to match, ALLOW is not",
    ),
    *_both(f"{_OPERATION}methods", "the method; POST of gRPC", COMPILER),
    *_both(
        f"{_OPERATION}paths",
        "exact, prefix*, *suffix, {*} and {**}; DENY at every spelling of the path",
        COMPILER,
        "ALLOW must hold at the normalized, the decoded and the routed path; what cannot be read in one way is 400",
    ),
    honoured("rules.when.key", "every condition of Istio", COMPILER),
    approximated(
        "rules.when.values",
        "one of them: any text of a list claim",
        COMPILER,
        "headers: DENY looks at any line or comma item, ALLOW at every one; experimental.envoy.filters is unknown here",
    ),
    approximated(
        "rules.when.notValues",
        "none of them",
        COMPILER,
        "headers: ALLOW looks at any line or comma item, DENY at every one; experimental.envoy.filters is unknown here",
    ),
)
