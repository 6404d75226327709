"""What a baseline hears of the train clips: those of one label that can be used, one at a time."""

from __future__ import annotations

from collections.abc import Iterator, MutableMapping, Sequence

import torch
from torch import Tensor

from sourceprior.datasets import BadClip, Clip, read_clip
from sourceprior.errors import UserError


class NothingToLearn(UserError):
    """A baseline that cannot be made of these clips."""


def heard(
    clips: Sequence[Clip],
    label: str,
    max_clips: int,
    what: str,
    *,
    sample_rate: int = 16000,
    bad: MutableMapping[str, str] | None = None,
) -> Iterator[Tensor]:
    """Waveforms `(N,)`, full scale 1, of at most `max_clips` clips of a label, read when asked for.

    Args:
        what: is to be learned, for the message.
        bad: takes path and reason of the clips that are left out: unreadable, empty or silent.

    Raises:
        NothingToLearn: there is no clip of the label, or none that can be used.
    """
    own = [clip for clip in clips if clip.label == label]
    if not own:
        raise NothingToLearn(f"There is no training clip of '{label}' to learn {what} from.")
    left_out = 0
    # Evenly through the list, which is sorted by path: every speaker is heard.
    chosen = own[:: -(-len(own) // max_clips)]
    for clip in chosen:
        try:
            wave = read_clip(clip.path, sample_rate)
            if not wave.any():
                raise BadClip(clip.path, "silent")
        except BadClip as error:
            left_out += 1
            if bad is not None:
                bad[str(clip.path)] = error.reason
            continue
        yield torch.from_numpy(wave).float() / 2**15
    if left_out == len(chosen):
        raise NothingToLearn(f"All training clips of '{label}' are broken or silent: replace them to learn {what}.")
