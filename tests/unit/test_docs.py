"""The documents say what is true: generated pages are fresh, the picture is the program's."""

from __future__ import annotations

import re
import subprocess

import pytest

from pandom.config.container_specs import container_specs
from pandom.config.settings import load
from pandom.host.reference import PAGES, REFERENCE
from pandom.runtime.paths import ROOT
from tests.audit.drift import DRIFT
from tests.fixtures import requirements

READS = {
    ("postgres", "postgres"),
    ("minio", "minio"),
    ("superuser", "cluster"),
    ("migrator", "migration"),
    ("storage", "storage"),
    ("janitor", "operations"),
    ("auditor", "operations"),
    ("backup", "operations"),
    ("dump", "operations"),
    ("backup-server", "backup-server"),
}


@pytest.mark.parametrize("name", sorted(PAGES))
def test_the_generated_reference_is_fresh(name: str) -> None:
    assert (REFERENCE / name).read_text() == PAGES[name](), "stale: run `make docs`"


def test_the_page_of_requirements_is_fresh() -> None:
    assert requirements.PAGE.read_text() == requirements.page(), "stale: run `make docs`"


def edges(text: str) -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """Written and mounted edges of the picture, as (from, to)."""
    node = r"([\w-]+)(?:[\[(][\w-]+[\])])?"
    written = set(re.findall(rf"^\s+{node} --> {node}", text, re.M))
    mounted = set(re.findall(rf"^\s+{node} -\.-> {node}", text, re.M))
    return written, mounted


def program_edges() -> tuple[set[tuple[str, str]], set[tuple[str, str]]]:
    """The same from the program: which container writes and which mounts which volume."""
    specs = container_specs(load("dev", {"backup": "own-store"})).values()
    written = {
        (spec.part, mount.volume) for spec in specs for mount in spec.mounts if mount.writable
    }
    mounted = {
        (mount.volume, spec.part) for spec in specs for mount in spec.mounts if not mount.writable
    }
    return written, mounted


def test_the_picture_of_the_stack_is_the_program() -> None:
    drawn = edges((ROOT / "docs" / "stack.md").read_text())
    assert drawn == program_edges()
    secrets = {(f"keys-{reader}", part) for reader, part in READS}
    assert drawn[1] == secrets | {("data", "backup-server")}


def test_a_wrong_picture_is_seen() -> None:
    text = (ROOT / "docs" / "stack.md").read_text()
    assert edges(text.replace("keys-superuser -.-> cluster", "keys-superuser -.-> migration")) != (
        program_edges()
    )


def test_links_lead_somewhere() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for target in re.findall(r"\]\(([^)#:]+)\)", page.read_text()):
            assert (page.parent / target).exists(), f"{page.name} → {target}"


def anchors(text: str) -> set[str]:
    """What a link may name behind the #, as GitHub makes it of the headings."""
    headings = re.findall(r"^#+ (.+)$", text, re.M)
    return {re.sub(r"[^\w -]", "", heading).lower().replace(" ", "-") for heading in headings}


def test_links_lead_to_headings() -> None:
    for page in (ROOT / "README.md", *sorted((ROOT / "docs").rglob("*.md"))):
        for target, anchor in re.findall(r"\]\(([^)#:]*)#([\w-]+)\)", page.read_text()):
            there = (page.parent / target) if target else page
            assert anchor in anchors(there.read_text()), f"{page.name} → {target}#{anchor}"


def test_settings_name_sections_that_exist() -> None:
    text = (ROOT / "docs" / "reference" / "configuration.md").read_text()
    headings = re.findall(r"^#+ (.+)$", (ROOT / "docs" / "runbook.md").read_text(), re.M)
    named = re.findall(r"docs/runbook\.md, ([\w ]+)", text)
    assert named
    assert set(map(str.strip, named)) <= set(headings)


def test_git_ignores_what_the_pages_have_people_write() -> None:
    pages = [ROOT / "README.md", *(ROOT / "docs").glob("*.md")]
    text = "".join(page.read_text() for page in pages)
    names = re.findall(r"(?:> |--output |--anchor )([\w.]+\.\w+|\.env)\b", text)
    assert {".env", "env.list", "backup.sql", "heads.jsonl", "audit.json"} <= set(names)
    ignored = subprocess.run(
        ["git", "check-ignore", *sorted(set(names))],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=False,
    )
    assert set(names) == set(ignored.stdout.split())


def test_decisions_are_numbered_without_a_gap() -> None:
    names = sorted(path.name for path in (ROOT / "docs" / "adr").glob("*.md"))
    assert [int(name[:4]) for name in names] == list(range(1, len(names) + 1))


@pytest.mark.requirement("T8")
def test_that_there_is_no_cache_is_a_recorded_decision() -> None:
    decision = (ROOT / "docs" / "adr" / "0006-no-cache.md").read_text()
    assert "Nothing is built" in decision
    assert not [path for path in (ROOT / "stacks").glob("*.py") if "cache" in path.stem]


def test_the_comparison_has_every_class_of_drift() -> None:
    text = (ROOT / "docs" / "audit.md").read_text()
    table = text.partition("| class | ")[2].partition("<!-- end of comparison -->")[0]
    rows = re.findall(r"^\| (.+?) \| (found|not found) \| .*\|$", table, re.M)
    assert [name for name, _ in rows] == [one.name for one in DRIFT if one.compared], (
        "stale: make it again"
    )
    assert {verdict for _, verdict in rows} == {"found"}
