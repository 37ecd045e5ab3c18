"""Which members of a sample are images, and what else belongs to each: ours, the data folder's, DiffusionSat's."""

import re
from collections.abc import Collection

_PICTURE = r"(?:jpe?g|png|webp|tiff?)"
_IMAGES = (  # of each: the view is the group; the first pattern that fits any member decides
    re.compile(rf"()(?:image\.)?{_PICTURE}"),
    re.compile(rf"(pre|post)\.{_PICTURE}"),
    re.compile(r"()(?:rgb|input)\.npy"),
    re.compile(r"(pre|post)-input\.npy"),
    re.compile(r"input-(\d+)\.npy"),
    re.compile(r"tif\.rgb-(\d{4})\.npy"),
)
_DESCRIPTIONS = ("json", "metadata.json", "tif.metadata.json", "post-metadata.json", "pre-metadata.json", "info.json")
LAYOUTS = {"layout.png": "gensat", "building.png": "uganda", "landcover.png": "landcover.ai"}
"""Members that are a map of the image, and the legend of their codes."""


def views(members: Collection[str]) -> list[str]:
    """Names of the images of a sample: ``[""]`` for the only one, ``["pre", "post"]``, ``["0", "1", "2"]``; [] without one."""
    for pattern in _IMAGES:
        found = {match[1] for name in members if (match := pattern.fullmatch(name))}
        if found:
            return sorted(found, key=lambda view: (view != "pre", len(view), view))
    return []


def image_member(members: Collection[str], view: str) -> str:
    """The member that holds the image of a view."""
    for pattern in _IMAGES:
        for name in sorted(members):
            if (match := pattern.fullmatch(name)) and match[1] == view:
                return name
    raise KeyError(view)


def description(members: Collection[str], view: str = "") -> str | None:
    """The json member that tells most about a view; None without any."""
    own = (f"{view}-metadata.json", f"metadata-{view}.json") if view else ()
    for name in (*own, *_DESCRIPTIONS):
        if name in members:
            return name
    return next((name for name in sorted(members) if re.fullmatch(r"metadata-\d+\.json", name)), None)
