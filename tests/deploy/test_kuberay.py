"""The manifests for Kubernetes: what KubeRay and Kubernetes would refuse, and what would leak or drift.

No package carries KubeRay's schema. `RAY_JOB` holds the names and types of its API reference (RayJob v1, as
of KubeRay 1.6); a pod template is checked by the schema of Kubernetes itself.
"""

import copy
import re
import shlex
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import jsonschema
import kubernetes_validate
import pytest
import yaml
from packaging.version import Version

from finscale.cli import cli

REPOSITORY = Path(__file__).resolve().parents[2]
FOLDER = REPOSITORY / "deploy/kuberay"
DOCKERFILE = (FOLDER / "Dockerfile").read_text()
LONGEST_NAME = 47

Manifest = dict[str, Any]


def only(required: tuple[str, ...] = (), **known: Any) -> Manifest:
    return {"type": "object", "properties": known, "required": list(required), "additionalProperties": False}


ANY, TEXT, YES_OR_NO = {"type": "object"}, {"type": "string"}, {"type": "boolean"}
COUNT = {"type": "integer", "minimum": 0}
TEXTS = {"type": "object", "additionalProperties": TEXT}
GROUP = {"template": ANY, "rayStartParams": TEXTS, "resources": TEXTS, "labels": TEXTS}
HEAD_GROUP = only(
    ("template",),
    **GROUP,
    headService=ANY,
    enableIngress=YES_OR_NO,
    serviceType={"enum": ["ClusterIP", "NodePort", "LoadBalancer", "ExternalName"]},
)
WORKER_GROUP = only(
    ("groupName", "maxReplicas", "minReplicas", "template"),
    **GROUP,
    groupName=TEXT,
    replicas=COUNT,
    minReplicas=COUNT,
    maxReplicas=COUNT,
    numOfHosts=COUNT,
    idleTimeoutSeconds=COUNT,
    suspend=YES_OR_NO,
    scaleStrategy=ANY,
)
RAY_CLUSTER = only(
    ("headGroupSpec",),
    headGroupSpec=HEAD_GROUP,
    workerGroupSpecs={"type": "array", "items": WORKER_GROUP},
    rayVersion=TEXT,
    authOptions=only(mode={"enum": ["disabled", "token"]}),
    enableInTreeAutoscaling=YES_OR_NO,
    autoscalerOptions=ANY,
    gcsFaultToleranceOptions=ANY,
    headServiceAnnotations=TEXTS,
    upgradeStrategy=ANY,
    managedBy=TEXT,
    suspend=YES_OR_NO,
)
RAY_JOB = only(
    ("apiVersion", "kind", "metadata", "spec"),
    apiVersion={"const": "ray.io/v1"},
    kind={"const": "RayJob"},
    metadata=only(("name",), name=TEXT, namespace=TEXT, labels=TEXTS, annotations=TEXTS),
    spec=only(
        ("rayClusterSpec",),
        activeDeadlineSeconds={"type": "integer", "minimum": 1},
        backoffLimit=COUNT,
        rayClusterSpec=RAY_CLUSTER,
        submitterPodTemplate=ANY,
        submitterConfig=only(backoffLimit=COUNT),
        metadata=TEXTS,
        clusterSelector=TEXTS,
        managedBy=TEXT,
        deletionStrategy=ANY,
        entrypoint=TEXT,
        runtimeEnvYAML=TEXT,
        jobId=TEXT,
        submissionMode={"enum": ["K8sJobMode", "HTTPMode", "InteractiveMode", "SidecarMode"]},
        entrypointResources=TEXT,
        entrypointNumCpus={"type": "number"},
        entrypointNumGpus={"type": "number"},
        ttlSecondsAfterFinished=COUNT,
        shutdownAfterJobFinishes=YES_OR_NO,
        suspend=YES_OR_NO,
    ),
)


def read(name: str) -> Manifest:
    manifest: Manifest = yaml.safe_load((FOLDER / name).read_text())
    return manifest


@pytest.fixture
def job() -> Manifest:
    return read("rayjob.yaml")


def groups(job: Manifest) -> list[Manifest]:
    cluster = job["spec"]["rayClusterSpec"]
    return [cluster["headGroupSpec"], *cluster["workerGroupSpecs"]]


def pods(job: Manifest) -> list[Manifest]:
    return [group["template"] for group in groups(job)]


def containers(job: Manifest) -> Iterator[Manifest]:
    for pod in pods(job):
        yield from pod["spec"]["containers"]


def check_by_schemas(job: Manifest) -> None:
    jsonschema.validate(job, RAY_JOB)
    for pod in pods(job):
        whole = {"apiVersion": "v1", "kind": "Pod", "metadata": {}, **pod}
        kubernetes_validate.validate(whole, "1.37", strict=True)


def check_by_the_operator(job: Manifest) -> None:
    """What the operator refuses beyond its schema."""
    name, spec = job["metadata"]["name"], job["spec"]
    assert re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", name)
    assert len(name) <= LONGEST_NAME
    assert spec["shutdownAfterJobFinishes"] or not spec.get("ttlSecondsAfterFinished")
    cluster = spec["rayClusterSpec"]
    assert cluster["authOptions"]["mode"] == "token"
    assert Version(cluster["rayVersion"]) >= Version("2.52.0")
    names = [group["groupName"] for group in cluster["workerGroupSpecs"]]
    assert len(set(names)) == len(names)
    assert all(group["template"]["spec"]["containers"] for group in groups(job))


def check(job: Manifest) -> None:
    check_by_schemas(job)
    check_by_the_operator(job)


def test_the_job_is_one_that_kuberay_and_kubernetes_accept(job: Manifest) -> None:
    check(job)


def test_the_claim_is_one_that_kubernetes_accepts() -> None:
    kubernetes_validate.validate(read("volume.yaml"), "1.37", strict=True)


def _spec(job: Manifest, **changed: Any) -> None:
    job["spec"] |= changed


def _cluster(job: Manifest, **changed: Any) -> None:
    job["spec"]["rayClusterSpec"] |= changed


def _head(job: Manifest, **changed: Any) -> None:
    job["spec"]["rayClusterSpec"]["headGroupSpec"] |= changed


def _container(job: Manifest, **changed: Any) -> None:
    next(containers(job)).update(changed)


@pytest.mark.parametrize(
    "plant",
    [
        lambda job: job.update(apiVersion="ray.io/v2"),
        lambda job: job["metadata"].update(name="finscale.search"),
        lambda job: job["metadata"].update(name="f" * 48),
        lambda job: _spec(job, backofLimit=3),
        lambda job: _spec(job, backoffLimit="3"),
        lambda job: _spec(job, submissionMode="SSHMode"),
        lambda job: _spec(job, shutdownAfterJobFinishes=False),
        lambda job: _cluster(job, rayVersion=2.60),
        lambda job: _cluster(job, rayVersion="2.51.0"),
        lambda job: _cluster(job, authOptions={"mode": "disabled"}),
        lambda job: _head(job, replicas=1),
        lambda job: _head(job, rayStartParams={"num-cpus": 0}),
        lambda job: _head(job, template={"spec": {"containers": []}}),
        lambda job: job["spec"]["rayClusterSpec"]["workerGroupSpecs"][0].pop("groupName"),
        lambda job: _container(job, volumeMount=[]),
        lambda job: _container(job, env=[{"name": "A", "valueFrom": {"secretRef": {"name": "a"}}}]),
        lambda job: _container(job, resources={"request": {"cpu": "2"}}),
    ],
)
def test_a_fault_in_the_job_is_found(job: Manifest, plant: Callable[[Manifest], None]) -> None:
    faulty = copy.deepcopy(job)
    plant(faulty)
    assert faulty != job
    with pytest.raises((jsonschema.ValidationError, AssertionError)):
        check(faulty)


def test_requests_are_limits(job: Manifest) -> None:
    for container in containers(job):
        assert container["resources"]["requests"] == container["resources"]["limits"]
        assert {"cpu", "memory"} <= set(container["resources"]["limits"])


def test_no_file_holds_a_secret_or_the_name_of_a_host(job: Manifest) -> None:
    held = [entry for container in containers(job) for entry in container.get("env", ())]
    secret = [entry for entry in held if re.search("URL|TOKEN|PASSWORD|SECRET|KEY", entry["name"])]
    assert [list(entry["valueFrom"]) for entry in secret] == [["secretKeyRef"]]
    assert {container["image"] for container in containers(job)} == {"YOUR_IMAGE"}
    for path in FOLDER.iterdir():
        text = path.read_text()
        assert "://" not in text
        assert not re.search(r"\b[a-z0-9-]+\.(com|org|net|io|dev|cloud|local)\b(?!/)", text), path


def test_the_driver_alone_knows_the_database_and_runs_no_trials(job: Manifest) -> None:
    head, *workers = groups(job)
    assert head["rayStartParams"]["num-cpus"] == "0"
    assert "OPTUNA_STORAGE_URL" in str(head)
    assert "OPTUNA_STORAGE_URL" not in str(workers)


def test_all_pods_see_the_data_folder_of_the_image_at_one_place(job: Manifest) -> None:
    claim = read("volume.yaml")
    assert claim["spec"]["accessModes"] == ["ReadWriteMany"]
    folder = re.search(r"^WORKDIR (\S+)$", DOCKERFILE, re.MULTILINE)
    assert folder is not None
    for pod in pods(job):
        (volume,) = pod["spec"]["volumes"]
        assert volume["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]
        (container,) = pod["spec"]["containers"]
        assert container["volumeMounts"] == [{"name": volume["name"], "mountPath": f"{folder[1]}/data"}]


def test_the_image_has_the_ray_the_python_and_the_user_of_the_job(job: Manifest) -> None:
    lock = (REPOSITORY / "requirements.lock").read_text()
    assert f"\nray=={job['spec']['rayClusterSpec']['rayVersion']}\n" in lock
    assert '-c requirements.lock -e ".[cluster]" "ray[default]"' in DOCKERFILE
    assert 'python_version = "3.11"' in (REPOSITORY / "pyproject.toml").read_text()
    assert "\nFROM python:3.11-slim\n" in DOCKERFILE
    users = {pod["spec"]["securityContext"]["runAsUser"] for pod in pods(job)}
    assert users == {int(re.findall(r"--uid (\d+)", DOCKERFILE)[0])}


def test_what_the_image_copies_is_there() -> None:
    lines = re.findall(r"^COPY (.*)$", DOCKERFILE, re.MULTILINE)
    copied = [name for line in lines for name in line.split()[:-1]]
    assert "src" in copied
    assert all((REPOSITORY / name).exists() for name in copied)


def test_the_entrypoint_is_a_command_of_this_project(job: Manifest) -> None:
    program, command, *arguments = shlex.split(job["spec"]["entrypoint"])
    assert program == "kedro"
    read_arguments = cli.commands[command].make_context(command, arguments).params
    assert read_arguments["env"] == "cluster"
    assert read_arguments["budgets"] == ["20M"]
