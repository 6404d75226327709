"""Separate a recording in Python: python examples/separate_array.py MIX.wav speech dog_bark"""

import sys

import soundfile as sf

from sourceprior import UserError, separate


def main(path: str, labels: list[str]) -> None:
    """Print the level of every stem as it is found, and save all of them in separated/."""
    samples, sample_rate = sf.read(path)
    result = separate(
        samples,
        sample_rate,
        labels,
        preset="fast",
        callback=lambda done, total: print(f"\rstep {done} of {total}", end="", flush=True),
    )
    print()
    for name, stem in result.stems.items():
        # Stems have the shape, rate and level of the recording: nothing needs to be rescaled or realigned.
        assert stem.shape == samples.shape
        print(name, result.report["stems"][name]["level_db"], "dB full scale")
    result.save("separated")


if __name__ == "__main__":
    try:
        main(sys.argv[1], sys.argv[2:])
    except UserError as error:
        sys.exit(str(error))
