"""Take a recording apart with diffusion priors, each trained only on recordings of single sources."""

from typing import TYPE_CHECKING, Any

from sourceprior.errors import UnknownLabel, UserError
from sourceprior.version import __version__

if TYPE_CHECKING:
    from sourceprior.priors import SourcePrior
    from sourceprior.separation import Separation, separate, separate_file

__all__ = ["Separation", "SourcePrior", "UnknownLabel", "UserError", "__version__", "separate", "separate_file"]

_HOME = {"Separation": "separation", "separate": "separation", "separate_file": "separation", "SourcePrior": "priors"}


def __getattr__(name: str) -> Any:
    """Load torch when a name that needs it is first used: `sourceprior --help` need not wait for it."""
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from importlib import import_module

    return getattr(import_module(f"{__name__}.{_HOME[name]}"), name)
