#!/usr/bin/env python3
"""What can be said of the other ways to deploy without their servers.

- Kubernetes: every manifest follows the schemas of Kubernetes (package kubernetes-validate), the pods are hardened, and commands and
  variables are what the program accepts. No cluster takes part.
- Helm: the chart with its defaults makes the same objects as those manifests; with other values, such as pass the same checks; wrong
  values are refused.
- systemd: systemd-analyze verifies the units; their commands are the program's.
"""

import os
import pathlib
import re
import subprocess
import tempfile

import kubernetes_validate
import yaml

import environment

KUBERNETES = environment.ROOT / "infra/kubernetes/base"
VERSION = "1.33"
# What every way to deploy has to do at its times.
JOBS = {"run", "compact", "vacuum", "checkpoint", "check"}


def main():
    base = kubernetes()
    helm(base)
    systemd()


def accepted(where, command, variables):
    clean = {"PATH": os.environ["PATH"], **variables}
    text = clean.pop("ADLAKE_IMAGE_CONFIG", None)
    if text is not None:
        # As the entry point of the image does it.
        with tempfile.NamedTemporaryFile("w", suffix=".toml") as file:
            file.write(text)
            file.flush()
            return accepted(where, command, {**clean, "ADLAKE_CONFIG": file.name})
    for arguments in (["config", "check"], [*command, "--help"]):
        done = subprocess.run([environment.adlake(), *arguments], env=clean, capture_output=True, text=True)
        assert done.returncode == 0, f"{where}: {arguments}: {done.stderr}"


def kubernetes():
    customization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    files = {file.name for file in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(customization["resources"]) == files, f"kustomization.yaml names {customization['resources']}, there are {files}"
    found = [entry for name in sorted(files) for entry in yaml.safe_load_all((KUBERNETES / name).read_text())]
    wrong = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": "two"}}
    try:
        kubernetes_validate.validate(wrong, VERSION, strict=True)
    except kubernetes_validate.ValidationError:
        pass
    else:
        raise SystemExit("the schemas of Kubernetes take a wrong manifest")
    pods, jobs = manifests(found)
    assert jobs == JOBS, f"the CronJobs do {jobs}"
    print(f"deploy_check: {len(found)} manifests follow the schemas of Kubernetes {VERSION}, with {pods} kinds of pods", flush=True)
    return found


def manifests(found):
    """Checks the objects of one deployment. How many kinds of pods it has, and which jobs."""
    for entry in found:
        kubernetes_validate.validate(entry, VERSION, strict=True)
    names = [(entry["kind"], entry["metadata"]["name"]) for entry in found]
    assert len(set(names)) == len(names), names
    shared = next(entry["data"] for entry in found if entry["kind"] == "ConfigMap")
    accounts = {entry["metadata"]["name"] for entry in found if entry["kind"] == "ServiceAccount"}
    pods, jobs = 0, set()
    for entry in found:
        spec = entry.get("spec", {})
        if entry["kind"] == "CronJob":
            spec = spec["jobTemplate"]["spec"]
        if "template" not in spec:
            continue
        pods += 1
        pod, name = spec["template"]["spec"], entry["metadata"]["name"]
        if entry["kind"] == "CronJob":
            jobs.add(pod["containers"][0]["args"][3])
            (rule,) = spec["podFailurePolicy"]["rules"]
            assert rule["action"] == "FailJob" and rule["onExitCodes"]["values"] == [2, 3], name
        assert pod["serviceAccountName"] in accounts and pod["securityContext"]["runAsNonRoot"], name
        for container in pod["containers"]:
            context = container["securityContext"]
            assert context["readOnlyRootFilesystem"] and not context["allowPrivilegeEscalation"], name
            assert context["capabilities"]["drop"] == ["ALL"] and "memory" in container["resources"]["limits"], name
            accepted(name, container["args"], shared | {pair["name"]: pair["value"] for pair in container.get("env", [])})
        if "selector" in spec:
            labels = spec["template"]["metadata"]["labels"]
            assert spec["selector"]["matchLabels"].items() <= labels.items(), name
    return pods, jobs


def render(*values, release="adlake", code=0):
    tool = environment.tool("helm", "version 3, from its makers, or: go install helm.sh/helm/v3/cmd/helm@v3.19.0")
    command = [tool, "template", release, environment.ROOT / "infra/helm/adlake", "--kube-version", f"{VERSION}.0", *values]
    done = subprocess.run(command, capture_output=True, text=True)
    assert done.returncode == code, f"helm template {values}: {done.returncode} {done.stderr}"
    return done.stderr if code else [entry for entry in yaml.safe_load_all(done.stdout) if entry]


def comparable(value):
    """An object without what Helm adds, and without the image, which Kustomize sets later."""
    added = (
        "app.kubernetes.io/instance", "app.kubernetes.io/version", "app.kubernetes.io/managed-by", "helm.sh/chart", "checksum/config",
    )
    if isinstance(value, list):
        return [comparable(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    kept = {name: comparable(inner) for name, inner in value.items() if name not in added and name != "image"}
    return {name: inner for name, inner in kept.items() if inner not in ({}, None)}


def object_of(entry):
    entry = comparable(entry)
    entry["metadata"].pop("labels", None)
    if entry["kind"] == "ConfigMap":
        entry["data"].pop("ADLAKE_LAKE__URI")
    if entry["kind"] == "StatefulSet":
        (container,) = entry["spec"]["template"]["spec"]["containers"]
        container["env"] = sorted(({**pair, "value": "k:9096"} if "BROKERS" in pair["name"] else pair for pair in container["env"]), key=str)
    return entry


def helm(base):
    tool = environment.tool("helm", "version 3, from its makers, or: go install helm.sh/helm/v3/cmd/helm@v3.19.0")
    needed = ["--set", "lake.uri=s3://bucket/lake", "--set", "speed.brokers=k:9096"]
    done = subprocess.run([tool, "lint", "--strict", environment.ROOT / "infra/helm/adlake", *needed], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout + done.stderr
    chart = yaml.safe_load((environment.ROOT / "infra/helm/adlake/Chart.yaml").read_text())
    version = subprocess.run([environment.adlake(), "--version"], capture_output=True, text=True, check=True).stdout.split()[-1]
    assert chart["appVersion"] == version, f"Chart.yaml: appVersion is {chart['appVersion']}, the program is {version}"
    made = render(*needed)
    manifests(made)
    ours, theirs = ({(entry["kind"], entry["metadata"]["name"]): object_of(entry) for entry in found} for found in (base, made))
    assert ours.keys() == theirs.keys(), ours.keys() ^ theirs.keys()
    for name in ours:
        assert ours[name] == theirs[name], f"{name}: the manifest has\n{ours[name]}\nand the chart\n{theirs[name]}"

    other = render(
        *needed, "--set", "serving.enabled=false,jobs.compact.enabled=false,jobs.run.memoryGib=32,image.tag=9.9.9,networkPolicy.enabled=false",
        "--set", "image.pullSecrets={one,two}", "--set-string", "speed.serviceAccountAnnotations.role=r",
        "--set-string", "environment.ADLAKE_REPORT__TIME_ZONE=Europe/Berlin",
        release="second",
    )
    _, jobs = manifests(other)
    kinds = {entry["kind"] for entry in other}
    # Kubernetes adds to the name of a CronJob, and allows 52 characters.
    long = [entry["metadata"]["name"] for entry in render(*needed, release="a" * 50) if entry["kind"] == "CronJob"]
    assert len(long) == len(JOBS) and all(len(name) <= 52 for name in long), long
    assert jobs == JOBS - {"compact"} and not kinds & {"Deployment", "NetworkPolicy", "HorizontalPodAutoscaler"}, (jobs, kinds)
    assert all(entry["metadata"]["name"].startswith("second-adlake") for entry in other)
    run = next(entry for entry in other if entry["metadata"]["name"] == "second-adlake-batch-run")["spec"]["jobTemplate"]["spec"]["template"]["spec"]
    (container,) = run["containers"]
    assert container["image"] == "example.com/adlake:9.9.9" and run["imagePullSecrets"] == [{"name": "one"}, {"name": "two"}], run
    memory = next(pair["value"] for pair in container["env"] if pair["name"].endswith("MEMORY_BYTES_MAX"))
    assert int(memory) == 32 * 2**30 * 6 // 10, memory

    refused = (
        ([], "/lake/uri"), (["--set", "lake.uri=bucket/lake"], "/lake/uri"), ([*needed, "--set", "speed.brokers=k"], "/speed/brokers"),
        ([*needed, "--set", "speed.replica=3"], "replica"), ([*needed, "--set", "jobs.run.schedule=hourly"], "/jobs/run/schedule"),
        ([*needed, "--set", "jobs.run.memoryGib=12Gi"], "/jobs/run/memoryGib"), ([*needed, "--set", "image.tag=latest"], "/image/tag"),
        ([*needed, "--set", "environment.lower=x"], "lower"), ([*needed, "--set", "jobs.run.part=speed"], "/jobs/run/part"),
    )
    for values, told in refused:
        assert told in render(*values, code=1), (values, told)
    print(f"deploy_check: the chart makes the same {len(made)} objects, and refuses {len(refused)} wrong values", flush=True)


def systemd():
    environment.tool("systemd-analyze", "apt-get install systemd")
    source = environment.ROOT / "infra/systemd"
    with tempfile.TemporaryDirectory() as folder:
        # The units name the program where they are installed; here it is elsewhere.
        for unit in source.iterdir():
            text = unit.read_text()
            (pathlib.Path(folder) / unit.name).write_text(text.replace("/usr/local/bin/adlake", environment.adlake()))
            for line in re.findall(r"^ExecStart=/usr/local/bin/adlake (.*)$", text, re.MULTILINE):
                accepted(unit.name, line.split(), {})
        units = sorted(pathlib.Path(folder).iterdir())
        done = subprocess.run(["systemd-analyze", "verify", "--man=no", *units], capture_output=True, text=True)
        told = [line for line in (done.stdout + done.stderr).split("\n") if "adlake" in line]
        assert done.returncode == 0 and not told, told
    timers = {unit.stem for unit in source.glob("*.timer")}
    assert timers == {f"adlake-batch-{job}" for job in JOBS}, timers
    assert timers <= {unit.stem for unit in source.glob("*.service")}, "each timer has its service"
    print(f"deploy_check: systemd takes {len(units)} units", flush=True)


if __name__ == "__main__":
    main()
