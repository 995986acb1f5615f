"""The whole program against mocks: what is made, in which order, hardened or not."""

from __future__ import annotations

import asyncio
import json
import re
import runpy
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pulumi
import pytest

from pandom.config.outputs import ENV_NAMES
from pandom.config.readers import OPT_IN, READERS
from pandom.runtime.naming import LABEL_HEAD, LABEL_PART, LABEL_STACK
from pandom.runtime.paths import ROOT
from schema.access import DEFAULT_PRIVILEGES, MEMBERSHIPS, SCHEMA_GRANTS, database_grants, roles
from stacks.job import check_exit
from stacks.keys import write_certificate
from stacks.migration import head

CERTIFICATE = "-----BEGIN CERTIFICATE-----\nMIIB\n-----END CERTIFICATE-----\n"


class Recorder(pulumi.runtime.Mocks):
    """Answers for the engine, and remembers every resource that was asked for."""

    def __init__(self, exit_code: int = 0) -> None:
        self.made: list[pulumi.runtime.MockResourceArgs] = []
        self.exit_code = exit_code

    def new_resource(self, args: pulumi.runtime.MockResourceArgs) -> tuple[str, dict[str, Any]]:
        self.made.append(args)
        outputs = dict(args.inputs)
        if args.typ == "docker:index/container:Container":
            outputs |= {"exitCode": self.exit_code, "containerLogs": CERTIFICATE}
        if args.typ == "docker:index/image:Image":
            outputs["repoDigest"] = f"sha256:{args.name}"
        if args.typ == "random:index/randomPassword:RandomPassword":
            outputs["result"] = f"secret-of-{args.name}"
        return f"{args.name}-id", outputs

    def call(
        self, args: pulumi.runtime.MockCallArgs
    ) -> tuple[dict[Any, Any], list[tuple[str, str]] | None]:
        raise AssertionError(f"the program calls no function, found {args.token}")

    def of(self, kind: str) -> dict[str, dict[str, Any]]:
        return {made.name: made.inputs for made in self.made if made.typ.endswith(kind)}


def run_program(
    recorder: Recorder, monkeypatch: pytest.MonkeyPatch, home: Path, **config: str
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(home))
    monkeypatch.chdir(ROOT)
    asyncio.set_event_loop(asyncio.new_event_loop())
    pulumi.runtime.set_mocks(recorder, project="pandom-stack", stack="test-unit", preview=False)
    pulumi.runtime.set_all_config({f"pandom-stack:{key}": value for key, value in config.items()})

    def program() -> None:
        runpy.run_path(str(ROOT / "__main__.py"))

    pulumi.runtime.test(program)()  # type: ignore[no-untyped-call]  # untyped in the SDK


@pytest.fixture(scope="module")
def made(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Recorder]:
    recorder = Recorder()
    with pytest.MonkeyPatch.context() as patch:
        run_program(recorder, patch, tmp_path_factory.mktemp("state"), profile="ephemeral")
        yield recorder


@pytest.mark.requirement("B1", "B2")
def test_components_come_in_the_designs_order(made: Recorder) -> None:
    kinds = {m.typ.rpartition(":")[2] for m in made.made if m.typ.startswith("pandom-stack:")}
    assert kinds == {name.capitalize() for name in COMPONENTS} | {"Job"}
    source = (ROOT / "__main__.py").read_text()
    assert re.findall(r'= [A-Z]\w+\(\s*"(\w+)"', source) == COMPONENTS


COMPONENTS = [
    "network",
    "images",
    "keys",
    "database",
    "access",
    "cluster",
    "migration",
    "storage",
    "operations",
]


@pytest.mark.requirement("A1", "A7")
def test_the_declaration_is_what_pulumi_makes(made: Recorder) -> None:
    asked = made.of("role:Role")
    assert {inputs["name"] for inputs in asked.values()} == {role.name for role in roles()}
    assert "pandom-service" not in asked
    by_name = {inputs["name"]: inputs for inputs in asked.values()}
    for role in roles():
        inputs = by_name[role.name]
        assert inputs["login"] == role.login
        assert inputs["inherit"] == role.inherit
        assert inputs["bypassRowLevelSecurity"] == role.bypass_rls
        assert ("password" in inputs) == role.login
        assert not inputs.get("superuser")
        groups = {entry.group for entry in MEMBERSHIPS if entry.member == role.name}
        assert set(inputs["roles"]) == groups
    grants = [g for g in (*database_grants(), *SCHEMA_GRANTS) if g.role in {*by_name, "public"}]
    assert len(made.of("grant:Grant")) == len(grants)
    assert len(made.of("defaultPrivileges:DefaultPrivileges")) == len(DEFAULT_PRIVILEGES)


def test_no_grant_says_all(made: Recorder) -> None:
    for name, inputs in {**made.of("grant:Grant"), **made.of("DefaultPrivileges")}.items():
        assert "ALL" not in inputs["privileges"], name


@pytest.mark.requirement("B1")
def test_every_container_is_hardened(made: Recorder) -> None:
    containers = made.of("container:Container")
    assert set(containers) >= {"postgres-container", "minio-container", "migration-container"}
    for name, inputs in containers.items():
        assert inputs["capabilities"]["drops"] == ["ALL"], name
        assert inputs["securityOpts"] == ["no-new-privileges:true"], name
        assert inputs["memory"] == inputs["memorySwap"] > 0, name
        assert inputs["logOpts"] == {"max-file": "3", "max-size": "10m"}, name
        assert all(port["ip"] == "127.0.0.1" for port in inputs.get("ports", [])), name
        names = {label["label"]: label["value"] for label in inputs["labels"]}
        assert names[LABEL_STACK] == "test-unit"
        assert names[LABEL_PART] == inputs["name"].removeprefix("pandom-test-unit-")
        root = name == "keys-container"
        assert (inputs["user"] == "0:0") == root, name
        assert inputs["readOnly"] != root, name
        assert ("adds" in inputs["capabilities"]) == root, name
        assert inputs["image"].startswith("sha256:"), name


def test_containers_and_volumes_have_one_factory() -> None:
    """Editing a health check elsewhere would report success and change nothing."""
    for path in sorted((ROOT / "stacks").glob("*.py")):
        text = path.read_text()
        if path.name != "container.py":
            assert not re.search(r"docker\.Container\(", text), path
        if path.name != "volume.py":
            assert not re.search(r"docker\.Volume\(", text), path


def test_secrets_travel_by_upload_only(made: Recorder) -> None:
    secrets = [f"secret-of-{name}" for name in made.of("randomPassword:RandomPassword")]
    assert len(secrets) >= 10
    for name, inputs in made.of("container:Container").items():
        text = json.dumps({key: value for key, value in inputs.items() if key != "uploads"})
        assert not [secret for secret in secrets if secret in text], name
        assert ("uploads" in inputs) == (name == "keys-container"), name
    uploads = made.of("container:Container")["keys-container"]["uploads"]
    (upload,) = uploads["value"]  # a secret, as the engine is handed it
    manifest = json.loads(upload["content"])
    assert set(manifest["readers"]) == set(READERS) - set(OPT_IN)
    holders = [
        reader
        for reader, entry in manifest["readers"].items()
        if "secret-of-pandom-migrator-password" in entry["files"].values()
    ]
    assert holders == ["migrator"]


@pytest.mark.parametrize("profile", ["development", "ephemeral"])
def test_monitoring_adds_what_it_needs_and_nothing_else(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path, profile: str
) -> None:
    without, monitored = Recorder(), Recorder()
    run_program(without, monkeypatch, tmp_path, profile=profile)
    run_program(monitored, monkeypatch, tmp_path, profile=profile, monitoring="true")
    before, after = ({(one.typ, one.name) for one in run.made} for run in (without, monitored))
    added = {name for _, name in after - before}
    verdict = {"verdict-volume"} if profile == "development" else set()
    assert before <= after
    assert added == verdict | {
        "metrics-image",
        "metrics-container",
        "keys-metrics-volume",
        "pandom-metrics",
        "pandom-metrics-password",
        "database-pandom-metrics",
        "schema-pandom-metrics",
    }
    made = monitored.of("container:Container")["metrics-container"]
    assert (made["user"], made["readOnly"], made["ports"][0]["ip"]) == (
        "9187:9187",
        True,
        "127.0.0.1",
    )
    assert all(mount["readOnly"] for mount in made["volumes"])
    assert not made.get("envs")


def test_every_postgresql_resource_dies_with_the_volume() -> None:
    """So that destroy works while the server is down. The mocks do not see the option."""
    text = (ROOT / "stacks" / "access.py").read_text()
    made = re.findall(r"postgresql\.(Role|Database|Grant|DefaultPrivileges)\(", text)
    assert len(made) == text.count("opts=self._options(")
    assert "deleted_with=self._args.database.data" in text


@pytest.mark.parametrize("code", [1, 137, None])
def test_a_failed_job_is_red_and_shows_its_words(code: int | None) -> None:
    with pytest.raises(pulumi.RunError, match="relation missing") as caught:
        check_exit("dev", "migration", code, "step one\nrelation missing\n")
    assert "docker logs pandom-dev-migration" in str(caught.value)
    assert check_exit("dev", "migration", 0, "")


def test_a_keys_job_without_a_certificate_is_refused(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path))
    with pytest.raises(pulumi.RunError, match="no CA certificate"):
        write_certificate("dev", "nothing here")
    assert write_certificate("dev", f"noise\n{CERTIFICATE}") == CERTIFICATE
    assert (tmp_path / "pandom-stack" / "dev" / "ca.crt").read_text() == CERTIFICATE


@pytest.mark.requirement("M4")
def test_the_migration_label_is_alembics_head(made: Recorder) -> None:
    from alembic.config import Config
    from alembic.script import ScriptDirectory

    config = Config()
    config.set_main_option("script_location", str(ROOT / "migrations"))
    config.set_main_option("path_separator", "os")
    assert ScriptDirectory.from_config(config).get_heads() == [head()]
    inputs = made.of("container:Container")["migration-container"]
    assert {"label": LABEL_HEAD, "value": head()} in inputs["labels"]


def test_the_outputs_are_the_contract(made: Recorder) -> None:
    source = (ROOT / "stacks" / "outputs.py").read_text()
    for name in ENV_NAMES:
        assert f'"{name.lower()}": ' in source, name


def test_main_reads_like_a_table_of_contents() -> None:
    lines = (ROOT / "__main__.py").read_text().splitlines()
    assert len(lines) <= 60
    assert not re.search(r"\b(if|for|select|grant)\b", "\n".join(lines))
