"""What is kept of an exception, and how it is built again."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, cast

from plait.primitives._errors import OF_THIS_PROCESS, RecordedError
from plait.primitives._references import find, full_name

if TYPE_CHECKING:
    from collections.abc import Callable

_RECORDED = "__plait_recorded__"
_OWN_OF_RECORDED = ("type_name", "message")


def recorded_tree(error: BaseException) -> dict[str, Any]:
    """What an error was decoded from; empty for one that was not."""
    tree: dict[str, Any] = vars(error).get(_RECORDED, {})
    return tree


def identity(error: BaseException) -> dict[str, Any]:
    """The name of an error's class and its message, as they were when it was recorded first."""
    tree = recorded_tree(error) or {"$error": full_name(type(error)), "message": _message(error)}
    return {key: tree[key] for key in ("$error", "message")}


def parts(error: BaseException) -> tuple[tuple[Any, ...], dict[str, Any]]:
    """What an error's class is called with to build it again, and its attributes."""
    args, state = error.args, vars(error)
    try:
        # It knows of what only C code sees, such as a file's name.
        made, reduced, *rest = cast("tuple[Any, ...]", error.__reduce__())
        if made is type(error):
            args, state = tuple(reduced), {**state, **(rest[0] if any(rest) else {})}
    except Exception:  # noqa: BLE001, S110 - a class of the user's may do anything there
        pass
    own = _OWN_OF_RECORDED if isinstance(error, RecordedError) else ()
    left_out = {_RECORDED, *OF_THIS_PROCESS, *own}
    return args, {name: value for name, value in state.items() if name not in left_out}


def remade(tree: dict[str, Any], decode: Callable[[Any], Any]) -> BaseException:
    """An error as it was, or a `RecordedError` where its class cannot be built again.

    Args:
        tree: What was kept of it.
        decode: Gives the values of its parts.
    """
    name, message = tree["$error"], tree["message"]
    if not (isinstance(name, str) and isinstance(message, str)):
        msg = f"an error has no name, or no message: {tree}"
        raise TypeError(msg)
    state: dict[str, Any] = {}
    for attribute, part in tree.get("state", {}).items():
        # What has not come back of an error must not hide the error itself.
        try:
            state[attribute] = decode(part)
        except Exception:  # noqa: BLE001, S112
            continue
    error = _built(name, message, tree, state, decode)
    if error is None:
        error = RecordedError(name, message)
        vars(error).update({**state, **vars(error)})
    error.__cause__ = _cause(tree, decode)
    vars(error)[_RECORDED] = tree
    return error


def _cause(tree: dict[str, Any], decode: Callable[[Any], Any]) -> BaseException | None:
    try:
        cause = decode(tree.get("cause"))
    except Exception:  # noqa: BLE001 - as with the rest of its state
        return None
    return cause if isinstance(cause, BaseException) else None


def _built(
    name: str, message: str, tree: dict[str, Any], state: dict[str, Any], decode: Callable[..., Any]
) -> BaseException | None:
    try:
        kind, args = find(name), decode(tree.get("args", {"$tuple": []}))
    except Exception:  # noqa: BLE001 - neither may be there any more
        return None
    if not (isinstance(kind, type) and issubclass(kind, BaseException)):
        return None
    # Where a class is not called with what it gives to `Exception`, its `__init__` is passed by.
    ways: list[Callable[..., BaseException]] = [kind, partial(kind.__new__, kind)]
    for build in ways:
        try:
            error = build(*args)
            for attribute, value in state.items():
                # Past `__setattr__`, which classes such as frozen dataclasses refuse.
                object.__setattr__(error, attribute, value)
            if _message(error) == message or _follows_from(error, args):
                return error
        except Exception:  # noqa: BLE001, S112 - whatever a class of the user's raises
            continue
    return None


def _follows_from(error: BaseException, args: Any) -> bool:
    """Whether what an error says is its arguments, whatever order a set among them has."""
    return type(error).__str__ is BaseException.__str__ and bool(error.args == args)


def _message(error: BaseException) -> str:
    try:
        return str(error)
    except Exception:  # noqa: BLE001 - whatever a class of the user's raises
        return "<exception str() failed>"
