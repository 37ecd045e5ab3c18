"""Does an image show what the words say: CLIP score beside its null, and spatial relations."""

from __future__ import annotations

from itertools import permutations

import torch

from ...metrics.alignment import clip_score
from ...metrics.base import extract
from ...metrics.relations import Centre, Relation, parse_relations, spatial_relations
from ...models.features import to_tensor
from .networks import LeftOut
from .session import CONFIDENCE, Evaluation, evenly

PLACED = ("left of", "right of", "north of", "south of")
SUBJECTS = ("lake", "forest", "village", "road")
EACH = 2  # images a prompt


def text(run: Evaluation) -> dict:
    """CLIP score of the generated images and, where they are pairs, of the real ones; each with its null."""
    sides = run.sides
    if not any(sides.captions):
        raise LeftOut("the images have no captions; put NAME.txt beside each image, or a metadata.jsonl")
    clip = run.networks.clip
    rows = [i for i, caption in enumerate(sides.captions) if caption.strip()]
    if len(rows) < len(sides.captions):
        run.leave_out("text / images without caption", f"{len(sides.captions) - len(rows)} of {len(sides.captions)}")
    captions = [sides.captions[i] for i in rows]
    if len(set(captions)) < 2:
        raise LeftOut("all captions are the same, which leaves no other to compare with; give at least two")
    vectors = clip.texts(captions)
    figures = {}
    groups = [("generated", sides.fake)]
    if run.pipe is not None:
        groups.append(("real images", sides.real))
    for name, images in groups:
        features = extract(clip, (images[i] for i in rows), device=run.networks.device)
        figures[name] = clip_score(features, vectors, captions, confidence=CONFIDENCE, seed=run.seed).to_dict()
    return figures


def relations(run: Evaluation) -> dict:
    """Two things where the prompt puts them; of folders, wherever captions say so."""
    if run.pipe is not None:
        asked = [Relation(a, where, b) for a, b in permutations(SUBJECTS, 2) for where in PLACED for _ in range(EACH)]
        prompts = [f"an aerial image of a {r.subject} {r.where} a {r.object}" for r in asked]
        low, high = run.pipe.spec.size_limits
        images = run.of(prompts, max(low, min(128, high)))
    else:
        stated = [(i, r) for i, caption in enumerate(run.sides.captions) for r in parse_relations(caption)]
        if not stated:
            raise LeftOut('no caption says where one thing lies of another ("a lake left of a forest")')
        asked = [r for _, r in stated]
        images = [run.sides.fake[i] for i, _ in stated]
    centres: list[dict[str, Centre]] = []
    with torch.inference_mode():
        for image, relation in zip(images, asked, strict=True):
            words = (relation.subject, relation.object)
            centres += run.networks.find(to_tensor([image]), words)
    run.picture("relations", evenly(images, 32), 8)
    name = run.networks.segmenter.name
    return {"words": spatial_relations(asked, centres, extractor=name, confidence=CONFIDENCE, seed=run.seed).to_dict()}
