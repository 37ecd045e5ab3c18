"""The authors' programs beside ours: adapters that run a checkout of Sat2Density or Sat3DGen on a CPU, with nothing of it in here.

What they need and a CPU does not have is replaced by stand-ins: two CUDA modules that Sat2Density never calls, ``cuda()`` that
stays where it is, EasyDict. Sat3DGen moves samples along rays at random; the stand-ins leave them in place.
"""

import json
import sys
import types
from pathlib import Path
from typing import Any

import numpy as np
import torch
import yaml

from gensat.hub.convert_sat3dgen import read_sat3dgen
from gensat.models.sat2density import Sat2Density
from gensat.models.sat3dgen import Sat3DGen


class _Stub(types.ModuleType):
    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return None


class _Options(dict):
    """A dictionary whose entries are attributes too, as the authors' program reads its settings."""

    def __init__(self, values: Any = (), **more: Any):
        super().__init__()
        for name, value in dict(values or (), **more).items():
            self[name] = _Options(value) if isinstance(value, dict) else value

    def __getattr__(self, name: str) -> Any:
        try:
            return self[name]
        except KeyError:
            raise AttributeError(name) from None

    __setattr__ = dict.__setitem__


def sat2density(folder: Path, model: Sat2Density, spot: tuple[float, float]) -> Any:
    """The authors' Sat2Density with our weights, at ``spot`` metres east and north: (tile, histogram) to its results."""
    for name in ("upfirdn2d_cuda", "bias_act_cuda"):
        sys.modules[name] = _Stub(name)
    _prepare(folder)

    def settings(path: str) -> dict[str, Any]:
        values = yaml.safe_load((folder / path).read_text()) or {}
        return merged(settings(values.pop("_parent_")), values) if "_parent_" in values else values

    def merged(low: dict[str, Any], high: dict[str, Any]) -> dict[str, Any]:
        both = {
            k: merged(low[k], v) if isinstance(v, dict) and isinstance(low.get(k), dict) else v for k, v in high.items()
        }
        return {**low, **both}

    options = _Options(settings("options/sat2density_cvact.yaml"))
    half = model.config.tile_metres / 2
    options.data.pano_size = list(model.config.pano_size)
    options.device, options.origin_H_W = "cpu", [-spot[1] / half, spot[0] / half]
    from imaginaire.generators.craft_2stage_add_style import Generator  # of the authors' checkout

    generator = Generator(options).eval().requires_grad_(False)
    own = model.state_dict()
    state = generator.state_dict()
    for name in list(state):
        if name.endswith("weight_orig"):
            u, v = state[name[:-5] + "_u"], state[name[:-5] + "_v"]
            state[name] = own[name[:-5]]
            state[name[:-5] + "_u"] = u / (u @ (own[name[:-5]].flatten(1) @ v))  # a norm of 1
        elif name in own:
            state[name] = own[name]
    generator.load_state_dict(state)
    return lambda tile, histogram: generator(tile, histogram, options)


def _prepare(folder: Path) -> None:
    easydict = types.ModuleType("easydict")
    easydict.EasyDict = _Options  # type: ignore[attr-defined]
    sys.modules.setdefault("easydict", easydict)
    sys.path.insert(0, str(folder))


class Sat3DGenOriginal:
    """The authors' Sat3DGen at its published sizes, with the random weights of its own initialisation, its densities made bolder."""

    def __init__(self, folder: Path):
        import transformers.modeling_utils as transformers_utils
        from transformers.initialization import no_init_weights

        _prepare(folder)
        transformers_utils.no_init_weights = no_init_weights  # where the release it asks for has it
        torch.Tensor.cuda = lambda self, *a, **k: self  # type: ignore[method-assign, assignment]
        import source.rendering.sat2density_transform_eg3d as around  # of the authors' checkout
        import source.rendering.transform_perspective as ahead
        import source.rendering.utils as sampling
        from source.generator import Sat3DGen as Generator

        still = lambda radii, strategy=None: radii  # noqa: E731
        around.perturb_points_per_ray = ahead.perturb_points_per_ray = still
        drawn = sampling.sample_pdf
        sampling.sample_pdf = lambda bins, weights, count, det=False, eps=1e-5: drawn(bins, weights, count, True, eps)
        self.settings = json.loads((folder / "configs" / "Sat3DGen_dino_v3.json").read_text())
        Generator._skip_backbone_weights = True
        self.net = Generator(self.settings["opt"]).eval().requires_grad_(False)
        for name, value in self.net.state_dict().items():
            if "dino_model" in name:
                value.normal_(std=0.02) if value.ndim > 1 else value.fill_(float("norm" in name and "weight" in name))
        self.net.mlp.net0.weight *= 3
        self.net.mlp.net1_density.weight *= 20
        self.turned = ahead.compose_rotmat
        size = {"num_points": 48, "position_scale_factor": self.net.position_scale_factor}
        self.net.point_sampler_sat = around.Point_sampler_ortho(resolution=128, render_size=128, **size)

    def ours(self) -> Sat3DGen:
        """Our network with its weights."""
        return read_sat3dgen(self.net.state_dict(), self.settings, None, "").model  # type: ignore[return-value]

    def planes(self, tile: torch.Tensor) -> Any:
        """Of a tile (3, 256, 256) in [0, 1]."""
        mean, spread = (torch.tensor(v)[:, None, None] for v in ((0.485, 0.456, 0.406), (0.229, 0.224, 0.225)))
        return self.net.from_sat_to_triplane(((tile - mean) / spread)[None])

    def light(self, histogram: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
        """Its code, and the features of its sky."""
        code = self.net.w_sky_prepare(histogram)
        return code, self.net.w_sky2sky_feature_2D(code, histogram)

    def panorama(self, planes: Any, where: tuple[float, float, float], code: Any, sky: Any) -> torch.Tensor:
        """Features of a panorama at (h, w, z)."""
        seen = self.net.from_3D_to_results(planes, c2w=self._pose(where, 0.0), w_sky=code, sky_feature_2D=sky)
        return seen.str_output.feature_raw[0]

    def view(self, planes: Any, where: tuple[float, float, float], yaw: float, code: Any, sky: Any) -> torch.Tensor:
        """Features of a view of 120 degrees."""
        focal = 64 / np.tan(np.radians(60))
        inner = torch.tensor([[focal, 0, 63.5], [0, focal, 63.5], [0, 0, 1]]).float()[None]
        pose = self._pose(where, yaw)
        given = {"c2w": pose, "w_sky": code, "sky_feature_2D": sky, "intrinsics": inner}
        return self.net.from_3D_to_results(planes, syn_pano=False, syn_per=True, **given).per_output.feature_raw[0]

    def above(self, planes: Any) -> torch.Tensor:
        """Distances straight down."""
        seen = self.net.from_3D_to_results(planes, syn_pano=False, syn_sat=True, random_sat_crop=False)
        return seen.sat_output.image_depth[0, 0]

    def _pose(self, where: tuple[float, float, float], yaw: float) -> torch.Tensor:
        down, right, up = where
        pose = torch.eye(4)[None]
        pose[0, :3, :3] = torch.from_numpy(self.turned(0, 0, yaw))
        pose[0, :3, 3] = torch.tensor([right, -down, up]) * self.net.position_scale_factor
        return pose
