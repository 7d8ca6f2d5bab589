"""Where reports are written: what is looked at before, what is replaced, and what is not."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import click
import pytest

from meshlib.cli.bench_files import check_writable, is_stdout, is_stream, write_file, write_stream


def test_a_file_is_written_through_links_which_stay(tmp_path: Path) -> None:
    link = tmp_path / "link"
    link.symlink_to(tmp_path / "report.json")
    for _ in range(2):
        write_file(link, "a report")
    assert link.is_symlink()
    assert (tmp_path / "report.json").read_text() == "a report"
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "report.json"]
    assert not is_stream(link)


def test_a_fifo_is_a_stream_and_stays_one(tmp_path: Path) -> None:
    fifo, link = tmp_path / "fifo", tmp_path / "link"
    os.mkfifo(fifo)
    link.symlink_to("fifo")
    assert is_stream(fifo)
    assert is_stream(link)
    reader = os.open(fifo, os.O_RDONLY | os.O_NONBLOCK)
    write_stream(link, "a report")
    assert os.read(reader, 100) == b"a report"
    os.close(reader)
    assert fifo.is_fifo()
    assert link.is_symlink()


def test_a_descriptor_is_a_stream_though_a_file_is_behind_it_and_is_written_where_it_stands(tmp_path: Path) -> None:
    link = tmp_path / "link"
    with open(tmp_path / "out", "w") as out:
        link.symlink_to(f"/dev/fd/{out.fileno()}")
        for each in (link, Path(f"/proc/self/fd/{out.fileno()}")):
            assert is_stream(each)
            assert not is_stdout(each)
            os.write(out.fileno(), b"before ")
            write_stream(each, "a report ")
            os.write(out.fileno(), b"after ")
    assert (tmp_path / "out").read_text() == "before a report after " * 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["link", "out"]


def test_below_dev_and_proc_all_are_streams_but_dev_shm_is_a_folder_as_any_other() -> None:
    assert is_stream(Path("/dev/full"))
    assert is_stream(Path("/dev/none"))
    assert is_stream(Path("/proc/self/fd/1"))
    assert not is_stream(Path("/dev/shm/none.json"))


def test_the_output_is_told_by_each_of_its_names(tmp_path: Path) -> None:
    program = (
        "import sys; from pathlib import Path; from meshlib.cli.bench_files import is_stdout\n"
        "print([is_stdout(Path(each)) for each in sys.argv[1:]], file=sys.stderr)"
    )
    link = tmp_path / "link"
    link.symlink_to("/dev/stdout")
    names = ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", str(link), "/dev/stderr", str(tmp_path / "out")]
    with open(tmp_path / "out", "w") as out:
        said = subprocess.run(
            [sys.executable, "-c", program, *names], stdout=out, stderr=subprocess.PIPE, text=True, check=True
        ).stderr
    assert said == "[True, True, True, True, False, False]\n"


def refused(file: Path) -> str:
    with pytest.raises(click.UsageError) as error:
        check_writable("--json", file)
    return error.value.message.replace(str(file), "FILE")


def test_what_a_link_leads_to_is_looked_at(tmp_path: Path) -> None:
    link, circle = tmp_path / "link", tmp_path / "circle"
    link.symlink_to(tmp_path / "none" / "report.json")
    circle.symlink_to(circle)
    assert refused(link) == f"--json FILE: there is no folder {tmp_path / 'none'}"
    assert refused(circle) == "--json FILE: its links lead in a circle"
    (tmp_path / "none").mkdir()
    check_writable("--json", link)
    assert refused(Path("/dev/none")) == "--json FILE: it cannot be written"  # nothing is made there


def test_a_file_that_may_be_written_in_a_folder_that_may_not_cannot_be_replaced(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Root may all, so that the system is not asked here."""
    folder, link = tmp_path / "folder", tmp_path / "link"
    folder.mkdir()
    (folder / "report.json").touch()
    link.symlink_to(folder / "report.json")
    forbidden = [folder]
    monkeypatch.setattr(os, "access", lambda path, mode: Path(path) not in forbidden)
    assert refused(link) == "--json FILE: it cannot be written"
    forbidden[:] = [folder / "report.json"]
    assert refused(link) == "--json FILE: it cannot be written"
    forbidden.clear()
    check_writable("--json", link)
