"""The same graph with every step as a Kubernetes job; the steps of the pool `gpu` ask for one card each."""

from dagster_k8s import k8s_job_executor

from reasoningrec_assets.definitions import build_definitions

defs = build_definitions(executor=k8s_job_executor)
