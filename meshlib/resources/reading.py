"""Where documents come from: files, folders, globs, pipes and standard input, each read once a load."""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys

from meshlib.pace import take_turns
from meshlib.problems import Severity
from meshlib.resources.file_names import STDIN, files_at, nothing_at
from meshlib.resources.foreign import look, template_problem
from meshlib.resources.load_memo import ReadText
from meshlib.resources.load_result import FileFound, signature_of
from meshlib.resources.loading import Loading
from meshlib.resources.yaml_reader import MAX_BYTES, read

_SAYS_EMPTY = re.compile(rb"(?:\xef\xbb\xbf)?\s*#\s*meshlib:\s*empty\s*")
"""The only content of a file that is empty on purpose."""


class Reading:
    """Gives the documents of paths to a ``Loading``. ``read_all``: also of files that seem not to have changed; ``pipes``: of
    pipes that are named themselves."""

    def __init__(self, loading: Loading, *, read_all: bool = False, pipes: bool = False) -> None:
        self._loading = loading
        self._read_all = read_all
        self._pipes = pipes
        self._read: set[str] = set()

    def path(self, path: str) -> None:
        """Everything at a file, folder, glob, pipe or ``-``."""
        if path == STDIN:
            if STDIN not in self._read:
                self._read.add(STDIN)
                self.text(sys.stdin.buffer.read(MAX_BYTES + 1), "<stdin>")
            return
        if self._pipes and _is_pipe(path):
            if os.path.abspath(path) not in self._read:
                self._read.add(os.path.abspath(path))
                self._pipe(path)
            return
        unreadable: list[OSError] = []
        files = files_at(path, unreadable.append)
        self._loading.result.paths.setdefault(path, files)
        for error in unreadable:
            folder = str(error.filename or path)
            self._loading.result.unlisted[folder] = error.strerror or str(error)
            self._unreadable(folder, error)
        if not files and not unreadable:
            self._loading.problem("no-files", path, *nothing_at(path))
        foreign = look(files, os.path.isdir(path))
        left_out = {os.path.abspath(file) for file in foreign.left_out}
        for problem in foreign.problems:
            if problem not in self._loading.result.problems:
                self._loading.result.problems.append(problem)
        for file in files:
            absolute = os.path.abspath(file)
            if absolute in left_out:
                self._loading.result.files[file] = FileFound(broken=True)
            elif absolute not in self._read:
                self._read.add(absolute)
                self._file(file)

    def _file(self, name: str) -> None:
        memo = self._loading.memo
        found = self._loading.result.files[name] = FileFound()
        try:
            # not opened before it is known to be a file: opening a pipe waits for somebody to write
            status = os.stat(name)
            if stat.S_ISREG(status.st_mode):
                found.signature = signature_of(status)
                known = memo.files.get(name) if memo is not None else None
                if known is not None and known.signature == found.signature and not self._read_all:
                    self._loading.documents(name, known)
                    return
                with open(name, "rb", opener=_opener) as stream:
                    status = os.fstat(stream.fileno())  # another file may have this name by now
                    if stat.S_ISREG(status.st_mode):
                        data = stream.read(MAX_BYTES + 1)
            if not stat.S_ISREG(status.st_mode):
                self._no_file(name, status.st_mode, found)
                return
            found.signature = signature_of(status)
        except OSError as error:
            found.unreadable = error.strerror or str(error)
            self._unreadable(name, error)
            return
        digest = _digest(data) if memo is not None else b""
        if known is not None and known.digest == digest:
            known.signature = found.signature
        else:
            if known is not None and memo is not None:
                memo.read_again(known)
            known = self._read_text(data, name)
            known.signature, known.digest = found.signature, digest
        if memo is not None:
            memo.files[name] = known
        self._loading.documents(name, known)

    def _pipe(self, name: str) -> None:
        try:
            with open(name, "rb") as stream:
                data = stream.read(MAX_BYTES + 1)
        except OSError as error:
            self._unreadable(name, error)
            return
        self.text(data, name)

    def _unreadable(self, name: str, error: OSError) -> None:
        hint = "check its permissions" if isinstance(error, PermissionError) else "check that it is a readable file"
        self._loading.problem("unreadable-file", name, f"cannot be read: {error.strerror or error}", hint)

    def _no_file(self, name: str, mode: int, found: FileFound) -> None:
        what = next((text for is_one, text in _NO_FILES if is_one(mode)), "no regular file")
        found.unreadable = f"it is {what}"
        self._loading.problem(
            "not-a-file",
            name,
            f"is {what}; resources are read from regular files, folders of them and symbolic links to either",
            "write what comes through it to a file first; the command line reads standard input as -",
        )

    def text(self, data: str | bytes, name: str) -> None:
        """The documents of a text, which problems call ``name``."""
        self._loading.result.files[name] = FileFound()
        self._loading.documents(name, self._read_text(data, name))

    def _read_text(self, data: str | bytes, name: str) -> ReadText:
        torn: list[str] = []
        documents, problems = read(data, name, torn)
        if any(p.severity is Severity.ERROR for p in problems):
            template = template_problem(data, name)
            if template is not None:
                documents, problems = [], [template]
        says_empty = isinstance(data, bytes) and len(data) < 256 and _SAYS_EMPTY.fullmatch(data) is not None
        return ReadText((0, 0, 0, 0), b"", documents, problems, torn, says_empty)


_NO_FILES = (
    (stat.S_ISFIFO, "a pipe (FIFO)"),
    (stat.S_ISSOCK, "a socket"),
    (stat.S_ISCHR, "a device"),
    (stat.S_ISBLK, "a device"),
    (stat.S_ISDIR, "a folder"),
)


def _digest(data: bytes) -> bytes:
    digest = hashlib.blake2b()
    for start in range(0, len(data), 1 << 18):
        take_turns()
        digest.update(memoryview(data)[start : start + (1 << 18)])
    return digest.digest()


def _is_pipe(path: str) -> bool:
    """A pipe, or what a process was given as an open descriptor."""
    try:
        mode = os.stat(path).st_mode
    except OSError:
        return False
    return stat.S_ISFIFO(mode) or (stat.S_ISCHR(mode) and path.startswith(("/dev/stdin", "/dev/fd/", "/proc/self/fd/")))


def _opener(name: str, flags: int) -> int:
    return os.open(name, flags | os.O_NONBLOCK)
