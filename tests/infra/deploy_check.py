#!/usr/bin/env python3
"""What can be said of the other ways to deploy without their servers.

- Kubernetes: every manifest follows the schemas of Kubernetes (package kubernetes-validate), the pods are hardened, and commands and
  variables are what the program accepts. No cluster takes part.
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
    kubernetes()
    systemd()


def accepted(where, command, variables):
    clean = {"PATH": os.environ["PATH"], **variables}
    for arguments in (["config", "check"], [*command, "--help"]):
        done = subprocess.run([environment.adlake(), *arguments], env=clean, capture_output=True, text=True)
        assert done.returncode == 0, f"{where}: {arguments}: {done.stderr}"


def kubernetes():
    customization = yaml.safe_load((KUBERNETES / "kustomization.yaml").read_text())
    files = {file.name for file in KUBERNETES.glob("*.yaml")} - {"kustomization.yaml"}
    assert set(customization["resources"]) == files, f"kustomization.yaml names {customization['resources']}, there are {files}"
    found = [entry for name in sorted(files) for entry in yaml.safe_load_all((KUBERNETES / name).read_text())]
    for entry in found:
        kubernetes_validate.validate(entry, VERSION, strict=True)
    names = [(entry["kind"], entry["metadata"]["name"]) for entry in found]
    assert len(set(names)) == len(names), names
    wrong = {"apiVersion": "apps/v1", "kind": "Deployment", "metadata": {"name": "x"}, "spec": {"replicas": "two"}}
    try:
        kubernetes_validate.validate(wrong, VERSION, strict=True)
    except kubernetes_validate.ValidationError:
        pass
    else:
        raise SystemExit("the schemas of Kubernetes take a wrong manifest")
    shared = next(entry["data"] for entry in found if entry["kind"] == "ConfigMap")
    shared = {name: value for name, value in shared.items() if name != "ADLAKE_IMAGE_CONFIG"}
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
    assert jobs == JOBS, f"the CronJobs do {jobs}"
    print(f"deploy_check: {len(found)} manifests follow the schemas of Kubernetes {VERSION}, with {pods} kinds of pods", flush=True)


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
