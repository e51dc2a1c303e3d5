"""What `>>` and `|` make of types; read by mypy and basedpyright, never run."""

from typing import assert_type

from plait import (
    ParallelPrimitive,
    SequentialPrimitive,
    WorkflowContext,
    WorkflowPrimitive,
    step,
)


class Fetch(WorkflowPrimitive[str, bytes]):
    async def execute(self, input_data: str, context: WorkflowContext) -> bytes:
        return input_data.encode()


class Text(WorkflowPrimitive[bytes, str]):
    async def execute(self, input_data: bytes, context: WorkflowContext) -> str:
        return input_data.decode()


class Size(WorkflowPrimitive[bytes, int]):
    async def execute(self, input_data: bytes, context: WorkflowContext) -> int:
        return len(input_data)


class Flag(WorkflowPrimitive[bytes, bool]):
    async def execute(self, input_data: bytes, context: WorkflowContext) -> bool:
        return bool(input_data)


class Merge(WorkflowPrimitive[tuple[str, int, bool], float]):
    async def execute(self, input_data: tuple[str, int, bool], context: WorkflowContext) -> float:
        return float(input_data[1])


class WrongMerge(WorkflowPrimitive[tuple[str, bool, int], float]):
    async def execute(self, input_data: tuple[str, bool, int], context: WorkflowContext) -> float:
        return float(input_data[2])


class ShortMerge(WorkflowPrimitive[tuple[str, int], float]):
    async def execute(self, input_data: tuple[str, int], context: WorkflowContext) -> float:
        return float(input_data[1])


fetch, text, size, flag, merge = Fetch(), Text(), Size(), Flag(), Merge()


@step
async def text_step(content: bytes) -> str:
    return content.decode()


@step
def size_step(content: bytes) -> int:
    return len(content)


@step
async def flag_step(content: bytes, context: WorkflowContext) -> bool:
    return bool(content)


@step
async def merge_step(parts: tuple[str, int, bool]) -> float:
    return float(parts[1])


@step
async def wrong_merge_step(parts: tuple[str, bool, int]) -> float:
    return float(parts[2])


async def text_async(content: bytes) -> str:
    return content.decode()


def size_sync(content: bytes) -> int:
    return len(content)


def flag_in_context(content: bytes, context: WorkflowContext) -> bool:
    return bool(content)


async def flag_in_context_async(content: bytes, context: WorkflowContext) -> bool:
    return bool(content)


def merge_sync(parts: tuple[str, int, bool]) -> float:
    return float(parts[1])


def wrong_merge_sync(parts: tuple[str, bool, int]) -> float:
    return float(parts[2])


def size_of_text(content: str) -> int:
    return len(content)


def takes_two(content: bytes, other: int) -> int:
    return len(content) + other


# The whole of it: precise where it fits, an error at the `>>` where it does not.
assert_type(fetch >> (text | size | flag) >> merge, SequentialPrimitive[str, float])
assert_type(fetch >> (text | size | flag), SequentialPrimitive[str, tuple[str, int, bool]])
assert_type(text | size | flag, ParallelPrimitive[bytes, str, int, bool])
_ = fetch >> (text | size | flag) >> WrongMerge()  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
_ = fetch >> (text | size | flag) >> ShortMerge()  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
_ = fetch >> (size | text | flag) >> merge  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]

# Steps.
assert_type(
    fetch >> (text_step | size_step | flag_step) >> merge_step, SequentialPrimitive[str, float]
)
_ = fetch >> (text_step | size_step | flag_step) >> wrong_merge_step  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
_ = text_step >> size_step  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]

# Functions.
assert_type(
    fetch >> (text | size_sync | flag_in_context) >> merge_sync, SequentialPrimitive[str, float]
)
assert_type(
    fetch >> (text | size_sync | flag_in_context_async) >> merge_sync,
    SequentialPrimitive[str, float],
)
_ = fetch >> (text | size_sync | flag_in_context) >> wrong_merge_sync  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
assert_type(fetch >> text_async, SequentialPrimitive[str, str])
assert_type(fetch >> size_sync, SequentialPrimitive[str, int])
assert_type(fetch >> flag_in_context, SequentialPrimitive[str, bool])
assert_type(fetch >> flag_in_context_async, SequentialPrimitive[str, bool])
# pyright infers a lambda without looking at what stands left of the operator.
assert_type(fetch >> (lambda content: content.hex()), SequentialPrimitive[str, str])  # pyright: ignore[reportAssertTypeFailure]
assert_type(fetch >> bytes.decode, SequentialPrimitive[str, str])
assert_type(fetch >> len, SequentialPrimitive[str, int])

# A function on the left.
assert_type(str.encode >> size, SequentialPrimitive[str, int])
assert_type(text_async >> step(len), SequentialPrimitive[bytes, int])
assert_type(size_sync | text, ParallelPrimitive[bytes, int, str])
assert_type(text_async | size, ParallelPrimitive[bytes, str, int])
assert_type(flag_in_context_async | size | text_async, ParallelPrimitive[bytes, bool, int, str])

# Parentheses.
assert_type(fetch >> (text >> size_of_text), SequentialPrimitive[str, int])
assert_type(text | (size | flag), ParallelPrimitive[bytes, str, int, bool])
assert_type((text | size).named("both") >> str, SequentialPrimitive[bytes, str])

# What does not fit.
_ = fetch >> fetch  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
_ = fetch | size  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
_ = fetch >> takes_two  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
_ = fetch >> 3  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
_ = fetch | None  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
_ = 3 >> fetch  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
_ = fetch >> size_sync >> size_sync  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]


class Shape: ...


class Circle(Shape): ...


class Draw(WorkflowPrimitive[Shape, Circle]):
    async def execute(self, input_data: Shape, context: WorkflowContext) -> Circle:
        return Circle()


# The input is contravariant, the output covariant.
narrower_input: WorkflowPrimitive[Circle, Circle] = Draw()
wider_output: WorkflowPrimitive[Shape, Shape] = Draw()
wider_input: WorkflowPrimitive[object, Circle] = Draw()  # type: ignore[assignment]  # pyright: ignore[reportAssignmentType]
assert_type(Draw() >> Draw(), SequentialPrimitive[Shape, Circle])
parallel: WorkflowPrimitive[Circle, tuple[Shape, Shape]] = Draw() | Draw()


async def running(context: WorkflowContext) -> None:
    assert_type(await fetch.execute("url", context), bytes)
    assert_type(await fetch("url"), bytes)
    assert_type(fetch.run_sync("url"), bytes)
    assert_type(await (text | size)(b""), tuple[str, int])
    assert_type((fetch >> (text | size)).run_sync("url", backend="trio"), tuple[str, int])
    await fetch(b"url")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await fetch.execute("url", None)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fetch.run_sync(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    fetch("url")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    assert_type(fetch.named("download"), Fetch)
