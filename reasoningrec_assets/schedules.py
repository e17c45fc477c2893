"""Schedules: when jobs run by themselves. All are off until someone turns them on."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from reasoningrec_assets.datasets import registry
from reasoningrec_assets.jobs import prepare, refresh
from reasoningrec_assets.partitions import datasets
from reasoningrec_assets.resources.lake import LakeResource


def _for_each_dataset(name: str, job: Any, cron: str, about: str) -> dg.ScheduleDefinition:
    # ScheduleDefinition(target=<partitioned assets>) requests no partition at all, so the runs are asked for one by one
    @dg.schedule(name=name, job=job, cron_schedule=cron, description=about, default_status=dg.DefaultScheduleStatus.STOPPED)
    def requests(context: dg.ScheduleEvaluationContext, lake: LakeResource) -> Iterator[dg.RunRequest | dg.SkipReason]:
        # a dataset that ships and that nobody ever asked for is not to be fetched, and its texts paid for, by a schedule
        used, keys = lake.open().receipts.root / "raw_dataset", {*datasets.get_partition_keys()}
        known = (one for one in registry.load()[0].values() if one.name in keys and one.adapter != "published")
        in_use = [one.name for one in known if (used / one.name).is_dir()]
        if not in_use:
            yield dg.SkipReason("no dataset has been materialized yet: start the first run of each by hand")
        for dataset in in_use:
            yield dg.RunRequest(run_key=f"{context.scheduled_execution_time.date()}-{dataset}", partition_key=dataset)

    return requests


daily_preparation = _for_each_dataset("daily_preparation", prepare, "0 2 * * *", "Every day at 02:00: raw files to windows.")
weekly_refresh = _for_each_dataset("weekly_refresh", refresh, "0 3 * * 1", "Mondays at 03:00: the whole pipeline of each.")
schedules = [daily_preparation, weekly_refresh]
