"""Sensors: when a change outside asks for runs. All are off until someone turns them on."""

import json
import time
from collections.abc import Iterator

import dagster as dg

from reasoningrec_assets.datasets import registry
from reasoningrec_assets.jobs import refresh
from reasoningrec_assets.lake.files import sha256_json
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.resources.lake import LakeResource


@dg.sensor(job=refresh, default_status=dg.DefaultSensorStatus.STOPPED)
def raw_files_changed(context: dg.SensorEvaluationContext, lake: LakeResource) -> Iterator[dg.RunRequest]:
    """One run for each dataset whose own files in data/raw changed in name, size or time, once they are 10 s old."""
    # dataset -> its files' state, and how many changes led there: files that are put back have changed too
    seen, records = json.loads(context.cursor or "{}"), registry.datasets()
    # a partition may have lost its record since definitions were loaded, and a new record has no partition yet
    for name in filter(records.__contains__, datasets.get_partition_keys()):
        folder = lake.open().root / "raw" / records[name].raw_name
        stats = {str(path.relative_to(folder)): path.stat() for path in folder.rglob("*") if path.is_file()}
        state = sha256_json({path: [stat.st_size, stat.st_mtime_ns] for path, stat in stats.items()})
        before, changes = seen.setdefault(name, (state, 0))  # what the first look finds is no change
        if state != before and all(abs(time.time() - stat.st_mtime) > 10 for stat in stats.values()):
            seen[name] = (state, changes + 1)
            yield dg.RunRequest(run_key=f"{name}-{changes + 1}-{state}", partition_key=name)
    context.update_cursor(json.dumps(seen))
