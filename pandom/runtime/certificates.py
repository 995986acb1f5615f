"""A stack's certificates as seen from the host: what the keys job printed, what servers show."""

from __future__ import annotations

import hashlib
import re
import socket
import ssl
from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Final

from pandom.runtime.errors import Failure
from pandom.runtime.paths import ca_certificate

# A certificate with less left is renewed by the next `up`; until then health warns.
RENEW_DAYS: Final = 30
CONNECT_S: Final = 5.0

_END: Final = "-----END CERTIFICATE-----"
# While the CA is rotated it is two, one after the other.
_PEM: Final = re.compile(rf"(?:-----BEGIN CERTIFICATE-----[^-]+{_END}\s*)+")
_LINE: Final = re.compile(r"^certificate of ([\w-]+): sha256 ([0-9a-f]{64})$", re.MULTILINE)


@dataclass(frozen=True)
class Printed:
    """What the keys job printed last: the CA's certificate and each server's fingerprint."""

    authority: str
    servers: Mapping[str, str]


def line(server: str, certificate: bytes) -> str:
    """Return what the keys job prints of a server's certificate (DER)."""
    return f"certificate of {server}: sha256 {fingerprint(certificate)}"


def printed(log: str) -> Printed | None:
    """Parse the last run in a keys job's log; None without a certificate."""
    found = _PEM.findall(log)
    if not found:
        return None
    # A restarted job appends to its log: the last block counts.
    return Printed(found[-1].strip() + "\n", dict(_LINE.findall(log)))


def keep(stack: str, authority: str) -> bool:
    """Write the CA's certificate to where clients look for it; False if it stood there."""
    target = ca_certificate(stack)
    try:
        if target.read_text() == authority:
            return False
    except (OSError, UnicodeDecodeError):
        pass  # missing or damaged
    target.parent.mkdir(parents=True, exist_ok=True)
    if target.is_dir() and not target.is_symlink():
        target.rmdir()  # Docker makes one when somebody mounts the file while it is missing
    partial = target.with_suffix(".partial")
    partial.write_text(authority)
    partial.replace(target)
    return True


def fingerprint(certificate: bytes) -> str:
    """Return SHA-256 of a certificate (DER), as text."""
    return hashlib.sha256(certificate).hexdigest()


def served(port: int) -> bytes:
    """Return the certificate (DER) that a server of the stack shows on 127.0.0.1, trusted or not.

    Raises OSError when nobody answers with TLS.
    """
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.verify_mode = ssl.CERT_NONE
    # PostgreSQL 17 accepts direct TLS from clients that name its protocol.
    context.set_alpn_protocols(["postgresql", "http/1.1"])
    with (
        socket.create_connection(("127.0.0.1", port), CONNECT_S) as plain,
        context.wrap_socket(plain) as secure,
    ):
        return secure.getpeercert(binary_form=True) or b""


def der(authority: str) -> bytes:
    """Return the first of PEM certificates as DER. Raises ValueError for what is none."""
    return ssl.PEM_cert_to_DER_cert(authority.partition(_END)[0] + _END)


def lasting(certificate: bytes) -> tuple[str, str | None]:
    """Return how long a certificate (DER) lasts, and a warning; raises Failure if it expired."""
    from cryptography import x509

    end = x509.load_der_x509_certificate(certificate).not_valid_after_utc
    now = datetime.now(UTC)
    if end <= now:
        raise Failure(f"ended on {end:%Y-%m-%d %H:%M} UTC; `pandom up` makes a new one")
    near = end - now < timedelta(days=RENEW_DAYS)
    warning = f"ends in {(end - now).days} days; `pandom up` makes a new one" if near else None
    return f"until {end:%Y-%m-%d}", warning
