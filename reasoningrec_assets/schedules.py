"""Schedules: when jobs run by themselves. All are off until someone turns them on."""

from collections.abc import Iterator

import dagster as dg

from reasoningrec_assets.jobs import refresh
from reasoningrec_assets.partitions import datasets


# ScheduleDefinition(target=<partitioned assets>) requests no partition at all, so the runs are asked for one by one
@dg.schedule(job=refresh, cron_schedule="0 3 * * 1", default_status=dg.DefaultScheduleStatus.STOPPED)
def weekly_refresh(context: dg.ScheduleEvaluationContext) -> Iterator[dg.RunRequest]:
    """Mondays at 03:00: one run for each dataset."""
    for dataset in datasets.get_partition_keys():
        yield dg.RunRequest(run_key=f"{context.scheduled_execution_time.date()}-{dataset}", partition_key=dataset)
