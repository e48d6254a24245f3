"""Certificates for HTTPS at the local listener: the user's own, or one for localhost that we make."""

from __future__ import annotations

import ssl
import time
from datetime import UTC, datetime, timedelta
from pathlib import Path

from scaffold.core import files, locks
from scaffold.errors import MachineError, UsageError

NAMES = ("localhost", "127.0.0.1", "::1")
DAYS = 800  # that ours is valid: macOS refuses more than 825
RENEWED = 700 * 86400.0  # seconds after which it is made anew


def authority() -> Path:
    """The certificate that signed ours; a client that trusts it trusts every local listener of this user."""
    return files.data_dir() / "tls" / "authority.pem"


def of_localhost() -> Path:
    """The file with our certificate for localhost and its key, made if need be. The authority's key is lost.

    Raises `MachineError` without the library that makes it.
    """
    path = authority().with_name("localhost.pem")
    files.private(path.parent)
    with locks.lock(path.with_suffix(".lock"), doing="making a certificate"):
        if not path.exists() or time.time() - path.stat().st_mtime > RENEWED:
            _make(path)
    return path


def _make(path: Path) -> None:
    try:
        import trustme
    except ImportError as error:
        raise MachineError(
            "a certificate for localhost takes the library trustme, which isn't installed",
            hint="`pip install trustme`, or pass --tls-cert FILE and --tls-key FILE",
        ) from error
    now = datetime.now(UTC)
    made = trustme.CA(organization_name="proxy-wasm-scaffold")
    own = made.issue_cert(*NAMES, not_before=now - timedelta(days=1), not_after=now + timedelta(days=DAYS))
    files.write(authority(), made.cert_pem.bytes())
    files.write(path, own.private_key_and_cert_chain_pem.bytes(), mode=0o600)


def check(certificate: Path, key: Path) -> None:
    """Raise `UsageError` unless the files are a certificate and its key, which needs no password."""
    try:
        ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER).load_cert_chain(certificate, key, password="")
    except (OSError, ValueError) as error:
        why = getattr(error, "reason", None) or getattr(error, "strerror", None) or error
        raise UsageError(
            f"{certificate} and {key} aren't a certificate and its key: {why}",
            hint="both are in PEM, and the key without a password",
        ) from error


def trusting(certificate: Path) -> ssl.SSLContext:
    """A client's context for a listener of ours, which shows exactly this certificate, whatever its name."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.check_hostname = False
    context.load_verify_locations(certificate)
    context.verify_flags |= ssl.VERIFY_X509_PARTIAL_CHAIN
    return context
