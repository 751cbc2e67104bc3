"""Other networks' features of the study's images, for the ensemble."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from ad.backbone import resolve_layers
from ad.dataset import ImageRecord
from ad.extraction import features_of, make_extractor
from ad.files import read_csv
from ad.params import Image, Patch, Runtime
from pretrained.sources import empty_model
from studies.reconpatch.maps import in_float32
from studies.reconpatch.methods import layer_parts
from studies.reconpatch.runs import Images
from studies.shared.networks import WeightsFound, find_weights, load_found


@dataclass(frozen=True)
class Extraction:
    """How images are read and sent through a network.

    Parameters
    ----------
    folder : path
        Of the images.
    image : Image
        Its interpolation is the pipeline's: pasted images were resized by it.
    patch : Patch
    arithmetic : {"integer", "float32"}
    runtime : Runtime
    """

    folder: Path
    image: Image
    patch: Patch
    arithmetic: str
    runtime: Runtime


def find_others(
    names: Sequence[str], backbone: str, root: Path
) -> tuple[dict[str, WeightsFound], list[str]]:
    """Look for networks' weights beside the pipeline's.

    Returns
    -------
    found : dict of WeightsFound
    missing : list of str
        Why others are left out, in words.
    """
    found = {name: find_weights(name, root / "weights") for name in names if name != backbone}
    missing = [f"{name} has no weights here" for name, own in found.items() if own.missing]
    return {name: own for name, own in found.items() if not own.missing}, missing


def parts_of(backbone: str, names: Sequence[str | int], patch: Patch, dim: int) -> dict[str, slice]:
    """Find the pipeline's layers in its joined features; see `layer_parts`."""
    layers = resolve_layers(empty_model(backbone), names)
    dims = {layer.name: patch.pretrain_dim or layer.channels for layer in layers}
    return layer_parts(dims, dim)


def pasted_paths(artifacts: Path) -> list[Path]:
    """List the images with synthetic anomalies, in the order of their features."""
    studies = artifacts / "studies"
    rows = read_csv(studies / "synthetic.csv")
    return [
        studies / "synthetic_images" / f"{row['train_number']}_{row['kind']}.png" for row in rows
    ]


def network_images(
    name: str,
    weights: WeightsFound,
    extraction: Extraction,
    records: Sequence[ImageRecord],
    pasted: Sequence[Path],
    images: Images,
    *,
    seed: int,
) -> Images:
    """Send all images of the study through another network.

    Parameters
    ----------
    name : str
    weights : WeightsFound
    extraction : Extraction
    records : sequence of ImageRecord
        In manifest order: train, then test.
    pasted : sequence of path
        Images with synthetic anomalies, of the network's input size already.
    images : Images
        The pipeline's; which images are held out, and the kinds.
    seed : int
    """
    how, n_train = extraction, len(images.normals)
    paths = [how.folder / record.path for record in records]
    network = load_found(name, weights, seed=seed)
    extractor = make_extractor(
        network, how.image, how.patch, paths[:n_train], arithmetic=how.arithmetic
    )
    everyone = in_float32(features_of(extractor, paths, how.runtime), extractor.unit)
    as_they_are = replace(extractor, rule=replace(extractor.rule, resize=None, region=None))
    synthetic = in_float32(features_of(as_they_are, pasted, how.runtime), extractor.unit)
    return replace(images, normals=everyone[:n_train], test=everyone[n_train:], synthetic=synthetic)
