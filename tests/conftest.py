"""What several test files share."""

import os
import random
import shutil
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path

# Threads that wait by spinning make a test on busy cores a hundred times as long; read once, by
# the library that PyTorch loads.
os.environ.setdefault("OMP_WAIT_POLICY", "passive")

import numpy as np
import pytest
import torch
from small_data import write_competition, write_mvtec


@pytest.fixture(autouse=True)
def global_state_restored() -> Iterator[None]:
    """Give the next test the seeds, threads and switches that this one found."""
    python, numpy = random.getstate(), np.random.get_state()  # noqa: NPY002 - put back below
    threads, workspace = torch.get_num_threads(), os.environ.get("CUBLAS_WORKSPACE_CONFIG")
    deterministic = torch.get_deterministic_debug_mode()
    torch.set_num_threads(1)  # the workers share the cores
    with torch.random.fork_rng(devices=[]):
        yield
    random.setstate(python)
    np.random.set_state(numpy)  # noqa: NPY002
    torch.set_num_threads(threads)
    torch.set_deterministic_debug_mode(deterministic)
    if workspace is None:
        os.environ.pop("CUBLAS_WORKSPACE_CONFIG", None)
    else:
        os.environ["CUBLAS_WORKSPACE_CONFIG"] = workspace


@pytest.fixture(scope="module")
def browser() -> Iterator:
    """Start Chromium by Playwright; skip where one of them is missing."""
    words = "the extra 'browser' is missing"
    playwright = pytest.importorskip("playwright.sync_api", reason=words)
    chromium = shutil.which("chromium") or shutil.which("google-chrome")
    if chromium is None:
        pytest.skip("no Chromium is installed")
    arguments = ["--no-sandbox", "--disable-quic", "--no-first-run", "--disable-sync"]
    arguments += ["--disable-background-networking", "--disable-component-update"]
    with playwright.sync_playwright() as driver:
        launched = driver.chromium.launch(executable_path=chromium, args=arguments)
        yield launched
        launched.close()


@pytest.fixture
def small_mvtec(tmp_path: Path) -> Path:
    """Return the folder of a small data set in MVTec AD layout, with masks."""
    root = tmp_path / "mvtec"
    write_mvtec(root, n_train=4, n_normal=2, n_anomalous=2, size=32)
    return root


@pytest.fixture
def small_competition(tmp_path: Path) -> Path:
    """Return the folder of a small unlabelled data set in competition layout."""
    root = tmp_path / "competition"
    write_competition(root, n_train=4, n_test=4, size=32)
    return root


@pytest.fixture
def one_line() -> Callable[..., AbstractContextManager]:
    """Return `pytest.raises` for an error of one line that holds every part asked for."""

    @contextmanager
    def check(error: type | tuple, *parts: str) -> Iterator[pytest.ExceptionInfo]:
        with pytest.raises(error) as caught:
            yield caught
        text = str(caught.value)
        assert "\n" not in text, text
        missing = [part for part in parts if part not in text]
        assert not missing, f"{missing} not in: {text}"

    return check
