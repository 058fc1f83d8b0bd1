"""Reports: tables as Markdown, LaTeX and HTML, pictures and figures, and one HTML file of them all."""

import base64
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import stdev
from typing import ClassVar, Protocol

from reelseek.evaluation.pages import render_page

__all__ = [
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


class Part(Protocol):
    """What can be a part of a report; `template` renders it in HTML."""

    template: ClassVar[str]

    def markdown(self) -> str: ...


@dataclass(frozen=True)
class ReportTable:
    """A titled table; `note` explains its numbers. A cell (text, address) is a link."""

    title: str
    columns: Sequence[str]
    rows: Sequence[Sequence[object]]
    note: str = ""
    template: ClassVar[str] = "table.html"

    def cells(self) -> list[list[tuple[str, str | None]]]:
        """Words and address (None: no link) of every cell, by row."""
        return [
            [(_words(cell), str(cell[1]) if isinstance(cell, tuple) else None) for cell in row] for row in self.rows
        ]

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

    @property
    def address(self) -> str:
        """The picture as a data URL."""
        return f"data:image/jpeg;base64,{base64.b64encode(self.jpeg or b'').decode()}"


@dataclass(frozen=True)
class Examples:
    """Queries, each with its results, best first."""

    title: str
    rows: Sequence[tuple[str, Sequence[Picture]]]
    template: ClassVar[str] = "examples.html"

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
    template: ClassVar[str] = "paragraphs.html"

    def marked_words(self) -> list[tuple[str, list[tuple[str, bool]]]]:
        """Each text's words by its author, and whether the ground truth has the word too."""
        truth = set(re.findall(r"[\w']+", self.truth.lower()))
        return [
            (name, [(word, word.lower().strip(".,;:!?") in truth) for word in text.split()])
            for name, text in self.written
        ]

    def markdown(self) -> str:
        lines = [f"- **{name}**: {text}" for name, text in (*self.written, ("ground truth", self.truth))]
        return f"## {self.title}\n\n" + "\n".join(lines) + "\n"


@dataclass(frozen=True)
class Figure:
    """A figure that was saved as PNG."""

    title: str
    png: Path
    note: str = ""
    template: ClassVar[str] = "figure.html"

    @property
    def address(self) -> str:
        """The drawing as a data URL."""
        return f"data:image/png;base64,{base64.b64encode(self.png.read_bytes()).decode()}"

    def markdown(self) -> str:
        return f"## {self.title}\n\n![{self.title}]({self.png.name})\n" + (f"\n{self.note}\n" if self.note else "")


@dataclass(frozen=True)
class Prose:
    """Paragraphs, each with a lead in bold."""

    title: str
    rows: Sequence[tuple[str, str]]
    template: ClassVar[str] = "prose.html"

    def markdown(self) -> str:
        rows = (f"**{bold}** {text}\n" if bold else f"{text}\n" for bold, text in self.rows)
        return f"## {self.title}\n\n" + "\n".join(rows)


def html_report(title: str, parts: Sequence[Part]) -> str:
    """Render tables, figures and rows of pictures, one under the other, as one self-contained page."""
    return render_page("report.html", title=title, parts=parts)


def mean_and_spread(numbers: Sequence[float], form: str = ".1f") -> str:
    """Format the mean and the standard deviation of numbers; of a single number only itself."""
    mean = sum(numbers) / len(numbers)
    return f"{mean:{form}} ± {stdev(numbers):{form}}" if len(numbers) > 1 else f"{mean:{form}}"


def ending(path: Path, suffix: str) -> Path:
    """Append a suffix to a path, or replace the suffix if it is one of a report's.

    >>> ending(Path("table.md"), ".tex").name, ending(Path("run.v2"), ".tex").name
    ('table.tex', 'run.v2.tex')
    """
    replace = path.suffix in (".png", ".svg", ".md", ".tex", ".html", ".json")
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
