"""Build the documentation into site/; neither that nor reading it needs a network.

Open `site/index.html`; for the search too, `python -m http.server --directory site`, as browsers
let no page start a worker from a file.

    uv run scripts/build_docs.py            # after writing what is generated of the sources
    uv run scripts/build_docs.py --links    # asks for each address outside as well

Generated and kept: `docs/reference/command-line.md`, of the command itself, and `docs/llms.txt`, of
the navigation. Generated and not kept: the pages as Markdown beside the HTML, and `llms-full.txt`,
which is all of them.
"""

from __future__ import annotations

import argparse
import html
import importlib
import inspect
import re
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
SITE = ROOT / "site"
SNIPPET = re.compile(r'^( *)--8<-- "(.+)"$', re.MULTILINE)
ADDRESS = re.compile(r"https?://\w[^\s)>\"'`]*")
INSIDE = re.compile(r"https?://(localhost|127\.|[\w.]*example)")
REFERENCE = re.compile(r"^::: (\S+)$", re.MULTILINE)


def pages(nav: list[Any] | None = None, part: str = "") -> Iterator[tuple[str, str, str]]:
    """The pages of the navigation, in its order: the part they are in, their title, their file."""
    if nav is None:
        nav = tomllib.loads((ROOT / "zensical.toml").read_text("utf-8"))["project"]["nav"]
    for entry in nav:
        ((title, target),) = entry.items()
        if isinstance(target, list):
            yield from pages(target, title)
        else:
            yield part, title, target


def markdown(page: str) -> str:
    """A page with what it includes, and with what a reference says in a line each."""

    def included(found: re.Match[str]) -> str:
        text = (ROOT / found[2]).read_text("utf-8").rstrip("\n")
        return "\n".join(f"{found[1]}{line}".rstrip() for line in text.split("\n"))

    def listed(found: re.Match[str]) -> str:
        module = importlib.import_module(found[1])
        lines = [f"- `{name}`: {_said_of(getattr(module, name))}" for name in module.__all__]
        return "\n".join(lines)

    text = (DOCS / page).read_text("utf-8")
    return REFERENCE.sub(listed, SNIPPET.sub(included, text))


def _said_of(thing: Any) -> str:
    is_alias = not inspect.isroutine(thing) and not hasattr(thing, "__name__")
    of = type(thing) if is_alias and type(thing).__module__.startswith("plait") else thing
    return (inspect.getdoc(of) or "").partition("\n\n")[0].replace("\n", " ")


def command_line() -> str:
    """The page of the `plait` command."""
    typer = [sys.executable, "-m", "typer", "plait.cli._app", "utils", "docs", "--name", "plait"]
    done = subprocess.run(typer, check=True, capture_output=True, text=True)
    text = html.unescape(done.stdout).replace("# `plait`", "# The plait command", 1)
    return re.sub(r" +$", "", text, flags=re.MULTILINE).rstrip("\n") + "\n"


def llms() -> str:
    """The list of pages, in the form of llmstxt.org."""
    parts: dict[str, list[str]] = {}
    for part, title, page in pages():
        parts.setdefault(part or "Pages", []).append(f"- [{title}]({page})")
    lines = [f"## {part}\n\n" + "\n".join(listed) for part, listed in parts.items()]
    about = f"# plait\n\n> {_first_paragraph('index.md')}"
    whole = "All of them in one file: [llms-full.txt](llms-full.txt)\n"
    return "\n\n".join([about, *lines, whole])


def _first_paragraph(page: str) -> str:
    text = markdown(page).partition("\n\n")[2].partition("\n\n")[0]
    return text.replace("\n", " ")


def llms_full() -> str:
    """All pages, one after the other."""
    return "\n\n".join(markdown(page).strip("\n") for _, _, page in pages()) + "\n"


def generate() -> None:
    """Write what is generated and kept."""
    (DOCS / "reference/command-line.md").write_text(command_line(), "utf-8")
    (DOCS / "llms.txt").write_text(llms(), "utf-8")


def build() -> None:
    """Build the site; a warning is an error."""
    zensical = [sys.executable, "-m", "zensical", "build", "--clean", "--strict"]
    subprocess.run(zensical, cwd=ROOT, check=True)
    for _, _, page in pages():
        (SITE / page).write_text(markdown(page), "utf-8")
    (SITE / "llms-full.txt").write_text(llms_full(), "utf-8")


def addresses() -> list[str]:
    """The addresses outside that the pages name, apart from those of examples."""
    texts = [path.read_text("utf-8") for path in (ROOT / "README.md", *DOCS.rglob("*.md"))]
    found = {url.rstrip(".,;:") for text in texts for url in ADDRESS.findall(text)}
    return sorted(url for url in found if not INSIDE.match(url))


def check_links() -> int:
    """Ask for each address outside; the number of those that do not answer well."""
    import httpx

    bad = 0
    with httpx.Client(follow_redirects=True, timeout=20) as client:
        for url in addresses():
            try:
                said = str(client.get(url).status_code)
            except httpx.HTTPError as error:
                said = repr(error)
            bad += said != "200"
            print(f"{said}  {url}")
    return bad


def main() -> None:
    """What the command does."""
    parser = argparse.ArgumentParser(description=(__doc__ or "").partition("\n")[0])
    parser.add_argument("--links", action="store_true", help="ask for each address outside, too")
    options = parser.parse_args()
    generate()
    build()
    if options.links:
        sys.exit(min(check_links(), 1))


if __name__ == "__main__":
    main()
