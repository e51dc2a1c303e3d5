import json
from dataclasses import dataclass

import pytest

from plait import ConditionalPrimitive, MapPrimitive, SerializationError, WorkflowContext, step
from plait.testing import UnknownNodeError, record, replayed

pytestmark = pytest.mark.anyio


@dataclass
class Rate:
    currency: str
    value: float


class Server:
    def __init__(self):
        self.calls = 0

    def rate(self, currency):
        self.calls += 1
        if currency == "XXX":
            raise LookupError(currency)
        return Rate(currency, float(self.calls))


@pytest.fixture
def server():
    return Server()


@pytest.fixture
def price(server):
    @step
    async def rate(currency: str) -> Rate:
        return server.rate(currency)

    @step
    def total(rates):
        return sum(rate.value for rate in rates)

    return (
        MapPrimitive(rate, max_concurrency=1)
        >> total
        >> ConditionalPrimitive(lambda total: total > 0, lambda total: 2 * total)
    ).named("price")


@pytest.fixture
def file(tmp_path):
    return tmp_path / "rates.json"


async def test_what_was_recorded_is_replayed(price, server, file):
    assert await record(price, ["EUR", "USD"], file, nodes=["rate"]) == 6
    assert await price.with_mocks(replayed(file))(["EUR", "USD"]) == 6
    assert server.calls == 2


async def test_a_recording_is_a_file_to_be_read(price, file):
    context = WorkflowContext()
    await record(price, ["EUR"], file, context=context)
    kept = json.loads(file.read_text())
    assert kept["format"] == "plait recording 1"
    assert kept["workflow"] == "price"
    paths = ["price/1:rate[0]", "price/2:total", "price/3:conditional/then"]
    assert [call["path"] for call in kept["calls"]] == paths
    assert kept["calls"][2] == {
        "path": "price/3:conditional/then",
        "name": "lambda",
        "input": 1.0,
        "result": 2.0,
    }


async def test_a_failure_is_recorded_and_replayed(price, server, file):
    with pytest.raises(LookupError, match="XXX"):
        await record(price, ["XXX"], file)
    with pytest.raises(LookupError, match="XXX"):
        await price.with_mocks({"rate": replayed(file)["rate"]})(["XXX"])
    assert server.calls == 1


async def test_a_call_at_another_place_is_answered_by_an_equal_one(price, server, file):
    await record(price, ["EUR", "USD"], file, nodes=["price/*rate*"])
    assert await price.with_mocks(replayed(file))(["USD", "USD", "EUR"]) == 10
    assert server.calls == 2


async def test_a_call_that_was_not_recorded_is_told(price, file):
    await record(price, ["EUR"], file, nodes=["rate"])
    tested = price.with_mocks(replayed(file))
    with pytest.raises(AssertionError) as caught:
        await tested(["GBP"])
    assert str(caught.value) == (
        "rate at price/1:rate[0] was called with 'GBP', and recorded with 'EUR' in "
        f"{file}: record it again where that is right"
    )
    with pytest.raises(AssertionError, match="and recorded not with this in"):
        await tested(["EUR", "GBP"])


async def test_a_node_that_is_not_there_is_refused(price, file):
    with pytest.raises(UnknownNodeError, match="did you mean 'rate'"):
        await record(price, ["EUR"], file, nodes=["rat"])
    assert not file.exists()


async def test_what_has_no_encoded_form_is_refused(file):
    @step
    async def connect(_):
        return object()

    with pytest.raises(SerializationError) as caught:
        await record(connect >> str, 1, file)
    assert "in recording sequential/1:connect" in caught.value.__notes__


@pytest.mark.parametrize("text", ["", "[]", "{}", '{"format": "plait recording 1"}', "{"])
def test_another_file_is_refused(file, text):
    file.write_text(text)
    with pytest.raises(ValueError, match="is not a recording of plait's"):
        replayed(file)


def test_a_recording_in_another_format_is_refused(file):
    file.write_text('{"format": "plait recording 2", "calls": []}')
    with pytest.raises(ValueError, match="format 'plait recording 2'"):
        replayed(file)
