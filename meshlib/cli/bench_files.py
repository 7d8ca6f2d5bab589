"""Where ``meshlib bench`` writes its reports: files, which are whole at every moment, and streams, which get one document."""

from __future__ import annotations

import os
import sys
from pathlib import Path

import click

LINKS = 40
"""That Linux follows in one path."""


def check_writable(option: str, file: Path) -> None:
    """Before an hour is spent: what a link leads to is looked at.

    Raises:
        click.UsageError: its folder is missing, or it cannot be written
    """
    stream, there = is_stream(file), file.exists()
    leads_to = Path(os.path.realpath(file))
    if not there and leads_to.is_symlink():
        raise click.UsageError(f"{option} {file}: its links lead in a circle")
    if not stream and not leads_to.parent.is_dir():
        raise click.UsageError(f"{option} {file}: there is no folder {leads_to.parent}")
    # a file is replaced, which its folder has to allow, too; a stream is opened, and never made
    needed = [file] if stream else [leads_to.parent, *([leads_to] if there else [])]
    if (stream and not there) or not all(os.access(each, os.W_OK) for each in needed):
        raise click.UsageError(f"{option} {file}: it cannot be written")


def is_stream(file: Path) -> bool:
    """Whether it takes one document, at the end: what is no regular file (a FIFO, a terminal), and what is reached through
    /dev or /proc, be it a file in the end, as ``/dev/stdout`` is: whoever opened that holds the file, not its name. /dev/shm
    is a folder as any other."""
    return (file.exists() and not file.is_file()) or any(
        each.parts[1:2] in (("dev",), ("proc",)) and each.parts[2:3] != ("shm",) for each in _on_the_way(file)
    )


def is_stdout(file: Path) -> bool:
    """Whether it is this process's standard output, by whichever name."""
    return is_stream(file) and _descriptor(file) == 1


def write_file(file: Path, text: str) -> None:
    """The whole file or none of it; a link stays, and what it leads to is written."""
    file = Path(os.path.realpath(file))
    beside = file.with_name(f".{file.name}.{os.getpid()}")
    try:
        beside.write_text(text, encoding="utf-8")
        beside.replace(file)
    finally:
        beside.unlink(missing_ok=True)


def write_stream(file: Path, text: str) -> None:
    """Into what is there, which stays. A descriptor of this process is written to where it stands, and not opened anew: a
    file behind it would be written from its beginning, and what is written to the descriptor later over it."""
    descriptor = _descriptor(file)
    if descriptor is None:
        opened = os.open(file, os.O_WRONLY | os.O_TRUNC)  # it is not made: whoever has it removed does not read
    else:
        sys.stdout.flush()
        sys.stderr.flush()
        opened = os.dup(descriptor)
    with os.fdopen(opened, "w", encoding="utf-8") as stream:
        stream.write(text)


def _on_the_way(file: Path) -> list[Path]:
    """The path, in its real folder, and each that its links lead to, one after the other."""
    passed: list[Path] = []
    while len(passed) < LINKS:
        file = Path(os.path.realpath(file.parent), file.name)
        passed.append(file)
        if not file.is_symlink():
            break
        file = file.parent / os.readlink(file)
    return passed


def _descriptor(file: Path) -> int | None:
    """That of this process which the path names, as /dev/stdout and /dev/fd/3 do; None: it names no such."""
    own = Path(f"/proc/{os.getpid()}/fd")
    return next((int(each.name) for each in _on_the_way(file) if each.parent == own), None)
