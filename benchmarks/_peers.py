"""The same chains and fan-outs in other libraries: `uv sync --group bench` brings them."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from langchain_core.runnables import RunnableLambda, RunnableParallel
from pydantic_graph import GraphBuilder, StepContext

Function = Callable[[int], Awaitable[int]]
Run = Callable[[int], Awaitable[Any]]


def lcel_chain(function: Function, steps: int) -> Run:
    chain: Any = RunnableLambda(function)
    for _ in range(steps - 1):
        chain = chain | RunnableLambda(function)
    run: Run = chain.ainvoke
    return run


def lcel_fan_out(function: Function, branches: int) -> Run:
    lambdas = {f"b{index}": RunnableLambda(function) for index in range(branches)}
    run: Run = RunnableParallel(lambdas).ainvoke
    return run


def graph_chain(function: Function, steps: int) -> Run:
    builder = GraphBuilder(input_type=int, output_type=int)

    async def body(context: StepContext[None, None, int]) -> int:
        return await function(context.inputs)

    source: Any = builder.start_node
    for index in range(steps):
        node = builder.step(node_id=f"s{index}")(body)
        builder.add(builder.edge_from(source).to(node))
        source = node
    builder.add(builder.edge_from(source).to(builder.end_node))
    graph = builder.build()

    async def run(number: int) -> Any:
        return await graph.run(inputs=number, infer_name=False)

    return run
