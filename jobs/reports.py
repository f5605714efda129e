"""PDF reports."""

import html
from collections import defaultdict
from datetime import date
from decimal import Decimal, InvalidOperation
from pathlib import Path
from typing import TYPE_CHECKING, Any

from pydantic import EmailStr

from app import Context, Discard, Retry, job
from app.author import progress
from jobs._database import existing_table
from jobs._files import replacing, target
from jobs.email import send_message

if TYPE_CHECKING:
    from sqlalchemy import Engine

MAX_CHARTED_PRODUCTS = 12
MAX_NAME_CHARACTERS = 200
MAX_NUMBER = Decimal(10) ** 15
MAX_DECIMALS = 20

Totals = dict[str, tuple[Decimal, Decimal]]
"""Quantity and amount by product."""


@job(timeout=1800, retry=Retry(max=5, initial=2, on=(OSError,)))
def sales(start: date, end: date, to: EmailStr | None = None, *, context: Context) -> dict[str, Any]:
    """Write a PDF report of the sales from `start` to `end` (inclusive) to storage, and mail it if `to` is given.

    The sales are read from the table `sales`, as created by `imports.load_csv`: date (YYYY-MM-DD), product, quantity,
    price (per unit). Rows whose quantity or price is not a number are counted and left out. The PDF's fonts have Latin
    letters only.

    Returns:
        {"path": str, "rows": int, "unreadable": int, "products": int, "total": "12.50", "mail": as send_message | null}

    Raises:
        Discard: `end` is before `start`, there is no such table or column, or the mail is refused.
    """
    if end < start:
        raise Discard(f"The period ends on {end}, before it starts on {start}")
    totals, rows, unreadable = _read(context.database.engine, start, end)
    path = f"reports/sales-{start}-{end}.pdf"
    with replacing(target(path)) as partial:
        _write(partial, f"Sales from {start} to {end}", totals, unreadable)
    total = f"{sum((amount for _, amount in totals.values()), Decimal()):.2f}"
    mail = None
    if to is not None:
        progress.update(rows, message="mailing")
        mail = send_message(to, f"Sales from {start} to {end}", f"Total: {total}. The report is attached.", None, path)
    result = {"path": path, "rows": rows, "unreadable": unreadable, "products": len(totals), "total": total}
    return {**result, "mail": mail}


def _read(engine: "Engine", start: date, end: date) -> tuple[Totals, int, int]:
    from sqlalchemy import func, select

    totals: Totals = defaultdict(lambda: (Decimal(), Decimal()))
    rows = unreadable = 0
    with engine.connect() as connection:
        table = existing_table(connection, "sales")
        if missing := [name for name in ("date", "product", "quantity", "price") if name not in table.c]:
            raise Discard(f"Table sales has no column {', '.join(missing)}")
        day = func.substr(table.c.date, 1, 10)
        query = select(table.c.product, table.c.quantity, table.c.price).where(
            day.between(start.isoformat(), end.isoformat())
        )
        for product, quantity, price in connection.execution_options(yield_per=1000).execute(query):
            rows += 1
            try:
                number, amount = _number(quantity), _number(quantity) * _number(price)
            except (InvalidOperation, TypeError):
                unreadable += 1
                continue
            old_number, old_amount = totals[product or ""]
            totals[product or ""] = old_number + number, old_amount + amount
            progress.update(rows, message="reading")
    return dict(sorted(totals.items(), key=lambda item: -item[1][1])), rows, unreadable


def _number(text: str) -> Decimal:
    number = Decimal(text)
    if not number.is_finite() or abs(number) > MAX_NUMBER or round(number, MAX_DECIMALS) != number:
        raise InvalidOperation
    return number


def _write(file: Path, title: str, totals: Totals, unreadable: int) -> None:
    from reportlab.lib import colors
    from reportlab.lib.pagesizes import A4
    from reportlab.lib.styles import getSampleStyleSheet
    from reportlab.platypus import Paragraph, SimpleDocTemplate, Spacer, Table, TableStyle

    styles = getSampleStyleSheet()
    parts: list[Any] = [Paragraph(title, styles["Title"])]
    if totals:
        total = sum((amount for _, amount in totals.values()), Decimal())
        lines: list[list[Any]] = [["Product", "Quantity", "Amount"]]
        for product, (quantity, amount) in totals.items():
            name = Paragraph(html.escape(product[:MAX_NAME_CHARACTERS]), styles["BodyText"])
            lines.append([name, f"{quantity:,f}", f"{amount:,.2f}"])
        lines.append(["Total", "", f"{total:,.2f}"])
        table = Table(lines, colWidths=[250, 90, 110], repeatRows=1)
        look = [("ALIGN", (1, 0), (-1, -1), "RIGHT"), ("GRID", (0, 0), (-1, -1), 0.25, colors.grey)]
        look += [("FONTNAME", (0, row), (-1, row), "Helvetica-Bold") for row in (0, -1)]
        table.setStyle(TableStyle(look))
        parts += [table, Spacer(1, 24), _chart(totals)]
    else:
        parts.append(Paragraph("No sales in this period.", styles["BodyText"]))
    if unreadable:
        parts.append(Paragraph(f"{unreadable} rows were left out: no number.", styles["BodyText"]))
    SimpleDocTemplate(str(file), pagesize=A4, title=title).build(parts)


def _chart(totals: Totals) -> Any:
    """Draw a bar chart of the products with the largest amounts."""
    from reportlab.graphics.charts.barcharts import VerticalBarChart
    from reportlab.graphics.shapes import Drawing

    first = list(totals.items())[:MAX_CHARTED_PRODUCTS]
    amounts = [float(amount) for _, (_, amount) in first]
    chart = VerticalBarChart()
    chart.x, chart.y, chart.width, chart.height = 60, 70, 380, 150
    chart.data = [amounts]
    chart.valueAxis.valueMin = min(0, *amounts)
    chart.valueAxis.valueMax = max(*amounts, 0) * 1.1 or 1
    chart.categoryAxis.categoryNames = [product[:16] for product, _ in first]
    chart.categoryAxis.labels.angle = 35
    chart.categoryAxis.labels.boxAnchor = "ne"
    drawing = Drawing(450, 230)
    drawing.add(chart)
    return drawing
