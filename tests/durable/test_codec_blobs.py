"""Large payloads: kept whole beside the journal, found by their content, removed with runs."""

import builtins
import hashlib
import os
import sys
import time
from pathlib import Path

import anyio
import obstore.store
import pytest

from plait.durable import (
    BlobInfo,
    BlobStore,
    EncryptedCodec,
    FolderBlobStore,
    JournalError,
    JsonCodec,
    ObjectBlobStore,
)
from plait.durable._blobs import Blobs, blob_key

pytestmark = pytest.mark.anyio

LARGE = b"x" * 1000
KEY = hashlib.sha256(LARGE).hexdigest()


@pytest.fixture
def folder(tmp_path):
    return tmp_path / "blobs"


@pytest.fixture(params=["folder", "memory", "local"])
def store(request, folder):
    match request.param:
        case "folder":
            return FolderBlobStore(folder)
        case "memory":
            return ObjectBlobStore(obstore.store.MemoryStore(), prefix="/plait/runs/")
        case "local":
            return ObjectBlobStore(obstore.store.LocalStore(folder, mkdir=True))


@pytest.fixture
def blobs(store):
    return Blobs(store, threshold_bytes=256)


async def keys(store):
    return sorted([blob.key async for blob in store.list()])


async def test_a_store_keeps_blobs(store):
    assert isinstance(store, BlobStore)
    assert await keys(store) == []
    before = time.time()
    await store.put("aa-1", b"first")
    await store.put("bb-2", b"")
    assert await store.get("aa-1") == b"first"
    assert await store.get("bb-2") == b""
    found = [blob async for blob in store.list()]
    assert sorted((blob.key, blob.size) for blob in found) == [("aa-1", 5), ("bb-2", 0)]
    assert all(before - 2 < blob.stored_at < time.time() + 2 for blob in found)
    await store.delete("aa-1")
    await store.delete("aa-1")
    assert await keys(store) == ["bb-2"]


async def test_a_blob_that_is_not_there_is_a_lookup_error(store):
    with pytest.raises(LookupError, match="aa-1"):
        await store.get("aa-1")


async def test_several_may_put_the_same_blob_at_once(store):
    async with anyio.create_task_group() as tasks:
        for _ in range(10):
            tasks.start_soon(store.put, KEY, LARGE)
    assert await store.get(KEY) == LARGE
    assert await keys(store) == [KEY]


async def test_a_small_payload_stays_in_the_journal(blobs, store):
    for payload in (b"", b"1", b"x" * 256):
        assert not blobs.changes(payload)
        assert await blobs.put(payload) == payload
        assert await blobs.get(payload, "a") == payload
    assert await keys(store) == []


async def test_a_large_payload_is_kept_under_its_hash(blobs, store):
    assert blobs.changes(LARGE)
    reference = await blobs.put(LARGE)
    assert len(reference) < 100
    assert blob_key(reference) == KEY
    assert await store.get(KEY) == LARGE
    assert await blobs.get(reference, "a") == LARGE


async def test_equal_payloads_are_one_blob(blobs, store):
    assert await blobs.put(LARGE) == await blobs.put(LARGE)
    assert await keys(store) == [KEY]


@pytest.mark.parametrize("payload", [b"\0", b"\0=", b"\0@sha256:%b:1000" % KEY.encode()])
async def test_a_payload_that_looks_like_a_reference_comes_back_as_it_was(blobs, payload):
    assert blobs.changes(payload)
    stored = await blobs.put(payload)
    assert blob_key(stored) is None
    assert await blobs.get(stored, "a") == payload


async def test_an_encrypted_payload_is_encrypted_in_the_store_as_well(blobs, store):
    codec = EncryptedCodec(JsonCodec(), ["A" * 43 + "="])
    stored = await blobs.put(codec.encode("secret" * 1000))
    assert b"secret" not in await store.get(blob_key(stored))
    assert codec.decode(await blobs.get(stored, "a")) == "secret" * 1000


async def test_a_missing_blob_names_what_it_was_recorded_for(blobs, store):
    reference = await blobs.put(LARGE)
    await store.delete(KEY)
    with pytest.raises(JournalError, match=rf"'orders/1:charge' is kept as blob {KEY}, .* not in"):
        await blobs.get(reference, "orders/1:charge")


async def test_a_damaged_blob_is_not_handed_back(folder):
    blobs = Blobs(FolderBlobStore(folder), threshold_bytes=256)
    reference = await blobs.put(LARGE)
    (folder / KEY[:2] / KEY).write_bytes(b"y" + LARGE[1:])
    with pytest.raises(JournalError, match=r"'orders/1:charge' .* is damaged in FolderBlobStore"):
        await blobs.get(reference, "orders/1:charge")


async def test_a_blob_without_its_end_is_written_again(folder):
    blobs = Blobs(FolderBlobStore(folder), threshold_bytes=256)
    reference = await blobs.put(LARGE)
    (folder / KEY[:2] / KEY).write_bytes(LARGE[:10])
    assert await blobs.put(LARGE) == reference
    assert await blobs.get(reference, "a") == LARGE


@pytest.mark.parametrize("payload", [b"\0", b"\0@md5:aa:1", b"\0@sha256:../../etc/passwd:1"])
async def test_a_reference_of_another_form_is_refused(blobs, payload):
    with pytest.raises(JournalError, match=r"'a' refers to a blob in a way that is not known"):
        await blobs.get(payload, "a")


async def test_without_a_store_everything_stays_in_the_journal():
    blobs = Blobs()
    assert not blobs.changes(LARGE)
    assert await blobs.put(LARGE) == LARGE
    assert await blobs.put(b"\0a") == b"\0=\0a"
    assert await blobs.collect(set()) == 0


async def test_without_a_store_a_reference_says_what_is_missing(blobs):
    reference = await blobs.put(LARGE)
    with pytest.raises(JournalError, match=rf"as blob {KEY}, and the runner has no blob store"):
        await Blobs().get(reference, "a")


class Broken:
    def __repr__(self):
        return "Broken()"

    async def put(self, key, content):
        raise OSError(28, "No space left on device")

    async def get(self, key):
        raise PermissionError(13, "Permission denied")


async def test_a_store_that_fails_is_the_journals_error():
    blobs = Blobs(Broken(), threshold_bytes=256)
    with pytest.raises(JournalError, match=r"1,000 bytes .* to Broken\(\): .*No space left"):
        await blobs.put(LARGE)
    reference = b"\0@sha256:%b:1000" % KEY.encode()
    with pytest.raises(JournalError, match=r"cannot be read from Broken\(\): .*Permission denied"):
        await blobs.get(reference, "a")


async def test_what_nothing_refers_to_is_removed(blobs, store):
    live = blob_key(await blobs.put(LARGE))
    await blobs.put(LARGE + b"y")
    assert await blobs.collect({live}) == 0  # it may be about to be recorded
    assert await blobs.collect({live}, older_than_seconds=-10) == 1
    assert await keys(store) == [live]


async def test_a_blob_is_removed_by_its_age(store):
    await store.put("aa-1", b"first")
    assert not await store.delete("aa-1", before=1.0)
    assert await keys(store) == ["aa-1"]
    assert await store.delete("aa-1", before=time.time() + 10)
    assert not await store.delete("aa-1")
    assert await keys(store) == []


@pytest.mark.parametrize("is_late", [False, True])
async def test_a_blob_that_is_put_again_as_it_is_removed_is_kept(folder, monkeypatch, is_late):
    """Whoever finds it there has set its time; whoever does not, writes it."""
    store = FolderBlobStore(folder)
    await store.put(KEY, LARGE)
    file = folder / KEY[:2] / KEY
    os.utime(file, (1, 1))
    rename = Path.rename

    def put_in_between(path, target):
        store._put(KEY, LARGE)
        rename(path, target)
        if is_late:
            store._put(KEY, LARGE)

    monkeypatch.setattr(Path, "rename", put_in_between)
    assert not await store.delete(KEY, before=2)
    assert await store.get(KEY) == LARGE
    assert [entry.name for entry in file.parent.iterdir()] == [KEY]


async def test_a_blob_that_is_put_again_is_new(folder):
    store = FolderBlobStore(folder)
    blobs = Blobs(store, threshold_bytes=256)
    await blobs.put(LARGE)
    os.utime(folder / KEY[:2] / KEY, (1, 1))
    assert [blob.stored_at async for blob in store.list()] == [1]
    await blobs.put(LARGE)
    assert await blobs.collect(set()) == 0
    assert await store.get(KEY) == LARGE


async def test_a_write_that_failed_leaves_nothing(folder, monkeypatch):
    def fail(_):
        raise OSError(28, "No space left on device")

    store = FolderBlobStore(folder)
    (folder / KEY[:2]).mkdir(parents=True)
    with monkeypatch.context() as patched:
        patched.setattr(os, "fsync", fail)
        with pytest.raises(OSError, match="No space left"):
            await store.put(KEY, LARGE)
    assert await keys(store) == []


async def test_what_a_killed_write_left_is_no_blob_and_is_removed(folder):
    script = """if True:
        import os, signal, sys
        from plait.durable import FolderBlobStore
        os.fsync = lambda _: os.kill(os.getpid(), signal.SIGKILL)
        os.makedirs(f"{sys.argv[1]}/{sys.argv[2][:2]}")
        FolderBlobStore(sys.argv[1])._put(sys.argv[2], b"x" * 1000)
    """
    command = [sys.executable, "-c", script, str(folder), KEY]
    done = await anyio.run_process(command, check=False)
    assert done.returncode == -9
    store = FolderBlobStore(folder)
    (left,) = await keys(store)
    assert left.startswith(KEY)
    assert left.endswith(".part")
    with pytest.raises(LookupError):
        await store.get(KEY)
    assert await Blobs(store).collect({KEY}, older_than_seconds=-10) == 1
    assert await keys(store) == []


async def test_a_blob_that_goes_while_the_folder_is_listed_is_left_out(folder, monkeypatch):
    store = FolderBlobStore(folder)
    await store.put(KEY, LARGE)
    (folder / KEY[:2] / "ghost").symlink_to("nowhere")
    assert await keys(store) == [KEY]


@pytest.mark.parametrize("can_sync", [True, False])
async def test_folders_are_synced_where_the_system_can(folder, monkeypatch, can_sync):
    opened, real = [], os.open
    monkeypatch.setattr(os, "open", lambda path, *args: opened.append(path) or real(path, *args))
    if not can_sync:
        monkeypatch.delattr(os, "O_DIRECTORY")
    store = FolderBlobStore(folder)
    await store.put(KEY, LARGE)
    monkeypatch.undo()
    assert await store.get(KEY) == LARGE
    assert ({folder.parent, folder, folder / KEY[:2]} <= set(opened)) is can_sync


def test_a_threshold_below_the_size_of_a_reference_is_refused():
    with pytest.raises(ValueError, match="threshold_bytes=255: for less than 256, references"):
        Blobs(threshold_bytes=255)


def test_stores_say_where_they_are(folder):
    assert repr(FolderBlobStore("runs/blobs")) == "FolderBlobStore('runs/blobs')"
    local = obstore.store.LocalStore(folder, mkdir=True)
    assert repr(ObjectBlobStore(local, prefix="a")) == f"ObjectBlobStore({local!r}, prefix='a/')"


def test_a_missing_package_is_named(monkeypatch):
    real = builtins.__import__

    def without(name, *args, **kwargs):
        if name == "obstore":
            raise ModuleNotFoundError(name)
        return real(name, *args, **kwargs)

    memory = obstore.store.MemoryStore()
    monkeypatch.setattr(builtins, "__import__", without)
    with pytest.raises(ImportError, match=r'pip install "plait\[blobs\]"'):
        ObjectBlobStore(memory)


async def test_what_a_store_knows_of_a_blob_has_names():
    assert BlobInfo("a", 1, 2.0)._asdict() == {"key": "a", "size": 1, "stored_at": 2.0}
