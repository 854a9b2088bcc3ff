"""Processes as the kernel shows them: who descends from whom, who still lives, who has stopped."""

import dataclasses
import os
import pathlib

PROC = pathlib.Path("/proc")


@dataclasses.dataclass(frozen=True)
class Process:
    """A process, told from a later one with the same number by its start time."""

    pid: int
    started: int
    parent: int
    state: str
    name: str

    @property
    def who(self):
        return (self.pid, self.started)


def read(pid):
    """That process, or None if there is none."""
    try:
        text = (PROC / str(pid) / "stat").read_text(errors="replace")
    except (FileNotFoundError, ProcessLookupError):
        return None
    name = text[text.index("(") + 1 : text.rindex(")")]
    fields = text[text.rindex(")") + 2 :].split()
    return Process(int(pid), int(fields[19]), int(fields[1]), fields[0], name)


def everyone():
    found = (read(entry) for entry in os.listdir(PROC) if entry.isdigit())
    return [process for process in found if process]


def descendants(pid):
    """All that descend from `pid`, without itself."""
    children = {}
    for process in everyone():
        children.setdefault(process.parent, []).append(process)
    found, waiting = [], [pid]
    while waiting:
        for child in children.get(waiting.pop(), []):
            found.append(child)
            waiting.append(child.pid)
    return found


def alive(processes):
    """Those that still live; a zombie that nobody has reaped yet does nothing any more."""
    now = ((process, read(process.pid)) for process in processes)
    return [p for p, found in now if found and found.started == p.started and found.state not in "ZX"]


def is_stopped(pid):
    found = read(pid)
    return found is not None and found.state in "Tt"


def command_line(pid):
    try:
        return (PROC / str(pid) / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace").strip()
    except OSError:
        return ""


def about(folder):
    """Everyone whose command line or working folder is in `folder`."""
    found = []
    for process in everyone():
        try:
            cwd = os.readlink(PROC / str(process.pid) / "cwd")
        except OSError:
            cwd = ""
        if str(folder) in command_line(process.pid) or cwd.startswith(str(folder)):
            found.append(process)
    return alive(found)
