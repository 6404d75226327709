"""A prior that learns a class: what it knew stays as it was, bit for bit, and the class can be moved about."""

from dataclasses import replace
from pathlib import Path

import pytest
import torch

from conftest import tiny_prior
from sourceprior import adapters, library
from sourceprior.adapters import Learned
from sourceprior.errors import UserError
from sourceprior.labels import find
from sourceprior.library import load_priors
from sourceprior.priors import SourcePrior, bundled

LABELS = ("anything", "Bark", "rain")


def with_class(prior: SourcePrior, name: str = "robin", rank: int = 2, seed: int = 0) -> SourcePrior:
    """A prior with a class of random weights, as if it had learned much."""
    condition = adapters.base_network(prior).class_embedding.weight.shape[1]
    options, state = adapters.new_class(prior, rank, True, torch.zeros(condition), seed)
    g = torch.Generator().manual_seed(seed)
    state = {key: 0.3 * torch.randn(value.shape, generator=g) for key, value in state.items()}
    record = {"clips": [{"file": "a.wav", "seconds": 1.0, "licence": "CC0-1.0"}], "licences": {"CC0-1.0": 1}}
    return adapters.extend(prior, Learned(name, options, state, 2 * prior.denoiser.average[1], record))


def call(prior: SourcePrior, labels: list[str], x: torch.Tensor) -> torch.Tensor:
    rows = torch.tensor([prior.index(label) for label in labels])
    with torch.no_grad():
        return prior.denoiser(x, torch.full((len(x),), 0.1), rows)


def test_the_bundled_sounds_are_what_they_were_bit_for_bit(tmp_path: Path) -> None:
    sounds = next(prior for prior in bundled() if prior.name == "sounds")
    with_class(sounds).save_pretrained(tmp_path)
    taught = SourcePrior.from_pretrained(tmp_path)
    assert taught.labels == (*sounds.labels, "robin")
    for name, value in sounds.denoiser.network.state_dict().items():
        assert torch.equal(taught.denoiser.network.base.state_dict()[name], value)
    x = 0.1 * torch.randn(3, 6000)
    old = ["anything", "Bark", "rain"]
    assert torch.equal(call(taught, old, x), call(sounds, old, x))
    # In one batch with the new class, too.
    mixed = call(taught, ["robin", "Bark", "rain"], x)
    assert torch.equal(mixed[1:], call(sounds, ["Bark", "rain"], x[1:]))
    assert not torch.allclose(mixed[0], call(sounds, ["anything"], x[:1])[0], atol=1e-3)


def test_every_row_of_a_taught_prior_that_it_had_before() -> None:
    prior = tiny_prior("sounds", LABELS)
    twice = with_class(with_class(prior), "owl", seed=1)
    x = 0.1 * torch.randn(3, 4000)
    assert torch.equal(call(twice, list(LABELS), x), call(prior, list(LABELS), x))
    assert torch.equal(call(twice, ["robin"], x[:1]), call(with_class(prior), ["robin"], x[:1]))


def test_a_class_without_changes_is_the_network_with_another_embedding() -> None:
    prior = tiny_prior("sounds", LABELS)
    prior.denoiser.network.out.weight.data.normal_(std=0.1)
    table = prior.denoiser.network.class_embedding.weight
    options, state = adapters.new_class(prior, 2, True, table[2].detach(), 0)
    taught = adapters.extend(prior, Learned("drizzle", options, state, prior.denoiser.average[2], {}))
    x = 0.1 * torch.randn(2, 4000)
    torch.testing.assert_close(call(taught, ["drizzle"] * 2, x), call(prior, ["rain"] * 2, x))


@pytest.mark.parametrize("rank", [0, 2, -1])
def test_every_kind_of_change_reaches_the_output_and_has_a_gradient(rank: int) -> None:
    prior = tiny_prior("sounds", LABELS)
    # An untrained network is zero in places, where nothing before them would have a gradient.
    for parameter in prior.denoiser.parameters():
        parameter.data.normal_(std=0.2)
    taught = with_class(prior, rank=rank)
    module = taught.denoiser.network.learned[0]
    taught.denoiser(0.1 * torch.randn(1, 4000), torch.tensor([0.1]), torch.tensor([3])).square().sum().backward()
    assert all(float(parameter.grad.abs().sum()) > 0 for parameter in module.parameters())
    assert (len(module.left) > 0) == (rank > 0)


def test_merged_renamed_and_removed() -> None:
    prior = tiny_prior("sounds", LABELS)
    robin, owl = with_class(prior), with_class(prior, "owl", seed=1)
    both = adapters.merge([robin, owl])
    assert both.labels == (*LABELS, "robin", "owl")
    x = 0.1 * torch.randn(1, 4000)
    assert torch.equal(call(both, ["owl"], x), call(owl, ["owl"], x))
    renamed = adapters.rename(both, "Robin", "erithacus")
    assert renamed.labels == (*LABELS, "erithacus", "owl")
    assert torch.equal(call(renamed, ["erithacus"], x), call(robin, ["robin"], x))
    rest = adapters.remove(both, "robin")
    assert rest.labels == (*LABELS, "owl")
    assert torch.equal(call(rest, ["owl"], x), call(owl, ["owl"], x))
    assert "### owl" in rest.card
    assert "### robin" not in rest.card


def test_what_cannot_be_done_is_said() -> None:
    prior = tiny_prior("sounds", LABELS)
    robin = with_class(prior)
    other = tiny_prior("sounds", LABELS)
    other.denoiser.network.stem.weight.data += 1
    with pytest.raises(UserError, match="different priors"):
        adapters.merge([robin, with_class(other, "owl")])
    with pytest.raises(UserError, match="knows 'robin' already"):
        adapters.merge([robin, robin])
    with pytest.raises(UserError, match="nothing to merge"):
        adapters.merge([prior, prior])
    with pytest.raises(UserError, match="knows 'rain' already"):
        adapters.rename(robin, "robin", "Rain")
    with pytest.raises(UserError, match="there is robin"):
        adapters.rename(robin, "rain", "drizzle")
    with pytest.raises(UserError, match="delete its folder"):
        adapters.remove(robin, "robin")
    with pytest.raises(UserError, match="learned nothing"):
        adapters.remove(prior, "rain")
    for name in ("", " _", "a/b", "a,b", "x" * 65, "a\nb", "residual", "Mix-ture", "bird[red]", "a$^$", " rob in "):
        with pytest.raises(UserError, match="cannot be the name"):
            adapters.check_name(name, LABELS)


def test_the_bundled_names_resolve_beside_a_taught_prior(priors, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.setattr(library, "bundled", lambda: tuple(priors))
    with_class(priors[1]).save_pretrained(tmp_path)
    loaded = load_priors(tmp_path)
    # The bundled sounds are all in it: one network, one batch.
    assert [prior.name for prior in loaded] == ["sounds + robin", "speech"]
    robin, speech, dog = find(["robin", "speech", "dog"], loaded)
    assert robin.prior is dog.prior
    assert speech.prior.name == "speech"
    assert dog.index == 1
    # A prior that learned nothing stays alone, as it was.
    assert load_priors(priors[0]) == [priors[0]]
    newer = replace(priors[1], labels=("anything", "Bark", "hail"))
    monkeypatch.setattr(library, "bundled", lambda: (priors[0], newer))
    assert [source.prior.name for source in find(["hail"], load_priors(tmp_path))] == ["sounds"]
