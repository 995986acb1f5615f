"""What models declare wrongly is named with its line; what is made from them is fresh."""

from __future__ import annotations

import inspect
from typing import Any, ClassVar, cast

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from pandom.database import declaration, made
from pandom.host import compare
from pandom.host.stack import Stack
from pandom.runtime import passphrase
from pandom.runtime.errors import UsageError
from schema import access
from schema.declare import READABLE, Allow, Table, names_objects, trail
from schema.models import Base


def test_the_models_are_declared_without_a_mistake() -> None:
    declaration.check()


_OWN = Table("pandom_owner", (Allow("pandom_app", "SELECT", "own"),), owned_by="user_uuid")


def _said(declared: Table | None = _OWN, name: str = "papers", **more: Any) -> list[str]:
    """The mistakes of one model; ``more`` are columns, or what stands in its arguments."""
    arguments = (sa.PrimaryKeyConstraint("id", name="pk_papers"), *more.pop("rules", ()))

    class Other(DeclarativeBase):
        __declared__: ClassVar[Table]

    class Paper(Other):
        __tablename__ = name
        if declared is not None:
            __declared__ = declared
        __table_args__ = arguments
        id: Mapped[int] = mapped_column(sa.BigInteger, info=more.get("id", {}))
        user_uuid: Mapped[Any] = mapped_column(
            sa.UUID, nullable=more.get("nullable", False), info=more.get("user_uuid", {})
        )
        title: Mapped[str] = mapped_column(
            more.get("named", "title"), sa.Text, info=more.get("title", {})
        )

    lines, first = inspect.getsourcelines(Paper)
    found = declaration.mistakes(cast(Any, Other.registry.mappers))
    for one in found:
        place, _, what = one.partition(" ")
        assert place.startswith("tests/unit/test_declaration.py:")
        assert first <= int(place.rpartition(":")[2]) < first + len(lines)
        assert what.startswith("Paper: ")
    return found


_RECORDED = Table("pandom_owner", _OWN.allow, owned_by="user_uuid", trail="audit_papers_trigger")
_WORDS: dict[str, Any] = {name: trail("recorded") for name in ("id", "user_uuid", "title")}


def _allow(*allow: Allow, **more: Any) -> Table:
    return Table("pandom_owner", allow, **more)


@pytest.mark.parametrize(
    ("given", "said"),
    [
        ({"declared": None}, "no owner"),
        ({"declared": Table("nobody", ())}, "owner 'nobody'"),
        ({"declared": Table("pandom_app", ())}, "owner 'pandom_app'"),
        ({"declared": _allow(Allow("pandom_ap", "SELECT", "all"))}, "pandom_ap, a role that"),
        ({"declared": _allow(Allow("pandom_app", "SELCT", "all"))}, "grants SELCT"),
        ({"declared": _allow(Allow("pandom_app", "", "all"))}, "grants nothing"),
        ({"declared": _allow(Allow("pandom_app", "TRUNCATE", "all"))}, "grants TRUNCATE"),
        ({"declared": _allow(Allow("pandom_app", "SELECT", "all", ("x",)))}, "column x"),
        ({"declared": _allow(Allow("pandom_app", "SELECT", "own"))}, "no owned_by"),
        (
            {"declared": _allow(Allow("pandom_app", "SELECT", "own"), owned_by="owner")},
            "owned_by names no column",
        ),
        (
            {"declared": _allow(Allow("pandom_user", "SELECT", "own"), owned_by="user_uuid")},
            "BYPASSRLS that lets it reach all",
        ),
        (
            {
                "declared": _allow(
                    Allow("pandom_app", "SELECT", "own"),
                    owned_by="user_uuid",
                    open_rows="For everybody.",
                )
            },
            "open_rows that lets it reach all",
        ),
        (
            {
                "declared": _allow(
                    Allow("pandom_app", "SELECT", "all"),
                    Allow("pandom_app", "DELETE", "own"),
                    owned_by="user_uuid",
                )
            },
            "one policy cannot be both",
        ),
        ({"name": "order"}, "'order' is a reserved word"),
        ({"name": "Papers"}, "'Papers' is a reserved word or needs quotes"),
        ({"named": "offset"}, "'offset' is a reserved word"),
        ({"declared": _RECORDED}, "column title has no word for the trail"),
        ({"title": trail("recorded")}, "which does not record the table"),
        ({"id": names_objects()}, "for text, lists of it, and jsonb"),
        (
            {"declared": _RECORDED, **_WORDS, "title": trail(cast(Any, "kept"))},
            "column title has no word",
        ),
        (
            {"declared": _RECORDED, **_WORDS, "title": trail("recorded", "SELECT")},
            "events are INSERT, UPDATE, DELETE",
        ),
        (
            {"declared": _RECORDED, **_WORDS, "id": trail("redacted")},
            "column id stands in every event",
        ),
        (
            {"declared": _RECORDED, **_WORDS, "nullable": True},
            "user_uuid may be null: of whom",
        ),
        (
            {
                "rules": (
                    sa.ForeignKeyConstraint(["user_uuid"], ["auth_users.uuid"], name="fk_papers"),
                )
            },
            "fk_papers has no index that begins with user_uuid",
        ),
    ],
)
def test_a_mistake_is_named_with_its_line(given: dict[str, Any], said: str) -> None:
    assert said in "\n".join(_said(**given))


def test_control_without_a_mistake_nothing_is_said() -> None:
    key = sa.ForeignKeyConstraint(["user_uuid"], ["auth_users.uuid"], name="fk_papers_user")
    assert _said(_RECORDED, rules=(key, sa.Index("idx_papers_user", "user_uuid")), **_WORDS) == []


@pytest.mark.parametrize("name", ["user_isolation", "everybody"])
def test_a_policy_that_contradicts_the_declaration_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Any, name: str
) -> None:
    monkeypatch.setattr(made, "FOLDER", tmp_path)
    declaration.check()
    (tmp_path / "policies").mkdir()
    file = tmp_path / "policies" / f"sessions.{name}.sql"
    file.write_text("create policy x on public.sessions using (true);")
    with pytest.raises(UsageError, match="policies of sessions are generated from schema/models"):
        declaration.check()


def test_a_preview_is_refused_before_anything_is_asked(monkeypatch: pytest.MonkeyPatch) -> None:
    def wrong() -> None:
        raise UsageError("no owner")

    monkeypatch.setattr(declaration, "check", wrong)
    monkeypatch.setattr(Stack, "exists", lambda stack: True)
    monkeypatch.setattr(passphrase, "require", lambda: None)
    with pytest.raises(UsageError, match="no owner"):
        compare.preview("unborn", expect_no_changes=False)


def test_what_is_not_recorded_stands_in_no_event() -> None:
    texts = made.texts()
    checked = 0
    for mapper in Base.registry.mappers:
        table, declared = mapper.local_table, mapper.class_.__declared__
        for column in table.columns if declared.trail else ():
            text = texts[f"functions/audit_{mapper.class_.__tablename__}"]
            if column.info["trail"].word != "recorded":
                uses = [one for one in text.splitlines() if f".{column.name} " in f"{one} "]
                assert all("is distinct from" in one for one in uses), column
                checked += 1
    assert checked > 10


def test_many_columns_need_more_than_one_call() -> None:
    # A function takes a hundred arguments.
    metadata = sa.MetaData()
    table = sa.Table(
        "wide",
        metadata,
        sa.Column("id", sa.BigInteger, primary_key=True, info=trail("recorded")),
        *(sa.Column(f"c{n}", sa.Integer, info=trail("recorded")) for n in range(120)),
    )
    text = made._audit_function(table, Table("pandom_owner", ()))
    assert text.count("nullif(concat_ws(") == 4
    assert text.count("jsonb_build_object(\n                'c") == 6


def test_hashes_and_tokens_are_granted_to_no_login_of_an_application() -> None:
    hidden = {"password_hash", "password_hash_encrypted", "refresh_token", "token"}
    granted = [one for one in access.table_grants() if one.role in ("pandom_app", "pandom_admin")]
    assert not [one for one in granted if hidden & set(one.columns)]
    assert READABLE not in {one.columns for one in granted}
