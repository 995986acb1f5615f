"""Which engine is meant, as Docker's command line decides it; nothing outside a folder of ours."""

from __future__ import annotations

import hashlib
import json
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from pandom.runtime import docker_endpoint
from pandom.runtime.docker_endpoint import SOCKET, DockerSilent, Endpoint
from pandom.runtime.errors import UsageError


@pytest.fixture
def home(tmp_path: Path) -> Path:
    (tmp_path / ".docker").mkdir()
    return tmp_path


def make_context(home: Path, name: str, host: str, files: tuple[str, ...] = ()) -> Path:
    identity = hashlib.sha256(name.encode()).hexdigest()
    place = home / ".docker" / "contexts" / "meta" / identity / "meta.json"
    place.parent.mkdir(parents=True)
    place.write_text(json.dumps({"Name": name, "Endpoints": {"docker": {"Host": host}}}))
    folder = home / ".docker" / "contexts" / "tls" / identity / "docker"
    for file in files:
        folder.mkdir(parents=True, exist_ok=True)
        (folder / file).write_text("")
    return folder


def choose(home: Path, name: str) -> None:
    (home / ".docker" / "config.json").write_text(json.dumps({"currentContext": name}))


def resolve(home: Path, **variables: str) -> Endpoint:
    return docker_endpoint.resolve({"HOME": str(home), **variables})


def test_nobody_chose_one(home: Path) -> None:
    found = resolve(home)
    assert (found.address, found.default) == (SOCKET, True)
    assert docker_endpoint.resolve({}).address == SOCKET
    choose(home, "default")
    assert resolve(home).default
    assert resolve(home, DOCKER_CONTEXT="default").default


def test_the_variable_beats_the_context_and_the_context_the_file(home: Path) -> None:
    make_context(home, "one", "unix:///one.sock")
    make_context(home, "two", "unix:///two.sock")
    choose(home, "one")
    found = resolve(home)
    assert found.address == "unix:///one.sock"
    assert "context 'one'" in str(found)
    assert str(home / ".docker" / "config.json") in str(found)
    found = resolve(home, DOCKER_CONTEXT="two")
    assert str(found) == "unix:///two.sock (context 'two', chosen by DOCKER_CONTEXT)"
    found = resolve(home, DOCKER_CONTEXT="two", DOCKER_HOST="unix:///three.sock")
    assert str(found) == "unix:///three.sock (DOCKER_HOST)"
    elsewhere = resolve(home / "other", DOCKER_CONFIG=str(home / ".docker"))
    assert elsewhere.address == "unix:///one.sock"


@pytest.mark.parametrize(
    ("given", "address"),
    [
        ("127.0.0.1", "tcp://127.0.0.1:2375"),
        ("tcp://localhost", "tcp://localhost:2375"),
        ("tcp://[::1]:99", "tcp://[::1]:99"),
        ("tcp://127.8.9.1:2375/", "tcp://127.8.9.1:2375/"),
        ("unix://", SOCKET),
    ],
)
def test_an_address_is_read_as_the_command_line_reads_it(
    home: Path, given: str, address: str
) -> None:
    assert resolve(home, DOCKER_HOST=given).address == address


@pytest.mark.parametrize(
    ("given", "words"),
    [
        ("ssh://root@127.0.0.1", "ssh:// is not supported"),
        ("ssh://build-host", "ssh:// is not supported"),
        ("npipe:////./pipe/docker", "npipe:// is not supported"),
        ("http://127.0.0.1:2375", "http:// is not supported"),
        ("tcp://192.0.2.1:2375", "192.0.2.1 is not this machine"),
        ("tcp://no-such-host.invalid:2375", "is not this machine"),
        ("tcp://127.0.0.1:port", "expected tcp://127.0.0.1:PORT"),
        ("tcp://", "expected tcp://127.0.0.1:PORT"),
        ("unix://docker.sock", "by its whole path"),
    ],
)
def test_what_is_not_supported_is_refused(home: Path, given: str, words: str) -> None:
    with pytest.raises(UsageError) as refused:
        resolve(home, DOCKER_HOST=given)
    assert words in str(refused.value)
    assert "unset DOCKER_HOST" in str(refused.value)
    make_context(home, "far", given)
    with pytest.raises(UsageError) as refused:
        resolve(home, DOCKER_CONTEXT="far")
    assert "context 'far', chosen by DOCKER_CONTEXT" in str(refused.value)


def test_a_context_that_is_not_there_names_those_that_are(home: Path) -> None:
    make_context(home, "one", SOCKET)
    choose(home, "gone")
    with pytest.raises(UsageError, match=r"no Docker context 'gone'.*there are: default, one"):
        resolve(home)


@pytest.mark.parametrize("text", ["{", "\xff"])
def test_a_file_that_cannot_be_read_decides_nothing(home: Path, text: str) -> None:
    (home / ".docker" / "config.json").write_bytes(text.encode("latin-1"))
    with pytest.raises(UsageError, match=r"config\.json cannot be read"):
        resolve(home)
    assert resolve(home, DOCKER_HOST=SOCKET).address == SOCKET


def test_a_file_of_another_shape_is_named(home: Path) -> None:
    (home / ".docker" / "config.json").write_text("[]")
    with pytest.raises(UsageError, match=r"config\.json says .* no JSON object"):
        resolve(home)


def test_tls_of_a_context_and_of_the_variables_is_handed_on(home: Path) -> None:
    whole = ("ca.pem", "cert.pem", "key.pem")
    folder = make_context(home, "tls", "tcp://127.0.0.1:2376", whole)
    assert resolve(home, DOCKER_CONTEXT="tls").variables() == {
        "DOCKER_HOST": "tcp://127.0.0.1:2376",
        "DOCKER_CERT_PATH": str(folder),
        "DOCKER_TLS_VERIFY": "1",
    }
    given = {"DOCKER_HOST": "tcp://127.0.0.1", "DOCKER_CERT_PATH": str(folder)}
    assert resolve(home, **given, DOCKER_TLS_VERIFY="1").address == "tcp://127.0.0.1:2376"
    assert "DOCKER_TLS" in resolve(home, **given, DOCKER_TLS="1").variables()
    assert resolve(home, **given).certificates is None
    make_context(home, "half", "tcp://127.0.0.1:2376", ("ca.pem",))
    with pytest.raises(UsageError, match=r"has no cert\.pem, key\.pem"):
        resolve(home, DOCKER_CONTEXT="half")


def test_the_decision_replaces_what_led_to_it(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(docker_endpoint, "_chosen", None)
    make_context(home, "one", "unix:///one.sock")
    environ = {"HOME": str(home), "DOCKER_CONTEXT": "one", "DOCKER_CERT_PATH": "/old"}
    first = docker_endpoint.use(environ)
    assert environ == {"HOME": str(home), "DOCKER_HOST": "unix:///one.sock"}
    # Who chose it is still known when it is asked again.
    assert docker_endpoint.use(environ) is first
    environ["DOCKER_HOST"] = "unix:///two.sock"
    assert str(docker_endpoint.use(environ)) == "unix:///two.sock (DOCKER_HOST)"


# -- an engine that answers: a socket that speaks just as much of its protocol ------------------


@pytest.fixture
def engine(tmp_path: Path) -> Iterator[tuple[Endpoint, dict[str, tuple[int, Any]]]]:
    answers: dict[str, tuple[int, Any]] = {"/_ping": (200, "OK")}
    listener = socket.socket(socket.AF_UNIX)
    listener.bind(str(tmp_path / "engine.sock"))
    listener.listen()

    def serve() -> None:
        while True:
            try:
                client, _ = listener.accept()
            except OSError:
                return
            with client:
                path = client.recv(65536).split()[1].decode()
                status, body = answers.get(path, (404, {}))
                text = json.dumps(body)
                client.sendall(
                    f"HTTP/1.1 {status} X\r\nContent-Length: {len(text)}\r\n\r\n{text}".encode()
                )

    threading.Thread(target=serve, daemon=True).start()
    yield (
        Endpoint(f"unix://{tmp_path}/engine.sock", "context 'x', chosen by DOCKER_CONTEXT"),
        answers,
    )
    listener.shutdown(socket.SHUT_RDWR)
    listener.close()


Answering = tuple[Endpoint, dict[str, tuple[int, Any]]]


def test_an_engine_that_answers_is_taken(engine: Answering) -> None:
    docker_endpoint.check(engine[0])
    engine[1]["/_ping"] = (400, "")
    with pytest.raises(DockerSilent, match="no engine"):
        docker_endpoint.check(engine[0])


def test_a_dead_engine_is_named_with_who_chose_it(tmp_path: Path) -> None:
    (tmp_path / "dead.sock").write_text("")
    for name, reason in (("dead.sock", "Connection refused"), ("gone.sock", "No such file")):
        found = Endpoint(f"unix://{tmp_path}/{name}", "context 'x', chosen by DOCKER_CONTEXT")
        with pytest.raises(DockerSilent) as silent:
            docker_endpoint.check(found)
        said = str(silent.value)
        assert f"at unix://{tmp_path}/{name} (context 'x', chosen by DOCKER_CONTEXT)" in said
        assert reason in said
        assert "docker context use default" in said


def test_in_a_container_of_that_engine_its_ports_are_elsewhere(
    engine: Answering, monkeypatch: pytest.MonkeyPatch
) -> None:
    found, answers = engine
    identity = "a" * 64
    monkeypatch.setattr(docker_endpoint, "_own_containers", lambda: iter([identity]))
    docker_endpoint.check(found)  # a container of another engine
    answers[f"/containers/{identity}/json"] = (
        200,
        {"Name": "/builder", "HostConfig": {"NetworkMode": "bridge"}},
    )
    with pytest.raises(UsageError, match="the container builder of the very engine"):
        docker_endpoint.check(found)
    answers[f"/containers/{identity}/json"][1]["HostConfig"]["NetworkMode"] = "host"
    docker_endpoint.check(found)
