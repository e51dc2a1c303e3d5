"""Large payloads, kept beside the journal under the hash of what is in them."""

from __future__ import annotations

import hashlib
import math
import os
import re
import sys
import tempfile
import time
import uuid
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple, Protocol, runtime_checkable

import anyio.to_thread

from plait.durable._errors import JournalError

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Collection, Iterator

    from obstore.store import ObjectStore

# A payload that starts with NUL is not what it is by itself.
_MARK = b"\0"
REFERENCES = b"\0@sha256:"
"""What every reference to a blob starts with."""
_REFERENCE = re.compile(rb"\0@sha256:([0-9a-f]{64}):([0-9]+)")
_INLINE = b"\0="


class BlobInfo(NamedTuple):
    """What a store knows of one blob.

    Attributes:
        key: Its key.
        size: How long it is, in bytes.
        stored_at: When it was put there last, in seconds since the epoch.
    """

    key: str
    size: int
    stored_at: float


@runtime_checkable
class BlobStore(Protocol):
    """Where large payloads are kept, by keys of letters, digits, `-` and `.`.

    What a key stands for never changes. All of it may be called by several processes at once.
    """

    async def put(self, key: str, content: bytes) -> None:
        """Keep a blob; when this returns, it outlives a crash, whole.

        Where the key is there already, its time is set anew.
        """
        ...

    async def get(self, key: str) -> bytes:
        """A blob's content.

        Raises:
            LookupError: There is no blob of that key.
        """
        ...

    async def delete(self, key: str, before: float = math.inf) -> bool:
        """Remove a blob, where there is one that was put there last before a time.

        Returns:
            Whether there was.
        """
        ...

    def list(self) -> AsyncIterator[BlobInfo]:
        """All blobs, and what interrupted writes left, which is never referred to."""
        ...


class FolderBlobStore:
    """Blobs as files in a folder.

    A file is written under another name, synced to disk, and renamed: it is whole or not there.

    Args:
        path: The folder; made where there is none.

    Example:
        >>> import tempfile
        >>> import anyio
        >>> from plait.durable import FolderBlobStore
        >>> async def main(folder: str) -> bytes:
        ...     store = FolderBlobStore(folder)
        ...     await store.put("greeting", b"good day")
        ...     return await store.get("greeting")
        >>> with tempfile.TemporaryDirectory() as folder:
        ...     anyio.run(main, folder)
        b'good day'
    """

    def __init__(self, path: str | Path) -> None:
        self._path = Path(path)

    def __repr__(self) -> str:
        return f"FolderBlobStore({str(self._path)!r})"

    async def put(self, key: str, content: bytes) -> None:
        """Keep a blob; when this returns, it is on disk."""
        await anyio.to_thread.run_sync(self._put, key, content)

    async def get(self, key: str) -> bytes:
        """A blob's content.

        Raises:
            LookupError: There is no blob of that key.
        """
        try:
            return await anyio.to_thread.run_sync(self._file(key).read_bytes)
        except FileNotFoundError:
            raise LookupError(key) from None

    async def delete(self, key: str, before: float = math.inf) -> bool:
        """Remove a blob, where there is one that was put there last before a time."""
        return await anyio.to_thread.run_sync(self._delete, key, before)

    async def list(self) -> AsyncIterator[BlobInfo]:
        """All blobs, and what interrupted writes left."""
        for folder in await anyio.to_thread.run_sync(_entries, self._path):
            for blob in await anyio.to_thread.run_sync(_blobs_in, folder):
                yield blob

    def _delete(self, key: str, before: float) -> bool:
        file = self._file(key)
        # Who puts it there again at this moment either finds it gone, or has set its time.
        gone = file.with_name(f"{key}.{uuid.uuid4().hex}.part")
        try:
            file.rename(gone)
        except FileNotFoundError:
            return False
        if gone.stat().st_mtime >= before:
            gone.replace(file)
            return False
        gone.unlink()
        return True

    def _put(self, key: str, content: bytes) -> None:
        file = self._file(key)
        with suppress(FileNotFoundError):
            if file.stat().st_size == len(content):
                os.utime(file)
                return
        for folder in (self._path, file.parent):
            if not folder.is_dir():
                folder.mkdir(parents=True, exist_ok=True)
                _sync_folder(folder.parent)
        descriptor, name = tempfile.mkstemp(prefix=f"{key}.", suffix=".part", dir=file.parent)
        try:
            with os.fdopen(descriptor, "wb") as part:
                part.write(content)
                part.flush()
                os.fsync(part.fileno())
            Path(name).replace(file)
        except BaseException:
            Path(name).unlink(missing_ok=True)
            raise
        _sync_folder(file.parent)

    def _file(self, key: str) -> Path:
        return self._path / key[:2] / key


class ObjectBlobStore:
    """Blobs in object storage, such as S3, through a store of the `obstore` package.

    Args:
        store: The bucket: `obstore.store.from_url("s3://bucket")`, `S3Store`, `GCSStore`, ...
        prefix: What the blobs' names in it start with.

    Raises:
        ImportError: The `obstore` package is missing: `pip install "plait[blobs]"`.
    """

    def __init__(self, store: ObjectStore, *, prefix: str = "") -> None:
        try:
            import obstore
        except ImportError as error:
            msg = 'ObjectBlobStore needs the package obstore: pip install "plait[blobs]"'
            raise ImportError(msg) from error
        self._obstore = obstore
        self._store = store
        self._prefix = f"{prefix.strip('/')}/" if prefix.strip("/") else ""

    def __repr__(self) -> str:
        return f"ObjectBlobStore({self._store!r}, prefix={self._prefix!r})"

    # In threads, as obstore's own coroutines run on asyncio alone.
    async def put(self, key: str, content: bytes) -> None:
        """Keep a blob."""
        await anyio.to_thread.run_sync(self._obstore.put, self._store, self._prefix + key, content)

    async def get(self, key: str) -> bytes:
        """A blob's content.

        Raises:
            LookupError: There is no blob of that key.
        """

        def get() -> bytes:
            return bytes(self._obstore.get(self._store, self._prefix + key).bytes())

        try:
            return await anyio.to_thread.run_sync(get)
        except FileNotFoundError:
            raise LookupError(key) from None

    async def delete(self, key: str, before: float = math.inf) -> bool:
        """Remove a blob, where there is one that was put there last before a time.

        What is put there between the two requests that this takes is removed as well.
        """

        def delete() -> bool:
            name = self._prefix + key
            if self._obstore.head(self._store, name)["last_modified"].timestamp() >= before:
                return False
            self._obstore.delete(self._store, name)
            return True

        try:
            return await anyio.to_thread.run_sync(delete)
        except FileNotFoundError:
            return False

    async def list(self) -> AsyncIterator[BlobInfo]:
        """All blobs under the prefix."""
        pages: Iterator[Any] = self._obstore.list(
            self._store, self._prefix or None, chunk_size=1000
        )
        while page := await anyio.to_thread.run_sync(next, pages, None):
            for found in page:
                key = found["path"].removeprefix(self._prefix)
                yield BlobInfo(key, found["size"], found["last_modified"].timestamp())


class Blobs:
    """Puts the payloads of a journal that are large into a blob store, and gets them back.

    The journal then holds a reference: the SHA-256 of the content, by which it is found and
    checked, and its length. A blob is on disk before the record that refers to it is written; what
    a crash leaves in between is removed by `collect`. Records of several runs may share a blob.

    Args:
        store: Where they are kept; None to keep every payload in the journal.
        threshold_bytes: How long a payload may be to stay in the journal.

    Raises:
        ValueError: `threshold_bytes` is less than 256, more than what references save.
    """

    def __init__(self, store: BlobStore | None = None, *, threshold_bytes: int = 65_536) -> None:
        if threshold_bytes < 256:
            msg = f"threshold_bytes={threshold_bytes}: for less than 256, references save nothing"
            raise ValueError(msg)
        self._store = store
        self._threshold_bytes = sys.maxsize if store is None else threshold_bytes

    @property
    def are_kept(self) -> bool:
        """Whether there is a store."""
        return self._store is not None

    def changes(self, payload: bytes, data: bytes | None = None) -> bool:
        """Whether `put` would return anything but what a record holds, its payload and data."""
        longest = self._threshold_bytes
        return (
            len(payload) > longest
            or payload.startswith(_MARK)
            or (data is not None and (len(data) > longest or data.startswith(_MARK)))
        )

    async def put(self, payload: bytes) -> bytes:
        """What to write into the journal for a payload.

        Raises:
            JournalError: The store cannot be written.
        """
        if len(payload) <= self._threshold_bytes or self._store is None:
            return _INLINE + payload if payload.startswith(_MARK) else payload
        key = await anyio.to_thread.run_sync(_sha256, payload)
        try:
            await self._store.put(key, payload)
        except Exception as error:
            # Whatever a store raises, it is the journal that cannot be written.
            msg = f"{len(payload):,} bytes cannot be written to {self._store}: {error}"
            raise JournalError(msg) from error
        return b"\0@sha256:%b:%d" % (key.encode(), len(payload))

    async def get(self, payload: bytes, where: str) -> bytes:
        """The payload that `put` was given.

        Args:
            payload: What the journal holds.
            where: What it is recorded for, such as a node's path.

        Raises:
            JournalError: The blob is missing, damaged, or cannot be read.
        """
        if not payload.startswith(_MARK):
            return payload
        if payload.startswith(_INLINE):
            return payload[len(_INLINE) :]
        key = blob_key(payload)
        what = f"what is recorded for {where!r} is kept as blob {key}"
        if key is None:
            msg = f"what is recorded for {where!r} refers to a blob in a way that is not known"
            raise JournalError(msg)
        if self._store is None:
            msg = f"{what}, and the runner has no blob store"
            raise JournalError(msg)
        try:
            content = await self._store.get(key)
        except LookupError:
            msg = f"{what}, which is not in {self._store}"
            raise JournalError(msg) from None
        except Exception as error:
            msg = f"{what}, which cannot be read from {self._store}: {error}"
            raise JournalError(msg) from error
        if await anyio.to_thread.run_sync(_sha256, content) != key:
            msg = f"{what}, which is damaged in {self._store}: its content has another hash"
            raise JournalError(msg)
        return content

    async def collect(self, live: Collection[str], *, older_than_seconds: float = 86_400) -> int:
        """Remove the blobs that nothing refers to.

        Args:
            live: The keys that the journal refers to, as `blob_key` reads them; a set is best.
            older_than_seconds: How long ago a blob must have been put there, in seconds: more than
                it takes to write a record after its blob, and than `live` is old.

        Returns:
            How many were removed.
        """
        if self._store is None:
            return 0
        removed, before = 0, time.time() - older_than_seconds
        async for blob in self._store.list():
            if blob.key not in live and blob.stored_at < before:
                removed += await self._store.delete(blob.key, before)
        return removed


def blob_key(payload: bytes) -> str | None:
    """The key of the blob that a payload in a journal refers to; None where it is no reference."""
    reference = _REFERENCE.fullmatch(payload)
    return None if reference is None else reference[1].decode()


def _sha256(content: bytes) -> str:
    return hashlib.sha256(content).hexdigest()


def _entries(folder: Path) -> list[Path]:
    try:
        return sorted(entry for entry in folder.iterdir() if entry.is_dir())
    except FileNotFoundError:
        return []


def _blobs_in(folder: Path) -> list[BlobInfo]:
    found: list[BlobInfo] = []
    for entry in os.scandir(folder):
        with suppress(FileNotFoundError):  # another process may have removed it
            info = entry.stat()
            found.append(BlobInfo(entry.name, info.st_size, info.st_mtime))
    return found


def _sync_folder(folder: Path) -> None:
    """Have a new name in a folder outlive a crash, where the system can do that."""
    flag = getattr(os, "O_DIRECTORY", None)
    if flag is None:
        return
    descriptor = os.open(folder, os.O_RDONLY | flag)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
