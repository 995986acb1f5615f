"""What of the caller's environment reaches us, the plugins and the server. No I/O."""

from __future__ import annotations

import os
import pwd
import signal
from collections.abc import Iterator
from pathlib import Path

import psycopg
import pytest

from pandom.database import pinned
from pandom.runtime import surroundings
from schema.access import ROLES


@pytest.fixture
def umask() -> Iterator[None]:
    before = os.umask(0)
    os.umask(before)
    yield
    os.umask(before)


@pytest.fixture
def settled(umask: None) -> dict[str, str]:
    """An environment with all of libpq's variables and some of Python's, settled."""
    libpq = [one.envvar.decode() for one in psycopg.pq.Conninfo.get_defaults() if one.envvar]
    more = ["PGSERVICEFILE", "PGSYSCONFDIR", "PGDATESTYLE", "PGTZ", "PGGEQO", "PGLOCALEDIR"]
    environ = dict.fromkeys([*libpq, *more, "PYTHONHOME", "PYTHONWARNINGS", "PYTHONPATH"], "x")
    environ |= {"HOME": "/home/x", "USER": "x", "PATH": "/bin", "PYTHONDONTWRITEBYTECODE": "1"}
    surroundings.settle(environ)
    return environ


def test_nothing_of_libpq_and_python_is_left(settled: dict[str, str]) -> None:
    assert settled == {
        "HOME": "/home/x",
        "USER": "x",
        "PATH": "/bin",
        "PYTHONDONTWRITEBYTECODE": "1",
        "PYTHONUTF8": "1",
    }
    assert os.umask(0o022) == 0o022


def test_what_names_a_database_is_given_back_and_what_bends_a_session_is_not(
    settled: dict[str, str],
) -> None:
    assert surroundings.given("PGSERVICE") == "x"
    surroundings.give_back(settled)
    assert {"PGHOST", "PGSERVICE", "PGSERVICEFILE", "PGPASSFILE"} <= settled.keys()
    assert not {"PGOPTIONS", "PGDATESTYLE", "PGTZ", "PGCLIENTENCODING"} & settled.keys()


def test_a_user_without_an_entry_has_a_name_all_the_same(
    umask: None, monkeypatch: pytest.MonkeyPatch
) -> None:
    def nobody(_: int) -> None:
        raise KeyError

    monkeypatch.setattr(pwd, "getpwuid", nobody)
    environ: dict[str, str] = {}
    surroundings.settle(environ)
    assert "HOME" not in environ
    assert environ["USER"] == f"uid-{os.getuid()}"


@pytest.fixture
def hangup() -> Iterator[None]:
    before = signal.getsignal(signal.SIGHUP)
    yield
    signal.signal(signal.SIGHUP, before)


def test_a_hangup_ends_a_command_like_ctrl_c(hangup: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_DFL)
    surroundings.interrupt_by(signal.SIGHUP)
    with pytest.raises(KeyboardInterrupt):
        signal.raise_signal(signal.SIGHUP)


def test_what_nohup_started_outlives_its_terminal(hangup: None) -> None:
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    surroundings.interrupt_by(signal.SIGHUP)
    signal.raise_signal(signal.SIGHUP)


def test_a_session_of_a_role_keeps_the_settings_declared_for_it() -> None:
    for role in ROLES:
        options = pinned.options(role.name)
        settings = {**pinned.SETTINGS, **role.settings}
        # To ask for a superuser's setting would be refused; it holds as the role has it.
        assert "temp_file_limit" not in options
        settings.pop("temp_file_limit", None)
        for name, value in settings.items():
            assert f"-c {name}={value}".replace("read committed", r"read\ committed") in options
    more = pinned.options("pandom_migrator", "-c lock_timeout=4000")
    assert more.rindex("-c lock_timeout=4000") > more.rindex("-c lock_timeout=60s")


def test_a_login_takes_nothing_from_a_home() -> None:
    login = pinned.login(
        "r", "p", host="h", port=1, database="d", ca="/ca", application_name="a", timeout_s=5
    )
    for name in ("sslcert", "sslkey", "sslcrl", "passfile"):
        assert not Path(login[name]).exists()
        with pytest.raises(OSError):
            Path(login[name]).touch()
    assert (login["gssencmode"], login["client_encoding"]) == ("disable", "UTF8")
