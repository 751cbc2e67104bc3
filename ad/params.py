"""What a user may set, and what each setting allows.  Knows nothing of files."""

import math
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass


@dataclass(frozen=True)
class Setting:
    """One parameter: what is allowed, in words and as a test."""

    allowed: str
    accepts: Callable[[object], bool]


def _is_int(value: object, low: int, high: float = float("inf")) -> bool:
    return isinstance(value, int) and not isinstance(value, bool) and low <= value <= high


def _is_number(value: object) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool) and math.isfinite(value)


def _integer(low: int, high: float = float("inf")) -> Setting:
    top = "" if high == float("inf") else f" to {high}"
    words = f"an integer from {low}{top}" if top else f"an integer of at least {low}"
    return Setting(words, lambda value: _is_int(value, low, high))


def _integer_or_null(low: int, meaning: str) -> Setting:
    return Setting(
        f"null ({meaning}) or an integer of at least {low}",
        lambda value: value is None or _is_int(value, low),
    )


def _choice(*names: str) -> Setting:
    return Setting("one of " + ", ".join(names), lambda value: value in names)


def _layers(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(_is_int(item, 0) or (isinstance(item, str) and item) for item in value)
        and len(set(map(str, value))) == len(value)
    )


THRESHOLD_RULES = "max, quantile:Q with 0 < Q <= 1 (quantile:0.99), or mean_sd:K (mean_sd:3)"


def parse_threshold_rule(rule: str) -> tuple[str, float | None]:
    """Split ``max``, ``quantile:0.99`` or ``mean_sd:3`` into its name and its number."""
    match = re.fullmatch(r"(max)|(quantile|mean_sd):(\d+(?:\.\d+)?)", rule)
    if match:
        if match[1]:
            return "max", None
        number = float(match[3])
        if match[2] == "mean_sd" or 0 < number <= 1:
            return match[2], number
    raise ValueError(f"cv.threshold={rule!r} is not {THRESHOLD_RULES}")


def _threshold(value: object) -> bool:
    try:
        return isinstance(value, str) and bool(parse_threshold_rule(value))
    except ValueError:
        return False


_TEXT = Setting("a non-empty text", lambda value: isinstance(value, str) and value.strip() != "")
_FLAG = Setting("true or false", lambda value: isinstance(value, bool))

_ABOVE_ZERO = Setting("a number above 0", lambda value: _is_number(value) and value > 0)
_BELOW_HALF = Setting(
    "a number above 0 and at most 0.5", lambda value: _is_number(value) and 0 < value <= 0.5
)


def _dimensions(value: object) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(_is_int(item, 1) for item in value)
        and len(set(value)) == len(value)
    )


def _all_different(value: object, accepts: Callable[[object], bool]) -> bool:
    return (
        isinstance(value, list)
        and len(value) > 0
        and all(accepts(item) for item in value)
        and len({str(item) for item in value}) == len(value)
    )


def _names(value: object) -> bool:
    return _all_different(value, lambda n: isinstance(n, str) and re.fullmatch(r"[\w.-]+", n))


def _range(value: object, accepts: Callable[[object], bool]) -> bool:
    return (
        isinstance(value, list)
        and len(value) == 2
        and all(accepts(item) for item in value)
        and value[0] < value[1]
    )


_PRINTED = r"[^:,]+(:[01](\.\d+)?){2}"


def _reported(value: object) -> bool:
    return isinstance(value, str) and bool(re.fullmatch(rf"{_PRINTED}(,{_PRINTED})*", value))


SETTINGS: dict[str, Setting] = {
    "seed": _integer(0, 2**32 - 1),
    "data.path": _TEXT,
    "image.size": _integer(32, 4096),
    "image.resize": _integer_or_null(32, "straight to image.size"),
    "backbone.name": _TEXT,
    "backbone.weights": Setting(
        "hub, random, or the path of a .safetensors or .pth file",
        lambda value: (
            isinstance(value, str)
            and (value in ("hub", "random") or value.endswith((".safetensors", ".pth", ".pt")))
        ),
    ),
    "backbone.layers": Setting("a list of different layer names or stage numbers", _layers),
    "backbone.batch_size": _integer(1, 4096),
    "patch.size": Setting(
        "an odd integer from 1 to 15", lambda value: _is_int(value, 1, 15) and value % 2 == 1
    ),
    "patch.pretrain_dim": _integer_or_null(1, "each layer's own channels"),
    "patch.target_dim": _integer_or_null(1, "all layers' dimensions, joined"),
    "coreset.ratio": Setting(
        "a number above 0 and at most 1", lambda value: _is_number(value) and 0 < value <= 1
    ),
    "coreset.projection_dim": _integer_or_null(1, "no projection"),
    "score.num_neighbors": _integer(1, 1000),
    "score.squared": _FLAG,
    "score.reweight": _FLAG,
    "score.index": _choice("exact", "faiss_flat", "faiss_hnsw"),
    "cv.folds": _integer(2, 1000),
    "cv.shuffle": _FLAG,
    "cv.threshold": Setting(THRESHOLD_RULES, _threshold),
    "cv.aggregate": _choice("max", "mean", "median"),
    "runtime.device": _choice("auto", "cpu", "cuda"),
    "runtime.threads": _integer_or_null(1, "every core"),
    "runtime.memory_gb": Setting(
        "a number above 0 (gigabytes)", lambda value: _is_number(value) and value > 0
    ),
    "synthetic.every": _integer(2, 1000),
    "gap.reported": Setting(
        "name:public:private of each printed F1, with commas between models", _reported
    ),
    "gap.n_images": _integer(20, 10_000),
    "gap.n_anomalous": _integer(1, 10_000),
    "gap.working": Setting(
        "a number from 0.5 to 1", lambda value: _is_number(value) and 0.5 <= value <= 1
    ),
    "gap.coreset_ratio": Setting(
        "a number above 0 and at most 1", lambda value: _is_number(value) and 0 < value <= 1
    ),
    "gap.seeds": _integer(1, 1000),
    "gap.permutations": _integer(100, 1_000_000),
    "reconpatch.dimensions": Setting("a list of different integers of at least 1", _dimensions),
    "reconpatch.seeds": _integer(2, 100),
    "reconpatch.draws": _integer(1, 100),
    "reconpatch.whitening": Setting(
        "a number from 0 to 1, or null (chosen by synthetic anomalies)",
        lambda value: value is None or (_is_number(value) and 0 <= value <= 1),
    ),
    "reconpatch.learning_rate": _ABOVE_ZERO,
    "reconpatch.random_learning_rate": _ABOVE_ZERO,
    "reconpatch.epochs": _integer(1, 100_000),
    "reconpatch.weight_decay": Setting(
        "a number of at least 0", lambda value: _is_number(value) and value >= 0
    ),
    "reconpatch.neighbors": _integer(2, 10_000),
    "reconpatch.alpha": Setting(
        "a number from 0 to 1", lambda value: _is_number(value) and 0 <= value <= 1
    ),
    "reconpatch.sigma": _ABOVE_ZERO,
    "reconpatch.margin": _ABOVE_ZERO,
    "reconpatch.momentum": Setting(
        "a number from 0 to below 1", lambda value: _is_number(value) and 0 <= value < 1
    ),
    "reconpatch.patches_per_image": _integer(1, 100_000),
    "reconpatch.batch_patches": _integer(4, 100_000),
    "reconpatch.random_up_to": _integer(0, 100_000),
    "reconpatch.ensemble_dimension": _integer(1, 100_000),
    "reconpatch.ensemble_backbones": Setting("a list of different names of timm models", _names),
    "thresholds.outer": _integer(2, 1000),
    "thresholds.rate": Setting(
        "a number above 0 and below 0.25", lambda value: _is_number(value) and 0 < value < 0.25
    ),
    "thresholds.clusters": _integer(1, 1000),
    "thresholds.duplicate": _ABOVE_ZERO,
    "backbones.names": Setting("a list of different names of timm models", _names),
    "backbones.weights": _choice("folder", "hub"),
    "backbones.cost_images": _integer_or_null(1, "all"),
    "augmentation.seeds": _integer(3, 20),
    "augmentation.folds": _integer(2, 1000),
    "augmentation.copies": _integer(2, 100_000),
    "augmentation.rotation": Setting(
        "a number above 0 and at most 45 (degrees)",
        lambda value: _is_number(value) and 0 < value <= 45,
    ),
    "augmentation.illumination": _BELOW_HALF,
    "augmentation.crop": _BELOW_HALF,
    "search.trials": _integer(2, 100_000),
    "search.normals": _integer(12, 100_000),
    "search.image_sizes": Setting(
        "a list of different integers of at least 32",
        lambda value: _all_different(value, lambda size: _is_int(size, 32, 4096)),
    ),
    "search.layers": Setting(
        "a list of different lists of layers", lambda value: _all_different(value, _layers)
    ),
    "search.patch_sizes": Setting(
        "a list of different odd integers from 1 to 15",
        lambda value: _all_different(value, lambda size: _is_int(size, 1, 15) and size % 2 == 1),
    ),
    "search.ratio": Setting(
        "two numbers above 0 and at most 1, the smaller first",
        lambda value: _range(value, lambda ratio: _is_number(ratio) and 0 < ratio <= 1),
    ),
    "search.num_neighbors": Setting(
        "two integers of at least 1, the smaller first",
        lambda value: _range(value, lambda count: _is_int(count, 1, 1000)),
    ),
}


def flatten(params: Mapping[str, object], prefix: str = "") -> dict[str, object]:
    """Turn nested sections into dotted keys: ``{"cv": {"folds": 5}}`` to ``{"cv.folds": 5}``."""
    flat: dict[str, object] = {}
    for key, value in params.items():
        name = f"{prefix}{key}"
        if isinstance(value, Mapping):
            flat |= flatten(value, f"{name}.")
        else:
            flat[name] = value
    return flat


def validate(params: Mapping[str, object], settings: Mapping[str, Setting] = SETTINGS) -> None:
    """Refuse unknown and missing keys, wrong types and values out of range.

    Raises
    ------
    ValueError
        One line that names the key, the value and what is allowed.
    """
    flat = flatten(params)
    for key, value in flat.items():
        if key not in settings:
            inside = [k.removeprefix(f"{key}.") for k in settings if k.startswith(f"{key}.")]
            if inside:
                raise ValueError(
                    f"{key}={value!r} is not allowed; it must be a section with {', '.join(inside)}"
                )
            section = key.rpartition(".")[0]
            known = [k for k in settings if k.rpartition(".")[0] == section] or list(settings)
            raise ValueError(f"unknown parameter {key}={value!r}; known are {', '.join(known)}")
        if not settings[key].accepts(value):
            raise ValueError(f"{key}={value!r} is not allowed; it must be {settings[key].allowed}")
    for key in settings:
        if key not in flat:
            raise ValueError(f"parameter {key} is missing; it must be {settings[key].allowed}")
    resize, size = flat.get("image.resize"), flat.get("image.size")
    if isinstance(resize, int) and isinstance(size, int) and resize < size:
        raise ValueError(
            f"image.resize={resize} is smaller than the crop image.size={size}; "
            f"it must be null or at least {size}"
        )
    anomalous, images = flat.get("gap.n_anomalous"), flat.get("gap.n_images")
    if isinstance(anomalous, int) and isinstance(images, int) and anomalous >= images:
        raise ValueError(
            f"gap.n_anomalous={anomalous} of gap.n_images={images} leaves no normal image; "
            f"it must be smaller"
        )
    if flat.get("score.reweight") is True and flat.get("score.num_neighbors") == 1:
        raise ValueError(
            "score.reweight=True with score.num_neighbors=1 makes every score 0 (eq. 7); "
            "it must be false, or score.num_neighbors at least 2"
        )
