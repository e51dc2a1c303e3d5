import anyio
import pytest

from plait import (
    MockPrimitive,
    PermanentError,
    RouterPrimitive,
    UnknownRouteError,
    WorkflowContext,
    step,
)

pytestmark = pytest.mark.anyio


def by_name(data):
    return data["to"]


async def by_name_async(data):
    return data["to"]


def by_context(_, context):
    return context.data["to"]


async def by_context_async(_, context):
    return context.data["to"]


@pytest.mark.parametrize("router_fn", [by_name, by_name_async, by_context, by_context_async])
async def test_the_function_names_the_route(router_fn):
    router = RouterPrimitive({"a": lambda _: "took a", "b": lambda _: "took b"}, router_fn)
    for route in ("a", "b"):
        context = WorkflowContext(data={"to": route})
        assert await router.execute({"to": route}, context) == f"took {route}"


async def test_a_step_that_takes_the_context_may_name_the_route():
    @step
    async def choose(_: str, context: WorkflowContext) -> str:
        return context.data["to"]

    router = RouterPrimitive({"upper": str.upper, "lower": str.lower}, choose)
    assert await router.execute("Ada", WorkflowContext(data={"to": "upper"})) == "ADA"


async def test_only_the_route_that_is_named_runs():
    named, other = MockPrimitive(), MockPrimitive()
    await RouterPrimitive({"named": named, "other": other}, lambda _: "named")("x")
    assert (named.calls, other.call_count) == (["x"], 0)


@pytest.mark.parametrize("names", [["b", "a"], ("b", "a"), ["b", "a", "b"]])
async def test_several_routes_give_a_dict_of_results(names):
    routes = {"a": str.lower, "b": str.upper, "c": len}
    result = await RouterPrimitive(routes, lambda _: names)("Ada")
    assert list(result.items()) == [("b", "ADA"), ("a", "ada")]


@pytest.mark.parametrize("kind", [set, frozenset])
async def test_a_set_of_routes_is_put_in_order(kind):
    routes = dict.fromkeys("dcba", str)
    result = await RouterPrimitive(routes, lambda _: kind("dbca"))(1)
    assert list(result) == ["a", "b", "c", "d"]


async def test_several_routes_run_at_the_same_time(gauge):
    async def work(_):
        with gauge:
            await anyio.sleep(0.001)

    await RouterPrimitive({"a": work, "b": work}, lambda _: ["a", "b"])(1)
    assert gauge.peak == 2


async def test_one_route_that_fails_cancels_the_others():
    ended = []

    async def wait(_):
        try:
            await anyio.sleep_forever()
        finally:
            ended.append("wait")

    async def fail(_):
        await anyio.wait_all_tasks_blocked()
        raise ValueError("broken")

    router = RouterPrimitive({"wait": wait, "fail": fail}, lambda _: ["wait", "fail"])
    with pytest.raises(ValueError, match="broken") as caught:
        await router(1)
    assert ended == ["wait"]
    assert caught.value.__notes__ == ["in step 'fail' (router/fail)"]


async def test_no_route_gives_an_empty_dict():
    assert await RouterPrimitive({"a": str}, lambda _: [])(1) == {}


@pytest.mark.parametrize("answer", ["c", None, 7, ["a", "c"]])
async def test_an_unknown_route_lists_the_routes(answer):
    router = RouterPrimitive({"a": str, "b": str}, lambda _: answer)
    with pytest.raises(UnknownRouteError, match=r"its routes are 'a', 'b'") as caught:
        await router(1)
    assert isinstance(caught.value, LookupError)
    assert isinstance(caught.value, PermanentError)
    unknown = "c" if isinstance(answer, list) else answer
    assert (caught.value.route, caught.value.routes) == (unknown, ("a", "b"))
    assert str(caught.value).startswith(f"'lambda' was sent to route {unknown!r}")


@pytest.mark.parametrize(
    ("answer", "result"), [("c", "1"), (None, "1"), (["c", "b"], {"a": "1", "b": 1})]
)
async def test_an_unknown_route_takes_the_default(answer, result):
    router = RouterPrimitive({"a": str, "b": int}, lambda _: answer, default="a")
    assert await router(1) == result


async def test_a_route_that_fails_is_named():
    router = RouterPrimitive({"int": int}, lambda _: "int").named("parse")
    with pytest.raises(ValueError, match="invalid literal") as caught:
        await router("x")
    assert caught.value.__notes__ == ["in step 'int' (parse/int)"]


async def test_a_function_that_fails_fails_the_workflow():
    with pytest.raises(KeyError, match="to") as caught:
        await RouterPrimitive({"a": str}, by_name)({})
    assert caught.value.__notes__ == ["in step 'by_name' (router/router)"]


async def test_decision_and_route_are_nodes(runtime):
    router = RouterPrimitive({"a": str, "b": repr}, lambda _: ["b", "a"])
    await router.execute(0, runtime.context(workflow_id="orders"))
    assert runtime.paths == ["orders", "orders/router", "orders/b", "orders/a"]


def test_a_router_needs_routes():
    with pytest.raises(ValueError, match="needs at least one route, got none"):
        RouterPrimitive({}, str)


def test_the_default_must_be_a_route():
    with pytest.raises(ValueError, match=r"default='c' of a RouterPrimitive is none of .*'a', 'b'"):
        RouterPrimitive({"a": str, "b": str}, str, default="c")


def test_the_function_must_be_one():
    with pytest.raises(TypeError, match="cannot compose 'a'"):
        RouterPrimitive({"a": str}, "a")
