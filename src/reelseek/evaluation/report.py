"""A report as one HTML file that needs nothing beside it."""

import base64
import html
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["Picture", "ReportTable", "html_report"]

_STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:68rem;padding:0 1rem;color:#1c2230;background:#fafafa}
h1{font-size:1.7rem}h2{margin-top:2.4rem;font-size:1.2rem;border-bottom:1px solid #d8dbe2}
table{border-collapse:collapse;margin:1rem 0;background:#fff}th,td{padding:.35rem .8rem;border:1px solid #e3e5ea;text-align:right}
th:first-child,td:first-child{text-align:left}thead th{background:#eef1f6}
.row{display:flex;gap:.9rem;flex-wrap:wrap;margin:.6rem 0 1.6rem}figure{margin:0;width:200px;background:#fff;border:1px solid #e3e5ea;border-radius:6px;overflow:hidden}
figure.right{outline:3px solid #2f9e59}img{width:100%;height:130px;object-fit:cover;display:block;background:#000}
figcaption{padding:.4rem .6rem;font-size:.8rem;overflow-wrap:anywhere}q{font-weight:600}small{color:#5d6575}
@media(prefers-color-scheme:dark){body{background:#14171d;color:#e6e9ef}table,figure{background:#1d222b}th,td,figure{border-color:#333a46}thead th{background:#262c37}}
"""


@dataclass(frozen=True)
class ReportTable:
    """A titled table; `note` says how its numbers came to be."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""

    def html(self) -> str:
        head = "".join(f"<th>{html.escape(str(column))}</th>" for column in self.columns)
        body = "".join("<tr>" + "".join(f"<td>{html.escape(str(c))}</td>" for c in row) + "</tr>" for row in self.rows)
        note = f"<p><small>{html.escape(self.note)}</small></p>" if self.note else ""
        return f"<h2>{html.escape(self.title)}</h2><table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>{note}"


@dataclass(frozen=True)
class Picture:
    """A thumbnail with words under it; `right` outlines the right answer."""

    jpeg: bytes | None
    caption: str
    right: bool = False

    def html(self) -> str:
        source = f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}" if self.jpeg else ""
        image = f'<img alt="" src="{source}">' if source else '<img alt="no picture">'
        mark = ' class="right"' if self.right else ""
        return f"<figure{mark}>{image}<figcaption>{html.escape(self.caption)}</figcaption></figure>"


def html_report(title: str, tables: Sequence[ReportTable], rows: Sequence[tuple[str, Sequence[Picture]]]) -> str:
    """Tables, then rows of pictures, each under its query."""
    shown = "".join(
        f"<p><q>{html.escape(query)}</q></p><div class=row>{''.join(p.html() for p in pictures)}</div>"
        for query, pictures in rows
    )
    examples = f"<h2>Queries and the moments found</h2>{shown}" if rows else ""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{_STYLE}</style><h1>{html.escape(title)}</h1>"
        f"{''.join(table.html() for table in tables)}{examples}</html>\n"
    )
