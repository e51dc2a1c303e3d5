"""Events that start runs: every workflow that listens, once for an event's id."""

import pytest
from waiting import runner_of

from plait import step, workflow
from plait.durable import RunConflictError

pytestmark = pytest.mark.anyio

greet = step(lambda user: f"Hello {user['name']}", name="greet")
count = step(lambda user: len(user["name"]), name="count")
LISTENERS = {"user.created": [greet, count], "user.removed": [count]}
ADA = {"name": "ada"}


async def test_an_event_starts_every_workflow_that_listens(journal):
    async with runner_of(journal, listeners=LISTENERS) as runner:
        runs = await runner.publish("user.created", ADA, event_id="e1")
        assert [await run.result() for run in runs] == ["Hello ada", 3]
        assert [run.run_id for run in runs] == ["user.created:e1:greet", "user.created:e1:count"]


async def test_an_event_with_an_id_starts_them_once(journal):
    async with (
        runner_of(journal, listeners=LISTENERS) as first,
        runner_of(journal, listeners=LISTENERS) as second,
    ):
        for runner in (first, second, first):
            runs = await runner.publish("user.created", ADA, event_id="e1")
            assert [await run.result() for run in runs] == ["Hello ada", 3]
        assert len(await first.list()) == 2


async def test_an_event_without_an_id_is_a_new_one_each_time(journal):
    async with runner_of(journal, listeners=LISTENERS) as runner:
        for _ in range(2):
            for run in await runner.publish("user.removed", ADA):
                await run.result()
        assert len(await runner.list()) == 2


async def test_an_id_stands_for_one_payload(journal):
    async with runner_of(journal, listeners=LISTENERS) as runner:
        await runner.publish("user.created", ADA, event_id="e1")
        with pytest.raises(RunConflictError):
            await runner.publish("user.created", {"name": "bob"}, event_id="e1")


async def test_an_event_that_nobody_listens_to_is_refused(journal):
    async with runner_of(journal, listeners=LISTENERS) as runner:
        with pytest.raises(ValueError, match=r"'user.made'; .* are 'user.created', 'user.removed'"):
            await runner.publish("user.made", ADA)
        assert await runner.list() == []


async def test_runs_of_listeners_are_carried_on(journal):
    from interruption import Gate

    gate = Gate()

    @workflow
    async def welcome(user: dict) -> str:
        return await step(gate)(user["name"])

    listeners = {"user.created": [welcome]}
    async with runner_of(journal, listeners=listeners) as runner:
        await runner.publish("user.created", ADA, event_id="e1")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, listeners=listeners) as runner:
        (run,) = await runner.publish("user.created", ADA, event_id="e1")
        assert await run.result() == "ada"
