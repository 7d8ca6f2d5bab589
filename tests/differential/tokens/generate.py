"""Random rules, and random requests with tokens of every kind: good, bad, broken, several, in every place."""

from __future__ import annotations

import json
import random
import time
from dataclasses import dataclass, field
from typing import Any

from meshlib.security.base64url import encode
from tests.support.tokens import Issuer, issuer

Config = dict[str, Any]
SIGNERS = (
    issuer("ES256", "e1"),
    issuer("ES256", "e2"),
    issuer("RS256", "r"),
    issuer("EdDSA", "d"),
    issuer("HS256", "h"),
)
ISSUERS = ("iss-1", "iss-2", "https://iss-3/")
OUTPUTS = ("sub", "realm.role", "n", "yes", "list", "none", "half")
OTHER_ALGORITHM = "another algorithm than the key's"
FORGED = ("x-payload", "x-role", "x-n")


@dataclass(frozen=True)
class Token:
    """``stricter``: why we may refuse what Envoy takes, or for another reason; "" when nothing excuses a difference."""

    text: str
    stricter: str = ""


@dataclass(frozen=True)
class Request:
    method: str
    path: str
    query: tuple[tuple[str, str], ...]
    headers: tuple[tuple[str, str], ...]
    tokens: tuple[Token, ...]

    @property
    def target(self) -> str:
        query = "&".join(f"{name}={value}" for name, value in self.query)
        return f"{self.path}?{query}" if query else self.path


@dataclass(frozen=True)
class Case:
    rules: list[Config]
    requests: list[Request] = field(default_factory=list)


class Generator:
    """All of them replay from ``seed``."""

    def __init__(self, seed: int) -> None:
        self.rng = random.Random(seed)
        self.now = int(time.time())

    def case(self, requests: int) -> Case:
        rules = [self.rule() for _ in range(self.rng.choice((1, 1, 2, 2, 3)))]
        return Case(rules, [self.request(rules) for _ in range(requests)])

    def rule(self) -> Config:
        rng = self.rng
        made: Config = {"issuer": rng.choice(ISSUERS)}
        keys = []
        for signer in rng.sample(SIGNERS, rng.choice((1, 1, 2, 3))):
            jwk = dict(signer.jwk)
            if rng.random() < 0.3:
                jwk["alg"] = signer.algorithm
            if rng.random() < 0.2:
                del jwk["kid"]
            keys.append(jwk)
        made["jwks"] = json.dumps({"keys": keys})
        if rng.random() < 0.4:
            made["audiences"] = rng.choice((["api"], ["https://web/", "x"], ["api/"]))
        kinds = rng.random()
        if kinds < 0.35:
            made["fromHeaders"] = rng.choice((
                [{"name": "X-Jwt"}],
                [{"name": "x-jwt", "prefix": "jwt "}, {"name": "authorization", "prefix": "Bearer "}],
                [{"name": "authorization", "prefix": "Token "}],
            ))  # fmt: skip
        if 0.25 < kinds < 0.5:
            made["fromParams"] = rng.choice((["t"], ["access_token", "t"]))
        if 0.4 < kinds < 0.55:
            made["fromCookies"] = ["c"]
        if rng.random() < 0.3:
            made["forwardOriginalToken"] = True
        if rng.random() < 0.4:
            made["outputPayloadToHeader"] = "x-payload"
        if rng.random() < 0.5:
            claims = rng.sample(OUTPUTS, 3)
            made["outputClaimToHeaders"] = [{"claim": c, "header": f"X-{c.rpartition('.')[2]}"} for c in claims]
        if rng.random() < 0.2:
            made["spaceDelimitedClaims"] = ["words"]
        return made

    # -- requests -----------------------------------------------------------------------------------------------------

    def request(self, rules: list[Config]) -> Request:
        rng = self.rng
        headers: list[tuple[str, str]] = []
        query: list[tuple[str, str]] = [("a", "1")] if rng.random() < 0.3 else []
        tokens = []
        for _ in range(rng.choice((0, 1, 1, 1, 1, 2, 2, 3))):
            token = self.token(rules)
            tokens.append(token)
            place = rng.random()
            if place < 0.55:
                headers.append(self.header(token.text))
            elif place < 0.8:
                query.append((rng.choice(("access_token", "access_token", "t")), token.text))
            else:
                headers.append(("cookie", f"a=b; {rng.choice('cc d')}={token.text}"))
        if rng.random() < 0.2:
            headers += [(name, "forged") for name in FORGED]
        method = "GET"
        if rng.random() < 0.05:
            method = "OPTIONS"
            headers += [("origin", "a"), ("access-control-request-method", rng.choice(("GET", "")))]
        path = rng.choice(("/", "/a/b", "/a/./b", "/%41", f"/{'x' * 300}", '/"q"'))
        return Request(method, path, tuple(query), tuple(headers), tuple(tokens))

    def header(self, token: str) -> tuple[str, str]:
        return self.rng.choice((
            ("authorization", f"Bearer {token}"),
            ("Authorization", f"Bearer {token}"),
            ("authorization", f"Bearer   {token}"),
            ("authorization", f"bearer {token}"),
            ("authorization", f"Token {token}"),
            ("authorization", f"Basic x, Bearer {token}"),
            ("x-jwt", token),
            ("x-jwt", f"jwt {token}"),
        ))  # fmt: skip

    # -- tokens -------------------------------------------------------------------------------------------------------

    def token(self, rules: list[Config]) -> Token:
        rng = self.rng
        rule = rng.choice(rules)
        kids = [key.get("kid") for key in json.loads(rule["jwks"])["keys"]]
        fitting = [s for s in SIGNERS if s.jwk["kid"] in kids] or list(SIGNERS)
        signer = rng.choice(fitting) if rng.random() < 0.9 else rng.choice(SIGNERS)
        claims = self.claims(rule)
        kind = rng.random()
        if kind < 0.6:
            return Token(signer.token(claims, {} if rng.random() < 0.9 else {"kid": rng.choice((None, "x", ""))}))
        if kind < 0.8:
            return self.odd_claims(signer, claims)
        return self.broken(signer, claims)

    def claims(self, rule: Config) -> Config:
        rng, now = self.rng, self.now
        claims: Config = {
            "iss": rule["issuer"],
            "sub": rng.choice(("jane", "joe")),
            "exp": now + 3600,
            "role": rng.choice(("admin", "")),
            "n": rng.choice((5, -1, 2**53 + 1, 1.5, 0)),
            "yes": True,
            "half": 0.5,
            "realm": {"role": "x"},
            "list": ["a"],
            "scope": "read  write",
            "words": "a b",
        }
        if "audiences" in rule and rng.random() < 0.85:
            claims["aud"] = rng.choice((rule["audiences"], rule["audiences"][0], "http://api", ["web", "api"]))
        return claims

    def odd_claims(self, signer: Issuer, claims: Config) -> Token:
        """Whose claims decide."""
        rng, now = self.rng, self.now
        name, value = rng.choice((
            ("iss", "else"), ("iss", 1), ("iss", None), ("sub", 1), ("sub", None), ("jti", 5), ("aud", "else"),
            ("aud", 1), ("aud", [1]), ("aud", {}), ("aud", []), ("exp", now - 30), ("exp", now - 300), ("exp", now - 30.5),
            ("exp", "soon"), ("exp", True), ("exp", None), ("exp", -1), ("exp", 2**64), ("exp", 1e300), ("exp", 0),
            ("exp", 0.5), ("nbf", now + 30), ("nbf", now + 300), ("nbf", "x"), ("nbf", -5), ("iat", now + 3000),
            ("iat", "x"), ("iat", -1), ("iat", 2**65),
        ))  # fmt: skip
        odd = {**claims, name: value}
        if rng.random() < 0.1:
            del odd[name]
        return Token(
            signer.token(odd), "exp is 1970" if name == "exp" and value in (0, 0.5) and value is not None else ""
        )

    def broken(self, signer: Issuer, claims: Config) -> Token:
        """What is no token, or one that is written in a strange way."""
        rng = self.rng
        good = signer.token(claims)
        header, payload, signature = good.split(".")
        kid = signer.jwk["kid"]
        alg = {"alg": signer.algorithm, "kid": kid}
        body = json.dumps(claims).encode()
        return rng.choice((
            lambda: Token(""),
            lambda: Token("a"),
            lambda: Token("a.b.c"),
            lambda: Token(f"{header}.{payload}"),
            lambda: Token(f"{header}.{payload}."),
            lambda: Token(f"{good}.x"),
            lambda: Token(f"{header}.{payload}.{signature[:-4]}", "spare bits"),
            lambda: Token(f"{header}.{payload}.{signature[:-4]}AAAA"),
            lambda: Token(f"{header}.{encode(body + b' ')}.{signature}"),
            lambda: Token(f"{header}..{payload}.{signature}", "empty segment"),
            lambda: Token(f"{header}.{payload}=.{signature}", "padding"),
            lambda: Token(f"{header}.{payload}.{signature}=", "padding"),
            lambda: Token(f"{header}.{payload}!.{signature}"),
            lambda: Token(signer.signed(json.dumps({**alg, "crit": ["x"], "x": 1}).encode(), body), "crit"),
            lambda: Token(signer.signed(json.dumps({**alg, "b64": False}).encode(), body), "b64"),
            lambda: Token(signer.signed(json.dumps({**alg, "cty": "JWT"}).encode(), body), "nested"),
            lambda: Token(signer.signed(json.dumps({**alg, "kid": 5}).encode(), body)),
            lambda: Token(signer.signed(json.dumps({**alg, "alg": "none"}).encode(), body)),
            lambda: Token(signer.signed(json.dumps({**alg, "alg": "HS256"}).encode(), body), OTHER_ALGORITHM),
            lambda: Token(signer.signed(json.dumps({**alg, "alg": "RS512"}).encode(), body), OTHER_ALGORITHM),
            lambda: Token(signer.signed(json.dumps({**alg, "alg": "ES384"}).encode(), body), OTHER_ALGORITHM),
            lambda: Token(signer.signed(json.dumps({"kid": kid}).encode(), body)),
            lambda: Token(signer.signed(b"[]", body)),
            lambda: Token(signer.signed(b"{", body)),
            lambda: Token(signer.signed(json.dumps(alg).encode(), b"[]")),
            lambda: Token(signer.signed(json.dumps(alg).encode(), b"{")),
            lambda: Token(signer.signed(json.dumps(alg).encode(), body[:-1] + b',"iss":"iss-1"}'), "duplicate keys"),
            lambda: Token(signer.signed(json.dumps(alg).encode(), body[:-1] + b',"x":"\\ud800"}'), "surrogate"),
            lambda: Token(signer.signed(json.dumps(alg).encode(), body[:-1] + b',"x":1e999}'), "beyond a double"),
            lambda: Token(f"{header}.{payload}.{'A' * 17000}", "more than 16 KiB"),
        ))()  # fmt: skip
