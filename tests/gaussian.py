"""Gaussian data, for which the best denoiser and the solution of the probability-flow ODE are known in closed form."""

import torch

from gensat.diffusion.inputs import DenoiserInputs
from gensat.diffusion.noise import NoiseBatch, NoiseField

MEAN, STD = 1.5, 0.4


class NoConditions:
    """A bag with nothing in it."""

    def inputs(self, window, branch):
        return DenoiserInputs()


def field(seed=0, batch=1):
    """The noise of ``batch`` samples."""
    return NoiseBatch(tuple(NoiseField(seed + i) for i in range(batch)))


def levels(scheduler, t):
    """(signal, noise) factors of what the denoiser sees at time step ``t``: x = signal * image + noise * n."""
    t = float(t)
    if hasattr(scheduler.config, "sigma_data") and "EDM" in type(scheduler).__name__:
        sigma = torch.tensor(4 * t, dtype=torch.float64).exp()  # its networks see log(sigma) / 4
        signal = (sigma**2 + scheduler.config.sigma_data**2) ** -0.5
        return signal, signal * sigma
    if hasattr(scheduler, "alphas_cumprod"):
        alphas = scheduler.alphas_cumprod.double()
        low = min(max(int(t), 0), len(alphas) - 2)
        ratio = ((1 - alphas) / alphas).log()
        square = (ratio[low] + (t - low) * (ratio[low + 1] - ratio[low])).exp()  # as the schedulers interpolate
        return (1 + square) ** -0.5, (square / (1 + square)) ** 0.5
    sigma = torch.tensor(t / 1000, dtype=torch.float64)
    return 1 - sigma, sigma


def posterior_mean(x, signal, noise):
    """The expected image given x = signal * image + noise * n."""
    gain = signal * STD**2 / (signal**2 * STD**2 + noise**2)
    return MEAN + gain * (x - signal * MEAN)


def flow_end(x, signal, noise):
    """Where the probability-flow ODE takes x: the linear map between the two Gaussians."""
    return MEAN + STD * (x - signal * MEAN) / (signal**2 * STD**2 + noise**2) ** 0.5


def best_denoiser(scheduler, kind="epsilon", image=posterior_mean):
    """A denoiser whose prediction, of ``kind``, is right for the image that ``image`` says."""

    def predict(x, t, inputs):
        signal, noise = levels(scheduler, t)
        x = x.double()
        clean = image(x, signal, noise)
        n = (x - signal * clean) / noise
        if "EDM" in type(scheduler).__name__:  # Karras et al. 2022, equation 7
            sigma, data = noise / signal, scheduler.config.sigma_data
            skip, out = data**2 / (sigma**2 + data**2), sigma * data / (sigma**2 + data**2) ** 0.5
            return ((clean - skip * x / signal) / out).float()
        return {"epsilon": n, "v_prediction": signal * n - noise * clean, "flow": n - clean}[kind].float()

    return predict
