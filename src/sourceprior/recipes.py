"""Recipes: the settings of a training run as plain TOML files, with the command line on top.

A recipe holds fields of `training.Settings`, and a table [network] of options of the backbone. The ones of the package
are in its folder ``recipes``; a path names another one.
"""

from __future__ import annotations

import tomllib
from collections.abc import Mapping, Sequence
from dataclasses import fields
from pathlib import Path
from typing import Any

from sourceprior.errors import UserError, alternatives, nearest
from sourceprior.training import Settings

FOLDER = Path(__file__).parent / "recipes"
GIVEN = ("labels",)
"""Fields that the data decides and no recipe."""


def names() -> list[str]:
    """The recipes that come with the package."""
    return sorted(file.stem for file in FOLDER.glob("*.toml"))


def read(recipe: str | Path) -> dict[str, Any]:
    """The content of a recipe: a name of the package's, or the path of a TOML file.

    Raises:
        UserError: there is no such recipe or file, or it is not TOML.
    """
    file = FOLDER / f"{recipe}.toml" if str(recipe) in names() else Path(recipe)
    if not file.is_file():
        raise UserError(f"There is no recipe '{recipe}': name {alternatives(names())}, or a TOML file.")
    try:
        return tomllib.loads(file.read_text("utf-8"))
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        raise UserError(f"The recipe '{recipe}' is not TOML: {error}.") from error


def settings(
    recipe: str | Path, labels: Sequence[str] = (), changes: Mapping[str, Any] | None = None, pairs: Sequence[str] = ()
) -> Settings:
    """Settings of a recipe.

    Args:
        labels: what the prior is to know.
        changes: fields that win over the recipe's; those that are None do not.
        pairs: "field=value" or "network.option=value", values as in TOML (text needs no quotes); they win over all.

    Raises:
        UserError: an unknown field, or a value of another type.
    """
    content = read(recipe)
    given = {name: value for name, value in (changes or {}).items() if value is not None}
    # The options of one network are not those of another.
    if given.get("backbone", content.get("backbone")) != content.get("backbone"):
        content.pop("network", None)
    content |= given
    for pair in pairs:
        name, _, text = pair.partition("=")
        table, _, option = name.strip().rpartition(".")
        if not text or table not in ("", "network"):
            raise UserError(f"--set takes field=value or network.option=value, not '{pair}'.")
        target = content.setdefault("network", {}) if table else content
        if not isinstance(target, dict):
            raise UserError(f"The recipe '{recipe}' sets network to {target!r}: it is a table, [network].")
        target[option] = _value(text.strip())
    return checked(content, labels, f"The recipe '{recipe}'")


def _value(text: str) -> Any:
    try:
        return tomllib.loads(f"value = {text}")["value"]
    except tomllib.TOMLDecodeError:
        return text


def checked(content: Mapping[str, Any], labels: Sequence[str], what: str) -> Settings:
    """Settings from a mapping, every value of the type of its field. Raises UserError."""
    known = {field.name: field for field in fields(Settings) if field.name not in GIVEN}
    default = Settings(labels=())
    kept: dict[str, Any] = {}
    for name, value in content.items():
        if name not in known:
            close = nearest(name, known)
            raise UserError(
                f"{what} sets the unknown '{name}'" + (f"; did you mean {alternatives(close)}?" if close else ".")
            )
        wanted = type(getattr(default, name))
        if wanted is float and isinstance(value, int) and not isinstance(value, bool):
            value = float(value)
        if wanted is tuple and isinstance(value, list):
            value = tuple(value)
        if not isinstance(value, wanted) or (wanted is int and isinstance(value, bool)):
            raise UserError(f"{what} sets {name} to {value!r}, which is no {wanted.__name__}.")
        kept[name] = value
    return Settings(labels=tuple(labels), **kept)
