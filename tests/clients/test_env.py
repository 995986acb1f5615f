"""Each format of `pandom env` is read back by the program that reads it in real life."""

from __future__ import annotations

import io
import json
import re
import shutil
import subprocess
from pathlib import Path

import dotenv
import pytest

from pandom.host.formats import FORMATS, masks, render
from pandom.runtime.errors import UsageError
from tests.clients.node import needs_node, run

# Everything that some reader takes for its own.
HARD = {
    "PLAIN": "abc123",
    "QUOTE": "it's",
    "DOUBLE": 'say "x"',
    "BOTH": 'it\'s "x" $HOME \\ %',
    "HASH": "a # b",
    "DOLLAR": "$HOME $(id) `id` %PATH% !x",
    "SPACES": "  two at both ends  ",
    "BACKSLASH": "a\\nb\\",
    "EQUALS": "a=b&c;d|e",
    "UMLAUT": "zürich ✓",
    "URL": "postgresql://u:it%27s@127.0.0.1:5432/db?sslmode=verify-full&sslrootcert=/x",
    "EMPTY": "",
}
WORST = 'it\'s "x" $HOME \\ # %'


def from_docker(text: str, folder: Path) -> dict[str, str]:
    (folder / "env.list").write_text(text)
    command = ["docker", "run", "--rm", "--network=none", "--env-file", str(folder / "env.list")]
    program = "for name in $(env -0 | cut -z -d= -f1 | tr '\\0' ' '); do :; done; env -0"
    done = run([*command, "pandom-base:trixie", "sh", "-c", program], folder, {})
    return dict(one.split("=", 1) for one in done.split("\0") if "=" in one)


def from_shell(text: str, folder: Path) -> dict[str, str]:
    done = run(["sh", "-c", 'eval "$1"; env -0', "sh", text], folder, {})
    return dict(one.split("=", 1) for one in done.split("\0") if "=" in one)


def from_python_dotenv(text: str, _: Path) -> dict[str, str]:
    found = dotenv.dotenv_values(stream=io.StringIO(text))
    return {name: value or "" for name, value in found.items()}


def from_node(text: str, folder: Path) -> dict[str, str]:
    (folder / "node.env").write_text(text)
    program = "console.log(JSON.stringify(process.env))"
    said = run(["node", "--env-file=node.env", "--eval", program], folder, {})
    return dict(json.loads(said))


def from_json(text: str, folder: Path) -> dict[str, str]:
    program = "process.stdin.on('data', (all) => console.log(JSON.stringify(JSON.parse(all))))"
    done = subprocess.run(
        ["node", "--eval", program], input=text, capture_output=True, text=True, check=True
    )
    assert json.loads(done.stdout) == json.loads(text)
    return dict(json.loads(text))


def from_github(text: str, _: Path) -> dict[str, str]:
    """The file as GitHub documents it: NAME<<END, lines, END."""
    found, lines = {}, iter(text.splitlines())
    for line in lines:
        name, end = line.split("<<")
        found[name] = "\n".join(iter(lambda end=end: next(lines), end))  # type: ignore[misc]
    return found


READERS = {
    "docker": from_docker,
    "shell": from_shell,
    "json": from_json,
    "github": from_github,
    "dotenv": from_python_dotenv,
    "node": from_node,
}


@needs_node
@pytest.mark.requirement("D1")
@pytest.mark.parametrize("reader", READERS)
def test_every_value_arrives_or_is_refused(reader: str, tmp_path: Path) -> None:
    form = "dotenv" if reader == "node" else reader
    carried, refused = {}, set()
    for name, value in {**HARD, "WORST": WORST}.items():
        try:
            render({name: value}, form)
        except UsageError:
            refused.add(name)
        else:
            carried[name] = value
    assert refused == ({"WORST"} if form == "dotenv" else set())
    found = READERS[reader](render(carried, form), tmp_path)
    assert {name: found[name] for name in carried} == carried


@needs_node
def test_npm_dotenv_reads_the_same(packages: Path) -> None:
    text = render(HARD, "dotenv")
    program = (
        "const { parse } = require('dotenv');"
        "console.log(JSON.stringify(parse(require('fs').readFileSync(0, 'utf8'))))"
    )
    done = subprocess.run(
        ["node", "--eval", program],
        cwd=packages,
        input=text,
        capture_output=True,
        text=True,
        check=True,
    )
    assert json.loads(done.stdout) == HARD


def test_a_shell_also_reads_what_is_generated(tmp_path: Path) -> None:
    values = {name: HARD[name] for name in ("PLAIN", "URL", "EMPTY")}
    (tmp_path / ".env").write_text(render(values, "dotenv"))
    done = run(["sh", "-c", "set -a; . ./.env; env -0"], tmp_path, {})
    found = dict(one.split("=", 1) for one in done.split("\0") if "=" in one)
    assert {name: found[name] for name in values} == values


@pytest.mark.requirement("D1")
@pytest.mark.parametrize("form", ["dotenv", "docker"])
def test_what_cannot_be_carried_is_refused_by_name_and_without_the_value(form: str) -> None:
    with pytest.raises(UsageError, match=f"ADMIN_PASSWORD .* line break.*{form}") as caught:
        render({"ADMIN_PASSWORD": "two\nlines"}, form)
    assert "--format shell or github or json" in str(caught.value)
    assert "two" not in str(caught.value)


def test_control_quotes_stay_where_no_reader_takes_them_off(tmp_path: Path) -> None:
    # H26: a dotenv block is no file for docker.
    value = HARD["URL"]
    assert from_docker(render({"U": value}, "dotenv"), tmp_path)["U"] == f"'{value}'"


def test_masks_hide_every_secret() -> None:
    assert masks(["a%b", "a%b", "two\nlines", ""]) == (
        "::add-mask::a%25b\n::add-mask::two\n::add-mask::lines\n"
    )


def test_every_format_has_its_reader() -> None:
    assert set(FORMATS) <= set(READERS)


@pytest.mark.requirement("D1")
def test_make_prints_nothing_of_its_own() -> None:
    makefile = Path(__file__).parents[2] / "Makefile"
    recipe = re.search(r"^env: ready.*\n((?:\t.*\n)+)", makefile.read_text(), re.M)
    assert recipe is not None
    assert shutil.which("make")
    done = subprocess.run(
        ["make", "--file", "-", "--directory", "/", "env"],
        input=f"PANDOM = echo\nready:\nenv: ready\n{recipe[1]}",
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 2
    assert "make -s" in done.stderr
    assert "env --stack" not in done.stdout
