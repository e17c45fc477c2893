"""Schedules: when jobs run by themselves. All are off until someone turns them on."""

from collections.abc import Iterator
from typing import Any

import dagster as dg

from reasoningrec_assets.jobs import prepare, refresh
from reasoningrec_assets.partitions import datasets


def _for_each_dataset(name: str, job: Any, cron: str, about: str) -> dg.ScheduleDefinition:
    # ScheduleDefinition(target=<partitioned assets>) requests no partition at all, so the runs are asked for one by one
    @dg.schedule(name=name, job=job, cron_schedule=cron, description=about, default_status=dg.DefaultScheduleStatus.STOPPED)
    def requests(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
        for dataset in datasets.get_partition_keys():
            yield dg.RunRequest(run_key=f"{context.scheduled_execution_time.date()}-{dataset}", partition_key=dataset)

    return requests


daily_preparation = _for_each_dataset("daily_preparation", prepare, "0 2 * * *", "Every day at 02:00: raw files to windows.")
weekly_refresh = _for_each_dataset("weekly_refresh", refresh, "0 3 * * 1", "Mondays at 03:00: the whole pipeline of each.")
schedules = [daily_preparation, weekly_refresh]
