"""The pool of the steps that need a device, and what they ask of Ray or Kubernetes where one of these executes them."""

from typing import Any

_KUBERNETES = {"container_config": {"resources": {"limits": {"nvidia.com/gpu": "1"}}}}
GPU: dict[str, Any] = {"pool": "gpu", "op_tags": {"dagster-ray/config": {"num_gpus": 1}, "dagster-k8s/config": _KUBERNETES}}
