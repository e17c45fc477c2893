"""Every command that the README and the docs tell people to type is run: here on tiny models, or by the test that is named."""

from __future__ import annotations

import re
import shlex
from pathlib import Path

import pytest
from click.testing import CliRunner

from reasoningrec_assets.__main__ import main as command_line
from reasoningrec_assets_tests.tiny import write_movielens, write_profile

ROOT = Path(__file__).parent.parent
PAGES = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", ROOT / "data" / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
ELSEWHERE = {
    "make": "CI runs the targets, and test_docs holds their names against the Makefile",
    "export": "sets DAGSTER_HOME, as the Makefile does",
    "mkdir": "datasets/test_declared.py places the same files",
    "cp": "the same",
    "$EDITOR": "the same",
    "deploy/mirror.sh": "operations/test_mirror.py",
    "RAY_ADDRESS=http://head:8265": "operations/test_ray.py",
}


def commands() -> list[list[str]]:
    """All lines of shell blocks, in the order in which a reader meets them, as words."""
    blocks = [block for page in PAGES for block in re.findall(r"```sh\n(.*?)```", page.read_text(encoding="utf-8"), re.DOTALL)]
    lines = [line for block in blocks for line in block.replace("\\\n", " ").splitlines()]
    return [words for words in (shlex.split(line, comments=True) for line in lines) if words]


@pytest.fixture
def place(tmp_path, tiny_model, encoder, monkeypatch):
    """A folder where the commands find a small rating set as their partition's, whatever they call it, and tiny models."""
    write_movielens(tmp_path / "data" / "raw" / "ml100k")
    write_profile(tmp_path / "tiny.toml", tiny_model, encoder)
    monkeypatch.setenv("REASONINGREC_PROFILE", str(tmp_path / "tiny.toml"))
    monkeypatch.setenv("REASONINGREC_DATA", str(tmp_path / "data"))
    monkeypatch.setenv("OPENAI_API_KEY", "none")
    monkeypatch.delenv("DAGSTER_HOME", raising=False)
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_every_command_of_the_pages_runs(place, capsys):
    from dagster._cli import cli

    from benchmarks.generation_kill import Echo

    server, ran = Echo(), []
    partitions = re.compile("ml100k_demo|ml1m|ml_latest_small")
    for words in commands():
        words = [partitions.sub("ml100k", word) for word in words]
        words = [word.replace("http://127.0.0.1:8000/v1", server.url).replace("my-model", "echo") for word in words]
        if words[0].endswith("dagster") and words[1:3] == ["asset", "materialize"]:
            done = CliRunner().invoke(cli, words[1:])
            assert done.exit_code == 0, f"{shlex.join(words)}\n{done.output[-3000:]}\n{done.exception}"
        elif words[0].endswith("python"):
            assert words[1] == "-m"
            assert words[2].startswith("reasoningrec_assets")
            assert command_line(words[3:]) == 0, shlex.join(words)
        else:
            assert words[0] in ELSEWHERE, f"no test runs: {shlex.join(words)}"
            continue
        ran.append(words)
    assert len(ran) >= 16
    assert (place / "labels.parquet").exists()
    assert (place / "exported" / "train.json").exists()
    assert "like_rate" in capsys.readouterr().out  # of `metrics`
