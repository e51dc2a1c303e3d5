"""`@workflow`, futures and tail calls; read by mypy and basedpyright, never run."""

from typing import assert_type

from plait import Future, SequentialPrimitive, WorkflowContext, step, workflow


@step
async def profile(user: str) -> dict[str, str]:
    return {"name": user}


@step
async def history(user: str, *, limit: int = 10) -> list[int]:
    return [len(user)] * limit


@step
def merge(name: dict[str, str], orders: list[int]) -> str:
    return f"{name}: {orders}"


@step
async def enrich(user: str) -> Future[str]:
    return merge.future(profile.future(user), history.future(user))


@step
async def enrich_in_context(user: str, context: WorkflowContext) -> Future[str]:
    return enrich.future(user)


@step
def enrich_sync(user: str) -> Future[str]:
    return enrich.future(user)


async def enriched(user: str) -> Future[str]:
    return enrich.future(user)


@step
def add(total: int, number: int) -> int:
    return total + number


@workflow
async def greet(user: str, times: int = 1, *, mark: str = "!") -> str:
    found = await profile(user)
    return found["name"] * times + mark


@workflow(name="report", version="2", timeout=60)
async def report(users: list[str], context: WorkflowContext) -> int:
    assert_type(await profile.map(users), list[dict[str, str]])
    orders = history.map(users)
    _ = assert_type(orders, Future[list[list[int]]])
    assert_type(await add.reduce([1, 2], 0), int)
    assert_type(await greet("ada", mark="?"), str)
    assert_type(await context.gather(profile("a"), profile("b")), list[dict[str, str]])
    assert_type(await context.step("profile", profile, "ada"), dict[str, str])
    assert_type(await context.step("first", profile >> len, "ada"), int)
    assert_type(await context.step("count", len, users), int)
    assert_type(await context.step("later", enriched, "ada"), str)
    profile("a")  # type: ignore[unused-coroutine]  # pyright: ignore[reportUnusedCoroutine]
    return len(users)


async def calling(context: WorkflowContext) -> None:
    assert_type(await greet("ada", 2, mark="?"), str)
    assert_type(await report(["ada"]), int)
    assert_type(await greet.execute("ada", context), str)
    assert_type(greet.run_sync("ada"), str)
    await greet(3)  # type: ignore[arg-type]  # pyright: ignore[reportArgumentType]
    await greet("ada", size=2)  # type: ignore[call-arg]  # pyright: ignore[reportCallIssue]
    # A future that a step returns is the value that it stands for.
    assert_type(await enrich("ada"), str)
    assert_type(await enrich_in_context("ada"), str)
    assert_type(await enrich_sync("ada"), str)
    # A future gives what its call returns.
    assert_type(await merge.future(profile.future("ada"), history.future("ada", limit=3)), str)
    assert_type(await (profile >> len).future("ada"), int)
    _ = assert_type(profile.future("ada"), Future[dict[str, str]])


assert_type(greet >> len, SequentialPrimitive[str, int])
assert_type(enrich >> len, SequentialPrimitive[str, int])
_ = report >> greet  # type: ignore[operator]  # pyright: ignore[reportOperatorIssue]


def not_async(user: str) -> str:
    return user


workflow(not_async)  # type: ignore[arg-type]  # pyright: ignore[reportCallIssue, reportArgumentType]
