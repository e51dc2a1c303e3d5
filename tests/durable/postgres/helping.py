"""Short ways to do what the tests of PostgreSQL do again and again."""

import contextlib
import inspect
import subprocess
import sys
from pathlib import Path

import anyio


async def until(ask, enough=bool):
    """What is found once it is enough."""
    with anyio.fail_after(90):
        while True:
            found = ask()
            if inspect.isawaitable(found):
                found = await found
            if enough(found):
                return found
            await anyio.sleep(0.02)


def alive(postgres, schema):
    """How many runners nobody has taken over from."""
    ((many,),) = postgres.ask(f"SELECT count(*) FROM {schema}.runners WHERE NOT is_gone")
    return many


@contextlib.contextmanager
def working(*arguments, inside=()):
    """A process of `working.py`, inside of what another command makes for it; killed at the end."""
    program = Path(__file__).parent / "working.py"
    command = [*inside, sys.executable, program, *arguments]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as worker:
        try:
            yield worker
        finally:
            worker.kill()  # one that was stopped, or goes on, would be waited for
