"""The jobs' image: what is in it, and the operator's shell."""

from __future__ import annotations

import base64
import re
from collections.abc import Callable

import pytest
from testinfra.host import Host

from pandom.runtime.naming import KEYS_MOUNT, UID_OPERATIONS, resource_name
from pandom.runtime.paths import ROOT
from tests.fixtures.stack import RunningStack
from tests.infra.conftest import Spare

pytestmark = pytest.mark.requirement("B4")

PROJECT = "/opt/pandom/project"


def test_the_user_is_the_image_s_own(inside: Callable[[str], Host]) -> None:
    user = inside("operations").user("pandom")
    assert (user.uid, user.gid, user.home) == (UID_OPERATIONS, UID_OPERATIONS, "/home/pandom")


def test_versions(inside: Callable[[str], Host]) -> None:
    host = inside("operations")
    assert host.check_output("/opt/pandom/bin/python --version").startswith("Python 3.13.")
    for tool in ("psql", "pg_dump", "pg_restore"):
        assert " 17." in host.check_output(f"{tool} --version")
    script = "from importlib.metadata import distributions as all; " + (
        "print(*(f'{one.name}=={one.version}'.lower().replace('_', '-') for one in all()))"
    )
    installed = host.check_output(f'/opt/pandom/bin/python -c "{script}"').split()
    pinned = re.findall(
        r"^([\w-]+)(?:\[\w+\])?(==\S+)",
        (ROOT / "app_image/operations/requirements.txt").read_text(),
        re.MULTILINE,
    )
    assert len(pinned) >= 7
    assert {f"{name}{version}".lower() for name, version in pinned} <= set(installed)


def test_only_what_the_jobs_run_is_in_the_image(inside: Callable[[str], Host]) -> None:
    host = inside("operations")
    assert set(host.file(PROJECT).listdir()) == {"pandom", "schema", "migrations"}
    # The host's part needs Docker's socket and Pulumi, and neither is for a container.
    assert not host.file(f"{PROJECT}/pandom/host").exists
    assert host.run("/opt/pandom/bin/python -c 'import pulumi'").failed
    assert host.run("/opt/pandom/bin/python -m pip --version").failed
    # Compiled in the image, and by nobody's Python outside.
    found = host.check_output(
        f"find {PROJECT} -name '*.pyc' -printf '%f\\n' | sed 's/.*[.]c/c/' | sort -u"
    )
    assert found.splitlines() == ["cpython-313.pyc"]
    assert host.check_output(f"find {PROJECT} -name '.git*' -o -name '.env*'") == ""


def test_the_image_runs_the_checkout_s_code(inside: Callable[[str], Host]) -> None:
    host = inside("operations")
    for name in ("pandom/runtime/naming.py", "schema/access.py"):
        file = host.file(f"{PROJECT}/{name}")
        assert file.content == (ROOT / name).read_bytes()
        assert (file.user, file.mode & 0o022) == ("root", 0)


def in_shell(stack: RunningStack, spare: Spare, commands: str) -> tuple[int, str]:
    """Commands as an operator types them; the shell's own start is the product's."""
    typed = base64.b64encode(commands.encode()).decode()
    return spare.run(
        "operations",
        ["-c", f"echo {typed} | base64 -d | pandom job shell"],
        entrypoint="bash",
        network_mode=f"container:{stack.container('postgres')}",
        working_dir="/home/pandom",
        tmpfs={
            "/tmp": "mode=1777",  # noqa: S108 - of the container
            "/home/pandom": f"uid={UID_OPERATIONS},mode=0700",
        },
        volumes={
            resource_name(stack.name, "keys-operator"): {"bind": str(KEYS_MOUNT), "mode": "ro"}
        },
    )


@pytest.mark.requirement("D3")
def test_the_dump_works_as_typed(stack: RunningStack, spare: Spare) -> None:
    code, output = in_shell(
        stack,
        spare,
        "set -e\n"
        "pg_dump -h localhost -U pandom_user -d pandom_db > backup.sql\n"
        "grep -c '^CREATE TABLE public' backup.sql\n"
        "grep 'dump complete' backup.sql\n"
        "psql -Atc 'select session_user'\n"
        "stat -c '%a' ~/.pgpass\n",
    )
    assert code == 0, output
    lines = output.split()
    assert int(lines[0]) >= 5
    assert "PostgreSQL database dump complete" in output
    assert lines[-2:] == ["pandom_user", "600"]


def test_the_shell_verifies_the_server_and_is_one_login_only(
    stack: RunningStack, spare: Spare
) -> None:
    code, output = in_shell(
        stack,
        spare,
        "psql -Atc 'select ssl from pg_catalog.pg_stat_ssl where pid = pg_backend_pid()'\n"
        "PGSSLMODE=disable psql -c 'select 1'\n"
        "PGSSLROOTCERT=/etc/ssl/certs/ca-certificates.crt psql -c 'select 1'\n"
        "psql -w -U postgres -c 'select 1'\n"
        "env | grep -c -i password\n",
    )
    lines = output.splitlines()
    assert lines[0] == "t"
    assert "no encryption" in output
    assert "certificate" in output
    assert "no password supplied" in output
    assert (lines[-1], code) == ("0", 1)


def test_without_its_secret_the_shell_says_so(spare: Spare) -> None:
    code, output = spare.run("operations", ["job", "shell"])
    assert code == 1
    assert "pandom_user_password is missing" in output
    assert "Traceback" not in output
