"""A command as a process of its own: its seconds, and its own peak memory."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Callable, Sequence

LAUNCHER = """
import json, os, sys
pid = os.spawnv(os.P_NOWAIT, sys.argv[1], sys.argv[1:])
_, status, usage = os.wait4(pid, 0)
print(json.dumps([status, usage.ru_utime + usage.ru_stime, usage.ru_maxrss]))
"""
"""A process begins with the peak memory of the one that starts it: it has to be started by a small one."""


def run(words: Sequence[str], watch: Callable[[], None] | None = None) -> dict[str, float]:
    """Seconds of the clock and of the processor, and peak memory in MiB, of a command that prints nothing.

    Args:
        watch: called twenty times a second meanwhile.
    """
    started = time.perf_counter()
    process = subprocess.Popen([sys.executable, "-c", LAUNCHER, *words], stdout=subprocess.PIPE, text=True)
    while watch and process.poll() is None:
        watch()
        time.sleep(0.05)
    status, busy, peak = json.loads(process.communicate()[0])
    if status:
        raise SystemExit(f"this failed: {' '.join(words)}")
    # Kibibytes on Linux, bytes on macOS.
    unit = 2**20 if sys.platform == "darwin" else 2**10
    return {"seconds": time.perf_counter() - started, "processor_seconds": busy, "peak_mib": peak / unit}
