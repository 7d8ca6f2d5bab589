"""What resolv.conf says, as resolv.conf(5) has it."""

from __future__ import annotations

import pytest

from meshlib.problems import MeshError
from meshlib.proxy.resolv_conf import ResolvConf, parse, read


@pytest.mark.parametrize(
    ("text", "servers", "search"),
    [
        ("nameserver 10.96.0.10\nsearch a.b c\noptions ndots:5\n", ["10.96.0.10"], ["a.b", "c"]),
        ("# nameserver 1.1.1.1\n;nameserver 1.1.1.2\nnameserver fe80::1%eth0\n", ["fe80::1%eth0"], []),
        ("nameserver\nnameserver none\nnameserver 1.1.1.1 # it\n", ["1.1.1.1"], []),
        ("".join(f"nameserver 1.1.1.{i}\n" for i in range(5)), ["1.1.1.0", "1.1.1.1", "1.1.1.2"], []),
        ("domain a\nsearch b c\n", [], ["b", "c"]),
        ("search b c\ndomain a\n", [], ["a"]),
        ("search b c\nsearch d\n", [], ["d"]),
        ("", [], []),
    ],
)
def test_lines_that_say_nothing_of_use_are_passed_over(text, servers, search):
    assert parse(text) == ResolvConf(tuple((server, 53) for server in servers), tuple(search))


def test_a_file_that_is_not_there_is_named_with_the_remedy(tmp_path):
    with pytest.raises(MeshError, match=r"none cannot be read \(No such file or directory\).*say --resolv-conf"):
        read(str(tmp_path / "none"))


def test_a_file_that_names_nobody_is_told(tmp_path):
    (tmp_path / "empty").write_text("search a\n")
    with pytest.raises(MeshError, match="empty names no resolver"):
        read(str(tmp_path / "empty"))


def test_a_file_is_read(tmp_path):
    (tmp_path / "conf").write_bytes(b"nameserver 1.1.1.1\n# \xff\n")
    assert read(str(tmp_path / "conf")).servers == (("1.1.1.1", 53),)
