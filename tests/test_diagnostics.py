"""The guidance bound and the trace of a run."""

import torch

from known_posteriors import gaussian
from sourceprior.ancestral import ancestral
from sourceprior.diagnostics import Trace, gamma_schedules, guidance_bound
from sourceprior.presets import recipe, seeded
from sourceprior.schedules import vp_linear


def test_bound_is_the_strength_at_which_progress_stops():
    # Eq. 8: (g_prior + γ g_cond) · g_cond changes its sign at γ = g_bound.
    prior, conditional = torch.randn(2, 3, 50, dtype=torch.float64), torch.randn(2, 3, 50, dtype=torch.float64)
    bound = guidance_bound(prior, conditional)
    total = prior + bound[..., None] * conditional
    torch.testing.assert_close((total * conditional).sum(-1), torch.zeros_like(bound), rtol=0, atol=1e-10)
    opposed = guidance_bound(-conditional, conditional)
    torch.testing.assert_close(opposed, torch.ones_like(opposed))
    assert guidance_bound(prior, torch.zeros_like(prior)).abs().max() == 0


def test_trace_of_a_run():
    known = gaussian(frames=2)
    generator = torch.Generator().manual_seed(0)
    sources = torch.stack([known.sample(k, generator) for k in range(2)])[None].float()
    problem = known.problem(sources.sum(1), [0, 1])
    run = recipe("paper", steps=12)
    trace = Trace(run.process(), references=sources, mixture=problem.y, keep=(0,))
    out = run(problem, generators=seeded(1), trace=trace)
    steps = len(run.process())
    assert trace.t == list(reversed(range(steps)))
    for series in (trace.bound, trace.gamma, trace.si_sdr, trace.prior_norm, trace.guidance_norm):
        assert torch.stack(series).shape == (steps, 1, 2)
        assert torch.stack(series).isfinite().all()
    # At t = 0 the mean of x_{-1} is x̂_0 but for the rounding of ᾱ_0 to single precision, as released.
    torch.testing.assert_close(trace.states[0], out, rtol=1e-3, atol=1e-4)
    # The rule's own length is found again: σ(t) √N over the norm of the whole gradient.
    whole = torch.linalg.vector_norm(trace.guidance_norm[0])
    length = torch.logaddexp(1e3 * run.process().posterior_std[-1], torch.tensor(2.0)) / 1e3 * 512**0.5
    torch.testing.assert_close(trace.gamma[0], (length / whole).expand(1, 2).float(), rtol=1e-4, atol=0)
    assert set(trace.table()) >= {"t", "bound", "gamma", "loss", "error", "si_sdr"}


def test_schedules_of_figure_3():
    schedules = gamma_schedules(vp_linear())
    assert (schedules["hybrid"] >= schedules["DSG"]).all()
    assert schedules["DSG"][0] == 0
    assert 0.002 <= schedules["hybrid"][0] < 0.0022
    torch.testing.assert_close(schedules["hybrid"][-1], schedules["DSG"][-1], rtol=1e-3, atol=0)


def test_samples_of_few_steps_are_no_louder_than_the_prior():
    # Where ᾱ is far from 0 at the end, all noise above the process's is taken for sound.
    def denoise(x, sigma):
        return x * 0.01 / (0.01 + sigma**2)

    out = ancestral(denoise, vp_linear(20), 1, 512, generators=seeded(50))
    assert 0.05 < out.std() < 0.11


def test_ancestral_samples_have_the_priors_variance():
    known = gaussian(frames=2)

    def denoise(x, sigma):
        label = torch.zeros(len(x), dtype=torch.long)
        return known(x[:, 0], torch.full((len(x),), sigma), label)[:, None]

    out = ancestral(denoise, vp_linear(150, beta_max=0.04), 1, 512, generators=seeded(100))[:, 0]
    assert 0.8 < float(out.square().mean() / known.variance[0].mean()) < 1.2
    again = ancestral(denoise, vp_linear(150, beta_max=0.04), 1, 512, generators=seeded(3))[:, 0]
    torch.testing.assert_close(out[:3], again)
