"""The keys job: gives every container its secrets, and makes the stack's CA and certificates.

The only container that runs as root, without network. It reads one uploaded file
(see ``Request``) and writes into one volume per reader; each file belongs to its
reader, mode 0400, in a directory of mode 0500. Everything is written beside its
place and renamed, so a run that was killed leaves old or new files, never halves,
and the next run completes it. A run that finds everything right changes nothing.
"""

from __future__ import annotations

import ipaddress
import json
import os
import shutil
import stat
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import Any, Final

from cryptography import x509
from cryptography.exceptions import InvalidSignature, UnsupportedAlgorithm
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from pandom.runtime.certificates import RENEW_DAYS, line
from pandom.runtime.errors import Failure

REQUEST: Final = Path("/run/pandom-keys.json")
VOLUMES: Final = Path("/keys")
# What `pandom rotate` asks for, once: `certificates` or `ca`.
ASKED: Final = Path("/run/pandom-renew")

NEXT: Final = "next.pem"
FORMER: Final = "former.pem"
CA_DAYS: Final = 3650
# The longest that common TLS clients accept.
SERVER_DAYS: Final = 825
# A client whose clock is behind must not refuse a new certificate.
CLOCK_SKEW: Final = timedelta(hours=1)

# Where each kind of server wants its certificate and its key, and the client that shows one.
_CERTIFICATE_FILES: Final = {
    "postgres": ("server.crt", "server.key"),
    "minio": ("certs/public.crt", "certs/private.key"),
    "backup-server": ("server.crt", "server.key"),
    "backup": ("client.crt", "client.key"),
}
_CLIENTS: Final = frozenset({"backup"})

# Older MinIO servers encrypt users and policies with the root password: after a change
# they need the one before, once, to read them.
_PREVIOUS: Final = {"root_password": "root_password.previous"}


@dataclass(frozen=True)
class Reader:
    """A container that reads secrets: its user, its files and its kind of certificate.

    ``certificate`` names the server or client whose file names it gets, or is None.
    """

    name: str
    uid: int
    files: Mapping[str, str]
    certificate: str | None
    sans: tuple[str, ...]


@dataclass(frozen=True)
class Authority:
    """The stack's CA. While it is rotated, clients trust ``others``, too."""

    key: ec.EllipticCurvePrivateKey
    certificate: x509.Certificate
    others: tuple[x509.Certificate, ...] = ()

    @property
    def pem(self) -> bytes:
        """What everybody may have, and trusts."""
        return b"".join(map(_public_pem, (self.certificate, *self.others)))


def run(request: Path = REQUEST, volumes: Path = VOLUMES, asked: Path = ASKED) -> None:
    """Write every reader's files; print the CA certificate and the servers' fingerprints.

    Raises Failure for a request that cannot be carried out.
    """
    readers = _read(request)
    for name in ("ca", *(reader.name for reader in readers)):
        if not (volumes / name).is_dir():
            raise Failure(
                f"No volume is mounted at {volumes / name}.\n"
                "Next: the keys job mounts one volume for each reader and one for the CA; "
                "run `make up`, which does that."
            )
    wish = asked.read_text().strip() if asked.is_file() else ""
    try:
        done = _rotate(volumes / "ca") if wish == "ca" else wish
        authority = _authority(volumes / "ca")
        lines = [
            line(reader.name, certificate)
            for reader in readers
            if (
                certificate := _write_reader(
                    volumes / reader.name, reader, authority, anew=wish == "certificates"
                )
            )
        ]
        asked.unlink(missing_ok=True)
    except OSError as error:
        raise Failure(
            f"{error.filename or volumes}: {error.strerror}.\n"
            "Next: make room or repair the volume, then run `make up` again; it continues here."
        ) from error
    if done:
        lines.append(f"rotated: {done}")
    sys.stdout.write(authority.pem.decode() + "".join(f"{one}\n" for one in lines))


def _read(path: Path) -> list[Reader]:
    """Return the request, checked: ``{"sans": {reader: [name, …]}, "readers": {reader: {"uid",
    "files", "certificate"}}}``. No message shows a value, which may be a secret."""
    try:
        document = json.loads(path.read_text())
        sans, readers = document["sans"], document["readers"]
        found = [_reader(name, entry, sans) for name, entry in sorted(readers.items())]
    except FileNotFoundError as error:
        raise Failure(f"{path} is missing; `make up` uploads it into this container.") from error
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        # A JSON error would quote the text that it could not read.
        reason = "is not JSON" if isinstance(error, json.JSONDecodeError) else f"lacks {error}"
        if isinstance(error, (TypeError, AttributeError)):
            reason = "has an entry of another type"
        raise Failure(f"{path} {reason}; it must name sans and readers.") from None
    return found


def _reader(name: str, entry: Mapping[str, Any], sans: Mapping[str, list[str]]) -> Reader:
    uid, files, certificate = int(entry["uid"]), entry["files"], entry.get("certificate")
    if name == "ca" or "/" in name:
        raise Failure(f"reader {name}: the name is reserved or is no folder name.")
    if certificate is not None and certificate not in _CERTIFICATE_FILES:
        known = ", ".join(_CERTIFICATE_FILES)
        raise Failure(f"reader {name}: certificate must be one of {known}, found {certificate!r}.")
    for file, value in files.items():
        parts = PurePosixPath(file).parts
        if not parts or ".." in parts or file.startswith("/"):
            raise Failure(f"reader {name}: {file!r} is no path inside the reader's folder.")
        if not isinstance(value, str) or not value:
            raise Failure(f"reader {name}: the secret {file} is empty.")
    names = tuple(sans[name]) if certificate is not None else ()
    if certificate is not None and not names:
        raise Failure(f"reader {name}: a certificate needs at least one name in sans.")
    return Reader(name, uid, files, certificate, names)


# -- certificates -------------------------------------------------------------------


def _now() -> datetime:
    return datetime.now(UTC)


def _lasts(certificate: x509.Certificate) -> bool:
    """Whether it is valid now and for RENEW_DAYS days more."""
    until = certificate.not_valid_after_utc - timedelta(days=RENEW_DAYS)
    return certificate.not_valid_before_utc <= _now() < until


def _pair(text: bytes) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
    """Return a key and its certificate from PEM; None unless both are there and belong together."""
    try:
        key = serialization.load_pem_private_key(text, password=None)
        certificate = x509.load_pem_x509_certificate(text)
    except (ValueError, TypeError, UnsupportedAlgorithm):
        return None
    if isinstance(key, ec.EllipticCurvePrivateKey) and certificate.public_key() == key.public_key():
        return key, certificate
    return None


def _private_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )


def _authority(folder: Path) -> Authority:
    """Return the CA that is there, or a new one. Key and certificate are one file, so that
    there is no moment with one of them only."""
    path = folder / "ca.pem"
    found = _usable(path)
    if found is None:
        found = _new_authority()
        _write(path, _both_pem(*found), os.getuid())
    there = {place: _usable(place) for place in (folder / NEXT, folder / FORMER)}
    others = {place: pair[1] for place, pair in there.items() if pair and pair[1] != found[1]}
    _seal(folder, {path, *others}, os.getuid())
    return Authority(*found, tuple(others.values()))


def _usable(path: Path) -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate] | None:
    found = _pair(_content(path))
    return found if found and _signs_itself(found[1]) and _lasts(found[1]) else None


def _rotate(folder: Path) -> str:
    """One step of a new CA, each of which may be repeated after a kill: make the next, which
    is trusted and signs nothing; let it sign, with the former trusted; forget the former."""
    current, following, former = folder / "ca.pem", folder / NEXT, folder / FORMER
    if _usable(following) and (content := _content(current)):
        if _content(following) != content:
            _write(former, content, os.getuid())
            following.replace(current)
        return "signs"
    if _content(former):
        former.unlink()
        return "alone"
    _write(following, _both_pem(*_new_authority()), os.getuid())
    return "trusted"


def _public_pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _both_pem(key: ec.EllipticCurvePrivateKey, certificate: x509.Certificate) -> bytes:
    return _private_pem(key) + _public_pem(certificate)


def _signs_itself(certificate: x509.Certificate) -> bool:
    try:
        certificate.verify_directly_issued_by(certificate)
    except (InvalidSignature, ValueError, TypeError):
        return False
    return True


def _usage(**used: bool) -> x509.KeyUsage:
    names = (
        "digital_signature",
        "content_commitment",
        "key_encipherment",
        "data_encipherment",
        "key_agreement",
        "key_cert_sign",
        "crl_sign",
        "encipher_only",
        "decipher_only",
    )
    return x509.KeyUsage(**{name: used.get(name, False) for name in names})


def _new_authority() -> tuple[ec.EllipticCurvePrivateKey, x509.Certificate]:
    key = ec.generate_private_key(ec.SECP256R1())
    # The serial number in the name tells two CAs of one stack apart.
    serial = x509.random_serial_number()
    stack = os.environ.get("PANDOM_STACK", "")
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "pandom-stack"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"{stack} CA {serial:x}".strip()[:64]),
        ]
    )
    builder = (
        x509.CertificateBuilder(name, name, key.public_key(), serial)
        .not_valid_before(_now() - CLOCK_SKEW)
        .not_valid_after(_now() + timedelta(days=CA_DAYS))
        .add_extension(x509.BasicConstraints(ca=True, path_length=0), critical=True)
        .add_extension(_usage(key_cert_sign=True, crl_sign=True), critical=True)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
    )
    return key, builder.sign(key, hashes.SHA256())


def _alternative_names(sans: tuple[str, ...]) -> x509.SubjectAlternativeName:
    names: list[x509.GeneralName] = []
    for san in sans:
        try:
            names.append(x509.IPAddress(ipaddress.ip_address(san)))
        except ValueError:
            names.append(x509.DNSName(san))
    return x509.SubjectAlternativeName(names)


def _good(certificate: x509.Certificate, sans: tuple[str, ...], authority: Authority) -> bool:
    """Whether a certificate may stay: of this CA, for these names, not near its end."""
    try:
        certificate.verify_directly_issued_by(authority.certificate)
        names = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (InvalidSignature, ValueError, TypeError, x509.ExtensionNotFound):
        return False
    return set(names) == set(_alternative_names(sans)) and _lasts(certificate)


def _new_certificate(
    sans: tuple[str, ...], authority: Authority, use: x509.ObjectIdentifier
) -> tuple[bytes, bytes]:
    """Return a new key and its certificate, as PEM: certificate, key."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = authority.certificate
    until = min(_now() + timedelta(days=SERVER_DAYS), issuer.not_valid_after_utc)
    builder = (
        x509.CertificateBuilder(
            issuer.subject,
            x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, sans[0])]),
            key.public_key(),
            x509.random_serial_number(),
        )
        .not_valid_before(_now() - CLOCK_SKEW)
        .not_valid_after(until)
        .add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_usage(digital_signature=True), critical=True)
        .add_extension(x509.ExtendedKeyUsage([use]), critical=False)
        .add_extension(_alternative_names(sans), critical=False)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key.public_key()), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()),
            critical=False,
        )
    )
    certificate = builder.sign(authority.key, hashes.SHA256())
    return certificate.public_bytes(serialization.Encoding.PEM), _private_pem(key)


# -- files --------------------------------------------------------------------------


def _write_reader(
    folder: Path, reader: Reader, authority: Authority, anew: bool = False
) -> bytes | None:
    """Bring one reader's volume to exactly the declared files; its certificate (DER), if any."""
    shown = None
    wanted = {folder / name: value.encode() for name, value in reader.files.items()}
    wanted[folder / "ca.crt"] = authority.pem
    if reader.certificate is not None:
        paths = [folder / name for name in _CERTIFICATE_FILES[reader.certificate]]
        texts = tuple(_content(path) for path in paths)
        found = _pair(b"\n".join(texts))
        if anew or found is None or not _good(found[1], reader.sans, authority):
            client = reader.certificate in _CLIENTS
            use = ExtendedKeyUsageOID.CLIENT_AUTH if client else ExtendedKeyUsageOID.SERVER_AUTH
            texts = _new_certificate(reader.sans, authority, use)
        wanted.update(zip(paths, texts, strict=True))
        shown = x509.load_pem_x509_certificate(texts[0]).public_bytes(serialization.Encoding.DER)
    for path, content in (_previous(wanted) | wanted).items():
        _write(path, content, reader.uid)
    wanted.update(_previous(wanted))
    _seal(folder, set(wanted), reader.uid)
    return shown


def _content(path: Path) -> bytes:
    """Return what a regular file holds; nothing for whatever else stands at its place."""
    return path.read_bytes() if path.is_file() and not path.is_symlink() else b""


def _previous(wanted: Mapping[Path, bytes]) -> dict[Path, bytes]:
    """Return the former secrets that a server needs once more after a change; they are written
    before the new ones, so that a kill between the two loses neither."""
    found = {}
    for path in wanted:
        kept = path.with_name(_PREVIOUS.get(path.name, path.name))
        if kept == path or not (content := _content(path)):
            continue
        if content != wanted[path]:
            found[kept] = content
        elif before := _content(kept):
            found[kept] = before
    return found


def _write(path: Path, content: bytes, uid: int) -> None:
    """Put ``content`` in place, 0400 and owned by ``uid``, in one step; no change if it is so."""
    if _is(path, content, uid):
        return
    new = path.with_name(f".{path.name}.new")
    if not path.parent.is_dir() or path.parent.is_symlink():
        path.parent.unlink(missing_ok=True)
        path.parent.mkdir(mode=0o700)
    for place in (path, new):
        # What somebody put there by hand; a folder cannot be renamed over.
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
    new.unlink(missing_ok=True)
    descriptor = os.open(new, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, 0o400)
    with os.fdopen(descriptor, "wb") as file:
        file.write(content)
        os.fchown(descriptor, uid, uid if os.getuid() == 0 else -1)
        os.fchmod(descriptor, 0o400)
        file.flush()
        os.fsync(descriptor)
    new.replace(path)


def _is(path: Path, content: bytes, uid: int) -> bool:
    try:
        found = path.lstat()
    except (FileNotFoundError, NotADirectoryError):
        return False
    right = stat.S_ISREG(found.st_mode) and stat.S_IMODE(found.st_mode) == 0o400
    return right and found.st_uid == uid and path.read_bytes() == content


def _seal(folder: Path, wanted: set[Path], uid: int) -> None:
    """Remove whatever is not wanted, then close the folders: 0500, the reader's."""
    needed = {parent for path in wanted for parent in path.parents} | wanted
    for path in sorted(folder.rglob("*"), reverse=True):
        if path in needed:
            continue
        if path.is_dir() and not path.is_symlink():
            path.rmdir()
        else:
            path.unlink()
    for place in (folder, *(path for path in folder.rglob("*") if path.is_dir())):
        os.chown(place, uid, uid if os.getuid() == 0 else -1)
        place.chmod(0o500)
        descriptor = os.open(place, os.O_RDONLY)
        os.fsync(descriptor)
        os.close(descriptor)
