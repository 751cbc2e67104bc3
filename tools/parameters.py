"""Read ``params.yaml`` and the parameters that a stage declares in its ``dvc.yaml``."""

import importlib
import re
from collections.abc import Iterator
from functools import reduce
from operator import getitem
from pathlib import Path

import yaml

from ad.params import Params
from validation.sections import Section, flatten, validate


def read_yaml(path: Path) -> dict:
    """Read a file of parameters; a key that stands twice is an error (YAML takes the last)."""

    class UniqueKeys(yaml.SafeLoader):
        pass

    def mapping(loader: UniqueKeys, node: yaml.MappingNode) -> dict:
        keys = [loader.construct_object(key) for key, _ in node.value]
        for key in keys:
            if keys.count(key) > 1:
                raise ValueError(f"{path}, line {node.start_mark.line + 1}: {key} stands twice")
        return yaml.SafeLoader.construct_mapping(loader, node, deep=True)

    UniqueKeys.add_constructor(yaml.resolver.BaseResolver.DEFAULT_MAPPING_TAG, mapping)
    try:
        params = yaml.load(path.read_text(encoding="utf-8"), UniqueKeys)
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        raise ValueError(f"{path} is no valid YAML: {' '.join(str(error).split())}") from None
    if not isinstance(params, dict):
        raise ValueError(f"{path} must hold sections of parameters, not {type(params).__name__}")
    return params


def read_params(path: Path = Path("params.yaml")) -> Params:
    """Read and validate the pipeline's parameters."""
    return validate(read_yaml(path), Params)


def _read_section(path: Path) -> Section:
    """Read and validate a study's own parameters by the model beside them."""
    module = importlib.import_module(".".join([*path.parent.parts, "settings"]))
    try:
        return validate(read_yaml(path), module.Settings)
    except ValueError as error:
        raise ValueError(f"{path}: {error}") from None


def _files(entry: dict) -> Iterator[tuple[Path, list[str] | None]]:
    """Give the files of parameters that a stage names, and the keys of each; None for all."""
    for declared in entry.get("params", []):
        files = declared if isinstance(declared, dict) else {"params.yaml": [declared]}
        yield from ((Path(file), keys) for file, keys in files.items())


def read_stage(address: str) -> tuple[dict, dict[str, object]]:
    """Read a stage's entry in its dvc.yaml, and the values that it declares, as they stand.

    As ``dvc.api.params_show``, which reads every pipeline and lock file for it: a second a stage.

    Parameters
    ----------
    address : str
        As DVC names a stage: ``evaluate``, or ``studies/gap/dvc.yaml:forensics``; matrix stages
        with ``@`` and their value.

    Returns
    -------
    entry : dict
        Its ``deps`` have no references any more.
    declared : dict
        Values by ``file: key``.

    Raises
    ------
    ValueError
        When there is none, as where DVC was started in a study's folder.
    """
    pipeline, _, name = address.rpartition(":")
    pipeline, (name, _, item) = Path(pipeline or "dvc.yaml"), name.partition("@")
    stages = yaml.safe_load(pipeline.read_text(encoding="utf-8")) if pipeline.exists() else {}
    if name not in stages.get("stages", {}):
        raise ValueError(
            f"{pipeline} has no stage {name} here; start DVC in the repository's root, as in "
            f"'dvc repro studies/gap/dvc.yaml'"
        )
    entry, declared = stages["stages"][name], {}
    root = read_yaml(Path("params.yaml"))
    for file, keys in _files(entry):
        values = read_yaml(file)
        chosen = {key: reduce(getitem, key.split("."), values) for key in keys or values}
        declared |= {f"{file.as_posix()}: {key}": v for key, v in flatten(chosen).items()}

    def resolve(match: re.Match) -> str:  # DVC's references: to params.yaml, or a matrix's value
        key = match[1]
        return item if key.startswith("item.") else str(reduce(getitem, key.split("."), root))

    deps = [re.sub(r"\$\{([\w.]+)\}", resolve, dep) for dep in entry.get("deps", [])]
    return {**entry, "deps": deps}, declared


def stage_parameters(address: str, extra: list[str]) -> dict[str, object]:
    """Return the parameters that a stage declares, and those of the command line, flattened.

    ``image.size`` becomes ``image_size``; ``seeds`` of studies/gap/params.yaml ``gap_seeds``.

    Parameters
    ----------
    address : str
        See `read_stage`; empty outside of DVC.
    extra : list of str
        ``key=value``, values as YAML.
    """
    parameters: dict[str, object] = {}
    for file, keys in _files(read_stage(address)[0]) if address else ():
        own = file.parent != Path()
        values = (_read_section(file) if own else read_params(file)).model_dump()
        chosen = {key: reduce(getitem, key.split("."), values) for key in keys or values}
        prefix = f"{file.parent.name}_" if own else ""
        parameters |= {prefix + k.replace(".", "_"): v for k, v in flatten(chosen).items()}
    for item in extra:
        key, _, value = item.partition("=")
        parameters[key] = yaml.safe_load(value)
    return parameters
