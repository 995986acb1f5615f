"""The page in a real browser, as somebody without a mouse, a network or a wide screen reads it.

Part of `make soak`: a machine that only runs the stack has no browser.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pandom.audit.render import render
from pandom.audit.run import Report
from tests.audit.conftest import Audit, Shipped, remade_on_failure
from tests.audit.drift import BY_NAME
from tests.fixtures import browser
from tests.fixtures.browser import Page

pytestmark = [pytest.mark.soak, pytest.mark.requirement("B5")]

DRIFT = (
    "PUBLIC on a table",
    "a write to the trail",
    "a policy with using (true)",
    "BYPASSRLS for the application",
)
# What has the focus, and whether one sees it.
FOCUS = """(() => {
  const one = document.activeElement, style = getComputedStyle(one);
  return { tag: one.tagName.toLowerCase(), name: one.name || one.getAttribute("aria-label") || "",
    text: one.textContent.trim().slice(0, 40),
    seen: style.outlineStyle !== "none" && parseFloat(style.outlineWidth) >= 2 };
})()"""
ROWS = """[...document.querySelectorAll("#matrix tbody tr")].filter((row) => !row.hidden)
  .map((row) => row.cells[0].textContent)"""
COLUMNS = """[...document.querySelectorAll("#matrix thead [data-role]")]
  .filter((cell) => !cell.hidden).map((cell) => cell.dataset.role)"""
SECTIONS = "[...document.querySelectorAll('main h2[id]')].map((heading) => heading.id)"
NOT_DECLARED = "PUBLIC on table auth_users: SELECT, no row: no policy, not as declared"


@pytest.fixture(scope="module")
def report(shipped: Shipped, audit: Audit) -> Report:
    with remade_on_failure(shipped):
        for name in DRIFT:
            shipped.execute(BY_NAME[name].sql)
        found = audit()
        for one in sorted(found.drift, key=lambda one: one.order):
            shipped.execute(one.sql or "")
        assert audit().drift == ()
    return found


@pytest.fixture(scope="module")
def file(report: Report, tmp_path_factory: pytest.TempPathFactory) -> Path:
    place = tmp_path_factory.mktemp("page") / "audit.html"
    place.write_text(render(report, "html"))
    return place


@pytest.fixture(scope="module")
def tab() -> Iterator[Page]:
    program = browser.executable()
    if program is None:
        pytest.skip(f"no browser on PATH: looked for {', '.join(browser.NAMES)}")
    with browser.browser(program) as made:
        yield made


@pytest.fixture
def page(tab: Page, file: Path) -> Page:
    tab.call("Emulation.setEmulatedMedia", media="")
    tab.call("Emulation.setScriptExecutionDisabled", value=False)
    tab.open(file)
    return tab


def walk(page: Page) -> list[dict[str, Any]]:
    """Everything that Tab reaches, in its order, until the page is left."""
    found: list[dict[str, Any]] = []
    while len(found) < 100:
        page.press("Tab")
        now = page.evaluate(FOCUS)
        if now["tag"] == "body":
            return found
        found.append(now)
    raise AssertionError("Tab never leaves the page")


def go_to(page: Page, name: str) -> None:
    """Tab until a field or region of this name has the focus."""
    for _ in range(100):
        page.press("Tab")
        if page.evaluate(FOCUS)["name"] == name:
            return
    raise AssertionError(f"Tab does not reach {name}")


def test_tab_goes_through_everything_in_order_and_is_seen(page: Page, report: Report) -> None:
    found = walk(page)
    assert all(one["seen"] for one in found), [one for one in found if not one["seen"]]
    sections = page.evaluate(SECTIONS)
    assert {"findings", "access", "controls"} <= set(sections)
    assert [one["text"].lower() for one in found[: len(sections)]] == sections
    tags = [one["tag"] for one in found]
    assert tags.count("summary") >= len(report.findings) + len(report.accepted)
    names = [one["name"] for one in found if one["tag"] in ("input", "select", "div")]
    assert names == ["text", "kind", "role", "drift", "Access matrix"]


def test_a_focus_that_is_not_seen_is_noticed(page: Page) -> None:
    # The policy forbids foreign styles; a rule of the page's own is taken away instead.
    page.evaluate(
        "[...document.styleSheets[0].cssRules].find((rule) => "
        "rule.selectorText === ':focus-visible').style.outline = 'none'"
    )
    assert not all(one["seen"] for one in walk(page))


def test_filters_work_by_keyboard(page: Page) -> None:
    everything = page.evaluate(ROWS)
    go_to(page, "text")
    page.write("Sessions")
    left = ["table sessions", "function audit_sessions()"]
    assert page.evaluate(ROWS) == left
    assert page.evaluate("seen.textContent") == f"{len(left)} of {len(everything)} objects"
    page.evaluate("form.elements.text.value = ''")
    for _ in range(3):
        page.press("Tab")
    page.press(" ")
    assert page.evaluate(ROWS) == ["table audit_logs", "table auth_users"]
    assert page.evaluate(COLUMNS) == ["PUBLIC", "pandom_app"]
    page.press(" ")
    assert page.evaluate(ROWS) == everything


def test_a_cell_is_read_by_keyboard(page: Page) -> None:
    go_to(page, "Access matrix")
    said = set()
    for _ in range(8):
        page.press("ArrowDown")
        said.add(page.evaluate("cell.textContent"))
        assert page.evaluate(FOCUS)["seen"]
    assert NOT_DECLARED not in said
    for _ in range(20):
        page.press("ArrowDown")
        said.add(page.evaluate("cell.textContent"))
    assert NOT_DECLARED in said
    for _ in range(20):
        page.press("ArrowRight")
    assert page.evaluate("cell.textContent").startswith("pandom_user on ")


def test_drift_is_seen_without_colour(page: Page) -> None:
    marks = page.evaluate(
        "[...document.querySelectorAll('td.drift')].map((cell) => [cell.ariaLabel, "
        "getComputedStyle(cell, '::after').content])"
    )
    assert len(marks) == 2
    assert all("not as declared" in label and "≠" in mark for label, mark in marks)


@pytest.mark.parametrize("width", [1280, 400])
def test_nothing_is_wider_than_the_window(page: Page, width: int) -> None:
    page.resize(width)
    assert page.evaluate("document.documentElement.scrollWidth <= innerWidth")
    page.evaluate("document.querySelector('h1').textContent = 'x'.repeat(400)")
    assert page.evaluate("document.documentElement.scrollWidth > innerWidth")


def test_nothing_is_asked_for_and_nothing_foreign_runs(page: Page, file: Path) -> None:
    assert page.requests() == [file.as_uri()]
    assert [one for one in page.events if one["method"] == "Log.entryAdded"] == []
    # Even if a name in the catalog became part of the page.
    page.evaluate(
        "document.body.insertAdjacentHTML('beforeend', '<img src=http://127.0.0.1:1/x "
        'onerror="document.title = 1">\')'
    )
    page.evaluate(
        "document.body.appendChild(Object.assign(document.createElement('script'), "
        "{ text: 'document.title = 2' }))"
    )
    assert page.evaluate("document.title").startswith("Audit of ")
    refused = [one for one in page.events if one["method"] == "Log.entryAdded"]
    assert len(refused) >= 2
    assert all("Content Security Policy" in one["params"]["entry"]["text"] for one in refused)


def test_without_scripts_everything_is_shown(tab: Page, file: Path) -> None:
    tab.call("Emulation.setScriptExecutionDisabled", value=True)
    tab.open(file)
    assert tab.evaluate("document.getElementById('filters').hidden")
    assert len(tab.evaluate(ROWS)) > 60


def test_print_shows_what_a_click_would(page: Page, tmp_path: Path) -> None:
    closed = "[...document.querySelectorAll('details')].filter((one) => !one.open).length"
    page.evaluate("document.querySelector('details').open = false")
    assert page.evaluate(closed) == 1
    page.pdf(tmp_path / "audit.pdf")
    assert (tmp_path / "audit.pdf").read_bytes().startswith(b"%PDF")
    assert page.evaluate(closed) == 0
    page.call("Emulation.setEmulatedMedia", media="print")
    assert page.evaluate("getComputedStyle(form).display") == "none"
    assert page.evaluate("getComputedStyle(document.querySelector('.scroll')).overflowX") == (
        "visible"
    )
