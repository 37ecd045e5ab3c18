"""Gaussian data, for which the best denoiser and the solution of the probability-flow ODE are known in closed form."""

from dataclasses import dataclass

import torch

MEAN, STD = 1.5, 0.4


@dataclass
class Bag:
    """No conditions."""

    def inputs(self, window, branch):
        from gensat.diffusion.inputs import DenoiserInputs

        return DenoiserInputs()


class White:
    """Unit noise by draw, the same for every request."""

    def __init__(self, seed=0, batch=1):
        self.seed, self.batch = seed, batch

    def __call__(self, row, col, height, width, channels, draw=0):
        from gensat.diffusion.noise import NoiseBatch, NoiseField

        return NoiseBatch(tuple(NoiseField(self.seed + i) for i in range(self.batch)))(
            row, col, height, width, channels, draw
        )


def levels(scheduler, t):
    """(signal, noise) factors of what the denoiser sees at time step ``t``: x = signal * image + noise * n."""
    t = float(t)
    if hasattr(
        scheduler.config, "sigma_data"
    ):  # EDM's networks see x / sqrt(sigma^2 + sigma_data^2) and log(sigma) / 4
        sigma = torch.tensor(4 * t, dtype=torch.float64).exp()
        scale = (sigma**2 + scheduler.config.sigma_data**2) ** -0.5
        return scale, scale * sigma
    if hasattr(scheduler, "alphas_cumprod"):
        alphas = scheduler.alphas_cumprod.double()
        low = min(max(int(t), 0), len(alphas) - 2)
        ratio = ((1 - alphas) / alphas).log()
        between = (ratio[low] + (t - low) * (ratio[low + 1] - ratio[low])).exp()  # as the schedulers interpolate
        return (1 + between) ** -0.5, (between / (1 + between)) ** 0.5
    sigma = torch.tensor(t / 1000, dtype=torch.float64)
    return 1 - sigma, sigma


def posterior_mean(x, signal, noise):
    """The expected image given x = signal * image + noise * n."""
    gain = signal * STD**2 / (signal**2 * STD**2 + noise**2)
    return MEAN + gain * (x - signal * MEAN)


def flow_end(x, signal, noise):
    """Where the probability-flow ODE takes x: the map between two Gaussians that keeps the order."""
    return MEAN + STD * (x - signal * MEAN) / (signal**2 * STD**2 + noise**2) ** 0.5


def best_denoiser(scheduler, kind="epsilon", image=posterior_mean):
    """The prediction of ``kind`` for the image that ``image`` says."""

    def predict(x, t, inputs):
        signal, noise = levels(scheduler, t)
        x = x.double()
        x0 = image(x, signal, noise)
        n = (x - signal * x0) / noise
        if hasattr(scheduler.config, "sigma_data"):
            data = scheduler.config.sigma_data
            sigma = noise / signal
            unscaled = x * (sigma**2 + data**2) ** 0.5
            skip, out = data**2 / (sigma**2 + data**2), sigma * data / (sigma**2 + data**2) ** 0.5
            return ((x0 - skip * unscaled) / out).float()
        return {"epsilon": n, "v_prediction": signal * n - noise * x0, "flow": n - x0, "sample": x0}[kind].float()

    return predict
