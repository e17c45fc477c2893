"""What `deploy/kubernetes` says, against the models of Kubernetes and the schemas of Dagster; there is no cluster here."""

from __future__ import annotations

from pathlib import Path

import dagster as dg
import pytest
import yaml

pytestmark = pytest.mark.operations

FOLDER = Path(__file__).parents[2] / "deploy" / "kubernetes"
MANIFESTS = list(yaml.safe_load_all((FOLDER / "manifests.yaml").read_text()))
INSTANCE = yaml.safe_load(next(m for m in MANIFESTS if m["kind"] == "ConfigMap")["data"]["dagster.yaml"])


@pytest.fixture(scope="module")
def location():
    from dagster._core.code_pointer import FileCodePointer

    return FileCodePointer(str(FOLDER / "location.py"), "defs", str(FOLDER.parents[1])).load_target()


def _known(manifest):
    """The manifest as an object of the client's; what its class does not know is refused."""
    import kubernetes
    from dagster_k8s.models import k8s_model_from_dict, k8s_snake_case_dict

    model = getattr(kubernetes.client.models, f"V1{manifest['kind']}")
    return k8s_model_from_dict(model, k8s_snake_case_dict(model, manifest))


@pytest.mark.parametrize("manifest", MANIFESTS, ids=lambda manifest: f"{manifest['kind']} {manifest['metadata']['name']}")
def test_every_manifest_is_one_that_kubernetes_knows(manifest):
    assert _known(manifest).metadata.name == manifest["metadata"]["name"]


def test_a_field_that_kubernetes_does_not_know_is_refused():
    with pytest.raises(Exception, match="specification"):
        _known({**MANIFESTS[0], "specification": {}})


def test_what_is_mounted_and_named_is_there():
    named = {(manifest["kind"], manifest["metadata"]["name"]) for manifest in MANIFESTS}
    for manifest in MANIFESTS:
        if manifest["kind"] == "Deployment":
            for volume in manifest["spec"]["template"]["spec"]["volumes"]:
                if "persistentVolumeClaim" in volume:
                    assert ("PersistentVolumeClaim", volume["persistentVolumeClaim"]["claimName"]) in named
                else:
                    assert ("ConfigMap", volume["configMap"]["name"]) in named
    launcher = INSTANCE["run_launcher"]["config"]
    assert ("ConfigMap", launcher["instance_config_map"]) in named
    assert ("ServiceAccount", launcher["service_account_name"]) in named


def test_dagster_takes_the_instance(tmp_path):
    from dagster._config import process_config
    from dagster._core.instance.config import dagster_instance_config
    from dagster_k8s import K8sRunLauncher

    (tmp_path / "dagster.yaml").write_text(yaml.safe_dump(INSTANCE))
    dagster_instance_config(str(tmp_path))
    checked = process_config(K8sRunLauncher.config_type(), INSTANCE["run_launcher"]["config"])
    assert checked.success, checked.errors


def test_each_heavy_step_asks_for_a_card_and_no_other_does(location):
    from dagster_k8s.job import get_user_defined_k8s_config

    asked = {}
    for asset in location.assets:
        resources = get_user_defined_k8s_config(asset.op.tags).container_config.get("resources", {})
        asked[asset.op.pool] = [*asked.get(asset.op.pool, []), resources.get("limits", {}).get("nvidia.com/gpu")]
    assert {*asked["gpu"]} == {"1"}
    assert {*asked[None]} == {None}


def test_steps_are_kubernetes_jobs(location):
    assert isinstance(location.executor, dg.ExecutorDefinition)
    assert location.executor.name == "k8s"
