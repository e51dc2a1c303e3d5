"""The process that executes runs, which tests stop, kill and start again."""

import os
import socket
import subprocess
import sys
import threading
import time
from contextlib import contextmanager, suppress
from pathlib import Path

from effects import FILE
from restate_server import free_port

HERE = Path(__file__).parent


class Worker:
    """A process that executes runs, always at one address."""

    def __init__(self, effects, stays=0, **environment):
        self.port = free_port()
        self.stays = stays
        self.log = effects.parent / f"worker-{self.port}.log"
        self._environment = {**os.environ, FILE: str(effects), **environment}

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def start(self):
        self.launch()
        self.await_start()

    def launch(self):
        command = [sys.executable, HERE / "restate_worker.py", str(self.port), str(self.stays)]
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                command, env=self._environment, stdout=log, stderr=subprocess.STDOUT
            )

    def await_start(self):
        for _ in range(600):
            assert self.process.poll() is None, self.log.read_text()
            with suppress(OSError), socket.create_connection(("127.0.0.1", self.port)):
                return
            time.sleep(0.05)
        raise TimeoutError(self.log.read_text())

    def stop(self):
        """Have it end by itself; what it said."""
        self.process.terminate()
        assert self.process.wait(10) == 0
        return self.log.read_text()

    def kill(self):
        self.process.kill()
        self.process.wait()

    @contextmanager
    def revived(self):
        """Start it again whenever it dies; how often that was."""
        deaths, is_over = [], threading.Event()

        def revive():
            while not is_over.wait(0.02):
                if self.process.poll() is not None:
                    deaths.append(self.process.returncode)
                    self.launch()

        reviver = threading.Thread(target=revive)
        reviver.start()
        try:
            yield deaths
        finally:
            is_over.set()
            reviver.join()
            self.await_start()
