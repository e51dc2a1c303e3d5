"""Runs that are there already: held again, resumed, forked, verified."""

from __future__ import annotations

import uuid
from typing import Any

from plait.durable._errors import RunConflictError
from plait.durable._inside import InsideClient
from plait.durable._run import Run
from plait.durable._stored import NewRun
from plait.durable._verification import Verification, verify


class Reruns(InsideClient):
    """Executes runs again, from where they failed or from any of their nodes."""

    async def get(self, run_id: str) -> Run[Any]:
        """The run of that id.

        Raises:
            RunNotFoundError: There is none.
        """
        return Run(self, run_id, await self._ending_of(await self._find(run_id)))

    async def resume(self, run_id: str) -> Run[Any]:
        """Carry a failed run on from what failed; one that has not failed is left as it is.

        Raises:
            RunNotFoundError: There is no such run.
            ValueError: Its workflow is not among this runner's.
        """
        stored = await self._find(run_id)
        self._workflow_of(stored)
        if await self._journal.reopen(stored.key, self._timestamp()):
            execution = self._executor.executions.get(run_id)
            if execution is not None and execution.is_over:
                await execution.ending.wait()
            await self._ending_of(await self._find(run_id))
        return self._run(run_id)

    async def fork(
        self, run_id: str, *, before: str | None = None, new_run_id: str | None = None
    ) -> Run[Any]:
        """Start a run that goes on from a point of another one, with what that had done by then.

        Args:
            run_id: The other run.
            before: The path of the first node to execute again; None to keep all that is recorded.
            new_run_id: The id of the new run; new where none is given.

        Raises:
            RunNotFoundError: There is no such run.
            ValueError: Its workflow is not among this runner's, or nothing is recorded at the path.
            RunConflictError: There is a run of the new id.
        """
        stored = await self._find(run_id)
        self._workflow_of(stored)
        records = await self._journal.records(stored.key)
        below = () if before is None else (before, f"{before}/", f"{before}[", f"{before}#")
        if before is not None and not any(r.path.startswith(below) for r in records):
            msg = f"nothing is recorded at {before!r} of run {run_id!r}"
            raise ValueError(msg)
        start = stored.start
        new = NewRun(
            run_id=uuid.uuid4().hex if new_run_id is None else new_run_id,
            workflow=start.workflow,
            digest=start.digest,
            payload=start.payload,
            context=start.context,
            created=self._timestamp(),
            metadata=start.metadata,
        )
        forked, is_new = await self._journal.fork(stored.key, new, before)
        if not is_new:
            msg = f"there is a run {new.run_id!r} already; a fork needs an id of its own"
            raise RunConflictError(msg)
        self._executor.launch(forked, await self._journal.records(forked.key))
        return self._run(new.run_id)

    async def verify(self, run_id: str) -> Verification:
        """Replay a run without executing or recording anything, to see whether the code fits it.

        Raises:
            RunNotFoundError: There is no such run.
            ValueError: Its workflow is not among this runner's.
        """
        stored = await self._find(run_id)
        self._workflow_of(stored)
        return await verify(self._executor, stored, await self._journal.records(stored.key))

    def _run(self, run_id: str) -> Run[Any]:
        execution = self._executor.executions.get(run_id)
        return Run(self, run_id, None if execution is None else execution.ending)
