"""What a configuration is worth: to the search by synthetic anomalies, afterwards by the test."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np

import ad
import integer
from ad.metrics import image_auroc
from ad.params import Coreset, Score
from ad.protocol import BankImages, Protocol, score_in_parts, select_coresets
from studies.search.images import DECIDING, Listed
from studies.search.maps import MapCache
from studies.search.space import Choice, Space
from studies.search.trials import signature
from studies.shared import synthetic_anomalies

HERE = Path(__file__).parent
# The code that an objective comes from.
SOURCES = [
    *(HERE / f"{name}.py" for name in ("images", "judge", "maps", "space", "trials")),
    *(path for room in (ad, integer) for path in sorted(Path(room.__file__).parent.glob("*.py"))),
    Path(synthetic_anomalies.__file__),
]


def kind_aurocs(normal: np.ndarray, pasted: Mapping[str, np.ndarray]) -> dict[str, float]:
    """Return AUROC of each kind of synthetic anomaly against held-out normals."""
    return {
        kind: image_auroc(np.repeat([0, 1], [len(normal), len(own)]), np.concatenate([normal, own]))
        for kind, own in pasted.items()
    }


@dataclass(frozen=True)
class Scored:
    """A configuration's image scores: held-out normals, the same with anomalies, test images."""

    normal: np.ndarray
    pasted: dict[str, np.ndarray]
    test: np.ndarray


@dataclass(frozen=True)
class Judge:
    """Scores configurations; what stays fixed in a search is here.

    Parameters
    ----------
    cache : MapCache
    images : Listed
    projection_dim : int or None
        Of the coresets.
    squared : bool
        See `ad.params.Score`.
    seed : int
        Of the coresets.
    """

    cache: MapCache
    images: Listed
    projection_dim: int | None
    squared: bool
    seed: int

    def scores(self, choice: Choice, rows: np.ndarray) -> np.ndarray:
        """Draw one bank as a choice says, and score images, by their rows, against it."""
        how = {
            "size": choice.image_size,
            "layers": choice.layer_list(),
            "patch_size": choice.patch_size,
        }
        score = Score(
            num_neighbors=choice.num_neighbors, squared=self.squared, reweight=choice.reweight
        )
        coreset = Coreset(ratio=choice.ratio, projection_dim=self.projection_dim)
        everyone = np.arange(len(self.images.fit))
        features, unit = self.cache.features(self.images.fit, **how)
        normals = BankImages([features], everyone)
        (picked,) = select_coresets(normals, [everyone], Protocol(coreset, score, self.seed))
        queries, _ = self.cache.features(rows, **how)
        return score_in_parts(queries, normals.take(picked), score, unit=unit).images

    def objective(self, choice: Choice) -> dict[str, float]:
        """Return AUROC of each deciding kind: all that a search sees."""
        parts = [self.images.held_out, *(self.images.pasted[kind] for kind in DECIDING)]
        normal, *pasted = self._split(choice, parts)
        return kind_aurocs(normal, dict(zip(DECIDING, pasted, strict=True)))

    def afterwards(self, choice: Choice) -> Scored:
        """Score everything: every kind, and the test images."""
        pasted = self.images.pasted
        parts = [self.images.held_out, self.images.test, *pasted.values()]
        normal, test, *others = self._split(choice, parts)
        return Scored(normal, dict(zip(pasted, others, strict=True)), test)

    def _split(self, choice: Choice, parts: list[np.ndarray]) -> list[np.ndarray]:
        scores = self.scores(choice, np.concatenate(parts))
        return np.split(scores, np.cumsum([len(part) for part in parts[:-1]]))

    def search_name(self, space: Space, inputs: Mapping[str, object]) -> str:
        """Name a search by everything that its trials depend on; see `signature`.

        ``inputs`` is what ``artifacts/inputs.json`` holds: hashes of images and weights.
        """
        parts = {
            "space": asdict(space),
            "projection_dim": self.projection_dim,
            "squared": self.squared,
            "seed": self.seed,
            "normals": len(self.images.fit) + len(self.images.held_out),
            "deciding": DECIDING,
            "image": self.cache.image.model_dump(),
            "arithmetic": self.cache.arithmetic,
            "patch": self.cache.patch.model_dump(),
            "inputs": inputs,
        }
        return signature(parts, SOURCES)
