"""The folder of revisions is looked at before anything runs."""

from __future__ import annotations

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from pandom.database import frozen, revisions
from pandom.database.revisions import Applied, Revision
from pandom.runtime.errors import UsageError


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The first two revisions of ours, and a draft."""
    for name in ("versions/0001_accounts.py", "versions/0002_trail.py", "sql/0001", "sql/0002"):
        source, target = revisions.FOLDER / name, tmp_path / name
        target.parent.mkdir(exist_ok=True)
        (shutil.copytree if source.is_dir() else shutil.copy)(source, target)
    draft(tmp_path)
    assert [one.number for one in revisions.every(tmp_path)] == ["0001", "0002", "0003"]
    return tmp_path


def draft(folder: Path, number: str = "0003", slug: str = "limits", before: str = "0002") -> Path:
    """What `migrate generate` writes."""
    path = folder / "versions" / f"{number}_{slug}.py"
    path.write_text(
        f'"""Limits.\n"""\n\nfrom pandom.database.frozen import run\n\nrevision = "{number}"\n'
        f'down_revision = "{before}"\nbranch_labels = None\ndepends_on = None\n\n\n'
        'def upgrade() -> None:\n    run(revision, "up")\n\n\n'
        'def downgrade() -> None:\n    run(revision, "down")\n'
    )
    texts = folder / "sql" / number
    texts.mkdir(exist_ok=True)
    for part in ("up", "down"):
        (texts / f"{part}.sql").write_text("select 1;\n")
    return path


def _edit(path: Path, old: str, new: str) -> None:
    text = path.read_text()
    assert old in text
    path.write_text(text.replace(old, new))


def _v(folder: Path) -> Path:
    return folder / "versions" / "0003_limits.py"


def _second_head(folder: Path) -> None:
    draft(folder, "0004", "more", before="0002")


def _missing(folder: Path) -> None:
    draft(folder, "0005", "more", before="0004")


MISTAKES: dict[str, tuple[Callable[[Path], object], str]] = {
    "two heads": (
        _second_head,
        "0004_more.py: down_revision must be '0003' by the file's name, found '0002'",
    ),
    "a number twice": (lambda f: draft(f, slug="other"), "number 0003 is there twice"),
    "a number left out": (_missing, "0004 is missing, 0005 comes next"),
    "the first left out": (lambda f: (f / "versions/0001_accounts.py").unlink(), "0001 is missing"),
    "no revision at all": (lambda f: shutil.rmtree(f / "versions"), "holds no revision"),
    "another name": (
        lambda f: _v(f).with_name("limits.py").write_text(_v(f).read_text()),
        "versions/limits.py: expected NNNN_slug.py",
    ),
    "a name with a dash": (
        lambda f: _v(f).rename(_v(f).with_name("0003-limits.py")),
        "versions/0003-limits.py: expected NNNN_slug.py",
    ),
    "upper case": (
        lambda f: _v(f).rename(_v(f).with_name("0003_Limits.py")),
        "versions/0003_Limits.py: expected",
    ),
    "an editor's backup": (
        lambda f: _v(f).with_name("0003_limits.py~").write_text(""),
        "versions/0003_limits.py~: expected",
    ),
    "a merge's rest": (
        lambda f: _v(f).with_name("0003_limits.py.orig").write_text(""),
        "0003_limits.py.orig: expected",
    ),
    "a hidden revision": (
        lambda f: _v(f).with_name(".0003_limits.py").write_text(""),
        "versions/.0003_limits.py: expected",
    ),
    "a folder": (
        lambda f: (f / "versions/0004_more.py").mkdir(),
        "versions/0004_more.py: expected",
    ),
    "a syntax error": (
        lambda f: _edit(_v(f), "def upgrade()", "def upgrade("),
        "0003_limits.py, line",
    ),
    "a conflict's marks": (
        lambda f: _edit(_v(f), "revision =", "<<<<<<< HEAD\nrevision ="),
        "0003_limits.py, line 6",
    ),
    "no text at all": (lambda f: _v(f).write_bytes(b"\0\xff"), "0003_limits.py"),
    "another revision": (
        lambda f: _edit(_v(f), 'revision = "0003"', 'revision = "0007"'),
        "revision must be '0003' by the file's name, found '0007'",
    ),
    "no revision": (
        lambda f: _edit(_v(f), 'revision = "0003"\n', ""),
        "revision must be '0003' by the file's name, found nothing",
    ),
    "a computed revision": (
        lambda f: _edit(_v(f), '"0003"', "str(3)"),
        "found what is no plain text",
    ),
    "two revisions before": (
        lambda f: _edit(_v(f), '"0002"', '("0001", "0002")'),
        "down_revision must be '0002'",
    ),
    "depends on another": (
        lambda f: _edit(_v(f), "depends_on = None", 'depends_on = "0001"'),
        "depends_on must be None",
    ),
    "no way back": (
        lambda f: _edit(_v(f), "def downgrade", "def back"),
        "has no function downgrade()",
    ),
    "a wrong import": (
        lambda f: _edit(_v(f), "pandom.database.frozen", "pandom.database.frozn"),
        "0003_limits.py, line 4: ModuleNotFoundError",
    ),
    "a name that does not exist": (
        lambda f: _edit(_v(f), "branch_labels = None", "branch_labels = None\nx = y"),
        "NameError",
    ),
    "an import that ends the program": (
        lambda f: _edit(_v(f), "branch_labels = None", "branch_labels = None\nraise SystemExit"),
        "0003_limits.py, line 9: SystemExit",
    ),
    "a way that wants arguments": (
        lambda f: _edit(_v(f), "def upgrade()", "def upgrade(op: object)"),
        "0003_limits.py: upgrade() takes no arguments",
    ),
    "a commit": (
        lambda f: (f / "sql/0003/up.sql").write_text("select 1;\nCOMMIT; select 2;\n"),
        "sql/0003/up.sql: COMMIT ends the revision's transaction",
    ),
    "a transaction of its own": (
        lambda f: (f / "sql/0003/down.sql").write_text("begin;\nselect 1;\nend;\n"),
        "sql/0003/down.sql: END ends the revision's transaction",
    ),
    "no SQL folder": (lambda f: shutil.rmtree(f / "sql/0003"), "sql/0003: is missing"),
    "an SQL file missing": (
        lambda f: (f / "sql/0003/down.sql").unlink(),
        "sql/0003/down.sql: is missing",
    ),
    "an SQL file that nobody runs": (
        lambda f: (f / "sql/0003/more.sql").write_text(""),
        "sql/0003/more.sql: versions/0003_limits.py does not run it",
    ),
    "a backup of SQL": (
        lambda f: (f / "sql/0003/up.sql.bak").write_text(""),
        "sql/0003/up.sql.bak: expected NAME.sql",
    ),
    "SQL without a revision": (
        lambda f: (f / "sql/0004").mkdir(),
        "sql/0004: no revision has this",
    ),
    "SQL of another name": (lambda f: (f / "sql/old").mkdir(), "sql/old: expected NNNN"),
    "released and changed": (
        lambda f: (f / "released.txt").write_text(f"# x\n\n0002 {'0' * 64}\n"),
        "sql/0002: is another text than was released",
    ),
    "released and gone": (
        lambda f: (f / "released.txt").write_text(f"0009 {'0' * 64}\n"),
        "released.txt: 0009 was released",
    ),
    "a line that is none": (
        lambda f: (f / "released.txt").write_text("0001\n"),
        "released.txt: 0001",
    ),
}


@pytest.mark.requirement("M1")
def test_words_that_end_no_transaction_are_let_through(folder: Path) -> None:
    (folder / "sql/0003/up.sql").write_text(
        "-- commit;\n/* ; commit; */ select 'x;commit', \"commit;end\";\n"
        "do $$ begin perform 1; end $$; do $a$ begin commit; end $a$;\n"
        "savepoint a; rollback to a; rollback to savepoint a; rollback work to a;\n"
        "create function f() returns int begin atomic; select 1; end;\n"
        "comment on table x is 'it''s; commit';\n"
    )
    revisions.every(folder)


@pytest.mark.requirement("M1", "M2")
@pytest.mark.parametrize("mistake", MISTAKES)
def test_each_mistake_is_named(folder: Path, mistake: str) -> None:
    make, expected = MISTAKES[mistake]
    make(folder)
    with pytest.raises(UsageError) as raised:
        revisions.every(folder)
    assert expected in str(raised.value)
    assert "Next: " in str(raised.value)
    assert raised.value.exit_code == 2


@pytest.mark.requirement("M1")
def test_all_mistakes_are_named_at_once(folder: Path) -> None:
    (folder / "versions/notes.txt").write_text("")
    _edit(_v(folder), '"0002"', '"0001"')
    shutil.rmtree(folder / "sql/0001")
    with pytest.raises(UsageError) as raised:
        revisions.every(folder)
    assert str(raised.value).count("\n  ") == 3


@pytest.mark.requirement("M1")
@pytest.mark.parametrize("name", [".0003_limits.py.swp", ".DS_Store", ".#0003_limits.py.x"])
def test_hidden_files_of_an_editor_trouble_nobody(folder: Path, name: str) -> None:
    before = revisions.every(folder)
    (folder / "versions" / name).write_text("")
    (folder / "sql" / name).write_text("")
    (folder / "sql/0003" / f"{name}.sql").write_text("")
    assert revisions.every(folder) == before


@pytest.mark.requirement("M2")
@pytest.mark.parametrize(
    ("change", "same"),
    [
        (lambda f: (f / "sql/0003/up.sql").write_text("select 2;\n"), False),
        (lambda f: (f / "sql/0003/down.sql").write_text("select 2;\n"), False),
        (
            lambda f: _edit(_v(f), '    run(revision, "up")', '    run(revision, "up", "down")'),
            False,
        ),
        (lambda f: _edit(_v(f), "\n\n\ndef up", "\n\nX = 1\n\n\ndef up"), False),
        # What may change under a revision that was applied: words, order, where code lives.
        (lambda f: _edit(_v(f), "Limits.", "The limits."), True),
        (lambda f: _edit(_v(f), "import run", "import run as run"), True),
        (lambda f: _edit(_v(f), "\n\n\ndef down", "\n\ndef down"), True),
        (lambda f: _v(f).rename(_v(f).with_name("0003_other.py")), True),
    ],
)
def test_the_digest_is_of_what_a_revision_does(
    folder: Path, change: Callable[[Path], object], same: bool
) -> None:
    before = revisions.every(folder)[-1].digest
    change(folder)
    assert (revisions.every(folder)[-1].digest == before) is same


THERE = tuple(Revision(f"{n:04}", f"Purpose {n}.", f"{n}" * 64) for n in range(1, 5))
TEXTS = {one.number: one.digest for one in THERE}


@pytest.mark.requirement("M1")
def test_a_database_ahead_is_named() -> None:
    with pytest.raises(UsageError, match=r"(?s)at revision 0009,.*newest is 0004.*revert 0004"):
        revisions.refuse_unknown(THERE, Applied("0009"))
    for reached in (None, "0001", "0004"):
        revisions.refuse_unknown(THERE, Applied(reached))
    assert revisions.history(THERE, Applied("0009"))[0].startswith("[?] 0009")


@pytest.mark.requirement("M1")
def test_a_database_behind_is_named() -> None:
    assert [one.number for one in revisions.pending(THERE, Applied("0002"))] == ["0003", "0004"]
    assert revisions.pending(THERE, Applied("0004")) == []
    assert revisions.pending(THERE, Applied()) == list(THERE)


@pytest.mark.requirement("M2")
def test_other_text_under_the_same_number_is_named() -> None:
    revisions.refuse_changed(THERE, Applied("0004", TEXTS))
    revisions.refuse_changed(THERE, Applied("0004"))  # applied before there were digests
    with pytest.raises(UsageError) as raised:
        revisions.refuse_changed(THERE, Applied("0004", {**TEXTS, "0004": "a" * 64}))
    assert "0004 was applied with other text (applied aaaaaaaaaaaa, now 444444444444)" in str(
        raised.value
    )
    assert "`pandom migrate revert`, then `pandom up`" in str(raised.value)
    with pytest.raises(UsageError, match="`pandom migrate revert 0001`"):
        revisions.refuse_changed(THERE, Applied("0004", {**TEXTS, "0002": "a" * 64}))
    lines = revisions.history(THERE, Applied("0003", {**TEXTS, "0002": "a" * 64}))
    assert [line[:8] for line in lines] == ["[ ] 0004", "[x] 0003", "[!] 0002", "[x] 0001"]


@pytest.mark.requirement("M1")
def test_a_job_of_another_checkout_is_named() -> None:
    here = revisions.fingerprint(THERE)
    revisions.same_checkout(THERE, here)
    with pytest.raises(UsageError, match=r"than this checkout has: 0004\.\nNext: `pandom up`"):
        revisions.same_checkout(THERE[:-1], here)


@pytest.mark.requirement("M2")
def test_the_digest_of_the_frozen_text_ignores_hidden_files(folder: Path) -> None:
    before = frozen.digest("0003", folder / "sql")
    (folder / "sql/0003/.up.sql").write_text("x")
    assert frozen.digest("0003", folder / "sql") == before
