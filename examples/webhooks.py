"""Take webhooks: each event starts the workflows that listen to it, however often it is delivered.

    uv run examples/webhooks.py

What to look at:

- `LISTENERS`: an event starts every workflow that is named beside it, each as a run of its own.
- `receive`, all that a web handler has to do: check the signature, publish, answer. When it
  answers, the runs are in the journal; what they do may take days, and outlives a crash.
- The sender's event id: webhooks are delivered at least once. The second delivery attaches to the
  runs of the first, and another event under the same id is refused.
- `provision` fails at first and is tried again; nobody has to deliver the event again for that.
"""

from __future__ import annotations

import hashlib
import hmac
import json
import tempfile
from typing import TypedDict

import anyio

from plait import RetryPrimitive, WorkflowPrimitive, step
from plait.durable import DurableRunner, RunConflictError
from plait.recovery import constant

SECRET = b"whsec_1"


class User(TypedDict):
    name: str
    plan: str


log: list[str] = []
outages = iter([True, False])


@step
async def greet(user: User) -> str:
    log.append(f"mail to {user['name']}")
    return "greeted"


@step
async def provision(user: User) -> str:
    if next(outages, False):
        log.append("no servers left")
        raise ConnectionError
    log.append(f"{user['plan']} server for {user['name']}")
    return "provisioned"


@step
async def say_goodbye(user: User) -> str:
    log.append(f"goodbye {user['name']}")
    return "gone"


welcome = (greet >> str.upper).named("welcome")
set_up = RetryPrimitive(provision, backoff=constant(0.01)).named("set_up")
farewell = say_goodbye.named("farewell")
LISTENERS: dict[str, list[WorkflowPrimitive[User, str]]] = {
    "user.created": [welcome, set_up],
    "user.deleted": [farewell],
}


def signature_of(body: bytes) -> str:
    return hmac.new(SECRET, body, hashlib.sha256).hexdigest()


async def receive(runner: DurableRunner, body: bytes, signature: str) -> tuple[int, str]:
    """What a web framework's handler does with a request; returns a status and a text."""
    if not hmac.compare_digest(signature_of(body), signature):
        return 401, "wrong signature"
    event = json.loads(body)
    try:
        runs = await runner.publish(event["type"], event["data"], event_id=event["id"])
    except RunConflictError:
        return 409, f"another event has the id {event['id']}"
    return 202, ", ".join(run.run_id for run in runs)


def delivery(event_id: str, kind: str, name: str, plan: str = "basic") -> tuple[bytes, str]:
    event = {"id": event_id, "type": kind, "data": {"name": name, "plan": plan}}
    body = json.dumps(event).encode()
    return body, signature_of(body)


async def main(journal: str) -> None:
    async with DurableRunner(journal, listeners=LISTENERS) as runner:
        for body, signature in (
            delivery("evt_1", "user.created", "ada"),
            delivery("evt_1", "user.created", "ada"),
            delivery("evt_1", "user.created", "eve"),
            (delivery("evt_2", "user.created", "eve")[0], "forged"),
            delivery("evt_3", "user.deleted", "ada"),
        ):
            print(*await receive(runner, body, signature))
        for info in await runner.list():
            await (await runner.get(info.run_id)).result()
    print("", *sorted(log), sep="\n  ")


if __name__ == "__main__":
    with tempfile.TemporaryDirectory() as folder:
        anyio.run(main, f"sqlite:///{folder}/runs.db")
