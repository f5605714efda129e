"""A storage folder and a database of the test's own, and certificates that the jobs trust."""

import ssl
from collections.abc import Callable
from pathlib import Path

import pytest
import trustme

from app.settings import get_settings


@pytest.fixture
def setting(monkeypatch: pytest.MonkeyPatch) -> Callable[..., None]:
    """Change settings for this test, as SMTP_URL="..."."""

    def change(**values: str) -> None:
        for name, value in values.items():
            monkeypatch.setenv(name, value)
        get_settings.cache_clear()

    return change


@pytest.fixture(autouse=True)
def storage(tmp_path: Path, setting: Callable[..., None], monkeypatch: pytest.MonkeyPatch) -> Path:
    """The storage folder."""
    for name in ("SMTP_URL", "FETCH_ALLOW_HOSTS", "MAIL_FROM"):
        monkeypatch.delenv(name, raising=False)
    folder = tmp_path / "storage"
    folder.mkdir()
    setting(STORAGE_DIR=str(folder), DATA_DIR=str(tmp_path), DATABASE_URL=f"sqlite:///{tmp_path / 'test.db'}")
    return folder


@pytest.fixture
def server_tls(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> ssl.SSLContext:
    """For a server on localhost, by an authority that the jobs trust."""
    authority = trustme.CA()
    authority.cert_pem.write_to_path(tmp_path / "ca.pem")
    monkeypatch.setenv("SSL_CERT_FILE", str(tmp_path / "ca.pem"))
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    authority.issue_cert("localhost").configure_cert(context)
    return context
