"""Captions for training: several ways to say what a sample shows, so that the model hears words and not one template."""

import numpy as np

from .sources import Sample

VIEWS = ("an aerial image of {}", "a satellite image of {}", "an aerial photo of {}", "a view from above of {}", "{}")

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
    "storagetanks": ("a storage tanks", "storage tanks", "round storage tanks", "oil tanks", "an industrial tank farm"),
    "tenniscourt": ("a tennis court", "tennis courts", "a tennis court among trees and houses"),
}
_HOUSTON = {
    "pre": ("houses in Houston, Texas", "a neighborhood in Houston, Texas", "houses, streets and trees in Houston"),
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


def subjects(sample: Sample) -> tuple[str, ...]:
    """What the sample shows, in several wordings, without the view ("an aerial image of ..."); of foreign sources nothing is known."""
    if sample.source == "ucmerced" and sample.klass in CLASSES:
        return CLASSES[sample.klass]
    if sample.source == "houston":
        if "houston-post" in sample.key:
            return _HOUSTON["after"]
        return _HOUSTON["post" if ".post" in sample.key else "pre"]
    if sample.source == "uganda":
        return _UGANDA
    text = sample.caption.split(" of ", 1)[-1].removeprefix("a Sentinel-2 image")
    text = text or "a landscape"
    if sample.source == "poland":
        return (
            text,
            text.replace("rural Poland with", "the countryside with"),
            text.split(" with ", 1)[-1].replace(", ", " and "),
        )
    return (text,)


def all_captions(sample: Sample) -> list[str]:
    """The given caption and every wording in every view, without repeats; only the given one of sources that are not the project's own."""
    if sample.source not in OWN:
        return [sample.caption]
    made = [view.format(subject) for subject in subjects(sample) for view in VIEWS]
    return list(dict.fromkeys([sample.caption, *made]))


def draw(captions: list[str], rng: np.random.Generator) -> str:
    """One caption: the given one a third of the time, any other wording otherwise."""
    return captions[0] if rng.random() < 1 / 3 else captions[rng.integers(len(captions))]
