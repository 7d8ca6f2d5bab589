"""What RequestAuthentications say about tokens, compiled: which are taken, where they are, what becomes of them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

from meshlib.policy.http_match import RequestView
from meshlib.policy.token_locations import TokenLocations
from meshlib.security.jwk import NO_KEYS, KeySet

DISCOVERY = "/.well-known/openid-configuration"
"""Below an issuer, the document that says where its keys are (OpenID Connect Discovery)."""


@dataclass(frozen=True, slots=True)
class KeySource:
    """Where keys are fetched from: ``url`` of a key set, or (``discovery``) of the document that names it. ``timeout``: seconds
    for a whole fetch."""

    url: str
    discovery: bool = False
    timeout: float = 5.0

    @property
    def key(self) -> str:
        """What is fetched, however long it may take."""
        return f"discovery {self.url}" if self.discovery else self.url


@dataclass(frozen=True, slots=True)
class TokenRule:
    """An entry of ``jwtRules``. ``issuer`` "": any. ``audiences`` as ``security.jwt.audience`` compares them, none: any.

    Keys are ``keys``, from ``jwks``, when ``source`` is None. ``claim_headers``: where a claim is, and its header. ``outputs``:
    every header (lower case) that this rule sets, which nobody else may. ``split``: claims of words, for AuthorizationPolicies.
    ``required``: a request without a token of this rule is refused.
    """

    resource: str
    issuer: str
    audiences: frozenset[str]
    locations: TokenLocations
    source: KeySource | None = None
    jwks: str = field(default="", repr=False)  # some keys are secrets
    keys: KeySet = field(default=NO_KEYS, compare=False)
    forward: bool = False
    payload_header: str = ""
    claim_headers: tuple[tuple[tuple[str, ...], str], ...] = ()
    outputs: frozenset[str] = frozenset()
    split: frozenset[str] = frozenset()
    required: bool = False


@dataclass(frozen=True, slots=True)
class UnreadTokens:
    """A RequestAuthentication that cannot be read, and ``why``, of which there is no good version yet: every token at
    ``locations``, where it may have looked, is refused. None: it may have looked anywhere, and every request is."""

    resource: str
    why: str
    locations: TokenLocations | None
    outputs: frozenset[str] = frozenset()

    def may_refuse(self, request: RequestView) -> bool:
        """Whether the RequestAuthentication may have refused the request, if it could be read."""
        return self.locations is None or bool(self.locations.find(request))

    def spares(self, rule: TokenRule) -> bool:
        """Whether ``rule`` looks somewhere that this surely did not."""
        mine, its = self.locations, rule.locations
        return mine is not None and bool(
            set(its.headers) - set(mine.headers)
            or set(its.parameters) - set(mine.parameters)
            or set(its.cookies) - set(mine.cookies)
        )


@dataclass(frozen=True, slots=True)
class TokenRules:
    """Those of a workload, in the order in which Istio gives them to Envoy. ``outputs``: of all, ``unread`` too."""

    rules: tuple[TokenRule, ...]
    outputs: frozenset[str]
    unread: tuple[UnreadTokens, ...] = ()

    def sources(self) -> list[str]:
        """From where keys are fetched, as ``KeySource.key`` says it."""
        return [rule.source.key for rule in self.rules if rule.source is not None]


def token_rules(rules: Sequence[TokenRule], unread: Sequence[UnreadTokens] = ()) -> TokenRules | None:
    """The rules of a workload, None without any. Istio sorts them by issuer."""
    if not rules and not unread:
        return None
    ordered = sorted(rules, key=lambda rule: rule.issuer)
    outputs = frozenset().union(*(rule.outputs for rule in ordered), *(broken.outputs for broken in unread))
    return TokenRules(tuple(ordered), outputs, tuple(unread))
