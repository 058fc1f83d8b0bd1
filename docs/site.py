"""What the documentation's site has besides the pages of this folder: the README as its first page, the reference made
from docstrings and from the commands' own help, and the results that pages point to."""

import re
import subprocess
import sys
from pathlib import Path

from mkdocs.config.defaults import MkDocsConfig
from mkdocs.structure.files import File, Files
from mkdocs.structure.pages import Page

import reelseek

ROOT = Path(__file__).parents[1]
RESULTS = "benchmarks/results"
SCREENSHOTS = ROOT / "build" / "screenshots"  # tests of the page make them where there is a browser
_SCREENSHOT = re.compile(r"<!-- screenshot (\w+): (.+?) -->\n?")
ELSEWHERE = {"SYSTEMS", "Direction", "Embedding", "RetrievalModel", "load_model"}  # stand among models and metrics
REFERENCES = {
    "python.md": ("Python", [f"reelseek.{name}" for name in reelseek.__all__ if name not in ELSEWHERE]),
    "tensors.md": ("Losses, blocks and metrics", ["reelseek.losses", "reelseek.blocks", "reelseek.metrics"]),
    "http.md": ("Client", ["reelseek.client.Client", "reelseek.client.AsyncClient"]),
    "extending.md": (
        "Systems and experts",
        ["reelseek.models", "reelseek.experts", "reelseek.testing", "reelseek.errors"],
    ),
}


def on_files(files: Files, config: MkDocsConfig) -> Files:
    """Add the pages and files that do not lie in this folder."""
    for uri, (title, objects) in REFERENCES.items():
        blocks = "\n\n".join(f"::: {name}" for name in objects)
        files.append(File.generated(config, uri, content=f"# {title}\n\n{blocks}\n"))
    files.append(File.generated(config, "index.md", abs_src_path=str(ROOT / "README.md")))
    files.append(File.generated(config, "recipes.md", abs_src_path=str(ROOT / "recipes" / "README.md")))
    files.append(File.generated(config, "commands.md", content=_commands()))
    for picture in sorted(SCREENSHOTS.glob("*.webp")):
        files.append(File.generated(config, f"screenshots/{picture.name}", abs_src_path=str(picture)))
    for result in sorted((ROOT / RESULTS).iterdir()):
        files.append(File.generated(config, f"{RESULTS}/{result.name}", abs_src_path=str(result)))
    return files


def on_page_markdown(markdown: str, page: Page, config: MkDocsConfig, files: Files) -> str:
    """Point links at where the site has the files: the README names pages as `docs/...`, pages results as `../...`."""
    if page.file.src_uri == "index.md":
        return re.sub(r"\]\(docs/", "](", markdown).replace("](recipes/README.md)", "](recipes.md)")
    return _SCREENSHOT.sub(_picture, markdown.replace("](../benchmarks/", "](benchmarks/"))


def _picture(mark: re.Match[str]) -> str:
    """The picture that a mark names, where it was made, so that the site can be built without a browser."""
    name, words = mark.groups()
    return f"![{words}](screenshots/{name}.webp)\n" if (SCREENSHOTS / f"{name}.webp").is_file() else ""


def _commands() -> str:
    """The help of every command, as Markdown."""
    call = [
        sys.executable,
        "-m",
        "typer",
        "reelseek.cli.main",
        "utils",
        "docs",
        "--name",
        "reelseek",
        "--title",
        "Commands",
    ]
    return subprocess.run(call, capture_output=True, text=True, check=True).stdout
