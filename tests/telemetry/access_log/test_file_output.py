"""Files of lines: whole lines, whatever the disk, other processes and logrotate do."""

from __future__ import annotations

import errno
import os
import subprocess
import sys
import threading
from pathlib import Path
from typing import cast

import pytest

from meshlib.telemetry.access_log.file_output import BATCH, PIPE, FileOutput, StreamOutput
from meshlib.telemetry.access_log.writer import LinesLostError, Writer
from tests.support.eventually import eventually


def never() -> bool:
    return False


def test_lines_are_appended(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    path.write_text("before\n")
    output = FileOutput(str(path))
    assert output.write(["a\n", "b\n"], never) == 0
    assert output.write(["c é\n"], never) == 0
    output.close()
    assert path.read_text() == "before\na\nb\nc é\n"


def test_a_file_that_is_moved_away_is_left(tmp_path: Path) -> None:
    path, moved = tmp_path / "access.log", tmp_path / "access.log.1"
    output = FileOutput(str(path))
    output.write(["1\n"], never)
    path.rename(moved)
    output.write(["2\n"], never)
    path.unlink()
    output.write(["3\n"], never)
    path.rename(tmp_path / "access.log.2")
    path.write_text("of another program\n")
    output.write(["4\n"], never)
    output.close()
    assert moved.read_text() == "1\n"
    assert path.read_text() == "of another program\n4\n"


def test_a_file_that_is_cut_is_written_from_its_beginning(tmp_path: Path) -> None:
    path = tmp_path / "access.log"  # logrotate's copytruncate
    output = FileOutput(str(path))
    output.write(["1\n"], never)
    os.truncate(path, 0)
    output.write(["2\n"], never)
    output.close()
    assert path.read_text() == "2\n"


def test_reopened_it_is_opened_again(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    output = FileOutput(str(path))
    output.write(["1\n"], never)
    before = output._fd
    os.close(os.dup(before))
    output.reopen()
    output.write(["2\n"], never)
    output.close()
    assert path.read_text() == "1\n2\n"


def test_a_folder_that_is_not_there_is_an_error_each_time(tmp_path: Path) -> None:
    output = FileOutput(str(tmp_path / "no" / "access.log"))
    for _ in range(2):
        with pytest.raises(FileNotFoundError, match="access.log"):
            output.write(["1\n"], never)
    (tmp_path / "no").mkdir()
    assert output.write(["1\n"], never) == 0
    output.close()


class Disk:
    """``os.write`` onto a disk with so much room."""

    def __init__(self, room: int, real: object = os.write) -> None:
        self.room = room
        self.data = b""

    def __call__(self, _fd: int, data: bytes) -> int:
        if self.room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        written = min(self.room, len(data))
        self.room -= written
        self.data += data[:written]
        return written


@pytest.mark.parametrize("room", range(16))
def test_a_full_disk_tears_no_line_that_comes_after(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int) -> None:
    output = FileOutput(str(tmp_path / "access.log"))
    disk = Disk(room)
    lines = ["one 1\n", "two 2\n"]
    output.write([], never)
    monkeypatch.setattr(os, "write", disk)
    lost = 0
    try:
        lost = output.write(lines, never)
    except LinesLostError as error:
        assert error.errno == errno.ENOSPC
        lost = error.lost
    disk.room = 1000
    assert output.write(["three 3\n"], never) == 0
    monkeypatch.undo()
    found = disk.data.decode().splitlines()
    assert found[-1] == "three 3"
    assert lost == 2 - min(room // 6, 2), "those that are written whole are not"
    assert disk.data.decode().startswith("".join(lines[: 2 - lost]))
    output.close()


@pytest.mark.parametrize("room", [0, 1, 24_999, 25_000, 25_049, 49_999])
def test_of_a_large_batch_those_that_had_room_are_written(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, room: int
) -> None:
    path = tmp_path / "access.log"
    writer = Writer(FileOutput(str(path)), str(path), gather=0.0)
    real = os.write

    def written(fd: int, data: bytes) -> int:
        nonlocal room
        if room == 0:
            raise OSError(errno.ENOSPC, "No space left on device")
        data = data[:room]
        room -= len(data)
        return real(fd, data)

    lines = [b"%049d\n" % n for n in range(1000)]
    whole = room // 50
    monkeypatch.setattr(os, "write", written)
    with writer._writing:  # nobody takes any before all are there
        for line in lines:
            writer.put(line, len(line))
    writer.flush(60)
    assert (writer.written, writer.lost) == (whole, 1000 - whole)
    assert path.read_bytes()[: whole * 50] == b"".join(lines[:whole])
    writer.close()


def test_a_pipe_gets_pieces_that_stay_whole() -> None:
    read, write = os.pipe()
    script = (
        "import sys; from meshlib.telemetry.access_log.file_output import StreamOutput;"
        "print(StreamOutput('stdout').write(['x' * 99 + chr(10)] * 300, lambda: False), file=sys.stderr)"
    )
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, check=True)
    assert done.stdout == ("x" * 99 + "\n") * 300
    assert done.stderr.strip() == "0"
    os.close(read)
    os.close(write)


def test_a_pipe_that_does_not_block_is_waited_for(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    output = FileOutput(str(path))
    fd = output._current(never)
    os.set_blocking(fd, False)
    lines = ["y" * 999 + "\n"] * 200  # more than the pipe holds
    found: list[int] = []
    thread = threading.Thread(target=lambda: found.append(output.write(lines, never)))
    thread.start()
    got = b""
    os.set_blocking(reading, True)
    while len(got) < 200_000:
        got += os.read(reading, 65536)
    thread.join(30)
    assert (found, got.decode()) == ([0], "".join(lines))
    assert output.write(["z" * (PIPE - 1) + "\n"] * 40, lambda: True) > 0, "stopping, nobody waits for a reader"
    output.close()
    os.close(reading)


def test_lines_wait_for_the_reader_of_a_pipe(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    output = FileOutput(str(path))
    reading: list[int] = []

    def at_the_third_look() -> bool:
        looks.append(1)
        if len(looks) == 3:
            reading.append(os.open(path, os.O_RDONLY | os.O_NONBLOCK))
        return False

    looks: list[int] = []
    assert output.write(["1\n", "2\n"], at_the_third_look) == 0
    assert os.read(reading[0], 100) == b"1\n2\n"
    output.close()
    os.close(reading[0])
    assert [each.getMessage() for each in caplog.records if "pipe" in each.getMessage()] == [
        f"{path} is a pipe that nobody reads: lines wait for a reader, as many as there is room for"
    ]


def test_stopping_nobody_waits_for_the_reader_of_a_pipe(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    with pytest.raises(OSError, match="it is a pipe that nobody reads"):
        FileOutput(str(path)).write(["1\n"], lambda: True)


class Leaving:
    """A reader of a pipe that goes when so many pieces are there, and comes back (``comes``) when it is looked for again."""

    def __init__(self, path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int) -> None:
        self.path, self.left = path, pieces
        self.taken: list[bytes] = []
        self._write = os.write
        self.comes()
        monkeypatch.setattr(os, "write", self.write)

    def write(self, fd: int, data: bytes) -> int:
        if self.left == 0:
            self.goes()
        self.left -= 1
        return self._write(fd, data)

    def goes(self) -> None:
        self.taken.append(os.read(self._fd, 65536))
        os.close(self._fd)

    def comes(self) -> bool:
        self._fd = os.open(self.path, os.O_RDONLY | os.O_NONBLOCK)
        return False


def test_when_the_reader_of_a_pipe_goes_the_next_one_gets_the_lines_that_it_has_not(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = Leaving(path, monkeypatch, pieces=2)
    output = FileOutput(str(path))
    lines = [f"{n}{'x' * 3000}\n" for n in range(5)]  # a piece each
    assert output.write(lines, reader.comes) == 0
    reader.goes()
    output.close()
    assert [taken.decode() for taken in reader.taken] == ["".join(lines[:2]), "".join(lines[2:])]
    assert len([each for each in caplog.records if "a pipe that nobody reads" in each.getMessage()]) == 1


@pytest.mark.parametrize("pieces", [1, 2])
def test_stopping_what_the_reader_of_a_pipe_has_not_taken_is_lost_and_no_more_than_that(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, pieces: int
) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reader = Leaving(path, monkeypatch, pieces)
    output = FileOutput(str(path))
    lines = [f"{n}{'x' * 3000}\n" for n in range(5)]
    assert output.write(lines, lambda: True) == 5 - pieces
    output.close()
    assert reader.taken[0].decode() == "".join(lines[:pieces])


def test_when_the_reader_of_a_pipe_has_gone_with_nothing_taken_nothing_is_written(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    output = FileOutput(str(path))
    assert output.write(["1\n"], never) == 0
    os.close(reading)
    assert output.write(["2\n", "3\n"], lambda: True) == 2
    with pytest.raises(OSError, match="it is a pipe that nobody reads"):
        output.write(["4\n"], lambda: True)
    reading = os.open(path, os.O_RDONLY | os.O_NONBLOCK)
    assert output.write(["5\n"], never) == 0
    assert os.read(reading, 100) == b"5\n"
    output.close()
    os.close(reading)


def test_calls_do_not_wait_for_the_reader_of_a_pipe_and_what_has_no_room_is_counted(tmp_path: Path) -> None:
    path = tmp_path / "pipe"
    os.mkfifo(path)
    writer = Writer(FileOutput(str(path)), str(path), most=1000, gather=0.0)
    for _ in range(100):
        writer.put("x" * 99 + "\n", 100)
    status = writer.status()
    assert status["written"] == 0
    assert 80 <= cast(int, status["dropped"]) <= 100, "ten lines have room, and ten more while those are being written"
    writer.close(0.0)  # stopping: whoever waits gives up
    assert eventually(lambda: writer.dropped + writer.lost == 100)


def test_the_programs_own_output_may_be_closed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "__stdout__", None)
    with pytest.raises(OSError, match="no stdout"):
        StreamOutput("stdout").write(["x\n"], never)


def test_lines_of_several_processes_stay_whole(tmp_path: Path) -> None:
    path = tmp_path / "access.log"
    script = (
        "import sys; from meshlib.telemetry.access_log.file_output import FileOutput;"
        "o = FileOutput(sys.argv[1]);"
        "[o.write([sys.argv[2] * 3000 + chr(10)] * 5, lambda: False) for _ in range(40)]"
    )
    running = [subprocess.Popen([sys.executable, "-c", script, str(path), name]) for name in "ab"]
    assert [each.wait(120) for each in running] == [0, 0]
    lines = path.read_text().splitlines()
    assert sorted(lines) == ["a" * 3000] * 200 + ["b" * 3000] * 200


@pytest.mark.parametrize("most", [1, 50, 1000, BATCH])
def test_writes_are_whole_lines_and_no_longer_than_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, most: int
) -> None:
    """But for a line that is longer by itself. What it was put together in does not stay longer."""
    lines = [f"{'é' * (n * 37 % 91)}{n}\n" for n in range(300)] + ["x" * 5000 + "\n", "last\n"]
    output = FileOutput(str(tmp_path / "access.log"))
    output.write([], never)
    output._most = most
    written: list[bytes] = []
    monkeypatch.setattr(os, "write", lambda _fd, data: written.append(bytes(data)) or len(data))
    for _ in range(2):
        written.clear()
        assert output.write(lines, never) == 0
        assert b"".join(written).decode() == "".join(lines)
        assert all(each.endswith(b"\n") and (len(each) <= most or each.count(b"\n") == 1) for each in written)
    output.write(["short\n"], never)
    assert len(output._buffer) <= max(most, len("short\n"))
    monkeypatch.undo()
    output.close()


def test_lines_are_texts_or_bytes(tmp_path: Path) -> None:
    """Those of one format are one or the other nearly always; where both come the order is kept."""
    output = FileOutput(str(tmp_path / "log"))
    expected = b""
    for lines in ([b"1\n", b"2\n"], ["3 \xe9\n", "4\ud800\n"], [b"5\n", "6\n", b"7\n"], ["8\n", b"9\n"]):
        assert output.write(lines, never) == 0
        expected += b"".join(
            [each if isinstance(each, bytes) else each.encode("utf-8", "backslashreplace") for each in lines]
        )
    assert (tmp_path / "log").read_bytes() == expected
