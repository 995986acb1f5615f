"""A stack's names, file and state; what is off; what is adopted. No I/O but a temporary folder."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pytest

from pandom.config.outputs import ENV_NAMES, UNSHARED
from pandom.config.settings import PROFILES, SettingsError, load
from pandom.host import health, last_run, lock, ports, repair, stack, superuser, up
from pandom.host.access import hidden, variables
from pandom.host.engine import Container
from pandom.host.stack import Stack
from pandom.host.state import State, clear
from pandom.runtime import passphrase, paths
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.naming import ADOPT_VARIABLE
from schema.access import DATABASE, roles


@pytest.fixture
def clone(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A clone with templates only, and a state home of its own."""
    templates = paths.ROOT / "stacks" / "templates"
    (tmp_path / "clone" / "stacks" / "templates").mkdir(parents=True)
    for path in templates.glob("*.yaml"):
        (tmp_path / "clone" / "stacks" / "templates" / path.name).write_text(path.read_text())
    monkeypatch.setattr(paths, "ROOT", tmp_path / "clone")
    monkeypatch.setenv("XDG_STATE_HOME", str(tmp_path / "state"))
    return tmp_path / "clone"


def give_state(one: Stack) -> None:
    one.checkpoint.parent.mkdir(parents=True, exist_ok=True)
    one.checkpoint.write_text("{}")


@pytest.mark.parametrize("name", ["", "Dev", "1dev", "a_b", "x" * 31, "../x", "backend", "locks"])
def test_a_bad_name_is_refused(name: str) -> None:
    with pytest.raises(UsageError):
        Stack(name)


@pytest.mark.parametrize(
    ("name", "profile"),
    [
        ("dev", "development"),
        ("cinema", "development"),
        ("ci", "ephemeral"),
        ("ci-12", "ephemeral"),
        ("test-1-ab", "ephemeral"),
        ("prod-eu", "production"),
    ],
)
def test_a_profile_follows_from_the_name(name: str, profile: str) -> None:
    assert Stack(name).profile == profile


def test_a_new_stack_gets_its_template(clone: Path) -> None:
    said = stack.prepare_file(Stack("dev"))
    assert "templates/dev.yaml" in str(said)
    assert stack.settings(Stack("dev")).profile_name == "development"
    assert stack.prepare_file(Stack("dev")) is None


def test_the_profile_may_be_chosen(clone: Path) -> None:
    stack.prepare_file(Stack("dev"), "ephemeral")
    assert stack.settings(Stack("dev")).profile_name == "ephemeral"


def test_every_profile_has_a_template_of_its_own(clone: Path) -> None:
    for profile in PROFILES:
        one = Stack(f"x-{profile}")
        stack.prepare_file(one, profile)
        assert stack.settings(one).profile_name == profile


def test_a_second_clone_gets_the_same_file(clone: Path) -> None:
    dev = Stack("dev")
    stack.prepare_file(dev)
    stack.set_values(dev, {"postgresPort": 5433})
    give_state(dev)
    stack.keep_copy(dev)
    dev.file.unlink()
    assert "restored" in str(stack.prepare_file(dev))
    assert stack.settings(dev).postgres_port == 5433


def test_a_kept_file_without_a_state_is_not_used(clone: Path) -> None:
    dev = Stack("dev")
    dev.home.mkdir(parents=True)
    dev.kept_file.write_text("config:\n  pandom-stack:postgresPort: 5433\n")
    assert "copied" in str(stack.prepare_file(dev))


def test_numbers_are_set_and_comments_stay(clone: Path) -> None:
    dev = Stack("dev")
    stack.prepare_file(dev)
    stack.set_values(dev, {"postgresPort": 15432})
    stack.set_values(dev, {"postgresPort": 15433, "minioPort": 19000})
    text = dev.file.read_text()
    assert text.startswith("#")
    assert text.count("postgresPort") == 1
    found = stack.settings(dev)
    assert (found.postgres_port, found.minio_port) == (15433, 19000)


@pytest.mark.parametrize(
    "text",
    [
        b"config: [",
        b"- a",
        b"config: 3",
        b"config:\n  # caf\xe9\n",
        "config: {}\n".encode("utf-16"),
        b"config:\n  pandom-stack:minioPort: 1\n  pandom-stack:minioPort: 2\n",
        b"config: {}\nconfig: {}\n",
    ],
)
def test_a_file_that_cannot_be_read_is_a_settings_error(clone: Path, text: bytes) -> None:
    dev = Stack("dev")
    dev.file.write_bytes(text)
    with pytest.raises(SettingsError):
        stack.settings(dev)


def test_what_was_edited_since_the_last_run_is_named_with_what_up_does(clone: Path) -> None:
    one = Stack("dev")
    stack.prepare_file(one)
    give_state(one)
    # Before the first run there is nothing to compare with.
    assert list(stack.edited(one)) == []
    stack.keep_copy(one)
    assert list(stack.edited(one)) == []
    stack.set_values(
        one, {"postgresPort": 5433, "postgresMemoryMb": 1024, "appPassword": "a new password"}
    )
    lines = list(stack.edited(one))
    assert [line.partition(":")[0] for line in lines] == [
        "postgresPort",
        "postgresMemoryMb",
        "appPassword",
    ]
    assert "5432 → 5433: the server moves" in lines[0]
    assert "512 → 1024: the server is replaced; data stays" in lines[1]
    assert "a new password" not in lines[2]
    assert "another value: replaced at once" in lines[2]


def test_another_states_salt_is_taken_out_of_the_file(clone: Path) -> None:
    dev = Stack("dev")
    ours = {"type": "passphrase", "state": {"salt": "v1:ours"}}
    give_state(dev)
    dev.checkpoint.write_text(json.dumps({"checkpoint": {"latest": {"secrets_providers": ours}}}))
    for salt, secret, kept in (
        ("v1:ours", "", True),
        ("v1:theirs", "", False),
        ("v1:theirs", "  x:\n    secure: v1:abc\n", True),
    ):
        dev.file.write_text(f"config: {{}}\n{secret}encryptionsalt: {salt}\n")
        stack.prepare_file(dev)
        assert (salt in dev.file.read_text()) is kept
        assert dev.file.read_text().startswith("config: {}\n")


def test_an_empty_file_is_all_defaults(clone: Path) -> None:
    Stack("dev").file.write_text("")
    assert stack.settings(Stack("dev")).postgres_port == 5432


@pytest.fixture
def after_a_run(clone: Path) -> tuple[Stack, dict[str, str]]:
    """A stack whose last run was noted, and the variables of that run."""
    for name in ("__main__.py", "Pulumi.yaml", "pyproject.toml", "requirements.txt"):
        (clone / name).write_text(name)
    (clone / "pandom").mkdir()
    (clone / "pandom" / "naming.py").write_text("PROJECT = 1")
    dev, given = Stack("dev"), {"PATH": "/tools:/bin", "PULUMI_HOME": "/home"}
    passphrase.ensure()
    give_state(dev)
    stack.prepare_file(dev)
    last_run.remember(dev, last_run.inputs(dev, given))
    assert last_run.is_current(dev, last_run.inputs(dev, {**given, "COLUMNS": "80"}))
    return dev, given


@pytest.mark.parametrize(
    "changed",
    [
        "clone/pandom/naming.py",
        "clone/pandom/new.py",
        "clone/__main__.py",
        "clone/stacks/Pulumi.dev.yaml",
        "clone/stacks/templates/dev.yaml",
        "clone/app_image/Dockerfile",
        "state/pandom-stack/passphrase",
        "state/pandom-stack/backend/.pulumi/stacks/pandom-stack/dev.json",
        "state/pandom-stack/dev/applied",
    ],
)
def test_whatever_pulumi_would_read_makes_it_run_again(
    clone: Path, after_a_run: tuple[Stack, dict[str, str]], changed: str
) -> None:
    dev, given = after_a_run
    path = clone.parent / changed
    path.parent.mkdir(exist_ok=True)
    path.write_text("something else")
    assert not last_run.is_current(dev, last_run.inputs(dev, given))


@pytest.mark.parametrize(
    "variables",
    [{"PULUMI_HOME": "/other"}, {"DOCKER_HOST": "tcp://127.0.0.1:1"}, {"PATH": "/new:/bin"}],
)
def test_other_tools_or_another_engine_make_pulumi_run_again(
    after_a_run: tuple[Stack, dict[str, str]], variables: dict[str, str]
) -> None:
    dev, given = after_a_run
    assert not last_run.is_current(dev, last_run.inputs(dev, {**given, **variables}))


def test_files_that_another_stack_or_python_wrote_change_nothing(
    clone: Path, after_a_run: tuple[Stack, dict[str, str]]
) -> None:
    dev, given = after_a_run
    (clone / "stacks" / "Pulumi.other.yaml").write_text("config: {}")
    (clone / "pandom" / "__pycache__").mkdir()
    (clone / "pandom" / "__pycache__" / "naming.pyc").write_text("")
    assert last_run.is_current(dev, last_run.inputs(dev, given))


def test_up_that_waited_for_down_makes_no_stack_with_other_settings(
    clone: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    dev = Stack("dev")
    give_state(dev)

    @contextmanager
    def taken_down(_: Stack) -> Iterator[None]:
        dev.checkpoint.unlink()
        yield

    monkeypatch.setattr(up, "toolchain_variables", dict)
    monkeypatch.setattr(lock, "of_stack", taken_down)
    with pytest.raises(UsageError, match="was taken down while this waited"):
        up.run("dev")


def test_forgetting_leaves_no_file(clone: Path) -> None:
    dev, other = Stack("dev"), Stack("dev2")
    for one in (dev, other):
        give_state(one)
        stack.prepare_file(one)
        stack.keep_copy(one)
        one.checkpoint.with_name(one.checkpoint.name + ".bak").write_text("")
        (paths.backend() / ".pulumi" / "history" / "pandom-stack" / one.name).mkdir(parents=True)
    stack.forget(dev)
    left = [path for path in clone.parent.rglob("*") if path.name.startswith(("dev", "Pulumi.dev"))]
    assert left
    assert all("dev2" in str(path) or path.name == "dev.yaml" for path in left)


def test_the_passphrase_is_made_once_and_for_the_owner_only(clone: Path) -> None:
    assert passphrase.ensure()
    place = paths.passphrase_file()
    text = place.read_text()
    assert len(text.strip()) >= 32
    assert place.stat().st_mode & 0o777 == 0o600
    place.chmod(0o644)
    assert not passphrase.ensure()
    assert place.read_text() == text
    assert place.stat().st_mode & 0o777 == 0o600


def test_of_two_first_runs_one_makes_the_passphrase(clone: Path) -> None:
    with ThreadPoolExecutor(8) as pool:
        made = list(pool.map(lambda _: passphrase.ensure(), range(32)))
    assert made.count(True) == 1
    folder = paths.passphrase_file().parent
    assert [path.name for path in folder.iterdir() if "passphrase" in path.name] == ["passphrase"]


def test_a_lost_passphrase_is_never_replaced(clone: Path) -> None:
    give_state(Stack("dev"))
    with pytest.raises(UsageError, match="pandom adopt --stack") as refused:
        passphrase.ensure()
    assert not paths.passphrase_file().exists()
    assert "dev" in str(refused.value)


# -- the state ----------------------------------------------------------------------------


def exported(*resources: dict[str, Any]) -> dict[str, Any]:
    return {"deployment": {"resources": list(resources)}}


def resource(kind: str, name: str, identity: str = "", **more: Any) -> dict[str, Any]:
    inputs = {"name": name, **more.pop("inputs", {})}
    return {"urn": f"u::{kind}::{name}", "type": kind, "id": identity, "inputs": inputs, **more}


def docker_container(name: str, part: str, must_run: bool = True) -> dict[str, Any]:
    labels = [{"label": "pandom.part", "value": part}]
    return resource(
        "docker:index/container:Container",
        name,
        f"id-{part}",
        inputs={"labels": labels, "mustRun": must_run},
    )


class FakeEngine:
    """The lists that the engine would give."""

    def __init__(self, containers: list[Container], networks: dict[str, str], volumes: list[str]):
        self._lists = containers, networks, volumes
        self.removed: list[str] = []

    def containers(self) -> list[Container]:
        return self._lists[0]

    def networks(self) -> dict[str, str]:
        return self._lists[1]

    def volumes(self) -> list[str]:
        return self._lists[2]

    def has_volume(self, name: str) -> bool:
        return name in self._lists[2]

    def has_image(self, reference: str) -> bool:
        return reference != "pruned"

    def remove_container(self, identity: str) -> None:
        self.removed.append(identity)

    remove_network = remove_container


def seen(
    part: str,
    status: str = "running",
    health_state: str | None = "healthy",
    code: int = 0,
    port: int | None = None,
) -> Container:
    port = port or PORTS.get(part)
    ports = (port,) if port else ()
    return Container(
        f"id-{part}", part, part, "i", status, health_state, code, 0, None, None, ports, ("net",)
    )


PORTS = {"postgres": 5432, "minio": 9000}


STATE = State(
    exported(
        resource("docker:index/network:Network", "n", "net"),
        resource("docker:index/volume:Volume", "data", "data"),
        resource("docker:index/image:Image", "i", outputs={"repoDigest": "there"}),
        docker_container("p", "postgres"),
        docker_container("m", "migration", must_run=False),
    )
)
GOOD = FakeEngine([seen("postgres"), seen("migration", "exited", None)], {"net": "n"}, ["data"])


def test_nothing_is_off_when_everything_is_there() -> None:
    assert repair.examine(GOOD, STATE, PORTS) == repair.Findings()  # type: ignore[arg-type]


@pytest.mark.parametrize(
    "broken",
    [
        FakeEngine([], {"net": "n"}, ["data"]),
        FakeEngine([seen("postgres", "exited", None)], {"net": "n"}, ["data"]),
        FakeEngine([seen("postgres", "running", "unhealthy")], {"net": "n"}, ["data"]),
        FakeEngine([seen("postgres")], {}, ["data"]),
        FakeEngine([seen("postgres", port=15432)], {"net": "n"}, ["data"]),
    ],
)
def test_what_is_off_is_brought_up_first(broken: FakeEngine) -> None:
    findings = repair.examine(broken, STATE, PORTS)  # type: ignore[arg-type]
    assert any("postgres" in urn or urn.endswith("::p") for urn in findings.targets)
    assert not any(urn.endswith("::m") for urn in findings.targets)
    # What a newer program has besides is in no state yet.
    assert set(repair.KEYS) <= set(findings.targets)
    assert findings.replace == []


def test_each_taken_port_gets_a_proposal(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ports, "free", lambda port: port not in (5432, 9000, 15432))
    monkeypatch.setattr(FakeEngine, "publisher", lambda _self, _port: "another", raising=False)
    engine: Any = FakeEngine([], {}, [])
    with pytest.raises(UsageError) as refused:
        ports.refuse_taken(stack.Stack("dev"), load("dev", {}), engine)
    assert str(refused.value).endswith("postgresPort: 15433\n  pandom-stack:minioPort: 19000")


@pytest.mark.parametrize(
    ("status", "refused"), [("running", False), ("paused", False), ("exited", True)]
)
def test_a_port_that_the_stack_itself_holds_is_not_taken(
    status: str, refused: bool, monkeypatch: pytest.MonkeyPatch, clone: Path
) -> None:
    monkeypatch.setattr(ports, "free", lambda port: port not in PORTS.values())
    engine: Any = FakeEngine([seen("postgres", status), seen("minio", status)], {}, [])
    engine.publisher = lambda port: "somebody"
    dev = Stack("dev")
    settings = load("dev", {})
    if not refused:
        ports.refuse_taken(dev, settings, engine)
        return
    with pytest.raises(UsageError, match="by container somebody") as taken:
        ports.refuse_taken(dev, settings, engine)
    # Free ones, and not those that are taken.
    assert "postgresPort: 15432" in str(taken.value)
    assert "minioPort: 19000" in str(taken.value)


def test_an_address_that_a_run_left_in_the_state_is_mended() -> None:
    provider = resource("pulumi:providers:postgresql", "cluster", inputs={"port": "15432"})
    volume = resource("docker:index/volume:Volume", "data", "data")
    state = State(exported(provider, volume, docker_container("p", "postgres")))
    found = repair.examine(GOOD, state, PORTS)  # type: ignore[arg-type]
    assert provider["urn"] in found.targets


@pytest.mark.parametrize(
    ("postgres", "minio", "leaving"),
    [
        (5432, 9000, []),
        (15432, 19000, []),
        (9000, 5432, ["minio", "postgres"]),
        (15432, 5432, []),
        (9000, 15432, []),
    ],
    ids=["as wanted", "both elsewhere", "swapped", "minio from postgres", "postgres from minio"],
)
def test_a_server_makes_way_for_another(postgres: int, minio: int, leaving: list[str]) -> None:
    """PORTS are wanted; the two servers are where the table says."""
    engine = FakeEngine([seen("minio", port=minio), seen("postgres", port=postgres)], {}, [])
    found = {one.part for one in repair.make_way(engine, PORTS)}  # type: ignore[arg-type]
    held = {"minio": minio, "postgres": postgres}
    wanted = {port: part for part, port in PORTS.items()}
    expected = {part for part, port in held.items() if wanted.get(port, part) != part}
    assert found == expected
    assert found >= set(leaving)


def test_an_exporter_that_is_switched_off_makes_way_for_a_server() -> None:
    engine = FakeEngine([seen("metrics", port=5432), seen("minio", port=9000)], {}, [])
    found = repair.make_way(engine, PORTS)  # type: ignore[arg-type]
    assert [one.part for one in found] == ["metrics"]


def test_a_lost_volume_runs_the_jobs_again() -> None:
    lost = FakeEngine([seen("postgres")], {"net": "n"}, [])
    findings = repair.examine(lost, STATE, PORTS)  # type: ignore[arg-type]
    assert [urn for urn in findings.replace if urn.endswith("::m")]


def test_a_job_that_failed_or_was_killed_runs_again() -> None:
    job = seen("migration", "exited", None, code=137)
    killed = FakeEngine([seen("postgres"), job], {"net": "n"}, ["data"])
    findings = repair.examine(killed, STATE, PORTS)  # type: ignore[arg-type]
    assert findings.targets == []
    assert [urn.rpartition("::")[2] for urn in findings.replace] == ["m"]


def test_a_job_that_is_gone_is_not_replaced() -> None:
    """The refresh takes it out of the state, and Pulumi would refuse its URN."""
    pruned = FakeEngine([seen("postgres")], {"net": "n"}, [])
    found = repair.examine(pruned, STATE, PORTS).replace  # type: ignore[arg-type]
    assert [urn.rpartition("::")[2] for urn in found] == ["m"]
    assert repair.there(pruned, STATE, found) == []  # type: ignore[arg-type]
    assert repair.there(GOOD, STATE, [*found, "u::nowhere"]) == found  # type: ignore[arg-type]


def test_a_pruned_image_is_made_again() -> None:
    state = State(
        exported(resource("docker:index/image:Image", "i", outputs={"repoDigest": "pruned"}))
    )
    assert repair.examine(GOOD, state, PORTS).replace == ["u::docker:index/image:Image::i"]  # type: ignore[arg-type]


def test_only_what_the_state_does_not_know_is_removed() -> None:
    engine = FakeEngine([seen("postgres"), seen("stray")], {"net": "n", "old": "o"}, ["data"])
    assert repair.remove_unknown(engine, STATE) == 2  # type: ignore[arg-type]
    assert engine.removed == ["id-stray", "old"]


def test_adoption_asks_for_what_the_state_lacks() -> None:
    every = [role.name for role in roles(frozenset())]
    role_type = "postgresql:index/role:Role"
    known = [resource(role_type, name) for name in every if name != "pandom_app"]
    state = State(exported(*known))
    assert superuser.missing(state, frozenset()) == ["pandom_app", DATABASE]
    assert superuser.variables(["b", "a"]) == {ADOPT_VARIABLE: '["a", "b"]'}


def test_a_secret_of_an_export_is_unwrapped() -> None:
    secret = {"4dabf18193072939515e22adb298388d": "1b47", "plaintext": json.dumps("s3cret")}
    assert clear(secret) == "s3cret"
    assert clear("plain") == "plain"


# -- what people read ---------------------------------------------------------------------

OUTPUTS: dict[str, Any] = {
    **{name.lower(): f"v-{name.lower()}" for name in ENV_NAMES},
    "db_port": 5432,
    "db_sslmode": "verify-full",
    "db_sslrootcert": "/ca.crt",
    "minio_use_ssl": True,
    "passwords": {"pandom_app": "a", "pandom_user": "it's $ecret"},
}


@pytest.mark.requirement("D1")
def test_a_client_gets_exactly_the_promised_names() -> None:
    values = variables(OUTPUTS, None)
    assert list(values) == list(ENV_NAMES)
    assert values["MINIO_USE_SSL"] == "true"


@pytest.mark.requirement("P1")
def test_the_application_gets_the_key_of_hashes_while_they_are_encrypted() -> None:
    key = {"password_hash_key": "k"}
    on = {**OUTPUTS, **key, "encrypt_password_hash": True}
    assert variables(on, None)["PASSWORD_HASH_KEY"] == "k"
    assert "k" in hidden(variables(on, None))
    assert "PASSWORD_HASH_KEY" not in variables(on, "pandom_user")
    assert "PASSWORD_HASH_KEY" not in variables({**on, "encrypt_password_hash": False}, None)


@pytest.mark.requirement("D1")
def test_another_login_gets_its_own_values() -> None:
    values = variables(OUTPUTS, "pandom_user")
    assert values["DB_USERNAME"] == "pandom_user"
    assert values["DB_PASSWORD"] == "it's $ecret"
    assert "pandom_user:it%27s%20%24ecret@" in values["DATABASE_URL"]
    assert {"it's $ecret", "it%27s%20%24ecret", values["DATABASE_URL"]} <= set(hidden(values))
    assert values["DB_SSLROOTCERT"] not in hidden(values)


def test_outputs_of_an_earlier_version_are_named() -> None:
    with pytest.raises(Failure, match="MINIO_CA"):
        variables({k: v for k, v in OUTPUTS.items() if k != "minio_ca"}, None)


@pytest.mark.parametrize("role", ["postgres", *UNSHARED, "nobody"])
def test_the_migrator_and_the_superuser_are_not_handed_out(role: str) -> None:
    with pytest.raises(UsageError, match=role):
        variables(OUTPUTS, role)


def test_a_login_that_a_setting_makes_says_so() -> None:
    with pytest.raises(UsageError, match="serviceLogin: true"):
        variables(OUTPUTS, "pandom_service")


def report(**checks: bool) -> health.Report:
    made = [health.Check(name, ok, "d", 0.0) for name, ok in checks.items()]
    return health.Report("dev", made)


@pytest.mark.requirement("D2")
def test_health_needs_every_check_and_at_least_one() -> None:
    assert report(login=True, tables=True).healthy
    assert not report(login=True, tables=False).healthy
    assert not report().healthy


def test_a_warning_turns_nothing_red() -> None:
    found = report(login=True)
    found.checks.append(health.Check("profiles", True, "1 without", 0.0, warning="1 without"))
    assert found.healthy
    assert not found.wants_jobs
    assert found.warnings == ["profiles: 1 without"]


def test_jobs_run_again_only_when_that_can_help() -> None:
    assert report(login=True, tables=False).wants_jobs
    assert report(login=True, settings=False).wants_jobs
    assert not report(login=False, tables=False).wants_jobs
    assert not report(login=True).wants_jobs


@pytest.mark.requirement("D2")
def test_a_check_that_raises_is_a_failed_check() -> None:
    def broken() -> str:
        raise OSError("gone")

    found = health.Report("dev")
    assert not found.add("login", broken)
    document = found.document()
    assert document["healthy"] is False
    assert document["checks"][0]["detail"] == "gone"
