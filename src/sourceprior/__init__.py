"""Take a recording apart with diffusion priors, each trained only on recordings of single sources."""

from sourceprior.version import __version__

__all__ = ["__version__"]
