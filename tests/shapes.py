"""Shapes and types of arguments, checked at run time. It takes part of each test, so it must not take long.

For its messages jaxtyping wraps every function in two calls of the type checker, which both look at the arguments, and
binds these to their names. Here one call does, and its own message: a quarter of the time of all tests.
"""

from collections.abc import Callable, Iterator
from dataclasses import is_dataclass
from functools import wraps
from inspect import isclass, isgeneratorfunction
from typing import Any, ForwardRef, Literal, get_args, get_origin

import jaxtyping
from jaxtyping import install_import_hook, jaxtyped

# the numeric tower lets an int stand for a float, as type checkers do; wrong types raise what those raise in Python
CHECKER = "beartype.beartype(conf=beartype.BeartypeConf(is_pep484_tower=True, violation_type=TypeError))"
CONTEXT = jaxtyped("context")  # in which the sizes of axes are compared


def check_shapes(package: str, without: set[str]) -> None:
    """From now on check what is imported of a package, but for some modules."""
    manager = install_import_hook(package, CHECKER)
    is_ours = manager.hook.should_instrument
    manager.hook.should_instrument = lambda name: is_ours(name) and name not in without
    jaxtyping.jaxtyped = _marked


def _marked(*, typechecker: Callable) -> Callable:
    """What the hook puts above each function and each class."""
    return lambda target: _checked(target, typechecker)


def _checked(target: Any, typechecker: Callable) -> Any:
    if isclass(target):
        if is_dataclass(target) and "__init__" in vars(target) and target.__dataclass_params__.init:  # pyright: ignore
            target.__init__ = _checked(target.__init__, typechecker)
        return target
    leaves = [leaf for each in target.__annotations__.values() for leaf in _leaves(each)]
    # names may not be imported, sizes depend on arguments, and a generator would be checked when it begins to run
    is_hard = any(isinstance(leaf, str | ForwardRef) or "{" in getattr(leaf, "dim_str", "") for leaf in leaves)
    if is_hard or isgeneratorfunction(target):
        return jaxtyped(target, typechecker=typechecker)
    checked = typechecker(target)

    @wraps(target)
    def with_shapes(*given: Any, **named: Any) -> Any:
        with CONTEXT:
            return checked(*given, **named)

    return with_shapes


def _leaves(annotation: Any) -> Iterator[Any]:
    """All that an annotation is made of."""
    parts = () if get_origin(annotation) is Literal else get_args(annotation)
    if not parts:
        yield annotation
    for part in parts:
        for each in part if isinstance(part, list) else [part]:  # the arguments of a callable
            yield from _leaves(each)
