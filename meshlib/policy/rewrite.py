"""URI and authority rewriting (VirtualService ``rewrite``) and redirects, on wire strings."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Rewrite:
    """``prefix`` replaces what the match block's prefix matched (the whole path after an exact or regex match, "/" when
    there was no uri match); ``regex`` rewrites every match in the path. The query always stays."""

    prefix: str | None = None
    regex: Callable[[str], str] | None = None
    authority: str = ""
    by_regex: tuple[str, str] | None = None
    """What ``regex`` was made of: the expression and the substitution, in RE2's spelling."""

    def path(self, path: str, matched: str | None) -> str:
        """``matched``: the prefix that matched; None when the whole path did."""
        if self.regex is not None:
            return self.regex(path)
        if self.prefix is None:
            return path
        return self.prefix if matched is None else self.prefix + path[len(matched) :]

    @property
    def text(self) -> str:
        parts = []
        if self.prefix is not None:
            parts.append(f"uri {self.prefix}")
        if self.regex is not None:
            parts.append("uri by regex")
        if self.authority:
            parts.append(f"authority {self.authority}")
        return ", ".join(parts)


@dataclass(frozen=True, slots=True)
class Redirect:
    """A response that sends the caller elsewhere. ``port`` 0 (or the default port of the scheme, which Istio takes out) keeps
    that of the request, unless it is the default port of a scheme that the redirect changes."""

    code: int = 301
    uri: str = ""
    prefix: str | None = None
    authority: str = ""
    scheme: str = ""
    port: int = 0

    def location(self, scheme: str, authority: str, full_path: str, matched: str | None) -> str:
        """The Location header for a request; ``full_path`` is its path and query as sent."""
        target_scheme = self.scheme or scheme
        path, question, query = full_path.partition("?")
        host, port = _split(self.authority or authority)
        if not self.authority and target_scheme != scheme and port == _default(scheme):
            port = ""
        if self.port and str(self.port) != _default(target_scheme):
            port = str(self.port)
        if self.uri:
            target = self.uri if self.uri.startswith("/") else f"/{self.uri}"
        elif self.prefix is not None:
            target = self.prefix if matched is None else self.prefix + path[len(matched) :]
        else:
            target = path
        if question and "?" not in target:
            target += f"?{query}"
        return f"{target_scheme}://{host}{f':{port}' if port else ''}{target}"


def _split(authority: str) -> tuple[str, str]:
    host, colon, port = authority.rpartition(":")
    return (host, port) if colon and port.isascii() and port.isdigit() and not host.endswith(":") else (authority, "")


def _default(scheme: str) -> str:
    return "443" if scheme == "https" else "80"
