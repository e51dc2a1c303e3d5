"""A worker that executes runs of ten steps until it is killed.

    python working.py ADDRESS SCHEMA EFFECTS [--one]

Each execution of a step appends a line to EFFECTS: the run, the path, a token, the time. What the
step returns begins with the token. With --one it starts one run, and prints how that ended.
"""

import os
import sys
import time
import uuid

import anyio

from plait import SequentialPrimitive, WorkflowContext, step
from plait.durable import DurableRunner, JournalError, PostgresJournal, Queue

QUEUE = Queue("work", max_concurrent=40)


@step
async def work(number, context: WorkflowContext):
    token = uuid.uuid4().hex
    line = f"{context.run_id}\t{context.path}\t{token}\t{time.time()}\t{os.getpid()}\n"
    file = os.open(sys.argv[3], os.O_WRONLY | os.O_CREAT | os.O_APPEND)
    os.write(file, line.encode())
    os.close(file)
    await anyio.sleep(0.02)
    return token


ten_steps = SequentialPrimitive([work] * 10).named("ten steps")
slow_steps = SequentialPrimitive([work] * 500).named("ten steps")


async def main():
    journal = PostgresJournal(sys.argv[1], schema=sys.argv[2], lease_seconds=2)
    workflow = slow_steps if "--one" in sys.argv else ten_steps
    async with DurableRunner(journal, workflows=[workflow], queues=[QUEUE]) as runner:
        if "--one" in sys.argv:
            try:
                await runner.run(workflow, 0, run_id="one")
            except JournalError as error:
                sys.stdout.write(str(error))
        else:
            await anyio.sleep_forever()


if __name__ == "__main__":
    anyio.run(main)
