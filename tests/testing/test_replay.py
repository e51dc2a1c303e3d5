import anyio
import pytest
from cryptography.fernet import Fernet

from plait import MapPrimitive, RetryPrimitive, WorkflowContext, step, workflow
from plait.durable import DurableRunner, EncryptedCodec, JsonCodec, MemoryJournal, SqliteJournal
from plait.recovery import constant
from plait.testing import ReplayError, VirtualClock, assert_replays

pytestmark = pytest.mark.anyio


@pytest.fixture
def journal(tmp_path):
    return SqliteJournal(tmp_path / "runs.db")


@step
async def strip(name):
    return name.strip()


@step
async def title(name):
    return name.title()


@step
async def refuse(name):
    raise LookupError(name)


@workflow
async def greet(name, context: WorkflowContext):
    await context.sleep(60)
    return f"hello {await title(await strip(name))}"


async def run(journal, workflow, input_data=" ada ", run_id="run-1"):
    async with VirtualClock(), DurableRunner(journal) as runner:
        try:
            return await runner.run(workflow, input_data, run_id=run_id)
        except LookupError:
            return None


async def interrupt(journal, workflow):
    """Begin a run that does not come past its wait."""
    async with DurableRunner(journal, grace_seconds=0) as runner:
        await runner.start(workflow, " ada ", run_id="run-1")
        await anyio.wait_all_tasks_blocked()


names = (strip >> title).named("names")
lists = (step(str.split) >> MapPrimitive(RetryPrimitive(title, backoff=constant(0)))).named("lists")


@pytest.mark.parametrize("workflow", [names, lists, greet], ids=str)
async def test_what_ran_replays_without_a_step(workflow, journal):
    for number in range(3):
        await run(journal, workflow, run_id=f"run-{number}")
    assert await assert_replays(workflow, journal) == 3
    assert await assert_replays(workflow, journal, limit=2) == 2


async def test_a_journal_may_be_given_by_its_address(tmp_path):
    file = tmp_path / "runs.db"
    await run(SqliteJournal(file), names)
    assert await assert_replays(names, f"sqlite:///{file}") == 1


async def test_a_journal_may_be_given_by_the_runner_that_has_it():
    codec = EncryptedCodec(JsonCodec(), [Fernet.generate_key()])
    async with DurableRunner(MemoryJournal(), codec=codec) as runner:
        await runner.run(names, " ada ")
        assert await assert_replays(names, runner) == 1


async def test_the_journal_is_left_as_it_is(journal):
    await interrupt(journal, greet)
    await assert_replays(greet, journal)
    assert await run(journal, greet) == "hello Ada"
    assert await assert_replays(greet, journal) == 1


async def test_a_run_that_failed_replays(journal):
    await run(journal, (strip >> refuse).named("names"))
    assert await assert_replays((strip >> refuse).named("names"), journal) == 1


async def refusal(workflow, journal):
    with pytest.raises(ReplayError) as caught:
        await assert_replays(workflow, journal)
    return str(caught.value)


async def test_a_step_in_another_place_is_found(journal):
    await run(journal, names)
    assert await refusal((title >> strip).named("names"), journal) == (
        "'names' no longer fits 1 of 1 runs\n"
        "run 'run-1': 'names/1:title' is recorded as 'names/1:strip': "
        "the workflow was changed since"
    )


async def test_a_step_that_was_added_is_found(journal):
    await run(journal, names)
    assert "the run has completed, and 'names/3:len' would be executed now" in await refusal(
        (names.children[0] >> names.children[1] >> len).named("names"), journal
    )


async def test_another_result_is_found(journal):
    await run(journal, greet)

    @workflow(name="greet")
    async def shout(name, context: WorkflowContext):
        await context.sleep(60)
        return f"HELLO {await title(await strip(name))}"

    assert "the run returned 'hello Ada', and returns 'HELLO Ada' now" in await refusal(
        shout, journal
    )


async def test_a_failure_that_is_a_result_now_is_found(journal):
    await run(journal, greet)

    @workflow(name="greet")
    async def refuse_to(name):
        raise ValueError("no")

    assert "the run has completed, and fails now with ValueError('no')" in await refusal(
        refuse_to, journal
    )


async def test_a_run_that_would_not_end_any_more_is_found(journal):
    await run(journal, greet)

    @workflow(name="greet")
    async def wait(name):
        await anyio.sleep_forever()

    assert "the run has completed, and waits for ever now" in await refusal(wait, journal)


async def test_a_run_under_way_comes_to_where_it_is(journal):
    await interrupt(journal, greet)
    assert await assert_replays(greet, journal) == 1

    @workflow(name="greet")
    async def wait(name):
        await anyio.sleep_forever()

    assert await assert_replays(wait, journal) == 1


async def test_a_run_under_way_that_no_longer_fits_is_found(journal):
    @workflow(name="flow")
    async def before(name, context: WorkflowContext):
        await context.sleep(60 * len(await strip(name)))

    @workflow(name="flow")
    async def after(name, context: WorkflowContext):
        await context.sleep(60 * len(await title(name)))

    await interrupt(journal, before)
    assert await assert_replays(before, journal) == 1
    assert "'flow/1:strip' is recorded, and 'title' is called there now" in await refusal(
        after, journal
    )


async def test_a_run_under_way_may_end_otherwise(journal):
    await interrupt(journal, greet)

    @workflow(name="greet")
    async def end(name):
        return name

    assert await assert_replays(end, journal) == 1


async def test_each_version_replays_its_own_runs(journal):
    @workflow(name="flow", version="2")
    async def second(name):
        return await title(name)

    await run(journal, second)
    assert await assert_replays(second, journal) == 1
    assert "the journal has no runs of 'flow'" in await refusal(title.named("flow"), journal)
