"""The way from a Restate server to a worker, which can be cut."""

import asyncio
import threading
from contextlib import suppress

from restate_server import free_port


class Wire:
    """A TCP proxy in a thread of its own."""

    def __init__(self, port):
        self.port = free_port()
        self._target = port
        self._is_cut = False
        self._writers = set()
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run)

    @property
    def url(self):
        return f"http://127.0.0.1:{self.port}"

    def __enter__(self):
        self._up = threading.Event()
        self._thread.start()
        self._up.wait()
        return self

    def __exit__(self, *_):
        self.cut()
        self._loop.call_soon_threadsafe(self._over.set)
        self._thread.join()

    def cut(self):
        """End every connection, and let none through."""
        self._is_cut = True
        self._loop.call_soon_threadsafe(self._drop)

    def mend(self):
        self._is_cut = False

    def _drop(self):
        for writer in self._writers:
            writer.transport.abort()

    def _run(self):
        with asyncio.Runner(loop_factory=lambda: self._loop) as runner:
            runner.run(self._serve())

    async def _serve(self):
        self._over = asyncio.Event()
        async with await asyncio.start_server(self._connected, "127.0.0.1", self.port):
            self._up.set()
            await self._over.wait()

    async def _connected(self, reader, writer):
        with suppress(OSError):
            if self._is_cut:
                writer.transport.abort()
                return
            to_reader, to_writer = await asyncio.open_connection("127.0.0.1", self._target)
            self._writers |= {writer, to_writer}
            await asyncio.gather(self._pump(reader, to_writer), self._pump(to_reader, writer))

    async def _pump(self, reader, writer):
        with suppress(OSError):
            while data := await reader.read(1 << 16):
                writer.write(data)
                await writer.drain()
        writer.transport.abort()
