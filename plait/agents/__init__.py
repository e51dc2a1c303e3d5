"""Agents of pydantic-ai as primitives, and steps as their tools; needs the extra `agents`.

Under a durable runner each request to a model and each call of a tool is a node of its own, so that
a run which is killed pays for no request twice.
"""

try:
    import pydantic_ai as _pydantic_ai  # noqa: F401  # pyright: ignore[reportUnusedImport]
except ImportError as error:
    _msg = 'plait.agents needs pydantic-ai: pip install "plait[agents]"'
    raise ImportError(_msg) from error

from plait.agents._agent import AgentPrimitive
from plait.agents._approvals import Approval, ApprovalRequest, approve
from plait.agents._errors import is_transient
from plait.agents._limits import UsageLimitPrimitive
from plait.agents._tools import ToolStep, as_tool, tool
from plait.primitives._public import publish as _publish

__all__ = [
    "AgentPrimitive",
    "Approval",
    "ApprovalRequest",
    "ToolStep",
    "UsageLimitPrimitive",
    "approve",
    "as_tool",
    "is_transient",
    "tool",
]

_publish(globals())
