"""Where tasks run: settings that no result depends on."""

from typing import Annotated

from pydantic import Field

from validation.sections import Allowed, Section, number


class Where(Section):
    """A cluster, and the memory of a worker of ``local:N``."""

    cluster: Annotated[
        Annotated[str, Field(pattern=r"\S")] | None,
        Allowed("null, local:N, tcp://HOST:PORT or a scheduler's .json file"),
    ] = None
    worker_gb: number("a number above 0 (gigabytes)", gt=0) = 4.0
