"""How the demo mixture was made: python examples/demo/make_mixture.py DATA, DATA being the clip collection.

Five seconds of each clip, both at -23 dB full scale, rounded to 16 bits and added; the sum of the two files is the
mixture, sample by sample.
"""

import sys
from pathlib import Path

import numpy as np
import soundfile as sf

SECONDS, LEVEL_DB = 5.0, -23.0
CLIPS = {
    "speech": "speech/test/so9615/096150016.flac",
    "dog_bark": "sound/test/Bark/ESC-10_001-5-203128-A.flac",
}


def main(data: Path, folder: Path) -> None:
    """Read the two clips below `data`, write the sources and the mixture into `folder`."""
    mixture = 0
    for name, clip in CLIPS.items():
        samples, rate = sf.read(data / clip)
        samples = samples[: round(SECONDS * rate)]
        # The utterance goes on after the cut: 50 ms of fading out keep it from clicking.
        fade = round(0.05 * rate)
        samples[-fade:] *= np.linspace(1, 0, fade)
        samples *= 10 ** (LEVEL_DB / 20) / np.sqrt(np.mean(samples**2))
        source = np.rint(samples * 2**15).astype(np.int16)
        sf.write(folder / f"{name}.flac", source, rate, subtype="PCM_16")
        mixture = mixture + source
    sf.write(folder / "mixture.wav", mixture, rate, subtype="PCM_16")


if __name__ == "__main__":
    main(Path(sys.argv[1]), Path(__file__).parent)
