"""`@step` keeps what a function takes and returns; read by mypy and basedpyright, never run."""

from typing import assert_type

from plait import SequentialPrimitive, WorkflowContext, step


@step
async def charge(order: str, amount: int = 1, *, currency: str = "EUR") -> float:
    return float(amount)


@step
def total(orders: list[str]) -> int:
    return len(orders)


@step(name="pay", at_most_once=True)
async def pay(amount: float, context: WorkflowContext, *, tip: float = 0) -> str:
    return str(amount + tip)


@step(thread=True)
def blocking(path: str) -> bytes:
    return path.encode()


@step
async def context_first(context: WorkflowContext, order: str, times: int = 1) -> str:
    return order * times


@step
async def only_context(context: WorkflowContext) -> int:
    return len(context.data)


@step
def nothing() -> int:
    return 42


async def calling(context: WorkflowContext) -> None:
    # Called, a step takes the function's own arguments, without the context.
    assert_type(await charge("a"), float)
    assert_type(await charge("a", 2, currency="USD"), float)
    assert_type(await charge("a", amount=2), float)
    assert_type(await total(["a"]), int)
    assert_type(await pay(1.5, tip=0.5), str)
    assert_type(await blocking("a"), bytes)
    assert_type(await context_first("a", 2), str)
    assert_type(await only_context(), int)
    assert_type(await nothing(), int)
    await charge(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await charge("a", "b")  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await charge("a", price=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await charge()  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    await pay(1.5, context)  # type: ignore[call-arg, arg-type]  # pyright: ignore[reportCallIssue]
    charge("a")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    # Executed, it takes its input and the context.
    assert_type(await charge.execute("a", context), float)
    assert_type(await pay.execute(1.5, context), str)
    await charge.execute(3, context)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]


# Composed, its input is the first parameter that is not the context.
assert_type(charge >> pay, SequentialPrimitive[str, str])
assert_type(blocking >> len, SequentialPrimitive[str, int])
assert_type(context_first >> charge, SequentialPrimitive[str, float])
assert_type(charge >> only_context, SequentialPrimitive[str, int])
assert_type(charge >> nothing, SequentialPrimitive[str, int])
assert_type(nothing >> str, SequentialPrimitive[object, str])
_ = total >> charge  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
_ = only_context >> charge  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]
step(3)  # type: ignore[call-overload]  # pyright: ignore[reportArgumentType, reportCallIssue]
step(retries=3)  # type: ignore[call-overload]  # pyright: ignore[reportCallIssue]
