"""Solvers by name, and their options from their own signatures: there is no registry.

The solver `posterior_mean` is the function of that name in `sourceprior/solvers/posterior_mean.py`. Its options are its
keyword-only parameters, but for `generators` and `callback`, which every solver has.
"""

from __future__ import annotations

import ast
import importlib
import inspect
import pkgutil
from collections.abc import Callable, Iterable, Mapping
from typing import Any

from torch import Tensor

from sourceprior import solvers
from sourceprior.errors import UserError, alternatives, nearest

Solver = Callable[..., Tensor]


def find_solver(name: str) -> Solver:
    """The solver function of that name. Raises UserError, with the names there are, for an unknown one."""
    known = sorted(module.name for module in pkgutil.iter_modules(solvers.__path__))
    module_name = name.replace("-", "_")
    if module_name not in known:
        raise UserError(f"There is no solver {name!r}; choose {alternatives(known)}.")
    return getattr(importlib.import_module(f"{solvers.__name__}.{module_name}"), module_name)


def options_of(solver: Solver) -> dict[str, inspect.Parameter]:
    """The options a solver takes, by name."""
    parameters = inspect.signature(solver).parameters
    own = {name: p for name, p in parameters.items() if p.kind is p.KEYWORD_ONLY}
    return {name: p for name, p in own.items() if name not in ("generators", "callback")}


def check_options(solver: Solver, options: Mapping[str, Any]) -> dict[str, Any]:
    """The options, with the names of functions of the solver's module replaced by the functions.

    Raises UserError for an option the solver does not have, or one whose value is of another kind than its default.
    """
    known = options_of(solver)
    checked = {}
    for name, value in options.items():
        if name not in known:
            close = nearest(name, known) or sorted(known)
            has = f"did you mean {alternatives(close)}?" if close else "it has none."
            raise UserError(f"The solver {solver.__name__} has no option {name!r}; {has}")
        checked[name] = _like(known[name].default, value, solver, name)
        if known[name].default is None and str(known[name].annotation).startswith("float"):
            checked[name] = _number(value, solver, name)
    return checked


def parse_options(pairs: Iterable[str]) -> dict[str, Any]:
    """`name=value` from the command line, values read as Python literals where they are some, else as text."""
    options: dict[str, Any] = {}
    for pair in pairs:
        name, sign, text = pair.partition("=")
        if not sign or not name:
            raise UserError(f"Write a solver option as name=value, not {pair!r}.")
        try:
            options[name.strip().replace("-", "_")] = ast.literal_eval(text.strip())
        except (ValueError, SyntaxError):
            options[name.strip().replace("-", "_")] = text.strip()
    return options


def _number(value: Any, solver: Solver, name: str) -> float | None:
    """An option that is a number or None, which an option's default of None cannot say."""
    if value is not None and (isinstance(value, bool) or not isinstance(value, (int, float))):
        raise UserError(f"The option {name} of {solver.__name__} is a number; {value!r} does not fit.")
    return value


def _like(default: Any, value: Any, solver: Solver, name: str) -> Any:
    if callable(default) and isinstance(value, str):
        function = getattr(inspect.getmodule(solver), value, None)
        if not callable(function):
            raise UserError(f"The solver {solver.__name__} has no function {value!r} for its option {name}.")
        return function
    if isinstance(default, float) and isinstance(value, int) and not isinstance(value, bool):
        return float(value)
    if isinstance(default, (bool, int, float, str)) and type(value) is not type(default):
        raise UserError(f"The option {name} of {solver.__name__} is {default!r} by default; {value!r} does not fit.")
    return value
