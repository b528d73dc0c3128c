"""The loop and the policies, compiled for the one signature each has: a policy is called through a pointer, so one
compiled loop takes any of them."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from typing import Any

import numba as _numba
from numba import types as _types

from tierwise.core.errors import TierwiseError
from tierwise.serving.jit import compiled
from tierwise.serving.loop.advance import advance
from tierwise.serving.loop.arrays import HANDLE
from tierwise.serving.loop.layout import CLUSTER, ENGINE, REQUEST, TENANT
from tierwise.serving.policies import Policy, kind_of, kinds

numba: Any = _numba
types: Any = _types  # Numba has annotations for part of itself only

POLICIES = 4  # different schedulers and KV managers that one deployment may mix

_engine, _request = numba.from_dtype(ENGINE), numba.from_dtype(REQUEST)
# The words in which a kind of policy says what its functions take and return.
TYPES = {
    "int": types.int64,
    "float": types.float64,
    "tokens": types.int64,
    "engine": _engine,
    "request": _request,
    "tenant": numba.from_dtype(TENANT),
    "cluster": numba.from_dtype(CLUSTER),
    "engines": types.Array(_engine, 1, "C"),
    "among": types.Array(types.int64, 1, "C"),
}


def _signature(text: str) -> Any:
    """``int(engine, request)`` in types."""
    result, _, taken = text.removesuffix(")").partition("(")
    return TYPES[result](*(TYPES[name.strip()] for name in taken.split(",")))


SIGNATURES = {name: _signature(text) for kind in kinds() for name, text in kind_of(kind).functions.items()}


def policy(name: str, found: Policy | Callable[..., Any]) -> Any:
    """A policy's function of that name compiled; None where its file has none of that name.

    Raises:
        TierwiseError: it uses what cannot be compiled.
    """
    function = found.function(name) if isinstance(found, Policy) else found
    if function is None:
        return None
    where = found.module.__file__ if isinstance(found, Policy) else name
    try:
        return _compiled(name, function)
    except KeyError as error:
        raise TierwiseError(f"{where}: {name}() cannot be compiled: there is no field {error}; "
                            "see docs/adding-a-policy.md") from None  # fmt: skip
    except numba.core.errors.NumbaError as error:
        lines = [line.strip() for line in str(error).splitlines() if line.strip()]
        said = next((x for x in lines if x.startswith(("Unknown attribute", "Untyped global", "No implementation",
                                                       "Invalid use", "NameError"))), lines[-1])  # fmt: skip
        raise TierwiseError(f"{where}: {name}() cannot be compiled: {said}; see docs/adding-a-policy.md") from None


@cache
def _compiled(name: str, function: Callable[..., Any]) -> Any:
    return compiled(function, SIGNATURES[name])


@cache
def loop() -> Callable[..., int]:
    """The event loop; compiled once, or read from the cache."""

    def several(kind: str) -> Any:
        return types.UniTuple(types.FunctionType(SIGNATURES[kind]), POLICIES)

    handle = types.Array(numba.from_dtype(HANDLE), 1, "C")
    signature = types.int64(
        handle,
        types.int64,
        several("tokens"),
        several("order"),
        several("blocks"),
        types.FunctionType(SIGNATURES["route"]),
        types.FunctionType(SIGNATURES["replicas"]),
    )
    return compiled(advance, signature)  # type: ignore[no-any-return]


def by_arrival(engine, request, tenant):  # type: ignore[no-untyped-def]
    """First come, first served: the order of a scheduler that does not say another."""
    return request.ready


def all_of_them(cluster, engines):  # type: ignore[no-untyped-def]
    """Every replica is up: no autoscaler."""
    return len(engines)


def rhythm(blocks: Any, engine: Any, request: Any) -> tuple[int, int]:
    """Tokens between two requests for blocks and blocks of each, as a KV manager's function tells for every length up
    to ``_PROBED``: (0, 0) where it never asks for more, (-1, 0) where there is no rhythm."""
    return _rhythm_of()(blocks, engine, request)  # type: ignore[no-any-return]


_PROBED = 4096


@cache
def _rhythm_of() -> Any:
    signature = types.UniTuple(types.int64, 2)(types.FunctionType(SIGNATURES["blocks"]), _engine, _request)
    return compiled(_rhythm, signature)


def _rhythm(blocks, engine, request):  # type: ignore[no-untyped-def]
    first, most = blocks(engine, request, 1), _PROBED
    grow = 0
    for tokens in range(2, most + 1):
        if blocks(engine, request, tokens) != first:
            grow = tokens - 1
            break
    if grow == 0:
        return (0, 0) if blocks(engine, request, engine.max_len) == first else (-1, 0)
    grown = blocks(engine, request, grow + 1) - first
    for tokens in range(1, most + 1):
        if blocks(engine, request, tokens) != -(-tokens // grow) * grown:
            return (-1, 0)
    if blocks(engine, request, engine.max_len) != -(-engine.max_len // grow) * grown:
        return (-1, 0)
    return (grow, grown)
