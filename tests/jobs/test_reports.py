"""The PDF, read back."""

from datetime import date
from pathlib import Path

import pytest
from pypdf import PdfReader

from app import Discard
from tests.jobs.bound import load_csv, sales

JANUARY = date(2025, 1, 1), date(2025, 1, 31)


@pytest.fixture(autouse=True)
def sold(storage: Path) -> None:
    (storage / "sales.csv").write_text(
        "date,product,quantity,price\n"
        "2025-01-01,Tea <b>& co,3,0.10\n"
        "2025-01-31,Coffee,2,1234.56\n"
        "2025-01-31T23:59:59,Coffee,1,0.01\n"
        "2025-01-15,Coffee,many,1\n"
        "2025-01-15,Coffee,NaN,1\n"
        "2025-01-15,Coffee,1e-999999,1\n"
        "2025-02-01,Coffee,5,9\n"
        "2025-03-01,Refund,-1,9\n"
    )
    load_csv("sales.csv", "sales")


def text(storage: Path, path: str) -> str:
    return "\n".join(page.extract_text() for page in PdfReader(storage / path).pages)


def test_totals_are_exact(storage: Path) -> None:
    result = sales(*JANUARY)
    path = "reports/sales-2025-01-01-2025-01-31.pdf"
    assert result == {"path": path, "rows": 6, "unreadable": 3, "products": 2, "total": "2469.43", "mail": None}
    shown = text(storage, path)
    for part in (
        "Sales from 2025-01-01 to 2025-01-31",
        "Tea <b>& co",
        "0.30",
        "2,469.13",
        "2,469.43",
        "3 rows were left",
    ):
        assert part in shown


def test_an_empty_period_says_so(storage: Path) -> None:
    result = sales(date(2024, 1, 1), date(2024, 1, 1))
    assert result["rows"] == 0
    assert result["total"] == "0.00"
    assert "No sales in this period" in text(storage, result["path"])


def test_a_refund_is_negative(storage: Path) -> None:
    assert sales(date(2025, 3, 1), date(2025, 3, 31))["total"] == "-9.00"


def test_it_is_mailed() -> None:
    mail = sales(*JANUARY, to="boss@example.com")["mail"]
    assert mail["to"] == ["boss@example.com"]
    assert mail["sent"] is False


def test_a_period_that_ends_before_it_starts() -> None:
    with pytest.raises(Discard, match="before it starts"):
        sales(date(2025, 2, 1), date(2025, 1, 1))


def test_no_table(setting: object, storage: Path) -> None:
    (storage.parent / "test.db").unlink()
    with pytest.raises(Discard, match="no table 'sales'"):
        sales(*JANUARY)
