import functools
import threading
import time
from contextlib import suppress
from contextvars import ContextVar

import anyio
import anyio.to_thread
import pytest

import plait
from plait import (
    MockPrimitive,
    Step,
    StepTimeoutError,
    TimeoutPrimitive,
    WorkflowContext,
    step,
)

Context = WorkflowContext

pytestmark = pytest.mark.anyio

user = ContextVar("user", default="nobody")


@step
async def charge(order: str, amount: int = 1, *, currency: str = "EUR") -> str:
    """Take the money."""
    return f"{order}: {amount} {currency}"


@step
def label(text: str, suffix: str = "!") -> str:
    return text + suffix


async def test_a_step_is_called_like_the_function_it_was():
    assert await charge("a") == "a: 1 EUR"
    assert await charge("a", 2, currency="USD") == "a: 2 USD"
    assert await charge(order="a", amount=3) == "a: 3 EUR"


async def test_a_step_of_a_sync_function_is_awaited_too():
    assert await label("a") == "a!"
    assert await label("a", suffix="?") == "a?"


async def test_wrong_arguments_are_refused_as_the_function_would():
    with pytest.raises(TypeError, match="missing 1 required positional argument: 'order'"):
        await charge()
    with pytest.raises(TypeError, match="unexpected keyword argument 'price'"):
        await charge("a", price=1)


async def test_composed_a_step_gets_its_first_parameter():
    assert await (label >> charge)("a") == "a!: 1 EUR"


def test_a_step_looks_like_its_function():
    assert charge.name == charge.__name__ == "charge"
    assert charge.__doc__ == "Take the money."
    assert isinstance(charge, Step)


async def test_a_name_of_its_own():
    @step(name="pay")
    async def charge(order: str) -> str:
        return order

    assert charge.name == "pay"
    assert await charge("a") == "a"


def test_at_most_once_is_kept_for_the_durable_runner():
    assert step(at_most_once=True)(len).at_most_once
    assert not step(len).at_most_once


async def second(text: str, context: WorkflowContext) -> tuple:
    return text, context.data["user"]


async def first(context: WorkflowContext, text: str) -> tuple:
    return text, context.data["user"]


async def last(text: str, suffix: str = "", context: WorkflowContext = None) -> tuple:
    return text, context.data["user"]


async def by_keyword(text: str, *, context: WorkflowContext) -> tuple:
    return text, context.data["user"]


async def by_any_name(text: str, run: WorkflowContext) -> tuple:
    return text, run.data["user"]


async def as_text(text: "str", context: "WorkflowContext") -> "tuple":
    return text, context.data["user"]


async def as_dotted_text(text: "str", context: "plait.WorkflowContext") -> tuple:
    return text, context.data["user"]


async def as_alias(text: "str", context: "Context") -> tuple:
    return text, context.data["user"]


async def as_unknown_text(text: "str", context: "elsewhere.WorkflowContext") -> tuple:  # noqa: F821
    return text, context.data["user"]


async def as_optional_text(text: "str", context: "WorkflowContext | None" = None) -> tuple:
    return text, context.data["user"]


async def as_optional(text: str, context: WorkflowContext | None = None) -> tuple:
    return text, context.data["user"]


def sync(text: str, context: WorkflowContext) -> tuple:
    return text, context.data["user"]


class Service:
    async def method(self, text: str, context: WorkflowContext) -> tuple:
        return text, context.data["user"]

    async def method_as_text(self, text: "str", context: "Context") -> tuple:
        return text, context.data["user"]

    async def __call__(self, text: str, context: WorkflowContext) -> tuple:
        return text, context.data["user"]


TAKING_THE_CONTEXT = [
    second,
    first,
    last,
    by_keyword,
    by_any_name,
    as_text,
    as_dotted_text,
    as_alias,
    as_unknown_text,
    as_optional_text,
    as_optional,
    sync,
    Service().method,
    Service().method_as_text,
    Service(),
    functools.partial(second),
]


@pytest.mark.parametrize("function", TAKING_THE_CONTEXT)
async def test_a_parameter_annotated_so_takes_the_context(function):
    context = WorkflowContext(data={"user": "ada"})
    assert await step(function).execute("plait", context) == ("plait", "ada")
    assert await (step(str) >> function).execute("plait", context) == ("plait", "ada")


@pytest.mark.parametrize("function", TAKING_THE_CONTEXT)
async def test_called_directly_the_context_is_filled_in(function):
    with pytest.raises(KeyError, match="user"):
        await step(function)("plait")
    with pytest.raises(KeyError, match="user"):
        await step(function)(text="plait")


async def test_more_arguments_stand_around_the_context():
    @step
    async def show(text: str, context: WorkflowContext, times: int, *, end: str) -> str:
        assert isinstance(context, WorkflowContext)
        return text * times + end

    assert await show("a", 2, end="!") == "aa!"
    assert await show("a", times=3, end="?") == "aaa?"


async def test_a_step_without_an_input_ignores_it():
    @step
    def nothing() -> int:
        return 42

    @step
    async def data(context: WorkflowContext) -> dict:
        return context.data

    @step
    async def data_by_keyword(*, context: WorkflowContext) -> dict:
        return context.data

    context = WorkflowContext(data={"a": 1})
    assert await (nothing >> data).execute("ignored", context) == {"a": 1}
    assert await data_by_keyword.execute("ignored", context) == {"a": 1}
    assert await nothing() == 42
    assert await data() == {}
    assert await data_by_keyword() == {}


async def test_a_second_parameter_that_is_not_annotated_is_no_context_of_a_decorated_step():
    @step
    def join(left, right):
        return f"{left}-{right}"

    assert await join("a", "b") == "a-b"


async def test_sync_steps_run_in_the_thread_of_the_event_loop():
    assert await step(lambda _: threading.get_ident())(0) == threading.get_ident()


async def test_thread_steps_run_in_a_thread_of_their_own():
    @step(thread=True)
    def where(_: int) -> int:
        return threading.get_ident()

    assert await where(0) != threading.get_ident()
    assert await (step(abs) >> where)(0) != threading.get_ident()


async def test_thread_steps_do_not_block_the_others():
    release = threading.Event()

    @step(thread=True)
    def block(_: int) -> bool:
        return release.wait(5)

    async def let_go(_):
        await anyio.sleep(0.005)
        release.set()

    assert await (block | let_go)(0) == (True, None)


async def test_thread_steps_see_the_context_variables_of_their_caller():
    @step(thread=True)
    def who(greeting: str, *, mark: str = "!") -> str:
        return f"{greeting} {user.get()}{mark}"

    user.set("ada")
    assert await who("hello") == "hello ada!"
    assert await who("hello", mark="?") == "hello ada?"
    assert await (who | who)("hi") == ("hi ada!", "hi ada!")


async def test_thread_steps_take_the_context():
    @step(thread=True)
    def write(name: str, context: WorkflowContext) -> None:
        context.data["name"] = name

    context = WorkflowContext()
    await write.execute("plait", context)
    assert context.data == {"name": "plait"}


async def test_an_error_in_a_thread_step_is_raised_as_it_is():
    @step(thread=True)
    def fail(_: int) -> None:
        raise KeyError("in the thread")

    with pytest.raises(KeyError, match="in the thread"):
        await fail(0)


@pytest.mark.parametrize("around", [lambda block: block | block, lambda block: block >> block])
async def test_no_thread_is_at_work_where_its_step_was_cancelled(around):
    started, release, ended = threading.Event(), threading.Event(), []

    @step(thread=True)
    def block(number: int) -> None:
        started.set()
        release.wait(5)
        ended.append(number)

    async def cancel():
        await anyio.to_thread.run_sync(started.wait)
        tasks.cancel_scope.cancel()
        with anyio.CancelScope(shield=True):
            await anyio.sleep(0.01)
        assert ended == []
        release.set()

    async with anyio.create_task_group() as tasks:
        tasks.start_soon(cancel)
        try:
            await around(block)(1)
        finally:
            assert ended


async def test_a_deadline_waits_for_the_thread_that_it_cannot_stop():
    ended = []

    @step(thread=True)
    def block(seconds: float) -> None:
        time.sleep(seconds)
        ended.append(seconds)

    with suppress(StepTimeoutError):  # trio has the result, late as it is
        await TimeoutPrimitive(block, 0.001)(0.05)
    assert ended == [0.05]


async def test_a_coroutine_that_a_thread_step_returns_is_awaited():
    async def double(number):
        return number * 2

    @step(thread=True)
    def start(number):
        return double(number)

    assert await start(2) == 4


def test_thread_is_for_functions_that_block():
    async def already_async(_): ...

    with pytest.raises(TypeError, match="'already_async' is async: thread=True is for functions"):
        step(thread=True)(already_async)


def test_a_step_is_made_of_a_function():
    with pytest.raises(TypeError, match="a step is made of a function, got 3"):
        step(3)


async def test_context_variables_reach_every_branch_and_none_comes_back():
    async def change(_):
        before = user.get()
        user.set("changed")
        return before

    user.set("ada")
    assert await (step(change) | change)(0) == ("ada", "ada")
    assert user.get() == "ada"


async def test_a_decorator_around_a_step_is_an_operand():
    def noisy(function):
        @functools.wraps(function)
        def wrapper(*args, **kwargs):
            return function(*args, **kwargs)

        return wrapper

    @step
    @noisy
    async def shout(text: str) -> str:
        return text.upper()

    assert await (shout >> MockPrimitive(return_value="done"))("a") == "done"
    assert await shout("a") == "A"
