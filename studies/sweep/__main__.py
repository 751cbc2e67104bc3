"""Compute the rows that are missing, here or on a cluster.

Usage: python -m studies.sweep            from the repository's root, after 'make repro'

Interrupted, it goes on where it stopped: a row that is there is not computed again. Where tasks
run is the setting ``cluster`` of studies/sweep/params.yaml, or the variable AD_CLUSTER.
"""

import sys
import time
from pathlib import Path

import yaml

from ad.files import write_json
from ad.progress import progress_bar
from cluster.tasks import task_map
from studies.sweep.settings import Settings
from studies.sweep.tasks import Task, list_tasks, run_task
from validation.sections import validate

FOLDER = Path("artifacts/studies/sweep")


def tasks_of(root: Path = Path()) -> tuple[Settings, list[Task]]:
    """Read the settings and list their tasks."""
    own = yaml.safe_load((root / "studies/sweep/params.yaml").read_text(encoding="utf-8"))
    params = yaml.safe_load((root / "params.yaml").read_text(encoding="utf-8"))
    settings = validate(own, Settings)
    return settings, list_tasks(settings, params, FOLDER / "manifests", FOLDER / "rows")


def main(_parameters: object = None) -> None:
    """Run what is missing; the settings are read from their files."""
    settings, tasks = tasks_of()
    write_json(FOLDER / "tasks.json", [task.path().name for task in tasks])
    missing = [task for task in tasks if not task.path().is_file()]
    print(f"sweep: {len(tasks)} tasks, {len(tasks) - len(missing)} of them done before", flush=True)
    started = time.monotonic()
    try:
        with (
            task_map(settings.cluster, memory_gb=settings.worker_gb) as run,
            progress_bar(len(missing), "sweep", "task") as bar,
        ):
            for done, _ in enumerate(run(run_task, missing), start=1):
                bar.update(1)
                if done == 1:
                    minutes = (time.monotonic() - started) * (len(missing) - 1) / 60
                    print(f"sweep: about {minutes:.0f} more minutes one by one", flush=True)
    except (ValueError, RuntimeError, OSError, ImportError) as error:
        raise SystemExit(f"error: {error}") from None


if __name__ == "__main__":
    sys.exit(main())
