"""One detector file and its images for every file of this folder."""

from pathlib import Path

import pytest
from line_case import write_case

from ad.detector.detector import Detector


@pytest.fixture(scope="session")
def case(tmp_path_factory) -> Path:
    """Return a detector file; nobody writes to its folder."""
    return write_case(tmp_path_factory.mktemp("case"))


@pytest.fixture(scope="session")
def images(case) -> Path:
    """Return a folder of two images with a defect and two without."""
    return case.parent / "images"


@pytest.fixture(scope="session")
def detector(case) -> Detector:
    return Detector.load(case, threads=1)
