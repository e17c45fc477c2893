"""Dagster's instance in a real Postgres, started for the test, with `deploy/postgres.yaml`."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import sys
import tempfile
from pathlib import Path

import pytest

pytestmark = pytest.mark.operations

ROOT = Path(__file__).parents[2]
# Debian keeps the server's programs out of the search path
TOOLS = sorted(Path("/usr/lib/postgresql").glob("*/bin"))[-1:] or [Path(shutil.which("initdb") or "/usr/bin/initdb").parent]


@pytest.fixture
def url():
    """The address of an empty database. The server refuses to run as root, and then runs as `postgres`."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    with tempfile.TemporaryDirectory(dir="/tmp") as folder:
        who = {"user": "postgres"} if os.getuid() == 0 else {}
        if who:
            shutil.chown(folder, "postgres")
        run = {"check": True, "capture_output": True, "cwd": folder, **who}
        subprocess.run([TOOLS[0] / "initdb", "-D", f"{folder}/data", "-A", "trust", "-U", "dagster"], **run)
        options = f"-c listen_addresses=127.0.0.1 -c port={port} -c unix_socket_directories={folder}"
        control = [TOOLS[0] / "pg_ctl", "-D", f"{folder}/data", "-l", f"{folder}/log", "-w"]
        subprocess.run([*control, "-o", options, "start"], **run)
        try:
            yield f"postgresql://dagster@127.0.0.1:{port}/postgres"
        finally:
            subprocess.run([*control, "-m", "immediate", "stop"], **run)


def test_runs_and_events_are_kept_in_postgres(url, data_root, tmp_path):
    import psycopg2

    configured = "".join((ROOT / "deploy" / name).read_text() + "\n" for name in ("dagster.yaml", "postgres.yaml"))
    (tmp_path / "dagster.yaml").write_text(configured)
    environment = {
        "REASONINGREC_DATA": str(data_root),
        "DAGSTER_HOME": str(tmp_path),
        "DAGSTER_POSTGRES_URL": url.replace("://", "+psycopg2://"),
    }
    command = [Path(sys.executable).parent / "dagster", "asset", "materialize", "-m", "reasoningrec_assets.definitions"]
    command += ["--select", "raw_dataset,cleaned_interactions", "--partition", "ml100k"]
    done = subprocess.run(command, check=False, capture_output=True, text=True, env=os.environ | environment, cwd=ROOT)
    assert done.returncode == 0, done.stderr
    with psycopg2.connect(url) as connection, connection.cursor() as cursor:
        cursor.execute("SELECT status FROM runs")
        assert cursor.fetchall() == [("SUCCESS",)]
        cursor.execute("SELECT count(*) FROM event_logs WHERE dagster_event_type = 'ASSET_MATERIALIZATION'")
        assert cursor.fetchall() == [(2,)]
    assert not list(tmp_path.rglob("*.db")), "something was kept in SQLite all the same"
