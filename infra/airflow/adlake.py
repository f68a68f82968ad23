"""adlake's batch jobs in Airflow: for those who have it. Without it, EventBridge does the same, and `adlake
batch schedule` all but the quality check.

- `adlake_batch_run` runs every 15 minutes. A run that finds nothing new ends at once. Its task publishes the asset `adlake_batch`, so that
  DAGs of yours can begin when new answers are there.
- `adlake_quality` follows each batch run, by that asset: it evaluates the expectations of the data (docs/quality.md). Put a cron expression
  in its place if a check takes long.
- `adlake_maintenance` runs at night: compact, checkpoint, vacuum, one after another.

The program is called where the worker runs. ADLAKE_CONFIG and the roles come from the worker's environment. Exit codes: 1 is tried
again. 2 is a wrong configuration, and 3 an expectation that is not met: no retry mends these, so the task fails at once.
"""

import datetime
import logging
import os
import subprocess

from airflow.sdk import DAG, Asset, BaseOperator
from airflow.sdk.exceptions import AirflowException, AirflowFailException

PROGRAM = os.environ.get("ADLAKE_PROGRAM", "adlake")
BATCH = Asset(name="adlake_batch", uri="adlake://batch/manifest")


def tell(context):
    """What Airflow calls when a task has failed for good. Replace it by a notifier of yours (Slack, PagerDuty)."""
    task = context["task_instance"]
    runbook = "quality-not-met" if task.task_id == "check" else "batch-failed"
    logging.error("adlake: %s failed in run %s; runbook: docs/runbooks/%s.md", task.task_id, context["run_id"], runbook)


DEFAULTS = {
    "owner": "data-operations",
    "retries": 3,
    "retry_delay": datetime.timedelta(minutes=1),
    "retry_exponential_backoff": True,
    "max_retry_delay": datetime.timedelta(minutes=15),
    # A run that computes everything may take long. One that hangs must end.
    "execution_timeout": datetime.timedelta(hours=6),
    "on_failure_callback": tell,
}


class AdlakeJob(BaseOperator):
    """Does `adlake batch JOB`. What the program writes goes to the log of the task."""

    def __init__(self, *, job, **options):
        super().__init__(task_id=job, **options)
        self.job = job
        self.process = None

    def execute(self, context):
        command = [PROGRAM, "--log-format", "json", "batch", self.job, "--format", "json"]
        self.process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        for line in self.process.stdout:
            self.log.info("%s", line.rstrip())
        code = self.process.wait()
        if code == 2:
            raise AirflowFailException(f"adlake batch {self.job}: the configuration has to be changed, see the log")
        if code == 3:
            raise AirflowFailException(f"adlake batch {self.job}: an expectation of severity fail is not met, see the log")
        if code != 0:
            raise AirflowException(f"adlake batch {self.job}: exit code {code}")

    def on_kill(self):
        """A job that is asked to end publishes nothing half-done."""
        if self.process and self.process.poll() is None:
            self.process.terminate()
            self.process.wait(60)


SHARED = {
    "start_date": datetime.datetime(2026, 1, 1, tzinfo=datetime.timezone.utc),
    "catchup": False,
    # The lease in the lake would stop a second run; here it does not even begin.
    "max_active_runs": 1,
    "default_args": DEFAULTS,
    "tags": ["adlake"],
}

with DAG(
    dag_id="adlake_batch_run",
    description="Computes what has changed, and publishes it",
    schedule="*/15 * * * *",
    **SHARED,
):
    AdlakeJob(job="run", outlets=[BATCH])

with DAG(
    dag_id="adlake_quality",
    description="Evaluates the expectations of the data after each batch run",
    schedule=[BATCH],
    **SHARED,
):
    AdlakeJob(job="check", inlets=[BATCH])

with DAG(
    dag_id="adlake_maintenance",
    description="Keeps files large and logs short, and deletes what no reader needs",
    schedule="10 2 * * *",
    **SHARED,
):
    AdlakeJob(job="compact", inlets=[BATCH]) >> AdlakeJob(job="checkpoint") >> AdlakeJob(job="vacuum")
