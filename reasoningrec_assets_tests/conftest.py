"""What every test may use: a tiny random student and encoder, a small MovieLens, and a data root of its own."""

from __future__ import annotations

import os
import shutil
from pathlib import Path

os.environ.setdefault("OMP_WAIT_POLICY", "passive")
os.environ.setdefault("DAGSTER_DISABLE_TELEMETRY", "1")

import pytest

from reasoningrec_assets_tests.tiny import make_encoder, make_model, write_movielens, write_profile

CACHE = Path(os.environ.get("REASONINGREC_TEST_CACHE") or Path(__file__).parent.parent / ".cache" / "tests")
"""Kept between test runs: fetched packages and converted models."""


@pytest.fixture(scope="session", autouse=True)
def _own_leases(tmp_path_factory):
    """Device leases of their own: a real run on this machine neither waits for the tests nor makes them wait."""
    import tempfile

    before = tempfile.tempdir
    tempfile.tempdir = os.environ["TMPDIR"] = str(tmp_path_factory.mktemp("leases"))
    yield
    tempfile.tempdir = before


@pytest.fixture(scope="session")
def tiny_model(tmp_path_factory) -> Path:
    """The random Llama's folder."""
    return make_model(tmp_path_factory.mktemp("tiny") / "model")


@pytest.fixture(scope="session")
def encoder(tmp_path_factory) -> Path:
    """The random BertModel's folder."""
    # The name holds "t5" on purpose: bert_score would load it as a T5 encoder.
    return make_encoder(tmp_path_factory.mktemp("bert") / "dt5f")


@pytest.fixture
def tiny_profile(tmp_path, tiny_model, encoder, monkeypatch) -> Path:
    """A profile that runs every model step on the tiny models; the environment names it."""
    path = tmp_path / "tiny.toml"
    write_profile(path, tiny_model, encoder)
    monkeypatch.setenv("REASONINGREC_PROFILE", str(path))
    return path


@pytest.fixture
def data_root(tmp_path) -> Path:
    """A data root that holds the made-up rating set as the user's own files."""
    root = tmp_path / "data"
    write_movielens(root / "raw" / "ml100k")
    return root


@pytest.fixture
def model_copy(tiny_model, tmp_path) -> Path:
    """A copy of the tiny model's folder that a test may spoil."""
    return Path(shutil.copytree(tiny_model, tmp_path / "copy"))
