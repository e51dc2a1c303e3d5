"""Every example in the docstrings and every Python block in the documents runs."""

import doctest
import importlib
import pkgutil
import re
import sys
from pathlib import Path
from types import ModuleType
from typing import Any

import pytest

import plait

ROOT = Path(__file__).parent.parent
DOCUMENTS = [ROOT / "README.md", *sorted((ROOT / "docs").glob("**/*.md"))]


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


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_code_blocks_of_a_document_run_one_after_the_other(
    document: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    monkeypatch.chdir(tmp_path)
    blocks = re.findall(r"^```python\n(.*?)^```", document.read_text(), re.DOTALL | re.MULTILINE)
    assert blocks, f"{document.name} shows no Python"
    module = ModuleType("__main__")
    monkeypatch.setitem(sys.modules, "__main__", module)
    for block in blocks:
        exec(compile(block, str(document), "exec"), vars(module))
