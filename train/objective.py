"""What a denoiser is trained to predict, read off its scheduler: flow matching, noise (epsilon), velocity (v) or the image itself.

Flow: straight paths x_s = (1 - s) x + s n, target n - x (Lipman et al. 2023, eq. 23; Liu et al. 2023), s logit-normal (Esser et al. 2024,
section 3.1). Diffusion: x_t = sqrt(a_t) x + sqrt(1 - a_t) n (Ho et al. 2020, eq. 4), v = sqrt(a_t) n - sqrt(1 - a_t) x (Salimans & Ho 2022,
section 4 and appendix D), weighted by min-SNR (Hang et al. 2023, section 3.4).
"""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from diffusers import DDIMScheduler, FlowMatchEulerDiscreteScheduler
from jaxtyping import Float
from torch import Tensor

from ..errors import InputError, ModelError

TIMES = ("logit_normal", "uniform")
KINDS = ("flow", "epsilon", "v_prediction", "sample")


class Objective:
    """Noise, time steps, targets and weights for batches of clean latents.

    Args:
        scheduler: a diffusers scheduler: its class says whether it is flow matching, its config the noise levels and the kind of prediction.
        prediction: one of ``KINDS``, where the network was trained for another one than the scheduler says.
        snr_gamma: the gamma of min-SNR (5 in the paper); None weighs all time steps alike. Flow matching takes none.

    Raises:
        InputError: an unknown prediction, or min-SNR for flow matching.
        ModelError: a scheduler without the noise levels of a diffusion process.
    """

    def __init__(self, scheduler: Any, *, prediction: str | None = None, snr_gamma: float | int | None = None):
        flow = type(scheduler).__name__.startswith("FlowMatch")
        self.kind = prediction or ("flow" if flow else str(scheduler.config.get("prediction_type", "epsilon")))
        self.gamma, self.steps = snr_gamma, int(scheduler.config.get("num_train_timesteps", 1000))
        if self.kind not in KINDS or flow != (self.kind == "flow"):
            able = "flow" if flow else ", ".join(KINDS[1:])
            raise InputError(f"prediction is {self.kind!r}; a model with a {type(scheduler).__name__} takes {able}")
        if flow:
            if snr_gamma is not None:
                raise InputError("snr_gamma is for noise and velocity prediction; set snr_gamma=null for this model")
            return
        if snr_gamma is not None and snr_gamma <= 0:
            raise InputError(f"snr_gamma is {snr_gamma}; give a number above 0 (5 is usual), or null")
        if not hasattr(scheduler, "alphas_cumprod"):
            raise ModelError(
                f"{type(scheduler).__name__} has no alphas_cumprod; give the model a DDPM or DDIM scheduler"
            )
        self.alphas = torch.as_tensor(scheduler.alphas_cumprod, dtype=torch.float64)

    def draw(self, shape: Sequence[int], rng: np.random.Generator) -> tuple[Float[Tensor, "..."], float]:
        """Unit noise of one latent, and its time step: 0..1000 for flow matching, else a whole one below ``num_train_timesteps``."""
        if self.kind == "flow":
            time = 1000 / (1 + float(np.exp(-rng.standard_normal())))
        else:
            time = float(rng.integers(self.steps))
        return torch.from_numpy(rng.standard_normal(tuple(shape), dtype=np.float32)), time

    def at(self, share: float) -> tuple[float, float, float]:
        """Time step at which a share of noise of ``share`` is nearest, and the factors of the clean latents and of the noise there.

        The share is that of the noise's factor in the sum of both: what flow matching calls the time.
        """
        if self.kind == "flow":
            return 1000 * share, 1 - share, share
        signal, spread = self.alphas.sqrt(), (1 - self.alphas).sqrt()
        k = int((spread / (signal + spread) - share).abs().argmin())
        return float(k), float(signal[k]), float(spread[k])

    def clean(self, noisy: Tensor, prediction: Tensor, signal: float, spread: float) -> Tensor:
        """The clean latents that a prediction for ``noisy`` = ``signal`` x + ``spread`` n stands for."""
        if self.kind == "sample":
            return prediction
        if self.kind == "epsilon":
            return (noisy - spread * prediction) / signal
        return (1 if self.kind == "flow" else signal) * noisy - spread * prediction

    def noised(
        self, latents: Float[Tensor, "b c h w"], noise: Float[Tensor, "b c h w"], time: Float[Tensor, " b"]
    ) -> dict[str, Tensor]:
        """What ``loss`` takes: noisy latents ``x``, time steps ``t``, ``target`` and ``weight`` (b,)."""
        if self.kind == "flow":
            s = _spread(time / 1000)
            x, target = (1 - s) * latents + s * noise, noise - latents
            return {"x": x, "t": time.float(), "target": target, "weight": torch.ones_like(time)}
        alpha = self.alphas[time.long()]
        signal, spread = (_spread(v.float()) for v in (alpha.sqrt(), (1 - alpha).sqrt()))
        targets = {"epsilon": noise, "sample": latents, "v_prediction": signal * noise - spread * latents}
        x = signal * latents + spread * noise
        return {"x": x, "t": time.long(), "target": targets[self.kind], "weight": self.weight(time)}

    def weight(self, time: Float[Tensor, " b"]) -> Float[Tensor, " b"]:
        """min-SNR weights: min(SNR, gamma) for the image, divided by SNR for noise and by SNR + 1 for velocity.

        The division turns the loss of the image, which the paper weighs, into that of the prediction. At the end of a schedule with
        zero terminal SNR the weight of noise is its limit, 1, and that of velocity 0.
        """
        if self.gamma is None or self.kind == "flow":
            return torch.ones(len(time))
        alpha = self.alphas[time.long()]
        snr = alpha / (1 - alpha)
        clipped = snr.clamp(max=float(self.gamma))
        per_kind = {
            "sample": clipped,
            "v_prediction": clipped / (snr + 1),
            "epsilon": torch.where(snr > 0, clipped / snr.clamp(min=1e-30), 1.0),
        }
        return per_kind[self.kind].float()


def loss(prediction: Tensor, batch: dict[str, Any]) -> Float[Tensor, ""]:
    """Weighted mean square error of a batch that ``Objective.noised`` made; in float32.

    ``weight`` is one number a latent (b,), or one a cell (b, 1, h, w).
    """
    each = (prediction.float() - batch["target"].float()).square()
    if "weight" not in batch:
        return each.mean()
    weight = batch["weight"]
    return (each * (_spread(weight) if weight.ndim == 1 else weight)).mean()


def flow(latents: Tensor, rng: np.random.Generator, *, time: str = "logit_normal") -> dict[str, Tensor]:
    """Noisy latents ``x``, time steps ``t`` (0..1000) and ``target`` of flow matching for a whole batch, all drawn from ``rng``."""
    sigma = torch.from_numpy(shares_of_noise(len(latents), rng, time))
    noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
    s = _spread(sigma)
    return {"x": (1 - s) * latents + s * noise, "t": 1000 * sigma, "target": noise - latents}


def shares_of_noise(count: int, rng: np.random.Generator, time: str) -> Float[np.ndarray, " n"]:
    """Times 0..1 in float32: ``logit_normal`` (Esser et al. 2024, section 3.1) or ``uniform``."""
    if time == "logit_normal":
        return 1 / (1 + np.exp(-rng.standard_normal(count, dtype=np.float32)))
    return rng.random(count, dtype=np.float32)


class BatchObjective:
    """What a denoiser of ours is trained to predict, as the recipe's ``objective`` says: ``prediction``, ``time``, ``snr_gamma``.

    ``scheduler`` is the one to sample with.

    Raises InputError for a prediction or a distribution of times that there is not.
    """

    def __init__(self, *, prediction: str = "flow", time: str = "logit_normal", snr_gamma: float | None = None):
        if time not in TIMES or prediction not in ("flow", "v_prediction"):
            raise InputError(
                f"objective: {prediction!r} with times {time!r}; use flow or v_prediction, and one of {', '.join(TIMES)}"
            )
        self.scheduler: Any = FlowMatchEulerDiscreteScheduler() if prediction == "flow" else velocity_scheduler()
        self.time, self.diffusion = time, Objective(self.scheduler, snr_gamma=snr_gamma)

    @classmethod
    def of(cls, scheduler: Any) -> "BatchObjective":
        """As a scheduler says, with the recipe's defaults."""
        return cls(prediction=Objective(scheduler).kind)

    def __call__(self, latents: Float[Tensor, "b c h w"], rng: np.random.Generator) -> dict[str, Tensor]:
        """Noisy latents ``x``, time steps ``t``, ``target`` and what else ``loss`` takes, all drawn from ``rng``."""
        if self.diffusion.kind == "flow":
            return flow(latents, rng, time=self.time)
        times = np.minimum(
            shares_of_noise(len(latents), rng, self.time) * self.diffusion.steps, self.diffusion.steps - 1
        )
        noise = torch.from_numpy(rng.standard_normal(latents.shape, dtype=np.float32))
        return self.diffusion.noised(latents, noise, torch.from_numpy(times.astype(np.float32)))


def velocity_scheduler() -> DDIMScheduler:
    """Stable Diffusion's noise levels with zero terminal SNR (Lin et al. 2024, sections 3.1 to 3.3), velocity prediction."""
    return DDIMScheduler(
        beta_start=0.00085,
        beta_end=0.012,
        beta_schedule="scaled_linear",
        clip_sample=False,
        prediction_type="v_prediction",
        rescale_betas_zero_snr=True,
        timestep_spacing="trailing",
    )


def _spread(value: Tensor) -> Tensor:
    return value[:, None, None, None]
