"""Match blocks and requests to try them on, as hypothesis draws them: few values, so that they often fit."""

from __future__ import annotations

from hypothesis import strategies as st

from meshlib.policy.http_match import HttpMatch
from meshlib.policy.string_match import StringMatcher

PARTS = ["/", "/a", "/A", "/a/b", "/a/b/", "/ab", "/b", "/b/a", ""]


class View:
    """A request as a match block sees it; ``repeated``: the values of headers that came more than once."""

    def __init__(
        self,
        method: str = "GET",
        authority: str = "x",
        path: str = "/",
        query: str = "",
        headers: dict[str, str] | None = None,
        scheme: str = "http",
        repeated: dict[str, list[str]] | None = None,
    ) -> None:
        self.method, self.scheme, self.authority, self.path, self.query = method, scheme, authority, path, query
        self.full_path = f"{path}?{query}" if query else path
        self._headers = headers or {}
        self._repeated = repeated or {}

    def header(self, name: str) -> str | None:
        return self._headers.get(name)

    def header_values(self, name: str) -> list[str] | None:
        return self._repeated.get(name)


values = st.sampled_from(["a", "b", "A", ""])
uris = st.builds(
    StringMatcher,
    st.sampled_from(["exact", "prefix"]),
    st.sampled_from(PARTS),
    st.booleans(),
) | st.builds(
    StringMatcher,
    st.just("regex"),
    st.sampled_from(["/a.*", "/[ab]", "/a/b", ".*", "/(a|b)/.*", "/a/[ab]+", ".*/b", "/a/b/?"]),
)
texts = st.builds(StringMatcher, st.sampled_from(["exact", "prefix", "present"]), values)
blocks = st.builds(
    HttpMatch,
    uri=st.none() | uris,
    method=st.none() | st.builds(StringMatcher, st.just("exact"), st.sampled_from(["GET", "POST"])),
    authority=st.none() | st.builds(StringMatcher, st.just("exact"), st.sampled_from(["x", "y"])),
    headers=st.lists(st.tuples(st.sampled_from(["h", "k"]), texts), max_size=2).map(tuple),
    without_headers=st.lists(st.tuples(st.sampled_from(["h", "k"]), texts), max_size=1).map(tuple),
    query_params=st.lists(st.tuples(st.sampled_from(["q"]), texts), max_size=1).map(tuple),
)
views = st.builds(
    View,
    method=st.sampled_from(["GET", "POST", "PUT"]),
    authority=st.sampled_from(["x", "y", "z"]),
    path=st.sampled_from([*PARTS[:-1], "/c", "/a/b/c"]),
    query=st.sampled_from(["", "q=a", "q=b&q=a", "z=1"]),
    headers=st.dictionaries(st.sampled_from(["h", "k"]), values, max_size=2),
)
