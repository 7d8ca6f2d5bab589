"""Endpoints as words of a command line."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshlib.problems import ConfigError
from meshlib.resources.endpoints_text import endpoints_of_words, resource_of_words, written_out
from meshlib.resources.loader import load_objects


def hosts(*words: str) -> object:
    resource = resource_of_words(words, file="x", name="local", namespace="prod")
    assert not load_objects([resource]).problems
    return resource["spec"]


@pytest.mark.parametrize(
    ("words", "meant"),
    [
        (["reviews=:9080"], [{"host": "reviews", "addresses": ["localhost:9080"]}]),
        (["reviews=a:1,b"], [{"host": "reviews", "addresses": ["a:1", "b"]}]),
        (
            ["reviews=v1@:9081,v2@:9082,v1@[::1]:9"],
            [
                {"host": "reviews", "subset": "v1", "addresses": ["localhost:9081", "[::1]:9"]},
                {"host": "reviews", "subset": "v2", "addresses": ["localhost:9082"]},
            ],
        ),
        (["reviews=:1", "reviews=:2"], [{"host": "reviews", "addresses": ["localhost:1", "localhost:2"]}]),
        (["reviews:9080=::1"], [{"host": "reviews", "port": 9080, "addresses": ["::1"]}]),
        (["a.b=unix:/run/a@b"], [{"host": "a.b", "addresses": ["unix:///run/a@b"]}]),
    ],
)
def test_words_and_what_they_say(words, meant):
    assert hosts(*words) == {"hosts": meant}


@pytest.mark.parametrize(
    ("word", "message"),
    [
        ("reviews", "is not HOST=ADDRESS"),
        ("=:1", "is not HOST=ADDRESS"),
        ("reviews=", "the address is empty"),
        ("reviews=:1,", "the address is empty"),
        ("reviews=@:1", "there is no subset before the @"),
        ("reviews=me@x:y", "the port of 'x:y' is not a number"),
        ("reviews=http://a:1", "an address has no scheme"),
        ("reviews=:1,:1", "is there twice"),
        ("*.example.com=:1", "is a wildcard"),
        ("reviews:http=:1", "is not a host name"),
        ("reviews:0=:1", "port 0 is outside 1..65535"),
    ],
)
def test_what_is_wrong_is_told_of_its_word(word, message):
    with pytest.raises(ConfigError) as caught:
        resource_of_words([word, "details=:2"], file="x", name="local", namespace="default")
    problem = caught.value.problems[0]
    assert (problem.file, problem.path) == ("x", word)
    assert message in problem.message
    assert problem.hint


def test_no_word_at_all():
    with pytest.raises(ConfigError, match="there is no host"):
        resource_of_words([], file="x", name="local", namespace="default")


@given(st.lists(st.text(max_size=20), max_size=4))
def test_any_words_are_a_good_resource_or_refused(words):
    try:
        resource = resource_of_words(words, file="x", name="local", namespace="default")
    except ConfigError as error:
        assert error.problems
    else:
        assert not load_objects([resource]).errors


@pytest.mark.parametrize("text", ["localhost:1", "10.0.0.1", "[::1]:80", "::1", "unix:///a"])
def test_an_address_that_is_written_out_stays_as_it_is(text):
    assert written_out(text) == text


def test_what_the_argument_would_say():
    words = ["reviews=v1@:9081,v2@:9082", "ratings:80=:1,:2"]
    assert endpoints_of_words(words, file="x", namespace="default") == {
        "reviews": {"v1": [":9081"], "v2": [":9082"]},
        "ratings:80": [":1", ":2"],
    }
    with pytest.raises(ConfigError, match="has addresses with a subset and others without"):
        endpoints_of_words(["reviews=:1,v1@:2"], file="x", namespace="default")
    with pytest.raises(ConfigError, match="x: error: reviews=:x: the port of ':x' is not a number"):
        endpoints_of_words(["reviews=:x"], file="x", namespace="default")


@pytest.mark.parametrize(
    "word", ["reviews=http://me:s3cret@localhost:1", "reviews=v1@me:s3cret@localhost", "http://me:s3cret@x"]
)
def test_no_password_is_repeated(word):
    with pytest.raises(ConfigError) as caught:
        resource_of_words([word], file="x", name="local", namespace="default")
    assert "s3cret" not in str(caught.value)
