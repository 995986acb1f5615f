"""`pandom audit` as an auditor runs it: exit codes, outputs, acceptances, what it cannot see."""

from __future__ import annotations

import csv
import dataclasses
import json
import os
import subprocess
from collections.abc import Callable
from datetime import date
from html.parser import HTMLParser
from pathlib import Path

import fastjsonschema
import pytest

from pandom.audit import accepted
from pandom.audit.accepted import Acceptance, divide
from pandom.audit.findings import script
from pandom.audit.render import render
from pandom.audit.run import Report, run
from pandom.database.drift import catalog
from pandom.runtime.errors import UsageError
from pandom.runtime.paths import ROOT
from tests.audit.conftest import Audit, Shipped, remade_on_failure
from tests.fixtures import forked

SAVE = "grant select on public.auth_users to public;"
HEAL = "revoke select on public.auth_users from public;"


def pandom(
    shipped: Shipped, *words: str, role: str = "pandom_auditor"
) -> subprocess.CompletedProcess[str]:
    """`pandom audit` with libpq's environment, as in the operations image."""
    server = shipped.server
    environment = {
        **os.environ,
        "PGHOST": server.host,
        "PGPORT": str(server.port),
        "PGUSER": role,
        "PGPASSWORD": server.passwords[role],
        "PGDATABASE": shipped.name,
        "PGSSLMODE": "verify-full",
        "PGSSLROOTCERT": str(server.ca),
    }
    environment.pop("STACK", None)
    command = ["pandom", "audit", "--opt-in", ",".join(shipped.opt_in), *words]
    return forked.run(command, env=environment, timeout=60)


@pytest.mark.requirement("B5")
def test_clean_is_0_and_drift_is_2(shipped: Shipped) -> None:
    clean = pandom(shipped)
    assert clean.returncode == 0, clean.stdout + clean.stderr
    assert "Clean: everything is as declared." in clean.stdout
    assert max(map(len, clean.stdout.splitlines())) <= 80
    shipped.execute(SAVE)
    try:
        drift = pandom(shipped)
        healing = pandom(shipped, "--format", "sql")
    finally:
        shipped.execute(HEAL)
    assert drift.returncode == 2
    assert "privilege-extra:table public.auth_users:PUBLIC" in drift.stdout
    assert "revoke select on table public.auth_users from public" in healing.stdout


@pytest.mark.requirement("B5")
def test_what_a_login_cannot_see_is_unknown_and_1(shipped: Shipped) -> None:
    # Not a superuser, and none of the auditor's rights: much is visible, some is not.
    found = pandom(shipped, role="pandom_mailer")
    assert found.returncode == 1, found.stdout
    assert "Unknown, never counted as clean" in found.stdout
    assert "pg_hba" in found.stdout


@pytest.mark.requirement("B5")
@pytest.mark.parametrize(
    ("words", "code", "message"),
    [
        (["who-can", "read", "x"], 2, "is no privilege"),
        (["what"], 2, "invalid choice: 'what'"),
        (["reach", "--anchor", "x"], 2, "unrecognized arguments: --anchor x"),
        (["compare", "no-such-file.json", "x"], 2, "expected a report as JSON"),
        (["--dsn", "host=127.0.0.1 port=1"], 1, "could not connect"),
        (["--accepted", "no-such-file.toml"], 2, "cannot be read"),
    ],
)
def test_mistakes_have_messages(
    shipped: Shipped, words: list[str], code: int, message: str
) -> None:
    found = pandom(shipped, *words)
    assert found.returncode == code
    assert message in found.stderr
    assert "Traceback" not in found.stderr


@pytest.mark.requirement("P5")
def test_the_trail_is_verified_and_anchored(shipped: Shipped, tmp_path: Path) -> None:
    file = tmp_path / "anchors.jsonl"
    with shipped.server.connect("pandom_janitor", shipped.name) as connection:
        connection.execute("select public.seal_trail()")
    for _ in range(2):
        found = pandom(shipped, "trail", "--anchor", str(file))
        assert found.returncode == 0, found.stdout + found.stderr
        assert "The trail is intact." in found.stdout
    heads = file.read_text().splitlines()
    assert len(heads) == len(set(heads))
    assert json.loads(heads[0])["database"] == shipped.name


@pytest.mark.requirement("A7")
def test_questions_are_answered_as_text_and_json(shipped: Shipped) -> None:
    asked = pandom(shipped, "who-can", "update", "audit_logs")
    assert asked.returncode == 0, asked.stderr
    assert "pandom_migrator  SET ROLE pandom_trail" in asked.stdout
    answer = json.loads(
        pandom(shipped, "who-can", "update", "audit_logs", "--format", "json").stdout
    )
    assert {way["login"] for way in answer["ways"]} == {"postgres", "pandom_migrator"}
    hashes = pandom(shipped, "who-can", "select", "auth_users.password_hash").stdout
    assert "past row security (BYPASSRLS)" in " ".join(hashes.split())
    assert "with their owner's rights, whose body names it" in hashes
    assert "public.sign_in(" in hashes
    assert "more functions have their owner's rights on it" in " ".join(hashes.split())
    assert "Also: changes stand in public.audit_logs" in " ".join(hashes.split())
    reach = pandom(shipped, "reach")
    assert reach.returncode == 0
    assert max(map(len, reach.stdout.splitlines())) <= 80


def test_two_reviews_are_compared(shipped: Shipped, tmp_path: Path) -> None:
    before, after = tmp_path / "before.json", tmp_path / "after.json"
    pandom(shipped, "--format", "json", "--output", str(before))
    assert pandom(shipped, "compare", str(before), str(before)).returncode == 0
    shipped.execute(SAVE)
    try:
        pandom(shipped, "--format", "json", "--output", str(after))
    finally:
        shipped.execute(HEAL)
    found = pandom(shipped, "compare", str(before), str(after))
    assert found.returncode == 2
    assert "findings privilege-extra:table public.auth_users:PUBLIC\n    before  nothing" in (
        found.stdout
    )
    changes = json.loads(
        pandom(shipped, "compare", str(before), str(after), "--format", "json").stdout
    )["changes"]
    assert {one["part"] for one in changes} >= {"findings"}


def test_a_spreadsheet_has_each_privilege(shipped: Shipped) -> None:
    rows = list(csv.DictReader(pandom(shipped, "--format", "csv").stdout.splitlines()))
    assert {
        "role": "pandom_app",
        "login": "yes",
        "kind": "table",
        "object": "public.sessions",
        "privilege": "DELETE",
        "grant option": "no",
        "grantor": "",
        "owner": "pandom_owner",
    } in rows


# -- forms of the report, of one report with drift --------------------------------------------


@pytest.fixture(scope="module")
def report(shipped: Shipped, audit: Audit) -> Report:
    shipped.execute(f"{SAVE}\nalter role pandom_app bypassrls;")
    with remade_on_failure(shipped):
        found = audit()
    shipped.execute(f"{HEAL}\nalter role pandom_app nobypassrls;")
    return found


@pytest.mark.requirement("B5")
def test_json_is_stable_and_complete(report: Report) -> None:
    document = json.loads(render(report, "json"))
    assert render(report, "json") == render(report, "json")
    assert document["version"] == 1
    assert document["exit_code"] == 2
    assert [one["id"] for one in document["findings"]][:2] == [
        "privilege-extra:table public.auth_users:PUBLIC",
        "role-different:pandom_app",
    ]
    assert set(document["findings"][0]) == {
        *("id", "kind", "severity", "object", "detail", "title", "expected", "actual", "why"),
        *("sql", "advice"),
    }
    assert len(document["controls"]) > 50
    assert document["logins"][0]["name"] == "postgres"


def validator(path: Path) -> Callable[[object], object]:
    """What raises for a document that a JSON schema does not allow."""
    made: Callable[[object], object] = fastjsonschema.compile(json.loads(path.read_text()))
    return made


@pytest.mark.requirement("B5")
def test_json_is_what_its_schema_says(report: Report, shipped: Shipped) -> None:
    valid = validator(ROOT / "docs" / "audit.schema.json")
    valid(json.loads(render(report, "json")))
    # As a login that sees little, with acceptances: every list has something in it.
    dsn = shipped.server.dsn("pandom_mailer", shipped.name)
    stale = Acceptance("role-extra:gone", "login: true", "a test", "me", date(2030, 1, 1))
    with catalog.connect(dsn) as connection:
        found = run(connection, shipped.opt_in, (*accepted.load(), stale), date(2026, 12, 1))
    document = json.loads(render(found, "json"))
    valid(document)
    assert document["accepted"]
    assert document["stale_acceptances"]
    assert document["unknown"]
    for wrong in ({"version": 2}, {"exit_code": "0"}, {"more": 1}, {"findings": [{"id": "x"}]}):
        with pytest.raises(fastjsonschema.JsonSchemaException):
            valid({**document, **wrong})


# https://github.com/oasis-tcs/sarif-spec, sarif-2.1/schema/sarif-schema-2.1.0.json
SARIF = Path(__file__).parent / "sarif-schema-2.1.0.json"


@pytest.mark.requirement("B5")
def test_sarif_is_what_its_standard_says(report: Report) -> None:
    valid = validator(SARIF)
    document = json.loads(render(report, "sarif"))
    valid(document)
    document["runs"][0]["results"][0]["level"] = "critical"
    with pytest.raises(fastjsonschema.JsonSchemaException):
        valid(document)


@pytest.mark.requirement("B5")
def test_the_longest_names_fit_into_80_columns(shipped: Shipped, audit: Audit) -> None:
    long = "evil_" + 58 * "x"
    quoted = '"Evil ' + 57 * "Y" + '"'
    with remade_on_failure(shipped):
        shipped.execute(f"create role {long} login;\ncreate role {quoted} login;")
        shipped.execute(f"create table public.{long} ({quoted} text);")
        shipped.execute(f"grant select ({quoted}) on public.{long} to {quoted};")
        shipped.execute(f"alter table public.sessions add constraint {long} check (id > 0);")
        shipped.execute(f"create policy {quoted} on public.sessions to {long} using (true);")
        shipped.execute(f"grant {long}, pandom_owner to {quoted};")
        found = audit()
        texts = [
            render(found, "terminal"),
            pandom(shipped, "reach").stdout,
            pandom(shipped, "who-can", "select", f"public.{long}").stdout,
        ]
        shipped.execute(f"alter table public.sessions drop constraint {long};")
        shipped.execute(script(found.drift))
        assert audit().drift == ()
    assert found.drift
    assert long in texts[0].replace("\n", "").replace(" ", "")
    for text in texts:
        # A command is never broken: it is to be typed as it is.
        wide = [line.strip() for line in text.splitlines() if len(line) > 80]
        assert [line for line in wide if not line.startswith("`pandom audit heal '")] == []


@pytest.mark.requirement("B5")
def test_sarif_has_a_rule_and_a_fingerprint_for_each_result(report: Report) -> None:
    (ran,) = json.loads(render(report, "sarif"))["runs"]
    rules = {rule["id"] for rule in ran["tool"]["driver"]["rules"]}
    assert {result["ruleId"] for result in ran["results"]} == rules
    assert ran["results"][0]["level"] == "error"
    prints = [result["partialFingerprints"]["findingId/v1"] for result in ran["results"]]
    assert len(prints) == len(set(prints)) == len(report.findings)


class _Page(HTMLParser):
    """Collects what a page loads, its tags, and its cells marked as drift."""

    def __init__(self) -> None:
        super().__init__()
        self.loads: list[str] = []
        self.open: list[str] = []
        self.drift = 0

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        values = dict(attrs)
        self.loads += [value for key in ("src", "href") if (value := values.get(key))]
        self.drift += tag == "td" and values.get("class") == "drift"
        if tag not in ("meta", "br", "input"):
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


@pytest.mark.requirement("B5")
def test_the_page_is_whole_and_loads_nothing(report: Report) -> None:
    page = _Page()
    text = render(report, "html")
    page.feed(text)
    assert page.open == []
    assert all(link.startswith("#") for link in page.loads)
    assert page.drift == 1
    assert "role-different:pandom_app" in text


# -- accepted deviations ------------------------------------------------------------------------


@pytest.mark.requirement("B5")
def test_an_acceptance_holds_for_what_was_accepted_until_its_date(report: Report) -> None:
    (finding,) = [one for one in report.findings if one.id == "role-different:pandom_app"]
    given = Acceptance(finding.id, finding.actual, "a test", "me", date(2030, 1, 31))
    kept, excused, stale = divide(report.findings, [given], date(2030, 1, 31))
    assert finding not in kept
    assert excused == [(finding, given)]
    assert stale == []
    kept, _, stale = divide(report.findings, [given], date(2030, 2, 1))
    assert finding in kept
    assert stale == [given]
    worse = dataclasses.replace(finding, actual=finding.actual + "; superuser: true")
    kept, _, _ = divide([worse], [given], date(2030, 1, 1))
    assert kept == [worse]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[[accepted]]\nid = 'x'\n", "needs exactly"),
        ("[[accepted", "Expected"),
        ("[accepted]\nid = 'x'\n", "each entry must begin with"),
        ("accepted = 5\n", "each entry must begin with"),
        (
            "[[accepted]]\nid='x'\nactual='y'\nreason='z'\nowner='me'\nexpires='2030-01-01'\n",
            "without quotes",
        ),
        (
            "[[accepted]]\nid='x'\nactual='y'\nreason=' '\nowner='me'\nexpires=2030-01-01\n",
            "reason must not be empty",
        ),
    ],
)
def test_a_wrong_acceptance_is_named(tmp_path: Path, text: str, message: str) -> None:
    file = tmp_path / "accepted.toml"
    file.write_text(text)
    with pytest.raises(UsageError, match=message):
        accepted.load(file)


@pytest.mark.requirement("B5")
def test_the_shipped_acceptances_are_all_needed(shipped: Shipped) -> None:
    with catalog.connect(shipped.server.dsn("pandom_auditor", shipped.name)) as connection:
        found = run(connection, shipped.opt_in)
    assert found.stale == ()
    assert found.accepted
