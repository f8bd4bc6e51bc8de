"""Files and folders that are whole or not there, whatever becomes of the process."""

import errno
import os
import signal
import subprocess
import sys
import tempfile

import pytest

from keras_en import files

# Stages a folder, says that it is there, and waits for its end.
WRITING = """
import sys, pathlib
sys.modules["keras"] = None  # Not needed, and slow.
import importlib.util
spec = importlib.util.spec_from_file_location("files", sys.argv[1])
files = importlib.util.module_from_spec(spec)
spec.loader.exec_module(files)
with files.staged(pathlib.Path(sys.argv[2], "target")) as staged, files.temporary():
    staged.path.mkdir()
    print("writing", flush=True)
    sys.stdin.read()
"""


@pytest.fixture
def writing(tmp_path, monkeypatch):
    """Starts a process that writes below a folder; temporary files have one, too."""
    (tmp_path / "tmp").mkdir()
    monkeypatch.setenv("TMPDIR", str(tmp_path / "tmp"))
    monkeypatch.setattr(tempfile, "tempdir", None)
    started = []

    def start(folder):
        words = [sys.executable, "-c", WRITING, files.__file__, str(folder)]
        pipes = dict(stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        process = subprocess.Popen(words, **pipes)
        assert process.stdout.readline() == b"writing\n"
        started.append(process)
        return process

    yield start
    for process in started:
        process.kill()
        process.communicate()


def names(folder):
    return sorted(path.name for path in folder.iterdir())


def test_by_hand(tmp_path):
    with files.staged(tmp_path / "new" / "m.txt", "m.txt") as staged:
        staged.path.write_text("new")
        assert staged.publish() == tmp_path / "new" / "m.txt"
    assert names(tmp_path / "new") == ["m.txt"]
    with files.temporary(tmp_path) as folder:
        assert folder.parent == tmp_path and not names(folder)
    assert names(tmp_path) == ["new"]


def test_what_a_killed_process_left_goes_with_the_next(tmp_path, writing):
    out, temporary = tmp_path / "out", tmp_path / "tmp"
    out.mkdir()
    living, dead = writing(out), writing(out)
    before = names(out), names(temporary)
    dead.kill()
    dead.wait()
    assert (names(out), names(temporary)) == before and len(before[0]) == 2
    with files.staged(out / "target"), files.temporary():
        assert len(names(out)) == len(names(temporary)) == 2, "the living's and ours"
    assert len(names(out)) == len(names(temporary)) == 1
    living.communicate()
    assert living.returncode == 0
    assert names(out) == names(temporary) == []


def test_names_of_others_stay(tmp_path):
    others = [".partial-", ".partial-thesis", ".partial-ABCDEFGH", "partial-abcdefgh"]
    for name in others:
        (tmp_path / name).mkdir()
    (tmp_path / "data").mkdir()
    (tmp_path / ".partial-abcdefgh").symlink_to(tmp_path / "data")
    (tmp_path / ".partial-leftover").mkdir()
    with files.temporary(tmp_path, files.PARTIAL):
        pass
    assert names(tmp_path) == sorted([*others, "data", ".partial-abcdefgh"])


def test_killed_between_two_renames(tmp_path):
    """The folder that was put aside comes back with the next."""
    old = tmp_path / ".partial-abcd0123" / ".aside" / "run"
    old.mkdir(parents=True)
    (old / "report.md").write_text("old")
    with files.staged(tmp_path / "other"):
        assert (tmp_path / "run" / "report.md").read_text() == "old"
    assert names(tmp_path) == ["run"]


@pytest.mark.parametrize("when", ["mkdtemp", "rmtree"])
def test_ctrl_c_at_both_ends(tmp_path, monkeypatch, when):
    """A real signal while the folder is made, and while it is removed."""
    owner = tempfile if when == "mkdtemp" else files.shutil
    original = getattr(owner, when)

    def interrupted(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGINT)
        result = original(*args, **kwargs)
        os.kill(os.getpid(), signal.SIGINT)
        return result

    monkeypatch.setattr(owner, when, interrupted)
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with pytest.raises(KeyboardInterrupt), files.temporary(tmp_path) as folder:
            (folder / "file").touch()
    finally:
        signal.signal(signal.SIGINT, before)
    assert names(tmp_path) == []


def test_too_late_for_ctrl_c_but_not_for_the_end(tmp_path, monkeypatch):
    original, received = files.os.replace, []

    def interrupted(source, target):
        signal.raise_signal(signal.SIGINT)
        signal.raise_signal(signal.SIGTERM)
        original(source, target)

    monkeypatch.setattr(files.Path, "replace", interrupted)
    before = signal.signal(signal.SIGTERM, lambda *_: received.append("end"))
    try:
        with files.staged(tmp_path / "m.txt") as staged:
            staged.path.write_text("new")
            staged.publish()
            assert received == ["end"]
    finally:
        signal.signal(signal.SIGTERM, before)
    assert names(tmp_path) == ["m.txt"]


def test_what_speaks_of_the_disk():
    for code in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG, errno.EROFS, errno.EACCES):
        assert files.cannot_write(OSError(code, ""))
    assert files.cannot_write(files.CannotWrite())
    assert not files.cannot_write(FileNotFoundError(errno.ENOENT, ""))
    assert not files.cannot_write(RuntimeError())


def test_a_text_is_whole_or_as_it_was(tmp_path):
    path = tmp_path / "report.md"
    files.write_text(path, "old")
    with pytest.raises(UnicodeEncodeError):
        files.write_text(path, "new \ud800")
    assert path.read_text() == "old" and names(tmp_path) == ["report.md"]
