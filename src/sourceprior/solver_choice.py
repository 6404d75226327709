"""Solvers by name, and their options from their own signatures: there is no registry.

The solver `posterior_mean` is the function of that name in `sourceprior/solvers/posterior_mean.py`. Its options are its
keyword-only parameters, but for `generators` and `callback`, which every solver has; their types say which values they
take (`ranges`).
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from math import isfinite
from numbers import Integral, Real
from types import UnionType
from typing import Annotated, Any, Literal, Union, get_args, get_origin, get_type_hints

from torch import Tensor

from sourceprior import solvers
from sourceprior.errors import UserError, alternatives, nearest
from sourceprior.ranges import Range

Solver = Callable[..., Tensor]


def find_solver(name: str) -> Solver:
    """The solver function of that name. Raises UserError, with the names there are, for an unknown one."""
    known = sorted(module.name for module in pkgutil.iter_modules(solvers.__path__))
    module_name = name.replace("-", "_")
    if module_name not in known:
        raise UserError(f"There is no solver {name!r}; choose {alternatives(known)}.")
    return getattr(importlib.import_module(f"{solvers.__name__}.{module_name}"), module_name)


def options_of(*functions: Callable[..., Any]) -> dict[str, Option]:
    """The options that functions take, a solver and what else is asked for it, by name; the first one's type counts."""
    found: dict[str, Option] = {}
    for function in functions:
        try:
            hints = get_type_hints(function, include_extras=True)
        except NameError:
            # Types that are imported for type checkers only: the defaults say what they can.
            hints = {}
        for name, parameter in inspect.signature(function).parameters.items():
            if parameter.kind is parameter.KEYWORD_ONLY and name not in ("generators", "callback"):
                hint = hints.get(name, Any if parameter.default is None else type(parameter.default))
                found.setdefault(name, Option(name, hint, parameter.default, function))
    return found


def check_options(solver: Solver, options: Mapping[str, Any], *parts: Callable[..., Any]) -> dict[str, Any]:
    """The options as the solver takes them: functions instead of their names, floats instead of whole numbers.

    Args:
        solver: what they are for.
        parts: further functions whose keyword-only parameters are options of it, too; their types go before its own.

    Raises:
        UserError: an option that the solver does not have, or a value that its type does not hold.
    """
    known = options_of(*parts, solver)
    checked = {}
    for name, value in options.items():
        # What no text stands for, a hook or an object, is hidden from those who can only write text.
        if name not in known or (known[name].is_object and not known[name].holds(value)):
            spelt = [own for own, option in known.items() if not option.is_object]
            close = nearest(name, spelt) or sorted(spelt)
            has = f"did you mean {alternatives(close)}?" if close else "it has none."
            raise UserError(f"The solver {solver.__name__} has no option {name!r}; {has}")
        option = known[name]
        taken: Any = option.functions.get(value, value) if isinstance(value, str) else value
        if not option.holds(taken):
            raise UserError(f"The option {name} of {solver.__name__} is {option.description}; {value!r} does not fit.")
        whole = isinstance(taken, Integral) and not isinstance(taken, bool)
        checked[name] = float(taken) if whole and float in _kinds(option.hint) else taken
    return checked


@dataclass(frozen=True)
class Option:
    """A keyword-only parameter, and what its annotation says of its values."""

    name: str
    hint: Any
    default: Any
    function: Callable[..., Any]

    @property
    def functions(self) -> dict[str, Callable[..., Any]]:
        """Where the default is a function: those of its module that take the same arguments, by name."""
        if not inspect.isfunction(self.default):
            return {}
        wanted = list(inspect.signature(self.default).parameters)
        return {
            name: function
            for name, function in inspect.getmembers(inspect.getmodule(self.default), inspect.isfunction)
            if function.__module__ == self.default.__module__ and list(inspect.signature(function).parameters) == wanted
        }

    @property
    def is_object(self) -> bool:
        """Whether no text can stand for a value."""
        return not self.functions and not any(
            kind in TEXTS or get_origin(kind) is Literal for kind in _kinds(self.hint)
        )

    def holds(self, value: Any) -> bool:
        """Whether a value is of this option's type."""
        return _holds(self.hint, value)

    @property
    def description(self) -> str:
        """What the option is, as it goes on after "is"."""
        return alternatives(sorted(self.functions)) if self.functions else alternatives(_described(self.hint))


TEXTS = {bool: "True or False", int: "a whole number", float: "a number", str: "a name"}
"""Types that a person can write down."""


def _branches(hint: Any) -> list[Any]:
    """The alternatives of a type, None aside."""
    union = get_origin(hint) in (Union, UnionType)
    return [branch for part in get_args(hint) for branch in _branches(part)] if union else [hint]


def _bare(branch: Any) -> Any:
    return get_args(branch)[0] if get_origin(branch) is Annotated else branch


def _kinds(hint: Any) -> list[Any]:
    """The alternatives of a type without their ranges."""
    return [_bare(branch) for branch in _branches(hint)]


def _holds(hint: Any, value: Any) -> bool:
    if get_origin(hint) in (Union, UnionType):
        return any(_holds(part, value) for part in get_args(hint))
    if get_origin(hint) is Annotated:
        kind, *limits = get_args(hint)
        return _holds(kind, value) and all(value in limit for limit in limits if isinstance(limit, Range))
    if get_origin(hint) is Literal:
        # Not `in`, which takes 1 for True.
        return any(type(value) is type(known) and value == known for known in get_args(hint))
    if hint is Any:
        return True
    if hint in (None, type(None)):
        return value is None
    if hint in (int, float):
        # Also NumPy's numbers. A float cannot hold any whole number, nor is NaN a value to compute with.
        whole = isinstance(value, Integral) and not isinstance(value, bool) and abs(int(value)) < 2**63
        return whole or (
            hint is float and isinstance(value, Real) and not isinstance(value, Integral) and isfinite(value)
        )
    if get_origin(hint) is not None:
        return callable(value)
    return isinstance(value, hint)


def _described(hint: Any) -> list[str]:
    words: list[str] = []
    for branch in _branches(hint):
        limits = [str(limit) for limit in get_args(branch)[1:]] if get_origin(branch) is Annotated else []
        kind = _bare(branch)
        if get_origin(kind) is Literal:
            words += map(str, get_args(kind))
        elif kind in TEXTS:
            words.append(" ".join([TEXTS[kind], *limits]))
    return words


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """`name=value` from the command line, values read as Python literals where they are some, else as text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise UserError(f"Write a solver option as name=value, not {pair!r}.")
        text = text.strip()
        # As people write them who do not write Python.
        text = text.capitalize() if text in ("true", "false", "none") else text
        try:
            value = ast.literal_eval(text)
        except (ValueError, SyntaxError, MemoryError, RecursionError):
            value = text
        options[name.strip().replace("-", "_")] = value
    return options
