"""Captions for training: several ways to say what a sample shows, so that the model hears words and not one template.

A caption is a view ("an aerial photo of ..."), what is seen, and any of the facts that are known (``words``), each there or not on its own.
Samples with the same facts share their captions, so that the states of all of them fit into a file: they are drawn by the
facts, and not by the sample.
"""

import hashlib
import json
import re

import numpy as np

from .sources import Sample
from .words import cover, resolution, season, whereabouts

MOST = {"ucmerced": 24, "houston": 24, "uganda": 16, "poland": 10, "rasters": 10, "sentinel2": 6, "landsat": 5}
"""Captions of a sample, the given one included: fewer where hardly any two samples share their facts."""

LONGEST = 100
"""Characters of a caption, so that it fits into the 24 tokens that a text bank keeps."""

# From above at less than a metre people say "satellite image" of any picture; all else is said of what took it only.
VIEWS: dict[str | None, tuple[str, ...]] = {
    "aerial": ("an aerial image of {}", "an aerial photo of {}", "a satellite image of {}"),
    "drone": ("a drone image of {}", "an aerial image of {}", "a drone photo of {}"),
    "vhr": ("a satellite image of {}", "a very high resolution satellite image of {}"),
    "sentinel-2": ("a Sentinel-2 image of {}", "a satellite image of {}", "a Sentinel-2 satellite image of {}"),
    "landsat-7": ("a Landsat image of {}", "a satellite image of {}", "a Landsat 7 image of {}"),
    "landsat-8": ("a Landsat image of {}", "a satellite image of {}", "a Landsat 8 image of {}"),
    None: ("an image of {}",),
}
ANY_VIEW = ("a view from above of {}", "{}")

CLASSES: dict[str, tuple[str, ...]] = {
    "agricultural": ("an agricultural field", "farmland with crop rows", "a crop field", "agricultural land"),
    "airplane": ("an airplane", "an airplane parked at an airport", "a plane on the tarmac", "aircraft at an airport"),
    "baseballdiamond": ("a baseball diamond", "a baseball field", "a baseball pitch with grass and sand"),
    "beach": ("a beach", "a sandy beach with waves", "a beach and the sea", "the coast with sand and surf"),
    "buildings": (
        "a group of buildings",
        "large buildings in a city",
        "office buildings downtown",
        "commercial buildings",
    ),
    "harbor": ("a harbor", "a harbor with boats", "a marina with boats and docks", "a port full of boats"),
    "intersection": ("an intersection", "a road intersection with cars", "a street crossing", "crossroads"),
    "mediumresidential": (
        "a medium density residential area",
        "a residential neighborhood with houses",
        "houses and gardens in a suburb",
    ),
    "mobilehomepark": ("a mobile home park", "a trailer park", "rows of mobile homes"),
    "overpass": ("an overpass", "a highway overpass", "a bridge over a highway", "a freeway crossing"),
    "parkinglot": ("a parking lot", "a parking lot with cars", "many parked cars", "a car park"),
    "river": ("a river", "a river with trees on its banks", "a stream through vegetation"),
    "runway": ("a runway", "an airport runway with markings", "a landing strip"),
    "sparseresidential": (
        "a sparse residential area",
        "a single house among trees",
        "a rural house with a large garden",
    ),
    "storagetanks": ("storage tanks", "round storage tanks", "oil tanks", "an industrial tank farm"),
    "tenniscourt": ("a tennis court", "tennis courts", "a tennis court among trees and houses"),
}
_HOUSTON = {
    "pre": (
        "houses in Houston, Texas",
        "a neighborhood in Houston, Texas",
        "houses, streets and trees in Houston",
        "a neighborhood before the flood",
    ),
    "post": (
        "flooded houses in Houston, Texas, after Hurricane Harvey",
        "a flooded neighborhood in Houston",
        "a flood in a residential area",
        "streets and houses under brown flood water",
    ),
    "after": ("Houston, Texas, after Hurricane Harvey", "Houston after the hurricane"),
}
OWN = ("ucmerced", "houston", "uganda", "poland", "sentinel2", "landsat", "rasters")
_UGANDA = ("buildings in Uganda", "houses with metal roofs on red soil in Uganda", "a town in Uganda")
_PLANTS = {  # codes of the energy administration in the keys of the Landsat chips
    "SUN": ("a solar power plant", "a solar farm"),
    "WND": ("a wind farm", "wind turbines"),
    "WAT": ("a hydroelectric power plant", "a hydroelectric dam"),
    "NG": ("a gas power plant", "a natural gas power plant"),
    "NUC": ("a nuclear power plant",),
    "BIT": ("a coal power plant",),
    "SUB": ("a coal power plant",),
    "LFG": ("a landfill gas power plant",),
    "WDS": ("a biomass power plant",),
    "DFO": ("an oil power plant",),
}
_PLACED = ("uganda", "sentinel2", "landsat")  # the captions of the others say where


def subjects(sample: Sample) -> tuple[str, ...]:
    """What the sample shows, in several wordings, without the view ("an aerial image of ..."); of foreign sources nothing is known."""
    if sample.source == "ucmerced" and sample.klass in CLASSES:
        return CLASSES[sample.klass]
    if sample.source == "houston":
        if "houston-post" in sample.key:
            return _HOUSTON["after"]
        when = "post" if ".post" in sample.key else "pre"
        seen = CLASSES.get(sample.seen or "", ()) if when == "pre" else ()
        return (*_HOUSTON[when], *(f"{words} in Houston, Texas" for words in seen))
    if sample.source == "uganda":
        return _UGANDA
    text = sample.caption.split(" of ", 1)[-1].removeprefix("a Sentinel-2 image")
    if sample.source == "sentinel2":
        return ("a landscape", "the land")
    if sample.source == "landsat":
        code = re.search(r"_([A-Z]+)$", sample.key)
        return (*_PLANTS.get(code.group(1) if code else "", ()), "a power plant")
    if sample.source == "poland":
        return ("rural Poland", "the countryside in Poland", "the Polish countryside")
    return (text or "a landscape",)


def facts(sample: Sample) -> dict[str, str]:
    """What is known beside the subject, in words: ``where``, ``when``, ``cover`` and ``gsd``; what is not known is not there."""
    a = sample.acquisition
    gsd, time = resolution(a.gsd), season(a.date, sample.place)
    found = {
        "where": whereabouts(sample.place) if sample.source in _PLACED else None,
        "when": time and f"in {time}",
        "cover": cover(sample.layout) if sample.layout_origin == "map" else None,
        "gsd": gsd and f"{gsd} resolution",
    }
    return {name: text for name, text in found.items() if text}


def all_captions(sample: Sample) -> list[str]:
    """The given caption and up to ``MOST`` - 1 others, without repeats; only the given one of sources that are not the project's own."""
    if sample.source not in OWN:
        return [sample.caption]
    shown, known, sensor = subjects(sample), facts(sample), sample.acquisition.sensor
    views = (*VIEWS.get(sensor, VIEWS[None]), *ANY_VIEW)
    digest = hashlib.blake2b(json.dumps([shown, known, sensor]).encode(), digest_size=8).digest()
    rng = np.random.default_rng(int.from_bytes(digest, "big"))
    made = {sample.caption: None}
    for k in range(4 * MOST[sample.source]):
        if len(made) < MOST[sample.source]:
            caption = _composed(shown[k % len(shown)], known, views, rng)
            if len(caption) <= LONGEST:
                made[caption] = None
    return list(made)


def _composed(subject: str, known: dict[str, str], views: tuple[str, ...], rng: np.random.Generator) -> str:
    """One caption: a view drawn, and each fact there half of the time."""
    said = {name: text for name, text in known.items() if rng.random() < 0.5}
    text = subject
    if "where" in said:
        region = said["where"].rpartition(", ")[2].removeprefix("in ")
        text = subject.removesuffix(f" in {region}") + " " + said["where"]
    if "cover" in said:
        text += (" with " if rng.random() < 0.5 else ": ") + said["cover"]
    if "when" in said:
        text += (", " if {"cover", "where"} & said.keys() or ", " in subject else " ") + said["when"]
    view = views[int(rng.integers(len(views)))]
    if "gsd" in said and rng.random() < 0.4 and view.startswith(("an aerial", "a satellite", "a drone")):
        return f"a {said['gsd']} {view.split(' ', 1)[1]}".format(text)
    return view.format(text) + (f", {said['gsd']}" if "gsd" in said else "")


def draw(captions: list[str], rng: np.random.Generator) -> str:
    """One caption: the given one a third of the time, any other wording otherwise."""
    return captions[0] if rng.random() < 1 / 3 else captions[rng.integers(len(captions))]
