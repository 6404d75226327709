"""Many recordings on a Ray cluster that exists already: its workers do what `many.attempt` does in this process.

All nodes must see the recordings and the output folder under the same paths, and have sourceprior installed.
"""

from __future__ import annotations

import logging
import os
import socket
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any

from sourceprior.errors import UserError

if TYPE_CHECKING:
    from sourceprior.many import Job, Outcome, Request


def on_ray(jobs: Sequence[Job], request: Request, *, at_once: int | None, overwrite: bool) -> Iterator[Outcome]:
    """Outcomes of all jobs, as they come in; each job has one processor of the cluster to itself.

    The cluster is the one of the environment variable RAY_ADDRESS, or the one that runs on this machine.

    Args:
        at_once: how many jobs at most; None for as many as the cluster has processors.

    Raises UserError where Ray is not installed, or no cluster can be reached.
    """
    from sourceprior.many import Outcome

    ray = connected()
    try:
        run = ray.remote(num_cpus=1, max_retries=1)(attempt_at)
        waiting = list(reversed(jobs))
        running: dict[Any, Job] = {}
        limit = at_once or max(1, int(ray.cluster_resources().get("CPU", 1)))
        while waiting or running:
            while waiting and len(running) < limit:
                job = waiting.pop()
                running[run.remote(os.getcwd(), job, request, overwrite)] = job
            (done,), _ = ray.wait(list(running), num_returns=1)
            job = running.pop(done)
            try:
                yield ray.get(done)
            except ray.exceptions.RayError as error:
                # Its process died, twice, or a node does not have what this machine has.
                reason = str(error).strip().splitlines()[-1]
                yield Outcome(job, "failed", f"It was lost on the cluster: {reason}")
    finally:
        # What is still running ends with this connection.
        ray.shutdown()


def connected() -> Any:
    """The module ray, connected to a cluster."""
    try:
        import ray
    except ImportError as error:
        raise UserError("Ray is not installed: pip install 'sourceprior[scale]'.") from error
    address = os.environ.get("RAY_ADDRESS", "auto")
    host, _, port = address.rpartition(":")
    try:
        if host and "/" not in host:
            # Ray itself would go on trying for many minutes.
            socket.create_connection((host, int(port)), timeout=5).close()
        ray.init(address=address, log_to_driver=False, logging_level=logging.ERROR)
    except (OSError, RuntimeError, ValueError) as error:
        raise UserError(
            "No Ray cluster can be reached: start one with `ray start --head`, or set RAY_ADDRESS to one."
        ) from error
    return ray


def attempt_at(folder: str, job: Job, request: Request, overwrite: bool) -> Outcome:
    """`many.attempt` in a worker of the cluster, in the folder of the command that asked for it."""
    import torch

    from sourceprior.many import Outcome, attempt

    try:
        os.chdir(folder)
    except OSError:
        return Outcome(job, "failed", f"A node of the cluster has no folder {folder}: nodes must share their files.")
    torch.set_num_threads(1)
    return attempt(job, request, overwrite)
