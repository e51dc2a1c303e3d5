"""What a process of the crash tests does: drives a scenario to its end, or is killed on the way."""

import faulthandler
import json
from pathlib import Path

import anyio
import scenarios
from moments import Moments

from plait.durable import DurableRunner, FolderBlobStore, PostgresJournal, SqliteJournal, _executor

_PATIENCE_SECONDS = 15


def carry_out(
    name, folder, backend, kill_at=0, generation=0, lease_seconds=30, address="", schema=""
):
    """Drive a scenario, and write down its outcome and how many moments it passed.

    Its journal is a file in the folder, or in the PostgreSQL database at an address.
    """
    faulthandler.dump_traceback_later(2 * _PATIENCE_SECONDS, exit=True)
    folder = Path(folder)
    moments = Moments(folder / "effects", kill_at)
    moments.watch_commits()
    if address:
        # A worker that dies is known to be dead once its lease is over, and somebody looks.
        _executor._POLL_SECONDS = lease_seconds / 3
        journal = PostgresJournal(address, schema=schema, lease_seconds=lease_seconds)
    else:
        journal = SqliteJournal(folder / "runs.db", lease_seconds=lease_seconds)
    outcome = anyio.run(_drive, name, folder, journal, moments, generation, backend=backend)
    said = {"outcome": repr(outcome), "moments": moments.passed}
    (folder / "outcome").write_text(json.dumps(said))


async def _drive(name, folder, journal, moments, generation):
    scenario = scenarios.SCENARIOS[name]
    options = dict(scenario.options)
    if scenario.has_blobs:
        options["blobs"] = FolderBlobStore(folder / "blobs")
    runner = DurableRunner(journal, workflows=scenario.workflows, **options)
    # Interrupted runs go on while the runner is being entered.
    scenarios.world.begin(moments, runner, folder, generation)
    with anyio.fail_after(_PATIENCE_SECONDS):
        async with runner:
            outcome = await scenario.drive(runner)
            await _check_ended(runner)
            return outcome


async def _check_ended(runner):
    for run in await runner.list():
        assert run.status in {"completed", "failed", "cancelled"}, f"{run} is stuck"
        if run.status == "completed":
            found = await runner.verify(run.run_id)
            assert found.fits, found
