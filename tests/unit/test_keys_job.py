"""The keys job on folders instead of volumes: what it writes, keeps, renews and repairs."""

from __future__ import annotations

import json
import os
import shutil
import stat
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pandom.jobs import keys
from pandom.runtime import certificates
from pandom.runtime.certificates import RENEW_DAYS
from pandom.runtime.errors import Failure

pytestmark = pytest.mark.skipif(
    os.getuid() != 0,
    reason="gives files to other users and writes into closed folders: needs root, as the job has",
)

SUPERUSER = "a-superuser-password-of-32-chars"
NAMES = ["127.0.0.1", "localhost", "postgres"]


class Volumes:
    """A request and the folders of its readers."""

    def __init__(self, root: Path) -> None:
        self.root = root / "keys"
        self.path = root / "request.json"
        self.request: dict[str, Any] = {
            "sans": {"postgres": NAMES, "minio": ["127.0.0.1", "localhost", "minio"]},
            "readers": {
                "postgres": {
                    "uid": 5432,
                    "files": {"superuser_password": SUPERUSER},
                    "certificate": "postgres",
                },
                "minio": {
                    "uid": 9000,
                    "files": {"root_user": "root", "root_password": "p" * 32},
                    "certificate": "minio",
                },
                "operator": {"uid": 7000, "files": {"pandom_user_password": "u" * 32}},
            },
        }
        for name in ("ca", *self.request["readers"]):
            (self.root / name).mkdir(parents=True)

    def run(self, wish: str = "") -> None:
        self.path.write_text(json.dumps(self.request))
        asked = self.path.with_name("asked")
        if wish:
            asked.write_text(wish)
        keys.run(self.path, self.root, asked)
        assert not asked.exists()

    def files(self) -> dict[str, tuple[bytes, int, str, int]]:
        """Path → content, owner, mode, time of the last change in ns."""
        found = {}
        for path in sorted(path for path in self.root.rglob("*") if path.is_file()):
            status = path.stat()
            found[str(path.relative_to(self.root))] = (
                path.read_bytes(),
                status.st_uid,
                oct(stat.S_IMODE(status.st_mode)),
                status.st_mtime_ns,
            )
        return found

    def certificate(self, path: str = "postgres/server.crt") -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.root / path).read_bytes())

    def fingerprint(self, path: str) -> str:
        return self.certificate(path).fingerprint(hashes.SHA256()).hex()


@pytest.fixture
def volumes(tmp_path: Path) -> Volumes:
    return Volumes(tmp_path)


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> Callable[[int], None]:
    """Moves the job's clock: ``later(days)``."""
    now = keys._now

    def move(days: int) -> None:
        monkeypatch.setattr(keys, "_now", lambda: now() + timedelta(days=days))

    return move


def test_every_reader_gets_exactly_its_files_and_nobody_else_can_read_them(
    volumes: Volumes, capsys: pytest.CaptureFixture[str]
) -> None:
    volumes.run()
    found = volumes.files()
    assert {name: (owner, mode) for name, (_, owner, mode, _) in found.items()} == {
        "ca/ca.pem": (0, "0o400"),
        "postgres/ca.crt": (5432, "0o400"),
        "postgres/server.crt": (5432, "0o400"),
        "postgres/server.key": (5432, "0o400"),
        "postgres/superuser_password": (5432, "0o400"),
        "minio/ca.crt": (9000, "0o400"),
        "minio/certs/private.key": (9000, "0o400"),
        "minio/certs/public.crt": (9000, "0o400"),
        "minio/root_password": (9000, "0o400"),
        "minio/root_user": (9000, "0o400"),
        "operator/ca.crt": (7000, "0o400"),
        "operator/pandom_user_password": (7000, "0o400"),
    }
    for folder, owner in {"ca": 0, "postgres": 5432, "minio/certs": 9000}.items():
        status = (volumes.root / folder).stat()
        assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (owner, 0o500)
    assert found["postgres/superuser_password"][0].decode() == SUPERUSER
    # The program and `up` parse this output: the CA's certificate, and what servers show.
    out, err = capsys.readouterr()
    said = certificates.printed(out)
    assert said is not None
    assert (said.authority, err) == (found["postgres/ca.crt"][0].decode(), "")
    assert said.servers == {
        "postgres": volumes.fingerprint("postgres/server.crt"),
        "minio": volumes.fingerprint("minio/certs/public.crt"),
    }
    assert len(out.splitlines()) == len(said.authority.splitlines()) + 2


def test_certificates_name_the_server_and_come_from_the_ca(volumes: Volumes) -> None:
    volumes.run()
    authority = volumes.certificate("postgres/ca.crt")
    for path, alias in (("postgres/server.crt", "postgres"), ("minio/certs/public.crt", "minio")):
        certificate = volumes.certificate(path)
        certificate.verify_directly_issued_by(authority)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        assert names.get_values_for_type(x509.DNSName) == ["localhost", alias]
        assert [str(ip) for ip in names.get_values_for_type(x509.IPAddress)] == ["127.0.0.1"]
        lasts = certificate.not_valid_after_utc - certificate.not_valid_before_utc
        assert lasts <= timedelta(days=826)


def test_a_client_has_a_certificate_for_another_use(volumes: Volumes) -> None:
    """The backup server takes no server's certificate for a client's, and knows it by its name."""
    volumes.request["readers"]["operator"]["certificate"] = "backup"
    volumes.request["sans"]["operator"] = ["pandom-backup"]
    volumes.run()
    found = {
        path: volumes.certificate(path) for path in ("operator/client.crt", "postgres/server.crt")
    }
    uses = [
        list(one.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value)
        for one in found.values()
    ]
    assert uses == [[ExtendedKeyUsageOID.CLIENT_AUTH], [ExtendedKeyUsageOID.SERVER_AUTH]]
    (name,) = found["operator/client.crt"].subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    assert name.value == "pandom-backup"
    before = volumes.files()
    volumes.run()
    assert volumes.files() == before


def test_a_second_run_changes_nothing(volumes: Volumes) -> None:
    volumes.run()
    before = volumes.files()
    volumes.run()
    assert volumes.files() == before


def test_a_changed_secret_changes_only_its_file(volumes: Volumes) -> None:
    volumes.run()
    before = volumes.files()
    volumes.request["readers"]["postgres"]["files"]["superuser_password"] = "another" * 5
    volumes.run()
    after = volumes.files()
    assert {name for name in after if after[name] != before[name]} == {
        "postgres/superuser_password"
    }


def test_the_object_store_keeps_the_root_password_before(volumes: Volumes) -> None:
    files = volumes.request["readers"]["minio"]["files"]
    previous = volumes.root / "minio" / "root_password.previous"
    volumes.run()
    assert not previous.exists()
    first, files["root_password"] = files["root_password"], "second" * 6
    for _ in range(2):  # a run that changes nothing keeps it
        volumes.run()
        assert previous.read_text() == first
        assert (previous.stat().st_uid, stat.S_IMODE(previous.stat().st_mode)) == (9000, 0o400)
    files["root_password"] = "third" * 6
    volumes.run()
    assert previous.read_text() == "second" * 6


def test_files_no_longer_declared_are_removed(volumes: Volumes) -> None:
    volumes.request["readers"]["operator"]["files"]["old_password"] = "o" * 32
    volumes.request["readers"]["operator"]["certificate"] = "minio"
    volumes.request["sans"]["operator"] = ["localhost"]
    volumes.run()
    assert (volumes.root / "operator/certs/private.key").exists()
    del volumes.request["readers"]["operator"]["files"]["old_password"]
    del volumes.request["readers"]["operator"]["certificate"]
    volumes.run()
    left = {path.name for path in (volumes.root / "operator").rglob("*")}
    assert left == {"ca.crt", "pandom_user_password"}


def test_a_change_of_names_renews_one_certificate_under_the_same_ca(volumes: Volumes) -> None:
    volumes.run()
    before = volumes.files()
    volumes.request["sans"]["postgres"] = [*NAMES, "database.example"]
    volumes.run()
    after = volumes.files()
    assert {name for name in after if after[name] != before[name]} == {
        "postgres/server.crt",
        "postgres/server.key",
    }


def test_certificates_are_renewed_before_they_end_and_the_ca_is_kept(
    volumes: Volumes, later: Callable[[int], None]
) -> None:
    volumes.run()
    before = volumes.files()
    later(keys.SERVER_DAYS - RENEW_DAYS - 1)
    volumes.run()
    assert volumes.files() == before
    later(keys.SERVER_DAYS - RENEW_DAYS + 1)
    volumes.run()
    after = volumes.files()
    assert after["postgres/server.crt"] != before["postgres/server.crt"]
    assert after["ca/ca.pem"] == before["ca/ca.pem"]


def test_a_new_ca_renews_every_certificate(volumes: Volumes, later: Callable[[int], None]) -> None:
    volumes.run()
    before = volumes.files()
    later(keys.CA_DAYS - RENEW_DAYS + 1)
    volumes.run()
    after = volumes.files()
    for name in ("ca/ca.pem", "operator/ca.crt", "postgres/server.crt", "minio/certs/public.crt"):
        assert after[name] != before[name]
    volumes.certificate().verify_directly_issued_by(volumes.certificate("operator/ca.crt"))


def test_certificates_are_made_anew_once_when_asked_for(volumes: Volumes) -> None:
    volumes.run()
    before = volumes.files()
    volumes.run("certificates")
    after = volumes.files()
    pairs = {f"postgres/server.{end}" for end in ("crt", "key")}
    pairs |= {f"minio/certs/{name}" for name in ("public.crt", "private.key")}
    assert {name for name in after if after[name] != before[name]} == pairs
    volumes.certificate().verify_directly_issued_by(volumes.certificate("postgres/ca.crt"))
    volumes.run()
    assert volumes.files() == after


def test_a_new_ca_is_trusted_then_signs_then_stands_alone(
    volumes: Volumes, capsys: pytest.CaptureFixture[str]
) -> None:
    """Clients that have the file of one step get on with the servers of the next."""

    def trusted() -> list[x509.Certificate]:
        (found,) = {path.read_bytes() for path in volumes.root.glob("*/ca.crt")}
        printed = certificates.printed(capsys.readouterr().out)
        assert printed is not None
        assert printed.authority.encode() == found
        return x509.load_pem_x509_certificates(found)

    def signer() -> x509.Certificate:
        shown = volumes.certificate()
        found = next(one for one in (*first, *both) if one.subject == shown.issuer)
        shown.verify_directly_issued_by(found)
        return found

    volumes.run()
    first = trusted()
    both: list[x509.Certificate] = []
    for wish in ("ca", ""):  # a run in between changes nothing
        volumes.run(wish)
        both = trusted()
        assert (len(both), both[:1], signer()) == (2, first, first[0])
    new = both[1]
    for wish in ("ca", ""):
        volumes.run(wish)
        assert (trusted(), signer()) == ([new, first[0]], new)
    for wish in ("ca", ""):
        volumes.run(wish)
        assert (trusted(), signer()) == ([new], new)
    assert [path.name for path in (volumes.root / "ca").iterdir()] == ["ca.pem"]


def test_a_new_ca_killed_at_any_write_goes_on(
    volumes: Volumes, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """At each moment one of the trusted certificates vouches for what servers have."""
    volumes.run()
    write = keys._write
    for step in range(3):
        ended = False
        for moment in range(40):
            again = tmp_path / f"{step}-{moment}"
            shutil.copytree(volumes.root, again / "keys")
            (again / "asked").write_text("ca")
            left = [moment]

            def counted(path: Path, content: bytes, uid: int, left: list[int] = left) -> None:
                if not left[0]:
                    raise KeyboardInterrupt
                left[0] -= 1
                write(path, content, uid)

            with monkeypatch.context() as patched:
                patched.setattr(keys, "_write", counted)
                try:
                    keys.run(volumes.path, again / "keys", again / "asked")
                    ended = True
                except KeyboardInterrupt:
                    pass
            keys.run(volumes.path, again / "keys", tmp_path / "nothing asked")
            text = (again / "keys/postgres/server.crt").read_bytes()
            trusted = (again / "keys/postgres/ca.crt").read_bytes()
            issuer = x509.load_pem_x509_certificate(text).issuer
            assert issuer in [one.subject for one in x509.load_pem_x509_certificates(trusted)]
            if ended:
                break
        assert ended
        volumes.run("ca")


@pytest.mark.parametrize(
    "broken", ["ca/ca.pem", "postgres/server.crt", "postgres/server.key", "postgres/ca.crt"]
)
@pytest.mark.parametrize("content", [b"", b"half of a f"], ids=["empty", "half"])
def test_a_broken_file_is_made_anew(volumes: Volumes, broken: str, content: bytes) -> None:
    volumes.run()
    (volumes.root / broken).write_bytes(content)
    volumes.run()
    volumes.certificate().verify_directly_issued_by(volumes.certificate("minio/ca.crt"))
    again = volumes.files()
    volumes.run()
    assert volumes.files() == again


@pytest.mark.parametrize(
    "place",
    ["ca/ca.pem", "postgres/server.key", "minio/certs/public.crt", "operator/pandom_user_password"],
)
@pytest.mark.parametrize("kind", ["missing", "folder", "link"])
def test_whatever_stands_in_a_files_place_is_replaced(
    volumes: Volumes, tmp_path: Path, place: str, kind: str
) -> None:
    volumes.run()
    wanted = set(volumes.files())
    path = volumes.root / place
    path.unlink()
    if kind == "folder":
        (path / "inside").mkdir(parents=True)
    elif kind == "link":
        path.symlink_to(tmp_path / "elsewhere")
    volumes.run()
    assert path.is_file()
    assert not path.is_symlink()
    assert set(volumes.files()) == wanted
    volumes.certificate().verify_directly_issued_by(volumes.certificate("minio/ca.crt"))


def test_a_file_in_a_folders_place_is_replaced(volumes: Volumes) -> None:
    volumes.run()
    shutil.rmtree(volumes.root / "minio/certs")
    (volumes.root / "minio/certs").write_text("no folder")
    volumes.run()
    assert (volumes.root / "minio/certs/private.key").is_file()


def test_a_ca_whose_signature_is_damaged_is_made_anew(volumes: Volumes) -> None:
    volumes.run()
    path = volumes.root / "ca/ca.pem"
    key, _, _ = path.read_bytes().partition(b"-----BEGIN CERTIFICATE-----")
    der = bytearray(volumes.certificate("operator/ca.crt").public_bytes(Encoding.DER))
    der[-1] ^= 1
    path.write_bytes(key + x509.load_der_x509_certificate(bytes(der)).public_bytes(Encoding.PEM))
    volumes.run()
    authority = volumes.certificate("operator/ca.crt")
    authority.verify_directly_issued_by(authority)


def test_how_long_a_certificate_lasts(volumes: Volumes, later: Callable[[int], None]) -> None:
    later(-keys.SERVER_DAYS + RENEW_DAYS - 1)
    volumes.run()
    near = volumes.certificate().public_bytes(Encoding.DER)
    assert "ends in" in str(certificates.lasting(near)[1])
    later(RENEW_DAYS - 1)
    volumes.run()
    fresh = volumes.certificate().public_bytes(Encoding.DER)
    assert fresh != near
    later(-keys.SERVER_DAYS - 1)
    shutil.rmtree(volumes.root / "postgres")
    (volumes.root / "postgres").mkdir()
    volumes.run()
    with pytest.raises(Failure, match="ended on"):
        certificates.lasting(volumes.certificate().public_bytes(Encoding.DER))


def test_a_run_killed_at_any_write_is_completed_by_the_next(
    volumes: Volumes, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """Dies at each rename in turn, as a kill would: what is on disk then is what is left."""
    replace = Path.replace
    volumes.run()
    complete = set(volumes.files())
    for survived in range(len(complete)):
        again = Volumes(tmp_path / str(survived))
        done = 0

        def dying(self: Path, target: Path) -> Path:
            nonlocal done
            if done == survived:  # noqa: B023 - used within the same round only
                raise KeyboardInterrupt
            done += 1
            return replace(self, target)

        monkeypatch.setattr(Path, "replace", dying)
        with pytest.raises(KeyboardInterrupt):
            again.run()
        monkeypatch.setattr(Path, "replace", replace)
        for content, _, mode, _ in again.files().values():
            assert content, "a half-written file"
            assert mode == "0o400"
        again.run()
        assert set(again.files()) == complete
        again.certificate().verify_directly_issued_by(again.certificate("minio/ca.crt"))


def test_a_wrong_owner_or_mode_is_repaired(volumes: Volumes) -> None:
    volumes.run()
    os.chown(volumes.root / "postgres/server.key", 7000, 7000)
    (volumes.root / "minio/root_password").chmod(0o644)
    (volumes.root / "operator").chmod(0o777)
    volumes.run()
    found = volumes.files()
    assert found["postgres/server.key"][1] == 5432
    assert found["minio/root_password"][2] == "0o400"
    assert stat.S_IMODE((volumes.root / "operator").stat().st_mode) == 0o500


def _edit(path: str, value: Any) -> Callable[[dict[str, Any]], None]:
    def edit(request: dict[str, Any]) -> None:
        *parents, last = path.split("/")
        for name in parents:
            request = request[name]
        request[last] = value

    return edit


@pytest.mark.parametrize(
    ("edit", "message"),
    [
        (_edit("readers/postgres/files/superuser_password", ""), "superuser_password is empty"),
        (_edit("readers/postgres/files", {"../x": "secret"}), "no path inside"),
        (_edit("readers/postgres/files", ["secret"]), "another type"),
        (_edit("readers/postgres/certificate", "pem"), "must be one of postgres, minio"),
        (_edit("readers/ca", {"uid": 1, "files": {}}), "reserved"),
        (_edit("readers/nobody", {"uid": 1, "files": {}}), "No volume is mounted"),
        (_edit("readers/postgres", {"files": {}}), "lacks 'uid'"),
        (_edit("sans/postgres", []), "at least one name"),
        (_edit("sans", {}), "lacks 'minio'"),
    ],
)
def test_a_bad_request_is_refused_with_its_reason_and_writes_nothing(
    volumes: Volumes, edit: Callable[[dict[str, Any]], None], message: str
) -> None:
    edit(volumes.request)
    with pytest.raises(Failure, match=message):
        volumes.run()
    assert volumes.files() == {}


@pytest.mark.parametrize("text", ["", "{", f'{{"sans": "{SUPERUSER}'])
def test_an_unreadable_request_is_refused_without_quoting_it(volumes: Volumes, text: str) -> None:
    volumes.path.write_text(text)
    with pytest.raises(Failure, match="is not JSON") as refused:
        keys.run(volumes.path, volumes.root)
    assert SUPERUSER not in str(refused.value)
    assert refused.value.__suppress_context__


def test_a_missing_request_is_named(volumes: Volumes) -> None:
    with pytest.raises(Failure, match=r"request\.json is missing"):
        keys.run(volumes.path, volumes.root)
