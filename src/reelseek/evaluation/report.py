"""Reports: tables as Markdown, LaTeX and HTML, pictures and figures, and one HTML file of them all."""

import base64
import html
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import Protocol

__all__ = [
    "STYLE",
    "Examples",
    "Figure",
    "Paragraphs",
    "Picture",
    "Prose",
    "ReportTable",
    "ending",
    "html_report",
    "mean_and_spread",
    "write_tables",
]

STYLE = """
body{font:16px/1.5 system-ui,sans-serif;margin:2rem auto;max-width:72rem;padding:0 1rem;color:#1c2230;background:#fafafa}
h1{font-size:1.7rem}h2{margin-top:2.4rem;font-size:1.2rem;border-bottom:1px solid #d8dbe2}
.wide{overflow-x:auto}table{border-collapse:collapse;margin:1rem 0;background:#fff}th,td{padding:.35rem .8rem;border:1px solid #e3e5ea;text-align:right}
th:first-child,td:first-child{text-align:left}thead th{background:#eef1f6}
.row{display:flex;gap:.9rem;flex-wrap:wrap;margin:.6rem 0 1.6rem}figure{margin:0;width:200px;background:#fff;border:1px solid #e3e5ea;border-radius:6px;overflow:hidden}
figure.right{outline:3px solid #2f9e59}img{width:100%;height:130px;object-fit:cover;display:block;background:#000}
.drawn img{width:auto;max-width:100%;height:auto;background:#fff;border:1px solid #e3e5ea}
dl{display:grid;grid-template-columns:max-content 1fr;gap:.3rem 1rem;margin:0 0 1.6rem}dt{color:#5d6575}dd{margin:0}mark{background:#d9f2e1;color:inherit;border-radius:3px;padding:0 .15em}
figcaption{padding:.4rem .6rem;font-size:.8rem;overflow-wrap:anywhere}q{font-weight:600}small{color:#5d6575}
@media(prefers-color-scheme:dark){body{background:#14171d;color:#e6e9ef}table,figure{background:#1d222b}th,td,figure{border-color:#333a46}thead th{background:#262c37}mark{background:#1f4a30}}
"""


class Part(Protocol):
    """A part of a report."""

    def html(self) -> str: ...

    def markdown(self) -> str: ...


@dataclass(frozen=True)
class ReportTable:
    """A titled table; `note` explains its numbers. A cell (text, address) is a link."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""

    def html(self) -> str:
        head = "".join(f"<th>{html.escape(str(column))}</th>" for column in self.columns)
        body = "".join("<tr>" + "".join(f"<td>{_cell(c)}</td>" for c in row) + "</tr>" for row in self.rows)
        note = f"<p><small>{html.escape(self.note)}</small></p>" if self.note else ""
        table = f"<table><thead><tr>{head}</tr></thead><tbody>{body}</tbody></table>"
        return f"<h2>{html.escape(self.title)}</h2><div class=wide>{table}</div>{note}"

    def markdown(self) -> str:
        """Return GitHub-flavoured Markdown."""
        lines = [[str(column) for column in self.columns], ["---", *["--:"] * (len(self.columns) - 1)]]
        lines += [[_linked(cell) for cell in row] for row in self.rows]
        table = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in line) + " |" for line in lines)
        return f"## {self.title}\n\n{table}\n" + (f"\n{self.note}\n" if self.note else "")

    def latex(self) -> str:
        """Return a LaTeX table with booktabs, for `\\input`."""
        lines = [" & ".join(_latex(_words(cell)) for cell in row) + r" \\" for row in self.rows]
        head = " & ".join(_latex(str(column)) for column in self.columns) + r" \\"
        inner = "\n".join([r"\toprule", head, r"\midrule", *lines, r"\bottomrule"])
        caption = _latex(f"{self.title}. {self.note}".strip())
        columns = "l" + "r" * (len(self.columns) - 1)
        return (
            f"\\begin{{table}}\n\\centering\n\\caption{{{caption}}}\n\\begin{{tabular}}{{{columns}}}\n{inner}\n"
            "\\end{tabular}\n\\end{table}\n"
        )


def _words(cell: object) -> str:
    return str(cell[0]) if isinstance(cell, tuple) else str(cell)


def _linked(cell: object) -> str:
    return f"[{cell[0]}]({cell[1]})" if isinstance(cell, tuple) else str(cell)


def _cell(cell: object) -> str:
    if isinstance(cell, tuple):
        return f'<a href="{html.escape(str(cell[1]), quote=True)}">{html.escape(str(cell[0]))}</a>'
    return html.escape(str(cell))


_LATEX = {
    "\\": r"\textbackslash{}",
    "±": r"$\pm$",
    "→": r"$\rightarrow$",
    "<": r"$<$",
    ">": r"$>$",
    "~": r"\textasciitilde{}",
}
_LATEX |= {sign: f"\\{sign}" for sign in "&%$#_{}"}


def _latex(text: str) -> str:
    return "".join(_LATEX.get(sign, sign) for sign in text)


@dataclass(frozen=True)
class Picture:
    """A thumbnail with a caption; `right` outlines the right answer."""

    jpeg: bytes | None
    caption: str
    right: bool = False

    def html(self) -> str:
        source = f"data:image/jpeg;base64,{base64.b64encode(self.jpeg).decode()}" if self.jpeg else ""
        image = f'<img alt="" src="{source}">' if source else '<img alt="no picture">'
        mark = ' class="right"' if self.right else ""
        return f"<figure{mark}>{image}<figcaption>{html.escape(self.caption)}</figcaption></figure>"


@dataclass(frozen=True)
class Examples:
    """Queries, each with its results, best first."""

    title: str
    rows: Sequence[tuple[str, Sequence[Picture]]]

    def html(self) -> str:
        shown = "".join(
            f"<p><q>{html.escape(query)}</q></p><div class=row>{''.join(p.html() for p in pictures)}</div>"
            for query, pictures in self.rows
        )
        return f"<h2>{html.escape(self.title)}</h2>{shown}"

    def markdown(self) -> str:
        lines = (f"- {query}: " + "; ".join(picture.caption for picture in pictures) for query, pictures in self.rows)
        return f"## {self.title}\n\n" + "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Paragraphs:
    """Pictures, captions of several systems and the human one, whose words are marked in the others."""

    title: str
    pictures: Sequence[Picture]
    written: Sequence[tuple[str, str]]
    truth: str

    def html(self) -> str:
        true_words = set(re.findall(r"[\w']+", self.truth.lower()))

        def marked(text: str) -> str:
            words = (html.escape(word) for word in text.split())
            return " ".join(f"<mark>{w}</mark>" if w.lower().strip(".,;:!?") in true_words else w for w in words)

        rows = "".join(f"<dt>{html.escape(name)}</dt><dd>{marked(text)}</dd>" for name, text in self.written)
        rows += f"<dt>ground truth</dt><dd>{html.escape(self.truth)}</dd>"
        pictures = "".join(picture.html() for picture in self.pictures)
        return f"<h2>{html.escape(self.title)}</h2><div class=row>{pictures}</div><dl>{rows}</dl>"

    def markdown(self) -> str:
        lines = [f"- **{name}**: {text}" for name, text in (*self.written, ("ground truth", self.truth))]
        return f"## {self.title}\n\n" + "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Figure:
    """A figure that was saved as PNG."""

    title: str
    png: Path
    note: str = ""

    def html(self) -> str:
        data = base64.b64encode(self.png.read_bytes()).decode()
        image = f'<img alt="{html.escape(self.title, quote=True)}" src="data:image/png;base64,{data}">'
        note = f"<p><small>{html.escape(self.note)}</small></p>" if self.note else ""
        return f"<h2>{html.escape(self.title)}</h2><div class=drawn>{image}</div>{note}"

    def markdown(self) -> str:
        return f"## {self.title}\n\n![{self.title}]({self.png.name})\n" + (f"\n{self.note}\n" if self.note else "")


@dataclass(frozen=True)
class Prose:
    """Paragraphs, each with a lead in bold."""

    title: str
    rows: Sequence[tuple[str, str]]

    def html(self) -> str:
        rows = "".join(f"<p><b>{html.escape(bold)}</b> {html.escape(text)}</p>" for bold, text in self.rows)
        return f"<h2>{html.escape(self.title)}</h2>{rows}"

    def markdown(self) -> str:
        rows = (f"**{bold}** {text}\n" if bold else f"{text}\n" for bold, text in self.rows)
        return f"## {self.title}\n\n" + "\n".join(rows)


def html_report(title: str, parts: Sequence[Part]) -> str:
    """Return one self-contained HTML page of all parts, one below the other."""
    return (
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport content='width=device-width'>"
        f"<title>{html.escape(title)}</title><style>{STYLE}</style><h1>{html.escape(title)}</h1>"
        f"{''.join(part.html() for part in parts)}</html>\n"
    )


def mean_and_spread(numbers: Sequence[float], form: str = ".1f") -> str:
    """Format the mean and the standard deviation of numbers; of a single number only itself."""
    mean = sum(numbers) / len(numbers)
    return f"{mean:{form}} ± {stdev(numbers):{form}}" if len(numbers) > 1 else f"{mean:{form}}"


def ending(path: Path, suffix: str) -> Path:
    """Append a suffix to a path, or replace the suffix if it is one of a report's.

    >>> ending(Path("table.md"), ".tex").name, ending(Path("run.v2"), ".tex").name
    ('table.tex', 'run.v2.tex')
    """
    replace = path.suffix in (".png", ".svg", ".md", ".tex", ".html")
    return path.with_suffix(suffix) if replace else path.with_name(path.name + suffix)


def write_tables(path: Path, title: str, tables: Sequence[ReportTable], more: Sequence[Part] = ()) -> list[Path]:
    """Write tables to `path` with the suffixes .md, .tex and .html; Markdown and HTML hold `more` too."""
    written = {
        ".md": f"# {title}\n\n" + "\n".join(part.markdown() for part in (*tables, *more)),
        ".tex": "\n".join(table.latex() for table in tables),
        ".html": html_report(title, [*tables, *more]),
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    files = []
    for suffix, text in written.items():
        files.append(ending(path, suffix))
        files[-1].write_text(text, "utf-8")
    return files
