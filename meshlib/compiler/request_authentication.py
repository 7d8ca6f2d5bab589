"""Which RequestAuthentications count for a workload, and their rules."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import TYPE_CHECKING

from meshlib.compiler.target_refs import refs_of, why_not_attached
from meshlib.compiler.token_rules import DISCOVERY, KeySource, TokenRule, TokenRules, UnreadTokens, token_rules
from meshlib.policy.token_locations import ACCESS_TOKEN, AUTHORIZATION, token_locations
from meshlib.problems import Problem, Severity
from meshlib.security.jwk import MISSING, NO_KEYS, BadKeys, KeySet, key_set
from meshlib.security.jwt import wanted_audiences
from meshlib.security.token_claims import SPACE_DELIMITED, claim_path

if TYPE_CHECKING:
    from meshlib.compiler.mesh_settings import MeshSettings
    from meshlib.resources.request_authentication import JwtRule, RequestAuthentication
    from meshlib.workload import Workload

TIMEOUT = 5.0
"""Seconds that a fetch of keys may take when its rule does not say."""


def compile_request_authentications(
    resources: Sequence[RequestAuthentication], workload: Workload, mesh: MeshSettings
) -> tuple[TokenRules | None, list[Problem]]:
    """The rules for the server of ``workload``, None without any. Problems are about all resources, whichever workloads they
    select."""
    problems = [problem for resource in resources for problem in _problems(resource)]
    unread = [
        _unread(resource) for resource in resources if resource.stands_for and _may_select(resource, workload, mesh)
    ]
    rules = []
    for namespace in dict.fromkeys((workload.namespace, mesh.root_namespace)):
        theirs = [r for r in resources if r.namespace == namespace and not r.stands_for and _selects(r, workload)]
        for resource in sorted(theirs, key=lambda resource: resource.age_key):
            rules += [_rule(resource, model) for model in resource.spec.jwt_rules or ()]
    return token_rules(rules, unread), problems


def _may_select(resource: RequestAuthentication, workload: Workload, mesh: MeshSettings) -> bool:
    """Whether one that cannot be read may be for ``workload``."""
    if not resource.placed:
        return True
    return resource.namespace in (workload.namespace, mesh.root_namespace) and _selects(resource, workload)


def _selects(resource: RequestAuthentication, workload: Workload) -> bool:
    spec = resource.spec
    if refs := refs_of(spec):
        return not why_not_attached(refs, resource.namespace, workload)
    wanted = (spec.selector.match_labels or {}) if spec.selector is not None else {}
    return all(workload.labels.get(name) == value for name, value in wanted.items())


def _rule(resource: RequestAuthentication, model: JwtRule) -> TokenRule:
    outputs = [(claim_path(output.claim), output.header.lower()) for output in model.output_claim_to_headers or ()]
    payload_header = (model.output_payload_to_header or "").lower()
    keys, _ = _inline(model)
    return TokenRule(
        resource=f"{resource.namespace}/{resource.name}",
        issuer=model.issuer or "",
        audiences=wanted_audiences(model.audiences or ()),
        locations=token_locations(
            [(header.name, header.prefix or "") for header in model.from_headers or ()],
            model.from_params or (),
            model.from_cookies or (),
        ),
        source=_source(model),
        jwks=model.jwks or "",
        keys=keys,
        forward=bool(model.forward_original_token),
        payload_header=payload_header,
        claim_headers=tuple(outputs),
        outputs=frozenset(filter(None, (payload_header, *(header for _, header in outputs)))),
        split=SPACE_DELIMITED.union(model.space_delimited_claims or ()),
        required=model.presence == "REQUIRED",
    )


def _unread(resource: RequestAuthentication) -> UnreadTokens:
    """Beside the places that its rules name it may have looked in the default ones."""
    models = resource.spec.jwt_rules or ()
    headers = [(header.name, header.prefix or "") for model in models for header in model.from_headers or ()]
    locations = token_locations(
        [AUTHORIZATION, *headers],
        [ACCESS_TOKEN, *(name for model in models for name in model.from_params or ())],
        [name for model in models for name in model.from_cookies or ()],
    )
    outputs = [model.output_payload_to_header or "" for model in models]
    outputs += [output.header for model in models for output in model.output_claim_to_headers or ()]
    return UnreadTokens(
        f"{resource.namespace}/{resource.name}",
        resource.stands_for,
        None if resource.looks_anywhere else locations,
        frozenset(header.lower() for header in outputs if header),
    )


def _source(model: JwtRule) -> KeySource | None:
    """Inline keys count before a ``jwksUri``, and that before discovery."""
    if model.jwks:
        return None
    timeout = TIMEOUT if model.timeout is None else float(model.timeout)
    if model.jwks_uri:
        return KeySource(model.jwks_uri, False, timeout)
    return KeySource(f"{(model.issuer or '').removesuffix('/')}{DISCOVERY}", True, timeout)


def _inline(model: JwtRule) -> tuple[KeySet, str]:
    """The keys of ``jwks``; why there are none."""
    if not model.jwks:
        return NO_KEYS, ""
    try:
        return key_set(model.jwks.encode("utf-8", "surrogatepass")), ""
    except BadKeys as error:
        return NO_KEYS, str(error)
    except ImportError:
        return NO_KEYS, MISSING


def _problems(resource: RequestAuthentication) -> Iterator[Problem]:
    spec = resource.spec
    if resource.stands_for:
        return  # which has been said where it could not be read
    if spec.target_refs or spec.target_ref is not None:
        return  # without effect, which its row of the semantics says
    for position, model in enumerate(spec.jwt_rules or ()):
        yield from _problems_of_rule(resource, position, model)


def _problems_of_rule(resource: RequestAuthentication, position: int, model: JwtRule) -> Iterable[Problem]:
    loc: tuple[str | int, ...] = ("spec", "jwtRules", position)
    if model.jwks:
        keys, why = _inline(model)
        refused = "every token of this rule is refused"
        if not keys.keys:
            why = why or "none of its keys can be used" if keys.unusable or why else "it has no keys"
            yield _problem(
                resource, (*loc, "jwks"), "no-usable-key", Severity.WARNING, f"{refused}: {why}", _WHAT_A_KEY_NEEDS
            )
        for index, reason in keys.unusable:
            yield _problem(
                resource,
                (*loc, "jwks"),
                "unusable-key",
                Severity.WARNING,
                f"key {index} of jwks is not used: {reason}",
                _WHAT_A_KEY_NEEDS,
            )
    elif not model.jwks_uri and not (model.issuer or "").startswith(("https://", "http://")):
        yield _problem(
            resource,
            (*loc, "issuer"),
            "no-usable-key",
            Severity.WARNING,
            f"every token of this rule is refused: its issuer {model.issuer!r} is not a URL that its keys could be found below",
            "say where its keys are: jwksUri or jwks",
        )


_WHAT_A_KEY_NEEDS = "RSA of 2048 bits or more, P-256, P-384, P-521 or Ed25519, for signatures"


def _problem(
    resource: RequestAuthentication,
    loc: tuple[str | int, ...],
    code: str,
    severity: Severity,
    message: str,
    hint: str,
) -> Problem:
    origin = resource.origin
    line, column = resource.place_of(loc)
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in loc).removeprefix(".")
    return Problem(
        code,
        severity,
        origin.file,
        line or origin.line,
        column or origin.column,
        f"{resource.id} {text}",
        message,
        hint,
    )
