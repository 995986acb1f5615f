"""One line a step, whole, wherever it is shown. No I/O."""

from __future__ import annotations

import sys

import pytest

from pandom.runtime.progress import WIDTH, Lines, shorten, step


def test_without_a_terminal_each_step_is_one_whole_line(
    capsys: pytest.CaptureFixture[str],
) -> None:
    lines = Lines()
    lines.begin("images")
    lines.begin("network")
    lines.end("network", 1.25, "1 created")
    lines.end("images", 2.0)
    lines.close()
    assert capsys.readouterr().err == "  network … 1 created, 1.2 s\n  images … 2.0 s\n"


def test_a_terminal_shows_what_runs_and_keeps_only_whole_lines(
    capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(sys.stderr, "isatty", lambda: True)
    monkeypatch.setenv("TERM", "xterm")
    monkeypatch.delenv("CI", raising=False)
    lines = Lines()
    lines.begin("images")
    lines.begin("network")
    lines.end("network", 1.0)
    lines.close()
    written = capsys.readouterr().err
    assert "images, network …" in written
    kept = [line.rpartition("\x1b[K")[2] for line in written.split("\n")]
    assert kept == ["  network … 1.0 s", ""]


def test_a_step_that_fails_leaves_the_line_to_the_error(
    capsys: pytest.CaptureFixture[str],
) -> None:
    with pytest.raises(ValueError, match="x"), step("building"):
        raise ValueError("x")
    assert capsys.readouterr().err == ""


def test_a_line_is_never_wider_than_the_screen() -> None:
    assert shorten("a  b\nc") == "a b c"
    assert len(shorten("x" * 500)) == WIDTH
