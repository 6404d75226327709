"""Kill a run over a folder ten times at random moments, then let it finish: is anything lost, doubled or different?

    python benchmarks/kills.py [--kills 10] [--files 10] [--jobs 1] [--seed 0]

An undisturbed run says when each of the files is done. The moments are drawn uniformly from the time between its first
half-written file and the end, and put in order. A moment is so many files done and so many seconds into the next: each
run gets a SIGKILL when it has come as far, and the same command follows. At the end every file is compared with that of
the undisturbed run, byte by byte.
"""

from __future__ import annotations

import argparse
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
import soundfile as sf

DEMO = Path(__file__).parent.parent / "examples" / "demo" / "mixture.wav"


def contents(folder: Path) -> dict[str, bytes]:
    """All sound files below a folder, half-written ones too."""
    return {str(file.relative_to(folder)): file.read_bytes() for file in sorted(folder.rglob("*.wav*"))}


def main() -> None:
    """Run, kill, compare, print one line; exit code 1 if anything differs."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--kills", type=int, default=10)
    parser.add_argument("--files", type=int, default=10)
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    random.seed(options.seed)
    with tempfile.TemporaryDirectory() as temporary:
        work = Path(temporary)
        (work / "in").mkdir()
        samples, rate = sf.read(DEMO, dtype="int16")
        for index in range(options.files):
            # Files that differ, so that none can stand for another.
            start = index * rate // 20
            sf.write(work / "in" / f"{index}.wav", np.resize(samples[start:], 6 * rate), rate)
        words = [sys.executable, "-m", "sourceprior", "separate", str(work / "in"), "-s", "speech", "-s", "dog_bark"]
        words += ["--preset", "fast", "--no-picture", "-q", "--jobs", str(options.jobs)]
        ends = undisturbed(words, work / "whole")
        print(f"undisturbed: {ends[-1]:.1f} s of work for {len(ends)} files")
        moments = sorted(random.uniform(0, ends[-1]) for _ in range(options.kills))
        print("kills after seconds of work:", ", ".join(f"{moment:.1f}" for moment in moments))

        done, halves = [], 0
        for moment in moments:
            files = sum(end <= moment for end in ends)
            process = begin(words, work / "out", files)
            time.sleep(moment - max([0.0, *ends[:files]]))
            if process.poll() is not None:
                print("it was done before it was killed; take longer files")
                break
            process.kill()
            process.wait()
            done.append(reports(work / "out"))
            halves += any((work / "out").rglob(".*.part"))
        subprocess.run([*words, "-o", str(work / "out")], check=True)
        same = contents(work / "out") == contents(work / "whole")
        print(f"{len(done)} kills, {halves} of them with files half-written; files done at each: {done}")
        print(f"after the same command again: {'all files are identical' if same else 'FILES DIFFER'}")
    sys.exit(0 if same and len(done) == options.kills else 1)


def reports(folder: Path) -> int:
    """How many recordings are done."""
    return len(list(folder.glob("*/report.json")))


def begin(words: list[str], out: Path, files: int = 0) -> subprocess.Popen[bytes]:
    """Start the command; wait until so many files are done and the next one's first stem is half-written."""
    before = time.time()
    process = subprocess.Popen([*words, "-o", str(out)])
    while process.poll() is None and not (reports(out) >= files and working(out, before)):
        time.sleep(0.005)
    return process


def undisturbed(words: list[str], out: Path) -> list[float]:
    """When each file of an undisturbed run was done, seconds since the first half-written file."""
    process, ends = begin(words, out), []
    started = time.perf_counter()
    while process.poll() is None:
        ends += [time.perf_counter() - started] * (reports(out) - len(ends))
        time.sleep(0.005)
    if process.returncode:
        raise SystemExit(f"this failed: {' '.join(words)}")
    return ends


def working(folder: Path, since: float) -> bool:
    """Whether a half-written file is younger than a moment."""
    for file in folder.rglob(".*.part"):
        try:
            if file.stat().st_mtime >= since - 0.01:
                return True
        except FileNotFoundError:
            continue
    return False


if __name__ == "__main__":
    os.environ.setdefault("OMP_NUM_THREADS", "2")
    main()
