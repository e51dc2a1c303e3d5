"""Transaction steps: an effect in the journal's own database, once, with its record."""

import sqlite3

import anyio
import pytest
from interruption import Gate
from waiting import runner_of

from plait import FallbackPrimitive, RetryPrimitive, WorkflowContext, step, workflow
from plait.durable import TransactionStep
from plait.recovery import constant

pytestmark = pytest.mark.anyio


@TransactionStep
def book(seat, database):
    """Book a seat."""
    database.execute("CREATE TABLE IF NOT EXISTS seats (seat INTEGER PRIMARY KEY)")
    database.execute("INSERT INTO seats VALUES (?)", (seat,))
    return f"seat {seat}"


def seats(file):
    with sqlite3.connect(file) as connection:
        found = [seat for (seat,) in connection.execute("SELECT seat FROM seats ORDER BY seat")]
    connection.close()
    return found


async def test_the_effect_is_there_with_the_result(journal, file):
    async with runner_of(journal) as runner:
        assert await runner.run(book, 12) == "seat 12"
    assert seats(file) == [12]


async def test_the_effect_is_made_once_wherever_its_run_is_interrupted(journal, file):
    gate = Gate()
    workflow = (book >> gate).named("workflow")
    async with runner_of(journal, workflow) as runner:
        await runner.start(workflow, 12, run_id="run")
        await gate.reached.wait()
    gate.open()
    async with runner_of(journal, workflow) as runner:
        run = await runner.get("run")
        assert await run.result() == "seat 12"
    assert seats(file) == [12]


async def test_an_effect_that_cannot_be_recorded_is_undone(journal, file):
    @TransactionStep
    def odd(seat, database):
        book.function(seat, database)
        return database

    async with runner_of(journal) as runner:
        await runner.run(book, 1)
        with pytest.raises(Exception, match="cannot encode"):
            await runner.run(odd, 2)
    assert seats(file) == [1]


async def test_a_failure_undoes_the_effect_and_may_be_handled(journal, file):
    attempts = []

    @TransactionStep
    def flaky(seat, database):
        attempts.append(seat)
        book.function(seat, database)
        if len(attempts) < 3:
            raise ConnectionError
        return seat

    retried = RetryPrimitive(flaky, backoff=constant(0)).named("retried")
    async with runner_of(journal) as runner:
        assert await runner.run(retried, 12) == 12
    assert attempts == [12, 12, 12]
    assert seats(file) == [12]


async def test_what_the_database_refuses_is_an_error_like_any_other(journal, file):
    workflow = FallbackPrimitive(book, ["{} is taken".format]).named("workflow")
    async with runner_of(journal) as runner:
        assert await runner.run(workflow, 12) == "seat 12"
        assert await runner.run(workflow, 12) == "12 is taken"
    assert seats(file) == [12]


async def test_the_journals_own_tables_are_not_to_be_touched(journal):
    @TransactionStep
    def meddle(_, database):
        database.execute("DELETE FROM runs")

    async with runner_of(journal) as runner:
        with pytest.raises(sqlite3.DatabaseError) as caught:
            await runner.run(meddle, None)
        assert "a table of the journal" in " ".join(caught.value.__notes__)
        assert len(await runner.list()) == 1


async def test_it_is_called_from_a_body_and_sees_the_data(journal, file):
    @workflow
    async def order(seat: int, context: WorkflowContext) -> str:
        context.data["seat"] = seat
        booked = await context.step("book", book, seat)
        return f"{booked} of {context.data['seat']}"

    async with runner_of(journal, order) as runner:
        assert await runner.run(order, 12) == "seat 12 of 12"
    assert seats(file) == [12]


async def test_a_failure_before_it_is_handled_by_it(journal):
    @step
    async def fail(_):
        raise ConnectionError

    workflow = (FallbackPrimitive(fail, [book]) >> str).named("workflow")
    async with runner_of(journal) as runner:
        assert await runner.run(workflow, 12) == "seat 12"


async def test_many_at_the_same_time(journal, file):
    async with runner_of(journal) as runner, anyio.create_task_group() as tasks:
        for seat in range(100):
            tasks.start_soon(runner.run, book, seat)
    assert seats(file) == list(range(100))


async def test_without_a_durable_runner_there_is_no_database():
    with pytest.raises(RuntimeError, match="'book' is a TransactionStep, which needs a Durable"):
        await book(12)


def test_it_is_called_what_its_function_is():
    assert (book.name, book.__doc__) == ("book", "Book a seat.")
    assert TransactionStep(book.function, name="reserve").name == "reserve"
    assert TransactionStep(book.function) == book


async def test_a_coroutine_function_is_refused_where_the_journal_cannot_await(journal):
    @TransactionStep
    async def later(seat, database): ...

    async with runner_of(journal) as runner:
        with pytest.raises(TypeError, match="'later' is async, and SqliteJournal calls plain"):
            await runner.run(later, 1)


def test_only_functions_have_a_transaction():
    with pytest.raises(TypeError, match="made of a function, got 7"):
        TransactionStep(7)
