"""The examples of what services do: providers, pipelines, webhooks, tenants, FastAPI, a team."""

import importlib.util
import os
import runpy
import sys
from pathlib import Path

import anyio
import pytest

from plait import WorkflowContext
from plait.testing import VirtualClock

EXAMPLES = Path(__file__).parents[2] / "examples"


def printed_by(name, capsys, monkeypatch):
    """What an example prints."""
    monkeypatch.setattr(sys, "argv", [name])
    runpy.run_path(str(EXAMPLES / f"{name}.py"), run_name="__main__")
    return capsys.readouterr().out.splitlines()


@pytest.fixture
def printed(capsys, monkeypatch):
    return lambda name: printed_by(name, capsys, monkeypatch)


def test_providers_are_routed_tried_again_replaced_and_paid_from_one_budget(printed):
    assert [line.split()[-1] for line in printed("providers")] == [
        "small",
        "spare",
        "small",
        "spare",
        "spare",
        "UsageLimitExceeded",
        "UsageLimitExceeded",
    ]


def test_what_cannot_be_loaded_is_kept(printed):
    assert printed("etl") == [
        "monday: loaded 5 rows",
        "tuesday: kept 5 rows in warehouse.pending.json",
        "tuesday, again: loaded 5 rows",
        "{'BE': 20.0, 'DE': 12.25, 'NL': 50.0}",
    ]


def test_an_event_starts_its_workflows_once(printed):
    assert printed("webhooks") == [
        "202 user.created:evt_1:welcome, user.created:evt_1:set_up",
        "202 user.created:evt_1:welcome, user.created:evt_1:set_up",
        "409 another event has the id evt_1",
        "401 wrong signature",
        "202 user.deleted:evt_3:farewell",
        "",
        "  basic server for ada",
        "  goodbye ada",
        "  mail to ada",
        "  no servers left",
    ]


def test_a_fastapi_service_answers_at_once_and_steers_runs(printed):
    lines = printed("fastapi_service")
    charged = lines.pop(-2)
    assert lines == [
        "price: 56",
        "two at once: 200 429",
        "order: {'total': 112}",
        "again: 202",
        "another one of that id: 409",
        "none at all: 422",
        "there is no o-9: 404",
        "the mounted server knows it: o-1 completed",
    ]
    assert charged.startswith("order: charged 112 under o-1:order/charge")


def test_what_a_killed_process_left_to_undo_is_undone_by_the_next(printed):
    assert [line.strip() for line in printed("order_saga") if line] == [
        "process 1 ended with 9",
        "process 2 ended with 0 fulfil/3:send failed: no courier comes",
        "lamp is reserved on shelf 7 (process 1)",
        "45 charged (process 1)",
        "no courier comes (process 1)",
        "no courier comes (process 1)",
        "45 back for receipt 1 (process 1)",
        "shelf 7 is free (process 2)",
    ]


def test_a_noisy_tenant_waits_and_a_quiet_one_does_not(printed):
    lines = printed("tenants")
    assert lines[0] == "noisy: served after [0, 0, 0, 10, 20] s"
    assert lines[1].startswith("quiet: served after [1, 1, ")
    assert [line.partition(":")[0] for line in lines[2:]] == [f"noisy {n}" for n in (5, 6, 7, 8)]


def test_approvals_are_waited_for_out_of_memory(printed):
    lines = printed("approval")
    assert lines[:8] == [
        "expense-1: completed",
        "expense-2: waiting",
        "expense-3: waiting",
        "expense-4: waiting",
        "expense-1: ada gets 20",
        "expense-2: bob gets 700",
        "expense-3: boss has refused 3",
        "expense-4: 4 was escalated",
    ]
    assert lines[-2:] == [
        "  to boss: reminder: 4",
        "  to the boss's boss: nobody has decided about 4",
    ]


@pytest.fixture
def approval():
    spec = importlib.util.spec_from_file_location("approval", EXAMPLES / "approval.py")
    module = sys.modules["approval"] = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    yield module
    del sys.modules["approval"]


@pytest.mark.parametrize(
    ("answered_after", "result", "reminders"),
    [(12, "bob gets 700", 0), (22, "bob gets 700", 1), (None, "2 was escalated", 1)],
)
@pytest.mark.parametrize("backend", ["asyncio", "trio"])
def test_a_day_of_waiting_passes_in_virtual_time(
    approval, answered_after, result, reminders, backend
):
    async def main():
        async with VirtualClock() as clock:
            context = WorkflowContext()

            async def answer():
                await anyio.sleep(answered_after * 3600)
                context.signal("decision", approval.Decision(approved=True, by="boss"))

            began = clock.time()
            async with anyio.create_task_group() as tasks:
                if answered_after is not None:
                    tasks.start_soon(answer)
                expense = approval.Expense(2, "bob", 700)
                assert await approval.expense.execute(expense, context) == result
            hours = (clock.time() - began) / 3600
            assert hours == pytest.approx(answered_after or 24)
            assert sum("reminder" in line for line in approval.sent) == reminders

    anyio.run(main, backend=backend)


def test_a_team_of_agents_that_is_killed_pays_for_no_answer_twice(printed, monkeypatch):
    for name in [name for name in os.environ if "COVERAGE" in name]:
        # Its processes import pydantic-ai, which takes much longer where coverage is measured.
        monkeypatch.delenv(name)
    lines = printed("research_team")
    assert lines[0] == "The first process ended with -9."
    assert lines[1].startswith("Sequence: `a >> b` gives")
    assert lines[2:] == [
        "edit: 19 words",
        "edit: 27 words",
        "research parallel: answer",
        "research parallel: look it up",
        "research sequence: answer",
        "research sequence: look it up",
        "write: draft",
        "write: shorter",
    ]


def test_a_chain_of_lcel(printed):
    assert printed("from_lcel") == ["3 woorden", "['1 words', '1 woorden', 'sorry']"]


def test_a_workflow_of_dbos(printed):
    assert printed("from_dbos") == [
        "order-1 reserved",
        "order-1 receipt for 45",
        "order-2 reserved",
        "order-2 card declined",
        "['reserved lamp', 'charged 45', 'reserved book', 'released reservation of book']",
    ]


def test_a_workflow_of_temporal(printed):
    assert printed("from_temporal") == [
        "t-1 moving",
        "t-1 -100, +100",
        "t-2 moving",
        "t-2 account 'closed' is closed",
        "the bank is busy",
        "withdrew 100 from ada",
        "deposited 100 to eve",
        "withdrew 100 from ada",
        "refunded -100",
    ]
