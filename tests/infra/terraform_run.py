#!/usr/bin/env python3
"""Applies examples/complete to a local AWS API, and looks at what is there.

1. apply; 2. plan again: no difference; 3. each container runs a command and a configuration that the program accepts; 4. what
boto3 sees of buckets, roles, schedules and alarms; 5. each part of the program under the policy of its own role
(least_privilege.py, against a real S3 server); 6. the whole system, started as the task definitions and the schedules say, with a real
Kafka (system_run.py); 7. destroy: nothing is left.

It needs: terraform, a mirror with the AWS provider, moto and boto3, adlake (ADLAKE_BIN), versitygw, Kafka.
"""

import json
import os
import pathlib
import shutil
import subprocess
import sys
import tempfile
import time

import boto3

import alarm_evaluator
import environment


# What the local server forgets, and AWS does not: attributes that differ in a second plan although nothing was changed.
EXPLAINED = {
    # moto drops the description of a rule that names a group.
    ("aws_vpc_security_group_ingress_rule", "description"),
    ("aws_vpc_security_group_egress_rule", "description"),
    # moto has no tags of scalable targets.
    ("aws_appautoscaling_target", "tags_all"),
    # moto's service lacks both.
    ("aws_ecs_service", "availability_zone_rebalancing"),
    ("aws_ecs_service", "health_check_grace_period_seconds"),
}


def differences(planned):
    """What a plan would change: the type of the resource, the attribute, the address. A creation or deletion has no attribute."""
    found = []
    for change in planned["resource_changes"]:
        before, after = change["change"]["before"], change["change"]["after"]
        if change["change"]["actions"] == ["update"]:
            names = [name for name in after if before.get(name) != after[name]]
            found += [(change["type"], name, change["address"]) for name in names]
        elif change["change"]["actions"] not in (["no-op"], ["read"]):
            found.append((change["type"], "/".join(change["change"]["actions"]), change["address"]))
    return found


def say(text):
    print(f"terraform_run: {time.monotonic() - STARTED:5.1f} s: {text}", flush=True)


STARTED = time.monotonic()


def main():
    adlake = environment.adlake()
    with tempfile.TemporaryDirectory(prefix="adlake-infra-") as folder:
        folder = pathlib.Path(folder)
        port = environment.free_port()
        variables = environment.terraform_environment(folder, port)
        os.environ.update(variables)
        with environment.Process(
            [sys.executable, environment.HERE / "aws_server.py", str(port), folder / "aws.log"], folder / "aws.out"
        ) as server:
            environment.wait_for_port(port, server)
            try:
                run(folder, variables, adlake)
            except BaseException:
                print((folder / "aws.log").read_text()[-4000:], file=sys.stderr)
                raise


def run(folder, variables, adlake):
    # A copy, because terraform writes a lock beside the configuration.
    shutil.copytree(environment.ROOT / "infra/terraform", folder / "terraform", ignore=shutil.ignore_patterns(".terraform*"))
    example = folder / "terraform/examples/complete"
    certificate = boto3.client("acm").request_certificate(DomainName="adlake.example.com")["CertificateArn"]
    keys = boto3.client("secretsmanager").create_secret(Name="adlake-keys", SecretString="{}")["ARN"]
    inputs = {
        "bucket": "adlake-test-lake",
        "image": "123456789012.dkr.ecr.eu-central-1.amazonaws.com/adlake:0.1.0",
        "certificate_arn": certificate,
        "keys_secret_arn": keys,
        "alarm_emails": ["ops@example.com"],
        "pagerduty_address": "https://events.example.com/integration/x/enqueue",
        "configuration": '[report]\ntime_zone = "Europe/Berlin"\n',
        "alarm_metrics": True,
        "trial": True,
    }
    (folder / "inputs.tfvars.json").write_text(json.dumps(inputs))

    def terraform(*arguments, accepted=(0,)):
        command = [shutil.which("terraform"), f"-chdir={example}", *arguments]
        done = subprocess.run(command, env={**os.environ, **variables}, capture_output=True, text=True, timeout=420)
        if done.returncode not in accepted:
            sys.exit(f"{' '.join(command)}: {done.returncode}\n{done.stdout[-6000:]}\n{done.stderr}")
        return done.stdout

    common = ["-no-color", "-input=false", f"-state={folder / 'state'}", f"-var-file={folder / 'inputs.tfvars.json'}"]
    terraform("init", "-no-color", "-input=false", "-backend=false")
    applied = terraform("apply", "-auto-approve", *common)
    say(next(line for line in applied.split("\n") if line.startswith("Apply complete!")))
    outputs = {name: output["value"] for name, output in json.loads(terraform("output", "-json", f"-state={folder / 'state'}")).items()}

    terraform("plan", *common, f"-out={folder / 'plan'}")
    planned = json.loads(terraform("show", "-json", str(folder / "plan")))
    found = differences(planned)
    unexplained = {(kind, name): address for kind, name, address in found if (kind, name) not in EXPLAINED}
    assert not unexplained, f"the second plan differs: {unexplained}"
    say(f"the second plan has no unexplained difference ({len(found)} are the local server's)")

    containers(adlake, outputs, folder)
    buckets()
    roles(outputs)
    schedules(outputs)
    alarms(outputs)
    say("boto3 sees what was meant")
    environment.run_python("system_run.py", "")
    say("the whole system runs as the task definitions and the schedules start it")
    environment.run_python("least_privilege_run.py", json.dumps({name: json.loads(policy) for name, policy in outputs["policies"].items()}))
    say("each part works with the policy of its own role, and what it must not do is refused")

    destroyed = terraform("destroy", "-auto-approve", *common)
    say(next(line for line in destroyed.split("\n") if line.startswith("Destroy complete!")))
    assert boto3.client("s3").list_buckets()["Buckets"] == []
    assert boto3.client("scheduler").list_schedules()["Schedules"] == []
    # A deleted cluster stays in the list for a while, as on AWS.
    clusters = boto3.client("ecs").list_clusters()["clusterArns"]
    states = {cluster["status"] for cluster in boto3.client("ecs").describe_clusters(clusters=clusters)["clusters"]} if clusters else set()
    assert states <= {"INACTIVE"}, states
    left = [role["RoleName"] for role in boto3.client("iam").list_roles()["Roles"] if role["RoleName"].startswith("adlake")]
    assert left == [], left


def containers(adlake, outputs, folder):
    """Each task's command and variables are accepted by the program."""
    commands = {
        "speed": ["ingest", "kafka"], "serving": ["serve"], "batch-run": ["batch", "run"], "batch-compact": ["batch", "compact"],
        "batch-vacuum": ["batch", "vacuum"], "batch-checkpoint": ["batch", "checkpoint"],
        "batch-check": ["batch", "check"],
    }
    assert outputs["task_definitions"].keys() == commands.keys(), outputs["task_definitions"]
    for part, arn in outputs["task_definitions"].items():
        definition = boto3.client("ecs").describe_task_definition(taskDefinition=arn)["taskDefinition"]
        program = next(container for container in definition["containerDefinitions"] if container["name"] == "adlake")
        assert program["readonlyRootFilesystem"] and program["user"] == "10001:10001", program
        given = {entry["name"]: entry["value"] for entry in program["environment"]}
        # What ECS would take from Secrets Manager.
        given |= {entry["name"]: "some-secret" for entry in program.get("secrets", [])}
        file = folder / "adlake.toml"
        file.write_text(given.pop("ADLAKE_IMAGE_CONFIG", ""))
        clean = {"PATH": os.environ["PATH"], **given, "ADLAKE_CONFIG": str(file)}
        checked = subprocess.run([adlake, "config", "check"], env=clean, capture_output=True, text=True)
        assert checked.returncode == 0, f"{part}: {checked.stderr}"
        shown = subprocess.run([adlake, "config", "show"], env=clean, capture_output=True, text=True)
        assert shown.returncode == 0 and "Europe/Berlin" in shown.stdout and "s3://adlake-test-lake/lake" in shown.stdout, shown
        command = program["command"]
        assert command[:2] == ["--log-format", "json"] and command[2 : 2 + len(commands[part])] == commands[part], command
        parsed = subprocess.run([adlake, *command, "--help"], env=clean, capture_output=True, text=True)
        assert parsed.returncode == 0, f"{part}: {command}: {parsed.stderr}"
    # A key that the program does not know must make the check above fail.
    wrong = {"PATH": os.environ["PATH"], "ADLAKE_LAKE__URL": "s3://b/l"}
    assert subprocess.run([adlake, "config", "check"], env=wrong, capture_output=True).returncode == 2


def buckets():
    s3 = boto3.client("s3")
    names = [bucket["Name"] for bucket in s3.list_buckets()["Buckets"]]
    assert sorted(names) == ["adlake-test-lake", "adlake-test-lake-logs"], names
    for name in names:
        assert all(s3.get_public_access_block(Bucket=name)["PublicAccessBlockConfiguration"].values()), name
        denied = [
            statement for statement in json.loads(s3.get_bucket_policy(Bucket=name)["Policy"])["Statement"]
            if statement["Effect"] == "Deny" and statement["Condition"].get("Bool") == {"aws:SecureTransport": "false"}
        ]
        assert denied, f"{name}: connections without TLS are not refused"
    rule = s3.get_bucket_encryption(Bucket="adlake-test-lake")["ServerSideEncryptionConfiguration"]["Rules"][0]
    assert rule["ApplyServerSideEncryptionByDefault"]["SSEAlgorithm"] == "aws:kms" and rule["BucketKeyEnabled"], rule
    assert s3.get_bucket_versioning(Bucket="adlake-test-lake")["Status"] == "Enabled"
    for key in boto3.client("kms").list_keys()["Keys"]:
        assert boto3.client("kms").get_key_rotation_status(KeyId=key["KeyId"])["KeyRotationEnabled"], key


def roles(outputs):
    iam = boto3.client("iam")
    for part, policy in outputs["policies"].items():
        stored = iam.get_role_policy(RoleName=f"adlake-{part}", PolicyName="lake")["PolicyDocument"]
        assert stored == json.loads(policy), part
        assert iam.list_attached_role_policies(RoleName=f"adlake-{part}")["AttachedPolicies"] == [], part


def schedules(outputs):
    scheduler = boto3.client("scheduler")
    found = {entry["Name"]: entry for entry in scheduler.list_schedules(GroupName="adlake")["Schedules"]}
    jobs = [part for part in outputs["task_definitions"] if part.startswith("batch-")]
    assert found.keys() == {f"adlake-{job}" for job in jobs}, found.keys()
    for job in jobs:
        schedule = scheduler.get_schedule(Name=f"adlake-{job}", GroupName="adlake")
        target = schedule["Target"]
        assert schedule["State"] == "ENABLED" and target["EcsParameters"]["TaskDefinitionArn"] == outputs["task_definitions"][job]
        assert target["DeadLetterConfig"]["Arn"].endswith(":adlake-not-started") and target["RetryPolicy"]["MaximumRetryAttempts"] == 8


def alarms(outputs):
    found = boto3.client("cloudwatch").describe_alarms(AlarmTypes=["MetricAlarm"])["MetricAlarms"]
    told = [alarm for alarm in found if "-scale-" not in alarm["AlarmName"] and not alarm["AlarmName"].startswith("TargetTracking")]
    unlike = {alarm["AlarmName"] for alarm in told} ^ set(outputs["alarm_names"])
    assert not unlike, unlike
    for alarm in told:
        alarm_evaluator.check(alarm)
    runbooks = environment.ROOT / "docs/runbooks"
    for alarm in told:
        assert alarm["AlarmActions"] and alarm["OKActions"], alarm["AlarmName"]
        runbook = runbooks / alarm["AlarmDescription"].rsplit("/", 1)[1]
        assert runbook.is_file(), f"{alarm['AlarmName']}: there is no {runbook}"


if __name__ == "__main__":
    main()
