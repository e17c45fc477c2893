"""The same graph with every step as a job on a Ray cluster: `dagster dev -f deploy/ray_cluster.py`, `RAY_ADDRESS` names its dashboard.

Every node needs this package and the data root of the others: a shared file system that knows `flock`, such as NFSv4.
"""

import os

from dagster_ray.core.executor import ray_executor

from reasoningrec_assets.definitions import build_definitions

KEPT = [name for name in os.environ if name.startswith(("REASONINGREC_", "DAGSTER_"))]
executor = ray_executor.configured({"ray": {"address": os.environ["RAY_ADDRESS"], "env_vars": KEPT}})
defs = build_definitions(executor=executor)
