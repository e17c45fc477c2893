"""Sensors: when a change outside asks for runs. All are off until someone turns them on."""

import json
import os
import time
from collections.abc import Iterator
from datetime import UTC, datetime

import dagster as dg

from reasoningrec_assets.assets.materialize import sync_catalogue
from reasoningrec_assets.datasets import registry
from reasoningrec_assets.errors import TransientError
from reasoningrec_assets.jobs import refresh
from reasoningrec_assets.lake.files import sha256_json
from reasoningrec_assets.lake.receipts import Receipt
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.resources.lake import LakeResource


@dg.sensor(job=refresh, default_status=dg.DefaultSensorStatus.STOPPED)
def raw_files_changed(context: dg.SensorEvaluationContext, lake: LakeResource) -> Iterator[dg.RunRequest]:
    """One run for each dataset whose own files in data/raw changed in name, size or time, once they are 10 s old."""
    # dataset -> its files' state, and how many changes led there: files that are put back have changed too
    seen, records = json.loads(context.cursor or "{}"), registry.load()[0]
    # a partition may have lost its record since definitions were loaded, and a new record has no partition yet
    for name in (key for key in datasets.get_partition_keys() if key in records and records[key].adapter != "published"):
        folder = lake.open().root / "raw" / records[name].raw_name
        stats = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*") if path.is_file()}
        state = sha256_json({path: [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()})
        before, changes = seen.setdefault(name, (state, 0))  # what the first look finds is no change
        if state != before and all(abs(time.time() - stat.st_mtime) > 10 for stat in stats.values()):
            seen[name] = (state, changes + 1)
            yield dg.RunRequest(run_key=f"{name}-{changes + 1}-{state}", partition_key=name)
    context.update_cursor(json.dumps(seen))


@dg.run_failure_sensor(default_status=dg.DefaultSensorStatus.STOPPED, monitor_all_code_locations=False)
def run_failures(context: dg.RunFailureSensorContext, lake: LakeResource) -> None:
    """Every run that failed leaves a receipt, also where it was killed, and a message at REASONINGREC_WEBHOOK where that is set."""
    run, opened, now = context.dagster_run, lake.open(), datetime.now(UTC).isoformat()
    partition, problem = run.tags.get("dagster/partition", "none"), context.failure_event.message or "no message"
    facts = {"run_id": run.run_id, "started_at": now, "finished_at": now, "seconds": 0.0, "code_version": "", "fingerprint": ""}
    opened.receipts.append(Receipt(f"runs/{run.job_name}", partition, "failed", **facts, error=problem[:4000]))
    sync_catalogue(opened, context.log.info)
    if webhook := os.environ.get("REASONINGREC_WEBHOOK"):
        import requests

        text = f"{run.job_name} of {partition} failed, run {run.run_id}: {problem}"
        try:
            requests.post(webhook, json={"text": text}, timeout=10).raise_for_status()
        except requests.RequestException as error:  # its message holds the address, which is a secret
            told = {"problem": type(error).__name__, "remedy": "Check the address and its server"}
            raise TransientError("tell of a failed run", where="REASONINGREC_WEBHOOK", **told) from None
