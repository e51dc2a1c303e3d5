"""Entities: state that belongs to a key and outlives runs; one at a time has it."""

from __future__ import annotations

from contextlib import asynccontextmanager, suppress
from contextvars import ContextVar
from functools import partial
from typing import TYPE_CHECKING, TypeVar

import anyio

from plait.durable._arrivals import let_others_go_on
from plait.durable._messages import Messages
from plait.durable._stored import Kind, Wait
from plait.durable._topics import entity_topic, turn_topic
from plait.durable._turns import Turn
from plait.primitives._errors import Abort
from plait.primitives._references import full_name

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable

    from plait.durable._environment import Environment
    from plait.durable._stored import StoredRun
    from plait.primitives import Runtime, WorkflowContext

T = TypeVar("T")

_held: ContextVar[tuple[str, ...]] = ContextVar("plait_entities", default=())
"""The entities that the code which is asked now holds."""


class Entities(Messages):
    """Has runs wait in line for an entity, and keeps what they make of it.

    The line is in the journal. To it, each wait is another one, also of two tasks of one run.
    """

    __slots__ = ("_freeing", "_to_free")

    def __init__(self, run: StoredRun, environment: Environment, inner: Runtime | None) -> None:
        super().__init__(run, environment, inner)
        self._to_free: list[Callable[[], Awaitable[None]]] = []
        self._freeing: anyio.Lock | None = None

    @asynccontextmanager
    async def entity(
        self, kind: type[T], key: str, default: Callable[[], T], context: WorkflowContext
    ) -> AsyncGenerator[T, None]:
        """Hold an entity, of which nobody else is the holder meanwhile."""
        name = full_name(kind)
        topic = entity_topic(name, key)
        before = _held.get()
        if topic in before:
            msg = f"{kind.__qualname__} {key!r} is held by this code already"
            raise RuntimeError(msg)
        path = self._own_place(context, "entity", f"{name}:{key}")
        payload = await self._acquired(name, key, path, context)
        _held.set((*before, topic))
        try:
            state: T = self._decoded(path, payload) if payload else default()
            yield state
            changed = self._codec.encode(state)
        except Exception:
            self._failed_at(path, context)
            await self._let_go(name, key, path, None)
            raise
        except BaseException:
            self._failed_at(path, context)
            self._free_later(partial(self._release, name, key, path, None))
            raise
        else:
            await self._let_go(name, key, path, changed)
        finally:
            _held.set(before)

    async def flush(self) -> None:
        """Wait until everything that was recorded is on disk, and what was given up is free."""
        await super().flush()
        if self._freeing is not None:
            async with self._freeing:
                while self._to_free:
                    await self._on_disk(self._to_free.pop(0)())

    async def _acquired(self, name: str, key: str, path: str, context: WorkflowContext) -> bytes:
        """The state of an entity that this code is the holder of from now on."""
        record = self._history.get(path)
        if record is not None and record.kind == Kind.VALUE:
            return record.payload
        turn = Turn(self._run_key, path)

        async def acquire() -> tuple[bytes] | None:
            fresh = self._record(path, Kind.VALUE)
            acquired = partial(self._journal.acquire, name, key, fresh, self.timestamp())
            found, cancelled = await self._uninterrupted(acquired)
            if cancelled is not None:
                raise cancelled
            return found

        async def withdraw() -> None:
            self._pass_on(await self._journal.withdraw(name, key, turn, self.timestamp()))

        try:
            await self._given_up_again(path)
            wait = Wait(path, entity_topic(name, key), None)
            found = await self._wait([wait], acquire, context, turn_topic(turn))
        except anyio.get_cancelled_exc_class():
            self._give_up(path)
            self._free_later(withdraw)
            raise
        assert found is not None
        return found[0]

    async def _let_go(self, name: str, key: str, path: str, changed: bytes | None) -> None:
        left = f"{path}#left"
        with self._giving_up(left):
            await self._given_up_again(left)
            if self._history.get(f"{path}#released") is None:
                self._refuse_when_closing(left)

                async def release() -> None:
                    await self.flush()
                    await self._on_disk(self._release(name, key, path, changed))

                _, cancelled = await self._uninterrupted(release)
                if cancelled is not None:
                    raise cancelled

    async def _release(self, name: str, key: str, path: str, changed: bytes | None) -> None:
        record = self._record(f"{path}#released", Kind.VALUE)
        if self._history.get(record.path) is None:
            now = self.timestamp()
            self._pass_on(await self._journal.release(name, key, changed, record, now))

    def _pass_on(self, turn: Turn | None) -> None:
        if turn is not None:
            self._topics.pass_on(turn)

    def _free_later(self, free: Callable[[], Awaitable[None]]) -> None:
        """Free what code that is cancelled had, or waited for, once it goes on.

        Where a program ends, asyncio cancels all its tasks, those of its runner among them: then
        the run is carried on later, and has what it had.
        """

        async def freed() -> None:
            await let_others_go_on()
            if not self.is_closing:
                # What else is to be recorded says that it cannot be.
                with suppress(Abort):
                    await self.flush()

        if not (self.is_closing or self.is_verifying):
            self._freeing = self._freeing or anyio.Lock()
            self._to_free.append(free)
            self._spawn(freed)
