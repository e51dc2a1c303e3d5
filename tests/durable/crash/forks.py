"""Processes by the dozen: forked from one that has imported everything, each costs milliseconds.

Run as a program, it reads a line of JSON for each process that it is to fork, and answers with the
process's id, and with its exit code when it has ended.
"""

import gc
import json
import os
import subprocess
import sys
import traceback
from pathlib import Path


class Forks:
    """A program that forks processes, one after the other."""

    def __init__(self):
        # What these processes execute is measured elsewhere: most of them are killed.
        environment = {k: v for k, v in os.environ.items() if not k.startswith("COVERAGE_")}
        self._server = subprocess.Popen(
            [sys.executable, Path(__file__)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            text=True,
            env=environment,
        )

    def __enter__(self):
        return self

    def __exit__(self, *_):
        self._server.stdin.close()
        self._server.wait()
        self._server.stdout.close()

    def start(self, function, **arguments):
        """Fork a process that calls a function "module:name"; returns its id."""
        self._server.stdin.write(json.dumps([function, arguments], default=str) + "\n")
        self._server.stdin.flush()
        return self._answer()

    def wait(self):
        """Wait until it has ended; returns its exit code, which is negative for a signal."""
        return self._answer()

    def run(self, function, **arguments):
        """Start it and wait."""
        self.start(function, **arguments)
        return self.wait()

    def _answer(self):
        line = self._server.stdout.readline()
        assert line, "the program that forks processes has died"
        return int(line)


def _serve():
    answers = os.fdopen(os.dup(1), "w", buffering=1)
    os.dup2(2, 1)
    gc.freeze()
    for line in sys.stdin:
        function, arguments = json.loads(line)
        process = os.fork()
        if not process:
            _call(function, arguments)
        print(process, file=answers)
        _, status = os.waitpid(process, 0)
        print(os.waitstatus_to_exitcode(status), file=answers)


def _call(function, arguments):
    code = 1
    try:
        module, _, name = function.partition(":")
        getattr(sys.modules[module], name)(**arguments)
        code = 0
    except BaseException:  # noqa: BLE001 - the process ends with it
        traceback.print_exc()
    finally:
        sys.stderr.flush()
        os._exit(code)


if __name__ == "__main__":
    import chaos  # noqa: F401
    import process  # noqa: F401
    import trio  # noqa: F401

    _serve()
