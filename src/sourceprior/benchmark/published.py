"""The paper's own figures (AAAI 2026, Tables 2 to 4), printed beside ours and marked as the paper's.

They were measured with the paper's priors on mixtures of VCTK and FSDKaggle2018, 400 per task: other data, other
priors. None of them can be reached or missed on another data set; they show what is usual.
"""

from __future__ import annotations

from collections.abc import Mapping

MARK = "paper (its own data and priors)"

TABLE2: Mapping[str, Mapping[str, Mapping[str, float]]] = {
    "unprocessed": {
        "speech_sound": {"si_sdr": 0.00, "pesq": 1.64},
        "speech_two_sounds": {"si_sdr": -3.15, "pesq": 1.22},
        "two_sounds": {"si_sdr": -0.01},
        "three_sounds": {"si_sdr": -3.13},
        "two_speech": {"si_sdr": 0.01, "pesq": 1.29},
    },
    "dps": {
        "speech_sound": {"si_sdr": 8.88, "pesq": 1.73},
        "speech_two_sounds": {"si_sdr": 3.02, "pesq": 1.56},
        "two_sounds": {"si_sdr": 4.63},
        "three_sounds": {"si_sdr": 0.12},
        "two_speech": {"si_sdr": 1.87, "pesq": 1.43, "failures": 0.465},
    },
    "dsg": {
        "speech_sound": {"si_sdr": 12.97, "pesq": 1.94},
        "speech_two_sounds": {"si_sdr": 7.96, "pesq": 1.72},
        "two_sounds": {"si_sdr": 9.48},
        "three_sounds": {"si_sdr": 4.75},
        "two_speech": {"si_sdr": 5.68, "pesq": 1.57, "failures": 0.313},
    },
    "hybrid": {
        "speech_sound": {"si_sdr": 14.31, "pesq": 2.12},
        "speech_two_sounds": {"si_sdr": 8.58, "pesq": 1.80},
        "two_sounds": {"si_sdr": 10.44},
        "three_sounds": {"si_sdr": 5.15},
        "two_speech": {"si_sdr": 6.11, "pesq": 1.62, "failures": 0.298},
    },
    "analytical": {
        "speech_sound": {"si_sdr": 7.33, "pesq": 1.45},
        "speech_two_sounds": {"si_sdr": -0.04, "pesq": 1.19},
        "two_sounds": {"si_sdr": 1.01},
        "three_sounds": {"si_sdr": -2.18},
        "two_speech": {"si_sdr": 2.17, "pesq": 1.28, "failures": 0.423},
    },
    "conv_tasnet": {
        "speech_sound": {"si_sdr": 14.22, "pesq": 1.97},
        "speech_two_sounds": {"si_sdr": 7.05, "pesq": 1.43},
        "two_sounds": {"si_sdr": 11.73},
        "three_sounds": {"si_sdr": 5.02},
        "two_speech": {"si_sdr": 9.63, "pesq": 1.80},
    },
    "tf_locoformer": {
        "speech_sound": {"si_sdr": 18.22, "pesq": 2.37},
        "speech_two_sounds": {"si_sdr": 12.21, "pesq": 1.95},
        "two_sounds": {"si_sdr": 14.32},
        "three_sounds": {"si_sdr": 9.27},
        "two_speech": {"si_sdr": 14.52, "pesq": 2.42},
    },
}
"""Row -> task -> mean SI-SDR in dB, mean PESQ of speech, failure rate."""

TABLE3: Mapping[str, Mapping[float, Mapping[str, float]]] = {
    "unprocessed": {2.0: {"si_sdr": 0.00}, 4.0: {"si_sdr": 0.01}},
    "hybrid, Large DiffWave": {
        2.0: {"successes": 7.17, "failures": 0.39, "si_sdr": 3.37},
        4.0: {"successes": 7.36, "failures": 0.44, "si_sdr": 3.01},
    },
    "hybrid, attention U-Net": {
        2.0: {"successes": 9.34, "failures": 0.28, "si_sdr": 6.04},
        4.0: {"successes": 9.68, "failures": 0.30, "si_sdr": 6.11},
    },
    "analytical, Large DiffWave": {
        2.0: {"successes": 5.12, "failures": 0.44, "si_sdr": 2.01},
        4.0: {"successes": 4.69, "failures": 0.41, "si_sdr": 1.99},
    },
    "analytical, attention U-Net": {
        2.0: {"successes": 5.32, "failures": 0.39, "si_sdr": 2.45},
        4.0: {"successes": 5.27, "failures": 0.42, "si_sdr": 2.17},
    },
}
"""Row -> seconds of a mixture of two speakers -> figures."""

TABLE4: Mapping[str, Mapping[str, float]] = {
    "hybrid": {"si_sdr": 14.31, "pesq": 2.12},
    "t200": {"si_sdr": 10.21, "pesq": 1.90},
    "t175": {"si_sdr": 13.73, "pesq": 2.10},
    "t125": {"si_sdr": 14.31, "pesq": 2.11},
    "t100": {"si_sdr": 14.07, "pesq": 2.10},
    "time": {"si_sdr": 13.65, "pesq": 1.71},
    "time_group": {"si_sdr": 13.20, "pesq": 1.65},
    "time_stft": {"si_sdr": 13.03, "pesq": 2.24},
    "floor_0.005": {"si_sdr": 14.20, "pesq": 2.05},
    "floor_0.001": {"si_sdr": 13.92, "pesq": 2.08},
}
"""Ablation on 1 speech + 1 sound; "hybrid" is the paper's full setting, from its Table 2."""
