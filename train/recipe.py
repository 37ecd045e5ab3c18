"""Recipes: OmegaConf files that say everything about a training, checked before anything heavy is loaded."""

import sys
from collections.abc import Callable, Sequence
from difflib import get_close_matches
from importlib.resources import files
from pathlib import Path
from typing import Any, cast

from omegaconf import DictConfig, OmegaConf

from ..errors import InputError

PRECISIONS = ("auto", "no", "fp32", "fp16", "bf16")  # "no" and "fp32" are the same
_AT_LEAST_ONE = ("batch", "warmup", "log_every", "save_every", "accumulate")
_POSITIVE = ("lr", "clip", "muon", "minutes")
_SHARES = ("ema", "beta2", "large", "crops", "trust", "halved")


def recipes() -> dict[str, str]:
    """Names of the recipes that ship, each with the first line of its file."""
    found = sorted((files(__package__) / "recipes").iterdir(), key=lambda path: path.name)
    return {
        path.name[:-5]: path.read_text(encoding="utf-8").splitlines()[0].lstrip("# ").strip()
        for path in found
        if path.name.endswith(".yaml")
    }


def load_recipe(name: str, overrides: Sequence[str] | None = None) -> DictConfig:
    """A recipe by name (``recipes/NAME.yaml``) or path, with ``key=value`` overrides merged over it and every value checked.

    Raises:
        InputError: no such recipe or key (with the nearest that exists), or a value that cannot be.
    """
    own = OmegaConf.create(_text(name))
    if not isinstance(own, DictConfig):
        raise InputError(f"recipe {name} holds no keys; see the recipes that gensat train --list names")
    recipe = own.copy()
    for text in overrides or []:
        key, given, _ = text.partition("=")
        if not given:
            raise InputError(f"{text!r} sets nothing; write key=value, such as steps=1000")
        _require_key(own, key, name)
        try:
            recipe = cast(DictConfig, OmegaConf.merge(recipe, OmegaConf.from_dotlist([text])))
        except Exception as error:  # OmegaConf and YAML have many of their own
            raise InputError(f"recipe {name} does not take {text!r} ({_first(error)}); see its file") from error
        _require_kind(key, OmegaConf.select(own, key), OmegaConf.select(recipe, key))
    check(recipe)
    OmegaConf.set_struct(recipe, True)
    return recipe


def check(recipe: DictConfig) -> None:
    """Raise InputError for the first value that no training could run with."""
    problems = [(k, "1 or more", lambda v: v >= 1 and v == int(v)) for k in _AT_LEAST_ONE]
    problems += [(k, "a number above 0", lambda v: v > 0) for k in _POSITIVE]
    problems += [(k, "0 to 1", lambda v: 0 <= v <= 1) for k in _SHARES]
    problems += [
        (k, "0 or more", lambda v: v >= 0) for k in ("steps", "workers", "weight_decay", "sample_every", "disturb")
    ]
    for key, wanted, fits in problems:
        value = recipe.get(key)
        if value is None:
            continue
        if isinstance(value, bool) or not isinstance(value, int | float) or not fits(value):
            raise InputError(f"{key} is {value!r}; give {wanted}")
    for name, value in (recipe.get("dropout") or {}).items():
        if isinstance(value, bool) or not isinstance(value, int | float) or not 0 <= value <= 1:
            raise InputError(f"dropout.{name} is {value!r}; give 0 to 1")
    if (recipe.get("precision") or "no") not in PRECISIONS:  # YAML reads a bare no as False
        raise InputError(f"precision is {recipe.precision!r}; use one of {', '.join(PRECISIONS)}")
    if "steps" in recipe and not (recipe.steps or recipe.get("minutes")):
        raise InputError("the recipe has neither steps nor minutes; give one, or both")
    for key in ("seed", "data.seed"):
        value = OmegaConf.select(recipe, key)
        if value is not None and (isinstance(value, bool) or not isinstance(value, int) or value < 0):
            raise InputError(f"{key} is {value!r}; give a whole number, 0 or more")


def start(train: Callable[[DictConfig], Any], name: str, arguments: Sequence[str]) -> None:
    """Run ``train`` with the recipe that the arguments ``[RECIPE] key=value ...`` name; ``name`` where they name none."""
    given = list(arguments)
    name = given.pop(0) if given and "=" not in given[0] else name
    train(load_recipe(name, given))


def folder_and_options(arguments: Sequence[str], options: dict[str, str], what: str) -> tuple[Path, dict[str, str]]:
    """``FOLDER key=value ...`` of a program without a recipe; ``options`` are those it takes, with their defaults.

    Raises InputError for no folder (``what`` is written there), or an option that there is not.
    """
    if not arguments or "=" in arguments[0]:
        raise InputError(f"give the folder for the {what} first, then key=value")
    given = dict(a.partition("=")[::2] for a in arguments[1:])
    if unknown := set(given) - set(options):
        raise InputError(f"there is no {', '.join(sorted(unknown))}=; it takes {', '.join(options)}")
    return Path(arguments[0]), options | given


def program(main: Callable[[list[str]], None]) -> None:
    """What ``python -m gensat.train.NAME`` does: what the user got wrong is one sentence, and the exit code 2."""
    try:
        main(sys.argv[1:])
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        sys.exit(error.exit_code)


def _text(name: str) -> str:
    path = Path(name)
    try:
        if path.suffix in (".yaml", ".yml"):
            return path.read_text(encoding="utf-8")
        source = files(__package__) / "recipes" / f"{name}.yaml"
        if "/" not in name and source.is_file():
            return source.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"recipe {name} cannot be read ({_first(error)}); give a .yaml file or a name") from error
    raise InputError(f"there is no recipe {name!r}{_near(name, list(recipes()))}; gensat train --list names them all")


def _require_key(recipe: DictConfig, key: str, name: str) -> None:
    """The key exists, or lies in a section that is open (an empty ``{}``, whose keys the training itself checks)."""
    node: Any = recipe
    parts = key.split(".")
    for i, part in enumerate(parts):
        if not isinstance(node, DictConfig):
            raise InputError(f"recipe {name} has no key {key!r}: {'.'.join(parts[:i])} is a value, not a section")
        if not len(node):
            return
        if part not in node:
            known = [".".join([*parts[:i], str(k)]) for k in node]
            raise InputError(f"recipe {name} has no key {key!r}{_near(key, known)}")
        node = node[part]


def _near(name: str, known: list[str]) -> str:
    close = get_close_matches(name, known, n=1, cutoff=0.5)
    return f"; did you mean {close[0]!r}?" if close else f"; it is one of {', '.join(known)}"


def _require_kind(key: str, before: Any, after: Any) -> None:
    """A number stays a number, a text a text; null is allowed, and says nothing about what may replace it."""
    if before is None or after is None:
        return
    kinds = ((bool, "true or false"), ((int, float), "a number"), (str, "a text"))
    for kind, wanted in kinds:
        if isinstance(before, kind):
            fits = isinstance(after, kind) and isinstance(after, bool) == isinstance(before, bool)
            if key == "precision" and after is False:
                return
            if not fits and not (kind is str and isinstance(after, int | float)):
                raise InputError(f"{key} is {after!r}; give {wanted}")
            return


def _first(error: Exception) -> str:
    return (str(error).strip().splitlines() or [type(error).__name__])[0][:160]
