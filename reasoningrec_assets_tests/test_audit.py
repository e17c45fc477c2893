"""`.ci/audit` with stand-ins for its two tools: what it says of their findings, and how it ends."""

from __future__ import annotations

import json
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

SCRIPT = Path(__file__).parent.parent / ".ci" / "audit"
UNKNOWN = {"name": "our-own", "version": "1", "skip_reason": "the index does not know it"}
SOUND = {"name": "sound", "version": "2", "vulns": []}
WEAK = {"name": "weak", "version": "3", "vulns": [{"id": "ADVISORY-1", "fix_versions": ["4"]}]}


@pytest.fixture
def audit(tmp_path):
    """Runs the script where pip-audit finds this, or fails without an answer."""
    tools = tmp_path / ".cache" / "audit" / "bin"
    tools.mkdir(parents=True)
    (tmp_path / ".ci").mkdir()
    (tmp_path / ".venv" / "lib" / "python3.11" / "site-packages").mkdir(parents=True)
    shutil.copy(SCRIPT, tmp_path / ".ci")
    (tools / "python").symlink_to(sys.executable)

    def tool(name, line):
        (tools / name).write_text(f"#!/bin/sh\n{line}\n")
        (tools / name).chmod(0o755)

    def run(packages, code):
        tool("cyclonedx-py", "echo {} >sbom.json")
        answer = f"cat >.cache/audit/audit.json <<'END'\n{json.dumps({'dependencies': packages})}\nEND\n" if packages else ""
        tool("pip-audit", f"{answer}echo 'the index is out of reach' >&2\nexit {code}")
        return subprocess.run([tmp_path / ".ci" / "audit"], capture_output=True, text=True, check=False)

    return run


def test_a_known_vulnerability_is_named_and_fails(audit):
    done = audit([UNKNOWN, SOUND, WEAK], 1)
    assert done.returncode == 1
    assert done.stdout.splitlines() == [
        "audit: 2 of 3 installed packages held against advisories; sbom.json lists all",
        "audit: weak 3 has ADVISORY-1, mended in 4",
    ]


def test_packages_without_advisories_are_counted_and_pass(audit):
    done = audit([UNKNOWN, SOUND], 0)
    assert done.returncode == 0
    assert "1 of 2 installed packages" in done.stdout


def test_no_answer_is_no_pass(audit):
    done = audit([], 1)
    assert done.returncode == 1
    assert "the index is out of reach" in done.stdout
