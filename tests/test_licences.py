"""One judgement of licences: what is trained on under --licence commercial, and what cards say."""

from pathlib import Path

import pytest

from sourceprior.datasets import Clip
from sourceprior.licences import commercial, hub_name, kind_of, licence_of_weights, licences_of, use_of


@pytest.mark.parametrize(
    ("licence", "kind"),
    [
        ("CC0-1.0", "any"), ("CC-BY-3.0", "any"), ("cc by 4.0", "any"), ("public domain", "any"), ("own", "any"),
        ("MIT", "any"), ("Attribution", "any"), ("Creative Commons 0", "any"), ("CC-BY-4.0 AND MIT", "any"),
        ("http://creativecommons.org/licenses/by/3.0/", "any"),
        ("https://creativecommons.org/publicdomain/zero/1.0/", "any"),
        ("CC-BY-NC-3.0", "non-commercial"), ("freeware, no licence text", "non-commercial"),
        # The rest of the data that the bundled priors were trained on.
        ("CC-BY-4.0", "any"), ("CC-BY", "any"), ("CC-BY-2.0", "any"), ("CC-BY-NC-4.0", "non-commercial"),
        ("freeware, no licence text in repo", "non-commercial"),
        ("CC BY-NC 4.0", "non-commercial"), ("Attribution-NonCommercial", "non-commercial"),
        ("Attribution Non-Commercial", "non-commercial"), ("CC-BY-NC (not stated)", "non-commercial"),
        ("http://creativecommons.org/licenses/by-nc/3.0/", "non-commercial"),
        ("CC-BY-ND-4.0", "unknown"), ("CC-BY-SA-4.0", "unknown"), ("not stated", "unknown"), ("my own", "unknown"),
        ("All rights reserved", "unknown"), ("CC-Sampling+", "unknown"), ("", "unknown"), ("owner unclear", "unknown"),
        ("https://creativecommons.org/licenses/by-nd/4.0/", "unknown"), ("CC-BY-4.0 AND proprietary", "unknown"),
        ("Creative Commons Attribution ShareAlike", "unknown"), ("mitigated", "unknown"),
        ("CC BY4.0", "any"), ("Creative Commons Attribution 4.0 International (CC BY 4.0)", "any"),
        ("CC0 1.0 Universal (CC0 1.0) Public Domain Dedication", "any"), ("Apache-2.0 OR MIT", "any"),
        ("BSD-3-Clause", "any"), ("https://creativecommons.org/licenses/by/4.0/deed.de", "any"),
        ("CC BY-NC4.0", "non-commercial"), ("CC-BY-NC4.0", "non-commercial"), ("CC BY-ND4.0", "unknown"),
        ("CC-BY-NCSA", "unknown"), ("CC BY-NonCom 4.0", "unknown"), ("CC BY 4.0 (academic use)", "unknown"),
        ("own recording", "any"), ("own recording of a broadcast", "unknown"), ("CC BY 4.0 非商用", "unknown"),
    ],
)  # fmt: skip
def test_what_a_licence_allows(licence: str, kind: str) -> None:
    assert kind_of(licence) == kind
    clip = Clip(Path("a.wav"), "train", "rain", "", licence, 1.0)
    assert clip.commercial == commercial(licence) == (kind == "any")


def test_what_may_be_done_with_weights() -> None:
    assert use_of({"CC0-1.0": 3}) == "any use, commercial use included"
    assert use_of({"CC0-1.0": 3, "CC-BY-4.0": 1}).endswith("name the authors")
    assert use_of({"CC0-1.0": 3, "CC-BY-NC-3.0": 2}) == "no commercial use, as 2 of 5 clips forbid it"
    assert "1 of 3 clips is unknown" in use_of({"CC0-1.0": 2, "not stated": 1})
    assert "not known" in use_of({})


@pytest.mark.parametrize(
    ("licences", "before", "expected"),
    [
        ({"CC0-1.0": 3}, "", "CC0-1.0"), ({"CC0-1.0": 3, "CC-BY-3.0": 1}, "", "CC-BY-4.0"),
        ({"own": 3}, "", "LicenseRef-own"), ({"not stated": 3}, "", "LicenseRef-not-stated"),
        ({"CC-BY-3.0": 1, "CC-BY-NC-3.0": 2}, "", "CC-BY-4.0 AND CC-BY-NC-3.0"),
        ({"CC0-1.0": 3}, "CC-BY-4.0 AND CC-BY-NC-3.0", "CC-BY-4.0 AND CC-BY-NC-3.0"),
        ({"not stated": 3}, "CC-BY-4.0", "CC-BY-4.0 AND LicenseRef-not-stated"), ({}, "", "LicenseRef-not-stated"),
    ],
)  # fmt: skip
def test_the_licence_of_weights_asks_for_what_the_clips_ask_for(licences, before, expected) -> None:
    assert licence_of_weights(licences, before) == expected


def test_the_front_matter_names_what_a_hub_knows() -> None:
    assert hub_name("CC-BY-4.0") == "cc-by-4.0"
    assert hub_name("LicenseRef-own") == hub_name("CC-BY-4.0 AND CC-BY-NC-3.0") == "other"


def test_negatives_and_the_prior_it_started_from_count() -> None:
    data = {"clips per licence": {"CC0-1.0": 2}, "negatives per licence": {"CC-BY-NC-3.0": 1}}
    config = {"training": {"data": data, "init licences": {"CC0-1.0": 3, "CC-BY-4.0": 4}}}
    assert licences_of(config) == {"CC0-1.0": 5, "CC-BY-NC-3.0": 1, "CC-BY-4.0": 4}
