"""`pandom ci serve`: hands out databases and places in the bucket, over HTTP on 127.0.0.1.

    POST   /databases              201 {"name": …, "settings": {…}, "urls": {login: …}}
    POST   /databases/NAME/users   201 {"uuid": …, "email": …, "password": …, "session_token": …}
    DELETE /databases/NAME         204
    POST   /buckets                201 {"prefix": …, "settings": {…}}
    DELETE /buckets/PREFIX         204
    GET    /                       200 {"environment": …, "databases": […]}

Every request carries `Authorization: Bearer TOKEN`. An error is {"error": "…"} with 400, 401, 404
or 409 for the caller's mistake and 503 for a server that does not answer. This process alone has
the superuser's password, and hands it to nobody.
"""

from __future__ import annotations

import contextlib
import hmac
import json
import secrets
import threading
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote

from pandom.audit.target import of_outputs
from pandom.ci import create, end, people, records, statements
from pandom.ci.buckets import Places
from pandom.ci.client import TOKEN, URL
from pandom.ci.databases import POOL, Databases
from pandom.ci.people import AlreadyThereError
from pandom.config.outputs import database_url
from pandom.database import cluster
from pandom.host import formats, superuser
from pandom.host.state import clear_outputs
from pandom.objectstore import Account, Endpoint
from pandom.runtime import failures
from pandom.runtime.errors import Failure, UsageError
from pandom.runtime.naming import MINIO_ROOT_USER
from pandom.runtime.numbers import is_number
from pandom.runtime.process import Process
from pandom.runtime.progress import say

_LARGEST: Final = 65_536  # bytes of a request
_DIGITS: Final = 6
_CONTENT_S: Final = 10.0
_LOOK_S: Final = 1.0


@dataclass
class Service:
    """What is handed out; ``contract`` has the settings of the environment's application."""

    contract: Mapping[str, str] = field(repr=False)
    passwords: Mapping[str, str] = field(repr=False)
    databases: Databases
    places: Places
    failures: Path | None = None  # where it is kept what tests that failed had asked

    def status(self) -> dict[str, Any]:
        """Return what is out."""
        return {
            "environment": self.contract[create.ID_NAME],
            "databases": self.databases.given,
        }

    def database(self) -> dict[str, Any]:
        """Take a database."""
        name = self.databases.take()
        given = self.contract
        urls = {
            role: database_url(
                role,
                password,
                int(given["DB_PORT"]),
                given["DB_SSLMODE"],
                given["DB_SSLROOTCERT"],
                name,
            )
            for role, password in self.passwords.items()
        }
        own = {"DB_DATABASE": name, "DATABASE_URL": urls[given["DB_USERNAME"]]}
        return {"name": name, "settings": {**given, **own}, "urls": urls}

    def user(self, name: str, wish: Mapping[str, Any]) -> dict[str, Any]:
        """Sign somebody in."""
        self._refuse_other(name)
        unknown = set(wish) - {"email", "role", "password"}
        texts = all(isinstance(value, str) for value in wish.values())
        if unknown or not texts or "email" not in wish:
            raise UsageError('expected {"email": "…"}, and role or password if you like, as texts.')
        with self.databases.connect(name) as connection:
            return people.sign_in(connection, **wish)

    def failed(self, name: str, said: Mapping[str, Any]) -> dict[str, Any]:
        """Keep the last statements in the database of a test that failed; return them."""
        self._refuse_other(name)
        test, sent = said.get("test"), said.get("statements", [])
        whole = isinstance(sent, list) and all(isinstance(one, str) for one in sent)
        if set(said) - {"test", "statements"} or not isinstance(test, str) or not whole:
            raise UsageError('expected {"test": …}, and statements, a list of texts, if you like.')
        with self.databases.connect(name) as connection:
            lines = statements.last(connection, name)
        lines = [*(statements.without_values(one) for one in sent), *lines]
        if self.failures is not None:
            statements.note(self.failures, test, lines)
        return {"statements": lines}

    def _refuse_other(self, name: str) -> None:
        if name not in self.databases.given:
            raise UsageError(f"{name} was not given out, or was given back already.")

    def place(self) -> dict[str, Any]:
        """Take a place in the bucket."""
        prefix, account = self.places.take()
        own = {"MINIO_ACCESS_KEY": account.access_key, "MINIO_SECRET_KEY": account.secret_key}
        return {"prefix": prefix, "settings": {**self.contract, **own}}

    def close(self) -> None:
        """Take everything back."""
        for one in (self.databases, self.places):
            with contextlib.suppress(Exception):  # the environment may be gone
                one.close()


class Server(ThreadingHTTPServer):
    """Listens on 127.0.0.1 only."""

    daemon_threads = True

    def __init__(self, service: Service, port: int = 0) -> None:
        self.service, self.token = service, secrets.token_urlsafe(24)
        try:
            super().__init__(("127.0.0.1", port), _Handler)
        except (OSError, OverflowError) as error:
            raise UsageError(f"--port {port}: {error}. Nothing was started.") from None

    @property
    def contract(self) -> dict[str, str]:
        """Return what a client needs."""
        return {URL: f"http://127.0.0.1:{self.server_address[1]}", TOKEN: self.token}


class _Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"  # connections stay
    server: Server

    def do_GET(self) -> None:
        self._answer(200, lambda parts: self.server.service.status() if not parts else None)

    def do_POST(self) -> None:
        def work(parts: list[str]) -> Any:
            service = self.server.service
            match parts:
                case ["databases"]:
                    return service.database()
                case ["databases", name, "users"]:
                    return service.user(name, self._body)
                case ["databases", name, "failed"]:
                    return service.failed(name, self._body)
                case ["buckets"]:
                    return service.place()
            return None

        self._answer(201, work)

    def do_DELETE(self) -> None:
        def work(parts: list[str]) -> Any:
            service = self.server.service
            match parts:
                case ["databases", name]:
                    service.databases.give_back(name)
                case ["buckets", prefix]:
                    service.places.give_back(prefix)
                case _:
                    return None
            return {}

        self._answer(204, work)

    def _answer(self, good: int, work: Any) -> None:
        try:
            given = self.headers.get("Authorization", "")
            if not hmac.compare_digest(given.encode(), f"Bearer {self.server.token}".encode()):
                self.close_connection = True  # whatever follows was not read
                self._send(401, {"error": f"expected Authorization: Bearer and ${TOKEN}"})
                return
            self._body = self._read()
            found = work([unquote(one) for one in self.path.strip("/").split("/") if one])
            if found is None:
                self._send(404, {"error": f"there is no {self.command} {self.path}"})
            else:
                self._send(good, found)
        except UsageError as error:
            self._send(409 if isinstance(error, AlreadyThereError) else 400, {"error": str(error)})
        except Exception as error:  # noqa: BLE001 - whatever it is, the caller must be told
            self._send(503, {"error": failures.explain(error)[0]})

    def _read(self) -> Mapping[str, Any]:
        try:
            found = json.loads(self._content() or b"{}")
        except (ValueError, RecursionError):
            raise UsageError("the request's content is not JSON.") from None
        if not isinstance(found, Mapping):
            raise UsageError("the request's content is no JSON object.")
        try:
            json.dumps(found, ensure_ascii=False).encode()
        except UnicodeEncodeError:
            raise UsageError("there is half of a character in the request's content.") from None
        return found

    def _content(self) -> bytes:
        """Return the content; where that fails, nobody knows where the next request begins."""
        reuse, self.close_connection = self.close_connection, True
        given = self.headers.get("Content-Length", "0")
        if "Transfer-Encoding" in self.headers or not is_number(given):
            raise UsageError(f"expected a Content-Length up to {_LARGEST}, found {given!r}.")
        if len(given) > _DIGITS or (length := int(given)) > _LARGEST:
            raise UsageError(f"the request is larger than {_LARGEST} bytes.")
        content, end = b"", time.monotonic() + _CONTENT_S
        with contextlib.suppress(TimeoutError):
            while len(content) < length:
                self.connection.settimeout(max(end - time.monotonic(), 0.001))
                part = self.rfile.read1(length - len(content))
                content += part
                if not part:
                    break
        if len(content) < length:
            raise UsageError(f"expected {length} bytes of content within {_CONTENT_S:.0f} s.")
        self.connection.settimeout(None)
        self.close_connection = reuse
        return content

    def _send(self, status: int, document: Mapping[str, Any]) -> None:
        content = b"" if status == 204 else json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(content)))
        if self.close_connection:
            self.send_header("Connection", "close")
        self.end_headers()
        self.wfile.write(content)

    def log_message(self, *words: object) -> None:
        """Say nothing: paths are names of databases, and stderr is the caller's."""


def run(name: str, port: int, pool: int, form: str, owner: int | None) -> None:
    """Serve an environment until it, or the process ``owner``, ends; print URL and token.

    Raises UsageError when another process serves it.
    """
    if not 1 <= pool <= 64:
        raise UsageError(f"--pool {pool}: expected 1 to 64 databases that are kept ready.")
    record = end.living(name)
    process = None if owner is None else Process.of(owner)
    record.enter()
    server = Server(open_service(record, pool), port)
    listening = threading.Thread(target=server.serve_forever, daemon=True)
    listening.start()
    try:
        print(formats.render(server.contract, form), end="", flush=True)
        say(f"Serving {name}; Ctrl-C ends it.")
        waiting = threading.Event()
        while records.read(record.home) and (process is None or process.lives() is not False):
            waiting.wait(_LOOK_S)
    except KeyboardInterrupt:
        say("Ended.")
    finally:
        server.shutdown()
        server.service.close()


def open_service(record: records.Record, pool: int = POOL) -> Service:
    """Return what is handed out of an environment, whose state home is this process's."""
    exported = superuser.exported(record.stack)
    outputs = clear_outputs(exported)
    login = superuser.login(exported)
    # What tests did to roles, where the one that served them was killed.
    with superuser.database(exported) as server:
        if server is not None:
            server.autocommit = True
            cluster.apply_roles(server, of_outputs(outputs).opt_in)
    superuser.set_passwords(exported)
    if login is None:
        raise Failure(
            f"Environment {record.id} has no server. Next: `pandom ci destroy {record.id}`"
        )
    endpoint = Endpoint("127.0.0.1", int(outputs["minio_port"]), Path(outputs["db_sslrootcert"]))
    root = Account(MINIO_ROOT_USER, superuser.generated(exported)["minio-root"])
    return Service(
        create.contract(record.id, outputs),
        {role: str(password) for role, password in outputs["passwords"].items()},
        Databases(login, pool),
        Places(endpoint, root, str(outputs["minio_bucket_name"])),
        record.failures,
    )
