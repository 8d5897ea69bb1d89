"""What a person sees of a long piece of work: bars on a terminal only, lines at once, paths that can be typed."""

import errno
import io
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

from unet_lowlevel import terminal


class Terminal(io.StringIO):
    def isatty(self):
        return True


def test_show_path(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    assert terminal.show_path(tmp_path / "runs" / "a") == str(Path("runs", "a"))
    assert terminal.show_path("runs/a") == "runs/a"
    assert shlex.split(terminal.show_path("my runs/a")) == ["my runs/a"]
    assert terminal.show_path(tmp_path.parent) == str(tmp_path.parent)


def test_shown_paths_can_be_typed(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for name in ("it's", "$HOME", "a;b", "ü 肺", "-dash", "a\nb", "*"):
        path = tmp_path / "runs" / name
        assert shlex.split(terminal.show_path(path)) == [str(Path("runs", name))]
    assert terminal.show_path(tmp_path) == "."
    beside = tmp_path.with_name(f"{tmp_path.name}-more")
    assert shlex.split(terminal.show_path(beside)) == [str(beside)]


@pytest.mark.parametrize("width", [1, 20, 21, 22, 23, 24, 60])
def test_a_command_to_paste_has_lines_of_at_most_100_characters(width):
    """The shell reads the lines as one command, whose words are whole."""
    parts = ["printf '%s\\n'", f"--run '{'a' * width} b'", f"--images {'c' * 30}", "--output dd", "--overlays"]
    text = terminal.to_paste(*parts)
    assert all(len(line) <= 100 for line in text.splitlines())
    assert len(text.splitlines()) == (1 if len(" ".join(parts)) <= 96 else 2)
    words = subprocess.check_output(["sh", "-c", text], text=True).splitlines()
    assert words == ["--run", f"{'a' * width} b", "--images", "c" * 30, "--output", "dd", "--overlays"]


def test_a_part_that_is_longer_is_not_torn():
    long = f"--run {'a' * 200}"
    lines = terminal.to_paste("train", long, "--resume").splitlines()
    assert lines == ["  train \\", f"      {long} \\", "      --resume"]


def test_commands_for_windows_are_one_line_and_quote_blanks_only(monkeypatch):
    """PowerShell takes a quoted program for a text, and a backslash at the end of a line for a part of a name."""
    monkeypatch.setattr(terminal.os, "name", "nt")
    assert terminal.show_path("file://x\\a") == "file://x\\a"
    assert terminal.show_path("file://my runs") == '"file://my runs"'
    assert terminal.to_paste("python", "a" * 60, "b" * 60) == f"  python {'a' * 60} {'b' * 60}"


def test_tensorboard_shows_all_pictures(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "executable", str(tmp_path / ".venv" / "bin" / "python"))
    assert terminal.tensorboard(tmp_path / "runs" / "lowlevel-1") == (
        "  .venv/bin/python -m tensorboard.main --logdir runs/lowlevel-1 --samples_per_plugin images=100"
    )


def test_progress_is_silent_without_a_terminal(capfd):
    assert not terminal.on_terminal()
    assert list(terminal.progress("reading")([1, 2, 3])) == [1, 2, 3]
    assert capfd.readouterr() == ("", "")


def test_a_log_is_told_now_and_then_how_far_the_work_is(monkeypatch, capsys):
    clock = iter([0, 100, 110, 130, 140, 160])  # the first item takes long, as a start does
    monkeypatch.setattr(terminal.time, "monotonic", lambda: next(clock))
    items = terminal.progress("predicting", "images", log=True)(iter("abcde"), 5)
    assert list(items) == list("abcde")
    assert capsys.readouterr().err.splitlines() == [
        "predicting: 2 of 5 images, 0.0667 per second, 00:45 left",
        "predicting: 4 of 5 images, 0.0667 per second, 00:15 left",
    ]


def test_a_terminal_has_a_bar_that_goes_away(monkeypatch):
    watched = Terminal()
    monkeypatch.setattr(sys, "stderr", watched)
    assert terminal.on_terminal()
    seen = []
    for item in terminal.progress("reading")(["a", "b"]):
        seen.append(item)
        assert "reading" in watched.getvalue()
    assert seen == ["a", "b"]
    assert watched.getvalue().endswith("\r")  # nothing is left on the line


def test_lines_are_there_at_once(monkeypatch):
    class Buffered(io.StringIO):
        flushed = ""

        def flush(self):
            self.flushed = self.getvalue()

    monkeypatch.setattr(sys, "stdout", Buffered())
    terminal.say("epoch 1")
    assert sys.stdout.flushed == "epoch 1\n"


def test_notes_are_no_results(capsys):
    terminal.say("a result")
    terminal.note("memory ran out")
    assert capsys.readouterr() == ("a result\n", "note: memory ran out\n")


def test_a_warning_has_lines_of_at_most_100_characters(capsys):
    flag = f"--group-regex '{'x' * 90}'"
    terminal.warn(f"{'some-words ' * 20}; add {flag}")
    lines = capsys.readouterr().err.splitlines()
    assert lines[0].startswith("warning: some-words") and all(line.startswith("  ") for line in lines[1:])
    assert all(len(line) <= 100 for line in lines) and flag.split()[1] in lines[-1]


def test_sentences_are_one_line_but_fit_a_terminal(monkeypatch):
    sentence = f"error: {'some-words ' * 20}".rstrip()
    assert terminal.in_terminal(sentence) == sentence
    monkeypatch.setattr(sys, "stderr", Terminal())
    for columns, width in (("80", 80), ("300", 100)):
        monkeypatch.setenv("COLUMNS", columns)
        lines = terminal.in_terminal(sentence).splitlines()
        assert " ".join(line.strip() for line in lines) == sentence
        assert width - len("some-words ") <= max(map(len, lines)) <= width


class Broken(io.StringIO):
    def write(self, text):
        raise BrokenPipeError(errno.EPIPE, "Broken pipe")


@pytest.mark.parametrize("stream", [Broken(), None])
def test_what_cannot_be_printed_is_lost(stream, monkeypatch):
    for name in ("stdout", "stderr"):
        monkeypatch.setattr(sys, name, stream)
    for speak in (terminal.say, terminal.complain, terminal.note, terminal.warn):
        speak("all is well")
    assert list(terminal.progress("reading")([1, 2])) == [1, 2]


def test_characters_that_the_encoding_lacks_are_escaped(monkeypatch):
    monkeypatch.setattr(sys, "stdout", io.TextIOWrapper(io.BytesIO(), "ascii"))
    terminal.say("runs/肺\udcff")
    assert sys.stdout.buffer.getvalue() == b"runs/\\u80ba\\udcff\n"
