"""RequestAuthentication, field by field."""

from __future__ import annotations

from meshlib.compiler.semantics.table import Row, approximated, honoured, not_here

COMPILED = "tests/compiler/test_request_authentication.py"
CHECKED = "tests/engine/test_token_check.py"
FETCHED = "tests/engine/test_key_sets.py"

ROWS: tuple[Row, ...] = (
    honoured(
        "selector.matchLabels", "the servers that it is for, in its namespace; of the root namespace in all", COMPILED
    ),
    not_here("targetRef", "for gateways and waypoints, which a server is not", "loads, no effect"),
    not_here("targetRefs", "for gateways and waypoints, which a server is not", "loads, no effect"),
    honoured("jwtRules.issuer", "compared exactly; none: tokens of every issuer", "tests/security/test_jwt.py", "any"),
    honoured(
        "jwtRules.audiences",
        "one of them must be in aud (without scheme and final slash, as in Envoy), else 403",
        "tests/security/test_jwt.py",
        "any",
    ),
    honoured(
        "jwtRules.jwksUri",
        "keys are fetched through the mesh, once however many wait; refreshed after 20 minutes, refused after 24 hours",
        FETCHED,
        "OpenID Connect Discovery below issuer",
    ),
    honoured(
        "jwtRules.jwks",
        "keys of the rule's own; those that cannot be used for signatures are reported at load",
        COMPILED,
    ),
    honoured("jwtRules.timeout", "of a whole fetch of keys", FETCHED, "5s"),
    honoured(
        "jwtRules.fromHeaders",
        "name, and prefix anywhere in the value; each line",
        CHECKED,
        "Authorization: Bearer, and the query parameter access_token",
    ),
    honoured("jwtRules.fromParams", "query parameters", CHECKED),
    honoured("jwtRules.fromCookies", "cookies", CHECKED),
    honoured(
        "jwtRules.forwardOriginalToken",
        "else header and query parameter are taken away once verified; cookies stay, as in Envoy",
        CHECKED,
        "false",
    ),
    honoured(
        "jwtRules.outputPayloadToHeader", "the payload in base64url; from elsewhere the header is taken away", CHECKED
    ),
    honoured(
        "jwtRules.outputClaimToHeaders",
        "texts, numbers and booleans, nested by dots; lists and objects as JSON in base64; from elsewhere they are taken away",
        CHECKED,
    ),
    honoured("jwtRules.spaceDelimitedClaims", "lists for AuthorizationPolicies", CHECKED, "scope, permission"),
    approximated(
        "jwtRules.presence",
        "REQUIRED: without a token of the rule 401",
        CHECKED,
        "Istio's schema has it, its generator does not read it yet",
        "OPTIONAL",
    ),
)
