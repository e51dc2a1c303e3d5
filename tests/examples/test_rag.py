"""Questions are answered from the sources of the standard library, by a real embedding model."""

import importlib.util
import sys
from pathlib import Path

import anyio
import pytest

EXAMPLE = Path(__file__).parents[2] / "examples" / "rag.py"


@pytest.fixture(scope="module")
def rag():
    spec = importlib.util.spec_from_file_location("rag", EXAMPLE)
    module = sys.modules["rag"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["rag"]


def test_the_model_gives_what_its_authors_say_that_it_does(rag):
    first, second, other = rag.MiniLM().embed(
        ["A man is eating food.", "A man is eating a piece of bread.", "A woman plays violin."]
    )
    assert first @ second == pytest.approx(0.7553, abs=0.0005)
    assert first @ other < 0.1


def test_a_question_that_was_asked_is_not_searched_again(rag, capsys, monkeypatch):
    monkeypatch.setattr(rag, "MODULES", ["bisect", "secrets"])
    place, token = rag.QUESTIONS[1:3]
    anyio.run(rag.main, [place, token, place])
    printed = [line for line in capsys.readouterr().out.splitlines() if line]
    assert [line.partition("_")[0] for line in printed[2::2]] == [
        "  bisect.insort",
        "  secrets.token",
        "  bisect.insort",
    ]
    assert printed[-1] == "3 questions, 2 searches"
