"""Kill a run over a folder ten times at random moments, then let it finish: is anything lost, doubled or different?

    python benchmarks/kills.py [--kills 10] [--files 10] [--jobs 1] [--seed 0]

Each kill is a SIGKILL at a random moment of a recording's processing; the same command then goes on. At the end every
file is compared with that of an undisturbed run, byte by byte.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import subprocess
import sys
import tempfile
import time
from pathlib import Path

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
            sf.write(work / "in" / f"{index}.wav", samples[start : start + 2 * rate], rate)
        words = [sys.executable, "-m", "sourceprior", "separate", str(work / "in"), "-s", "speech", "-s", "dog_bark"]
        words += ["--preset", "fast", "--no-picture", "-q", "--jobs", str(options.jobs)]
        started = time.perf_counter()
        subprocess.run([*words, "-o", str(work / "whole")], check=True)
        reports = [json.loads(file.read_text()) for file in (work / "whole").glob("*/report.json")]
        longest = max(report["seconds"] for report in reports)
        print(f"undisturbed: {time.perf_counter() - started:.1f} s for {len(reports)} files")

        kills, done = 0, []
        while kills < options.kills:
            before = time.time()
            process = subprocess.Popen([*words, "-o", str(work / "out")])
            # Its first half-written file says that it is at work.
            while process.poll() is None and not working(work / "out", before):
                time.sleep(0.01)
            time.sleep(random.uniform(0, 1.5 * longest))
            if process.poll() is not None:
                print("it was done before the last kill; take more files")
                break
            process.kill()
            process.wait()
            kills += 1
            done.append(len(list((work / "out").glob("*/report.json"))))
        left = len([name for name in contents(work / "out") if name.endswith(".part")])
        subprocess.run([*words, "-o", str(work / "out")], check=True)
        same = contents(work / "out") == contents(work / "whole")
        print(f"{kills} kills; done after each: {done}; half-written files before the last run: {left}")
        print(f"after the same command again: {'all files are identical' if same else 'FILES DIFFER'}")
    sys.exit(0 if same and kills == options.kills else 1)


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
