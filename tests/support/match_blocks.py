"""Match blocks and requests to try them on, as hypothesis draws them: few values, so that they often fit."""

from __future__ import annotations

from hypothesis import strategies as st

from meshlib.policy.http_match import HttpMatch
from meshlib.policy.string_match import StringMatcher

PARTS = ["/", "/a", "/A", "/a/b", "/a/b/", "/ab", "/b", "/b/a", ""]


class View:
    def __init__(self, method="GET", authority="x", path="/", query="", headers=None):
        self.method, self.scheme, self.authority, self.path, self.query = method, "http", authority, path, query
        self._headers = headers or {}

    def header(self, name):
        return self._headers.get(name)


values = st.sampled_from(["a", "b", "A", ""])
uris = st.builds(
    StringMatcher,
    st.sampled_from(["exact", "prefix"]),
    st.sampled_from(PARTS),
    st.booleans(),
) | st.builds(StringMatcher, st.just("regex"), st.sampled_from(["/a.*", "/[ab]", "/a/b", ".*", "/(a|b)/.*"]))
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
