"""Does a model do what its conditions say: layout, ground sampling distance, and whether each changes anything."""

from __future__ import annotations

from typing import Any

import numpy as np
import torch

from ...geo.legend import colourise
from ...metrics.consistency import gsd_response
from ...metrics.layout import confusion, mean_iou
from ...models.features import over_images
from ..response import condition_changes
from .networks import LeftOut
from .session import CONFIDENCE, Evaluation

GSDS = (0.1, 0.3, 0.5, 1.0, 2.0, 5.0, 10.0, 15.0, 30.0)


def layout(run: Evaluation) -> dict:
    """Held-out layouts asked for and read back by the segmenter, beside what it reads from the real images; in the
    classes that the segmenter can tell apart.
    """
    if run.pipe is None:
        raise LeftOut("needs a model; folders were not asked for a layout")
    if run.pipe.controlnet is None:
        raise LeftOut("the model has no controlnet")
    asked = [s for s in run.heldout if s.layout is not None and (s.source == "poland" or not run.project)]
    if not asked:
        raise LeftOut("no held-out image has a layout; give shards with layouts")
    segmenter = run.networks.segmenter
    figures: dict[str, Any] = {}
    for name, images in (
        ("with layout", run.like(asked, layouts=True)),
        ("without", run.like(asked)),
        ("real images", [s.image for s in asked]),
    ):
        read = [
            over_images(
                lambda x: segmenter.predict(x, backbone=run.networks.backbone), [image], device=run.networks.device
            ).long()
            for image in images
        ]
        target = [segmenter.tellable(torch.from_numpy(np.array(s.layout))[None]).long() for s in asked]
        counts = torch.cat([confusion(r, t) for r, t in zip(read, target, strict=True)])
        figures[name] = mean_iou(counts, extractor=segmenter.name, confidence=CONFIDENCE).to_dict()
        if name == "with layout":
            rows = list(zip(asked, images, strict=True))[:16]
            shown = [x for s, y in rows if s.layout is not None for x in (colourise(s.layout), y, s.image)]
    run.picture("layouts (map, made, real)", shown, 12)
    return figures


def gsd(run: Evaluation, each: int = 8) -> dict:
    """Nothing but a ground sampling distance is asked for; a regressor trained on real images reads it back."""
    if run.pipe is None:
        raise LeftOut("needs a model")
    probe = run.networks.gsd_probe
    low, high = run.pipe.spec.size_limits
    size = max(low, min(256, high))
    if size < (probe.window or 0):
        raise LeftOut(f"the model makes at most {size} px and the regressor looks at windows of {probe.window} px")
    images = [x for asked in GSDS for x in run.at(None, asked, each, size)]
    asked = torch.tensor([asked for asked in GSDS for _ in range(each)])
    seen = over_images(lambda x: probe.gsd(x, backbone=run.networks.backbone), images, device=run.networks.device)
    run.picture("gsd (one row each: " + ", ".join(map(str, GSDS)) + " m)", images, each)
    return gsd_response(asked, seen, extractor=probe.name, confidence=CONFIDENCE).to_dict()


def conditions(run: Evaluation) -> dict:
    """How much each condition changes a picture, beside what another seed does."""
    if run.pipe is None:
        raise LeftOut("needs a model")
    return condition_changes(run.pipe, confidence=CONFIDENCE, **run.call)
