from datetime import UTC, datetime, timedelta
from email.message import Message
from types import SimpleNamespace

import pytest

from plait import MockPrimitive, RetryPrimitive, WorkflowContext
from plait.primitives import Runtime
from plait.recovery import constant

pytestmark = pytest.mark.anyio


class Sleeper(Runtime):
    """Waits for nothing, on the wall clock; `sleeps` are how long it should have."""

    def __init__(self):
        super().__init__()
        self.sleeps = []

    async def sleep(self, seconds, context):
        self.sleeps.append(seconds)


@pytest.fixture
def sleeper():
    return Sleeper()


class HTTPStatusError(Exception):
    """As httpx and requests have it: the headers are those of a response."""

    def __init__(self, headers):
        super().__init__()
        self.response = SimpleNamespace(headers=headers)


class ClientResponseError(Exception):
    """As aiohttp and urllib have it: the headers are the error's own."""

    def __init__(self, headers):
        super().__init__()
        self.headers = headers


def headers(text):
    """Headers that are found whatever the case of their names."""
    message = Message()
    message["retry-after"] = text
    return message


async def waited(error, sleeper):
    retry = RetryPrimitive(
        MockPrimitive(side_effect=[error, "done"]), backoff=constant(7), jitter=False
    )
    context = WorkflowContext()
    context._runtime = sleeper
    await retry.execute(0, context)
    (slept,) = sleeper.sleeps
    return slept


@pytest.mark.parametrize("kind", [HTTPStatusError, ClientResponseError])
async def test_seconds(kind, sleeper):
    assert await waited(kind(headers("120")), sleeper) == 120


@pytest.mark.parametrize("name", ["Retry-After", "retry-after"])
async def test_headers_may_be_a_plain_dict(name, sleeper):
    assert await waited(HTTPStatusError({name: "3"}), sleeper) == 3


@pytest.mark.parametrize(
    "form", ["%a, %d %b %Y %H:%M:%S GMT", "%A, %d-%b-%y %H:%M:%S GMT", "%a %b %d %H:%M:%S %Y"]
)
async def test_a_date_in_each_of_the_forms_of_rfc_9110(form, sleeper):
    date = datetime.now(UTC) + timedelta(hours=1)
    assert 3590 < await waited(HTTPStatusError(headers(date.strftime(form))), sleeper) <= 3600


async def test_a_date_that_has_passed_is_no_wait(sleeper):
    assert await waited(HTTPStatusError(headers("Fri, 31 Dec 1999 23:59:59 GMT")), sleeper) == 0


@pytest.mark.parametrize(
    "found",
    [None, {}, {"Retry-After": "soon"}, {"Retry-After": "-3"}, {"Retry-After": 3}, headers("1.5")],
)
async def test_whatever_else_leaves_it_to_the_backoff(found, sleeper):
    assert await waited(HTTPStatusError(found), sleeper) == 7


async def test_the_errors_own_word_comes_first(sleeper):
    error = HTTPStatusError(headers("120"))
    error.retry_after = timedelta(minutes=1)
    assert await waited(error, sleeper) == 60
