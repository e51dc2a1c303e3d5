"""Every example in the docstrings and every Python block in the documents runs; links lead on."""

import doctest
import importlib
import importlib.util
import logging
import pkgutil
import re
import sys
import zlib
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from urllib.parse import unquote, urlsplit

import pytest
import structlog
from markdown.extensions.toc import slugify

import plait
from plait.observability import _settings

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "CHANGELOG.md", *PAGES]
PACKAGES = [
    "plait",
    *(f"plait.{module.name}" for module in pkgutil.iter_modules(plait.__path__)),
]
REFERENCES = {name for name in PACKAGES if name not in {"plait.primitives", "plait.cli"}}
PYTHON = re.compile(r'^```python(?: title="(\S+)")?\n(.*?)^```', re.DOTALL | re.MULTILINE)


@pytest.fixture(autouse=True)
def _process_as_it_was(monkeypatch: pytest.MonkeyPatch):
    """What an example sets up for its whole process is taken back when it has run."""
    root = logging.getLogger()
    handlers, level = [*root.handlers], root.level
    structured = structlog.get_config() if structlog.is_configured() else None
    monkeypatch.setattr(_settings, "_settings", _settings.settings())
    yield
    if structured is None:
        structlog.reset_defaults()
    else:
        structlog.configure(**structured)
    root.setLevel(level)
    for handler in set(root.handlers).difference(handlers):
        root.removeHandler(handler)


class _Finder(doctest.DocTestFinder):
    """Finds what a package publishes, although it is written in a module inside of it."""

    def _from_module(self, module: ModuleType, object: Any) -> bool:
        is_method = "." in getattr(object, "__qualname__", ".")
        return is_method or object.__module__ == module.__name__


def _docstring_examples() -> list[Any]:
    names = [module.name for module in pkgutil.walk_packages(plait.__path__, "plait.")]
    modules = [importlib.import_module(name) for name in ("plait", *names)]
    found = (example for module in modules for example in _Finder().find(module))
    return [pytest.param(example, id=example.name) for example in found if example.examples]


@pytest.mark.parametrize("example", _docstring_examples())
def test_docstring_example_runs(example: doctest.DocTest, capsys: pytest.CaptureFixture[str]):
    runner = doctest.DocTestRunner(optionflags=doctest.ELLIPSIS)
    results = runner.run(example)
    assert results.failed == 0, capsys.readouterr().out


def has_blocks(document: Path) -> bool:
    return any(not file for file, _ in PYTHON.findall(document.read_text()))


@pytest.mark.timeout(300)  # some start processes
@pytest.mark.parametrize(
    "document", [path for path in DOCUMENTS if has_blocks(path)], ids=lambda path: path.name
)
def test_code_blocks_of_a_document_run_one_after_the_other(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    for file, block in PYTHON.findall(document.read_text()):
        if file:
            Path(file).write_text(block)
        else:
            exec(compile(block, str(document), "exec"), vars(module))


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_no_block_is_of_a_kind_that_no_test_runs(document: Path):
    kinds = set(re.findall(r"^```(\w+)", document.read_text(), re.MULTILINE))
    shown = {"sh", "text"}  # for a shell of the reader's; what is printed
    if document.name == "tutorial.md":
        shown |= {"console"}  # tests/test_tutorial.py runs them
    elif document.name.startswith("from-"):
        shown |= {"py"}  # a peer's
    elif document.name in {"agents.md", "command-line.md"}:
        shown |= {"console"}  # how to install, how to call
    assert kinds <= {"python", *shown}


def anchors_of(document: Path) -> set[str]:
    text = re.sub(r"^ *```.*?^ *```", "", document.read_text(), flags=re.DOTALL | re.MULTILINE)
    headings = re.findall(r"^#+ (.*)$", text, re.MULTILINE)
    return {slugify(re.sub(r"[`*]", "", heading), "-") for heading in headings}


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_to_something(document: Path):
    text = re.sub(r"```.*?```|`[^`\n]*`", "", document.read_text(), flags=re.DOTALL)
    for link in re.findall(r"\]\(([^)\s]+)\)", text):
        target = urlsplit(link)
        if target.scheme:
            continue
        file = (document.parent / target.path).resolve() if target.path else document
        assert file.exists(), f"{link} leads nowhere"
        if document in PAGES:
            assert file.is_relative_to(DOCS), f"{link} leads out of the site"
        if target.fragment:
            assert target.fragment in anchors_of(file), f"{link} leads nowhere"


@pytest.fixture(scope="module")
def build_docs():
    spec = importlib.util.spec_from_file_location("build_docs", ROOT / "scripts/build_docs.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_every_page_is_in_the_navigation(build_docs):
    listed = [page for _, _, page in build_docs.pages()]
    assert sorted(listed) == sorted(page.relative_to(DOCS).as_posix() for page in PAGES)


def test_what_is_generated_is_up_to_date(build_docs):
    command_line = (DOCS / "reference/command-line.md").read_text()
    run_this = "run `uv run scripts/build_docs.py`"
    assert command_line == build_docs.command_line(), run_this
    assert (DOCS / "llms.txt").read_text() == build_docs.llms(), run_this


def test_every_example_is_shown_and_run():
    names = {path.stem for path in (ROOT / "examples").glob("*.py")}
    shown = re.findall(
        r'^    --8<-- "examples/(\w+).py"$', (DOCS / "examples.md").read_text(), re.MULTILINE
    )
    assert sorted(shown) == sorted(names)
    tests = "".join(path.read_text() for path in (ROOT / "tests/examples").glob("*.py"))
    assert {name for name in names if name not in tests} == set()


class Html(HTMLParser):
    """The links of a page, what it loads, and what can be linked to in it."""

    def __init__(self, page: Path) -> None:
        super().__init__()
        self.links: list[str] = []
        self.loaded: list[str] = []
        self.ids: set[str] = set()
        self.feed(page.read_text())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        named = {name: value or "" for name, value in attrs}
        self.ids.add(named.get("id", ""))
        if tag == "a" and "href" in named:
            self.links.append(named["href"])
        elif tag == "link" and named.get("rel") not in {"canonical", "next", "prev"}:
            self.loaded.append(named["href"])
        elif "src" in named:
            self.loaded.append(named["src"])


def test_the_addresses_that_can_be_asked_for_are_known(build_docs):
    addresses = build_docs.addresses()
    assert "https://www.rfc-editor.org/rfc/rfc5861" in addresses
    assert all("." in (urlsplit(address).hostname or "").strip(".") for address in addresses)


@pytest.fixture(scope="module")
def site(build_docs):
    build_docs.build()
    return build_docs.SITE


@pytest.mark.timeout(300)
def test_the_site_is_whole_and_needs_no_network(site, build_docs):
    pages = {page: Html(page) for page in site.rglob("*.html")}
    for page, html in pages.items():
        for link in html.loaded:
            assert not urlsplit(link).netloc, f"{page.name} loads {link}"
        for link in html.links:
            target = urlsplit(link)
            if target.scheme or target.netloc or page.name == "404.html":
                continue
            file = (page.parent / unquote(target.path)).resolve() if target.path else page
            file = file / "index.html" if file.is_dir() else file
            assert file.is_file(), f"{link} in {page.name} leads nowhere"
            if target.fragment and file in pages:
                known = unquote(target.fragment) in pages[file].ids
                assert known, f"{link} in {page.name} leads nowhere"

    compressed = (site / "objects.inv").read_bytes().split(b"\n", 4)[4]
    described = {line.split(" ")[0] for line in zlib.decompress(compressed).decode().splitlines()}
    for package in REFERENCES:
        module = importlib.import_module(package)
        for name in module.__all__:
            full = f"{package}.{name}"
            if isinstance(getattr(module, name), ModuleType):
                assert any(each.startswith(f"{full}.") for each in described), full
            else:
                assert full in described, f"{full} is not in the reference: has it a docstring?"

    whole = (site / "llms-full.txt").read_text()
    for _, _, page in build_docs.pages():
        assert (site / page).read_text().strip("\n") in whole
