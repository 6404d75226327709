"""The yardstick itself: the basis is orthonormal, the denoiser is the posterior mean under white noise."""

import torch

from known_posteriors import gaussian, gaussian_mixture, imdct, mdct


def test_basis_is_orthonormal():
    x = torch.randn(2, 2048, generator=torch.Generator().manual_seed(0), dtype=torch.float64)
    torch.testing.assert_close(imdct(mdct(x)), x, rtol=0, atol=1e-12)
    torch.testing.assert_close(mdct(x).square().sum((-2, -1)), x.square().sum(-1))


def test_denoiser_is_the_score_of_its_own_density():
    # Tweedie: D(x) = x + sigma² ∇ log p_sigma(x), with the density written out here on its own.
    prior = gaussian_mixture(frames=2, num_labels=1, components=3)
    x = torch.randn(1, 512, generator=torch.Generator().manual_seed(1), dtype=torch.float64) * 0.1
    x.requires_grad_()
    normal = [
        torch.distributions.Normal(torch.zeros_like(v), (v + 0.05**2).sqrt()).log_prob(mdct(x)).sum()
        for v in prior.variance[0]
    ]
    (score,) = torch.autograd.grad(torch.logsumexp(torch.stack(normal), 0), x)
    clean = prior(x, torch.tensor([0.05]), torch.tensor([0]))
    torch.testing.assert_close(clean, x + 0.05**2 * score, rtol=1e-6, atol=1e-8)


def test_posterior_mean_beats_every_simple_estimate():
    prior = gaussian_mixture(frames=8)
    generator = torch.Generator().manual_seed(3)
    x = torch.stack([torch.stack([prior.sample(k, generator) for k in range(2)]) for _ in range(20)])
    y = x.sum(dim=1)
    mean = prior.posterior_mean(y, [0, 1])
    torch.testing.assert_close(mean.sum(dim=1), y)
    error = (mean - x).square().mean()
    for other in (y[:, None] / 2, y[:, None], 0 * x, 0.9 * mean, 0.5 * mean + 0.25 * y[:, None]):
        assert error < (other - x).square().mean()


def test_wiener_filter_is_optimal_for_gaussians():
    # Orthogonality: the error of the posterior mean is uncorrelated with the mixture, in every band.
    prior = gaussian(frames=4)
    generator = torch.Generator().manual_seed(4)
    x = torch.stack([torch.stack([prior.sample(k, generator) for k in range(2)]) for _ in range(400)])
    y = x.sum(dim=1)
    error = mdct(x[:, 0] - prior.posterior_mean(y, [0, 1])[:, 0])
    a = mdct(y)
    correlation = (error * a).mean((0, 1)) / (error.square().mean((0, 1)) * a.square().mean((0, 1))).sqrt()
    assert correlation.abs().max() < 0.12
