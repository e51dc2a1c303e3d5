"""Entities: state that belongs to a key and outlives runs; one run at a time has it."""

from collections import Counter
from dataclasses import dataclass, field

import anyio
import pytest
from interruption import Gate, carry_on, interrupt
from waiting import runner_of, until_status, until_waiting

from plait import RetryPrimitive, StepTimeoutError, WorkflowContext, step, workflow
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@dataclass
class Cart:
    items: list = field(default_factory=list)


@workflow
async def add(item: str, context: WorkflowContext) -> list:
    async with context.entity(Cart, "ada") as cart:
        cart.items.append(item)
        return list(cart.items)


@workflow
async def keep(item: str, context: WorkflowContext) -> list:
    """Holds the cart until it is told to go on."""
    async with context.entity(Cart, "ada") as cart:
        await context.wait_for("go")
        cart.items.append(item)
        return list(cart.items)


async def test_what_one_run_changes_the_next_one_finds(journal):
    async with runner_of(journal, add) as runner:
        assert await runner.run(add, "book") == ["book"]
    async with runner_of(journal, add) as runner:
        assert await runner.run(add, "pen") == ["book", "pen"]


async def test_a_new_entity_starts_from_a_default(journal):
    @workflow
    async def count(words: list, context: WorkflowContext) -> dict:
        async with context.entity(Counter, "words", default=lambda: Counter(a=10)) as counter:
            counter.update(words)
            return dict(counter)

    async with runner_of(journal, count) as runner:
        assert await runner.run(count, ["a", "b"]) == {"a": 11, "b": 1}
        assert await runner.run(count, ["b"]) == {"a": 11, "b": 2}


async def test_keys_and_kinds_are_apart(journal):
    @workflow
    async def put(place: tuple, context: WorkflowContext) -> list:
        kind, key = place
        async with context.entity({"cart": Cart, "list": list}[kind], key) as found:
            (found if kind == "list" else found.items).append(place)
            return found if kind == "list" else found.items

    async with runner_of(journal, put) as runner:
        for place in (("cart", "ada"), ("cart", "bob"), ("list", "ada"), ("list", "a:b")):
            assert await runner.run(put, place) == [place]


async def test_one_run_at_a_time_has_it(journal):
    inside = []

    async def look(number):
        inside.append(number)
        await anyio.sleep(0.001)
        assert inside == [number]
        inside.remove(number)

    @workflow
    async def careful(number: int, context: WorkflowContext) -> int:
        async with context.entity(Cart, "ada") as cart:
            await context.step("look", look, number)
            cart.items.append(number)
            return len(cart.items)

    async with runner_of(journal, careful) as runner:
        runs = [await runner.start(careful, n) for n in range(20)]
        assert sorted([await run.result() for run in runs]) == list(range(1, 21))


async def test_one_run_at_a_time_has_it_over_two_runners(journal):
    async with runner_of(journal, add) as first, runner_of(journal, add) as second:
        runs = [await (first, second)[n % 2].start(add, f"item {n}") for n in range(10)]
        lengths = sorted([len(await run.result()) for run in runs])
    assert lengths == list(range(1, 11))


async def test_a_run_waits_out_of_memory_for_an_entity(journal):
    async with runner_of(journal, keep, add) as runner:
        keeping = await runner.start(keep, "book", run_id="keep")
        await until_waiting(runner, "keep")
        adding = await runner.start(add, "pen", run_id="add")
        info = await until_waiting(runner, "add")
        assert info.waits[0].path == f"add/#entity:{__name__}:Cart:ada"
        await keeping.signal("go")
        assert await keeping.result() == ["book"]
        assert await adding.result() == ["book", "pen"]


async def test_tasks_of_one_run_have_it_one_after_the_other(journal):
    @workflow
    async def both(_: None, context: WorkflowContext) -> list:
        async def one(item):
            async with context.entity(Cart, "ada") as cart:
                await context.step("look", anyio.sleep, 0.01)
                cart.items.append(item)
                return len(cart.items)

        return await context.gather(*(one(n) for n in range(4)))

    async with runner_of(journal, both) as runner:
        assert sorted(await runner.run(both, None)) == [1, 2, 3, 4]


async def test_tasks_of_one_run_wait_for_each_other_over_a_restart(journal):
    @workflow
    async def both(_: None, context: WorkflowContext) -> list:
        async def one(signal):
            async with context.entity(Cart, "ada") as cart:
                cart.items.append(await context.wait_for(signal))
                return list(cart.items)

        async def later():
            await context.step("let the other one be first", anyio.sleep, 0.05)
            return await one("second")

        return await context.gather(one("first"), later())

    async with runner_of(journal, both) as runner:
        await runner.start(both, None, run_id="run")
        await until_waiting(runner, "run")
        await anyio.sleep(0.1)
        assert (await runner.info("run")).status == "waiting"
    async with runner_of(journal, both) as runner:
        await runner.signal("run", "second", 2)
        await runner.signal("run", "first", 1)
        assert sorted(await (await runner.get("run")).result()) == [[1], [1, 2]]


async def test_code_that_holds_it_cannot_have_it_again(journal):
    @workflow
    async def greedy(_: None, context: WorkflowContext) -> None:
        ada, bob = context.entity(Cart, "ada"), context.entity(Cart, "bob")
        async with ada, bob, context.entity(Cart, "ada"):
            pass

    async with runner_of(journal, greedy, add) as runner:
        with pytest.raises(RuntimeError, match="Cart 'ada' is held by this code already"):
            await runner.run(greedy, None)
        assert await runner.run(add, "book") == ["book"]


async def test_what_a_block_that_fails_has_changed_is_not_kept(journal):
    is_up = []

    @step
    async def charge(cart):
        if not is_up:
            raise ConnectionError
        return len(cart.items)

    @workflow
    async def buy(item: str, context: WorkflowContext) -> int:
        async with context.entity(Cart, "ada") as cart:
            cart.items.append(item)
            return await charge(cart)

    async with runner_of(journal, buy, add) as runner:
        with pytest.raises(ConnectionError):
            await runner.run(buy, "book", run_id="run")
        assert await runner.run(add, "pen") == ["pen"]
        is_up.append(True)
        assert await (await runner.resume("run")).result() == 2
        assert await runner.run(add, "ink") == ["pen", "book", "ink"]


async def test_a_failure_in_a_block_may_be_handled(journal):
    gate = Gate()

    @workflow
    async def buy(item: str, context: WorkflowContext) -> list:
        try:
            async with context.entity(Cart, "ada") as cart:
                cart.items.append(item)
                raise ConnectionError
        except ConnectionError:
            await context.step("gate", gate, None)
        async with context.entity(Cart, "ada") as cart:
            cart.items.append(f"{item} again")
            return list(cart.items)

    async with runner_of(journal, buy) as runner:
        await runner.start(buy, "book", run_id="run")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, buy) as runner:
        assert await (await runner.get("run")).result() == ["book again"]


async def test_state_that_cannot_be_kept_fails_its_block(journal):
    @workflow
    async def lock(_: None, context: WorkflowContext) -> None:
        async with context.entity(Cart, "ada") as cart:
            cart.items.append(anyio.Lock())

    async with runner_of(journal, lock, add) as runner:
        with pytest.raises(Exception, match="cannot encode"):
            await runner.run(lock, None)
        assert await runner.run(add, "book") == ["book"]


async def test_a_change_is_made_once_wherever_its_run_is_interrupted(journal):
    inside, after = Gate(), Gate()

    @workflow
    async def buy(item: str, context: WorkflowContext) -> list:
        async with context.entity(Cart, "ada") as cart:
            cart.items.append(item)
            await context.step("inside", inside, None)
            found = list(cart.items)
        await context.step("after", after, None)
        return found

    for gate in (inside, after):
        async with runner_of(journal, buy, add) as runner:
            await runner.start(buy, "book", run_id="run")
            await gate.reached.wait()
            if gate is inside:
                await runner.start(add, "pen", run_id="add")
        gate.open()
    async with runner_of(journal, buy, add) as runner:
        assert await (await runner.get("run")).result() == ["book"]
        assert await (await runner.get("add")).result() == ["book", "pen"]


async def test_a_step_may_hold_it_and_changes_it_once_for_all_its_attempts(journal):
    attempts = []

    @step
    async def buy(item: str, context: WorkflowContext) -> list:
        async with context.entity(Cart, "ada") as cart:
            cart.items.append(item)
            attempts.append(item)
            if len(attempts) < 3:
                raise ConnectionError
            return list(cart.items)

    retried = RetryPrimitive(buy, backoff=constant(0)).named("retried")
    async with runner_of(journal, retried) as runner:
        assert await runner.run(retried, "book") == ["book"]


async def test_a_run_that_is_cancelled_lets_go_of_it(journal):
    async with runner_of(journal, keep, add) as runner:
        await runner.start(keep, "book", run_id="keep")
        await until_waiting(runner, "keep")
        adding = await runner.start(add, "pen", run_id="add")
        await until_waiting(runner, "add")
        await runner.cancel("keep")
        assert await adding.result() == ["pen"]
        assert (await runner.info("keep")).status == "cancelled"
        run = await runner.resume("keep")
        await run.signal("go")
        assert await run.result() == ["pen", "book"]


async def test_a_wait_for_it_may_be_given_up(journal):
    gate = Gate()

    @workflow
    async def hurried(_: None, context: WorkflowContext) -> list:
        async def take():
            async with context.entity(Cart, "ada") as cart:
                return list(cart.items)

        try:
            return await context.within(0.1, take)
        except StepTimeoutError:
            await context.step("gate", gate, None)
            return ["gave up", *await take()]

    async with runner_of(journal, keep, hurried) as runner:
        keeping = await runner.start(keep, "book", run_id="keep")
        await until_waiting(runner, "keep")
        await runner.start(hurried, None, run_id="run")
        await gate.reached.wait()
        await keeping.signal("go")
        await keeping.result()
    gate.open()
    async with runner_of(journal, hurried) as runner:
        assert await (await runner.get("run")).result() == ["gave up", "book"]


async def test_it_is_not_kept_by_a_wait_that_is_given_up_as_it_is_free(journal):
    """Each of many waits is cut off at about the time when it would have been over."""

    @workflow
    async def hurried(count: int, context: WorkflowContext) -> int:
        changed = 0

        async def change(number):
            nonlocal changed
            async with context.entity(Cart, "ada") as cart:
                cart.items.append(number)
            changed += 1

        for number in range(count):
            try:
                await context.within(0.002 * (1 + number % 4), lambda n=number: change(n))
            except StepTimeoutError:
                continue
        return changed

    async with runner_of(journal, hurried, add, suspend_after=5) as runner:
        runs = [await runner.start(hurried, 15, run_id=f"run-{n}") for n in range(2)]
        for run in runs:
            await run.result()
        assert "last" in await runner.run(add, "last")
        for run in runs:
            assert (await runner.verify(run.run_id)).fits


async def test_a_run_that_ended_holds_nothing(journal):
    async with runner_of(journal, keep) as runner:
        run = await runner.start(keep, "book", run_id="keep")
        await run.signal("go")
        await run.result()
        await until_status(runner, "keep", "completed")
        assert await runner.prune(0) == 1
        again = await runner.start(keep, "pen", run_id="keep")
        await again.signal("go")
        assert await again.result() == ["book", "pen"]


async def test_code_that_is_given_up_where_it_was_not_before_lets_go_once(journal):
    gate, changed = Gate(), []

    @workflow
    async def put(item: str, context: WorkflowContext) -> str:
        with anyio.CancelScope() as scope:
            async with context.entity(Cart, "ada") as cart:
                cart.items.append(item)
                if changed:
                    scope.cancel()
                    await anyio.sleep_forever()
        return await context.step("gate", gate, item)

    await interrupt(journal, put, "book", gate)
    changed.append(True)
    assert await carry_on(journal, put) == "book"
    async with runner_of(journal, add) as runner:
        assert await runner.run(add, "pen") == ["book", "pen"]


async def test_code_that_is_given_up_as_its_runner_is_left_gives_back_what_it_had(journal):
    given_up = anyio.Event()

    @workflow
    async def put(item: str, context: WorkflowContext) -> str:
        with anyio.CancelScope() as scope:
            async with context.entity(Cart, "ada") as cart:
                cart.items.append(item)
                scope.cancel()
                await anyio.sleep_forever()
        given_up.set()
        await context.wait_for("go")
        return item

    async with runner_of(journal, put) as runner:
        await runner.start(put, "book", run_id="run")
        await given_up.wait()
    async with runner_of(journal, put, add) as runner:
        assert await runner.run(add, "pen") == ["pen"]
        run = await runner.get("run")
        await run.signal("go")
        assert await run.result() == "book"
