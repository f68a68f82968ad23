#!/usr/bin/env python3
"""A real Airflow parses the DAGs and runs each of them once, with the real program on a real lake.

It runs in Airflow's own environment (setup.sh infra makes it): python of $ADLAKE_CACHE/infra/airflow.
"""

import json
import os
import pathlib
import subprocess
import sys
import tempfile

import environment


def main():
    with tempfile.TemporaryDirectory(prefix="adlake-airflow-") as folder:
        folder = pathlib.Path(folder)
        os.environ.update({
            "AIRFLOW_HOME": str(folder), "AIRFLOW__CORE__DAGS_FOLDER": str(environment.ROOT / "infra/airflow"), "AIRFLOW__CORE__LOAD_EXAMPLES": "False",
            "AIRFLOW__CORE__UNIT_TEST_MODE": "False", "ADLAKE_PROGRAM": environment.adlake(), "ADLAKE_LAKE__URI": str(folder / "lake"),
            "AIRFLOW__LOGGING__LOGGING_LEVEL": "WARNING",
        })
        program = environment.adlake()
        subprocess.run([program, "generate", "--events", "2000", "--to-files", folder / "traffic"], check=True, capture_output=True)
        subprocess.run([program, "ingest", "files", folder / "traffic/events"], check=True, capture_output=True)
        airflow = pathlib.Path(sys.executable).parent / "airflow"
        done = subprocess.run([airflow, "db", "migrate"], capture_output=True, text=True)
        assert done.returncode == 0, done.stderr[-3000:]

        from airflow.dag_processing.dagbag import DagBag

        bag = DagBag(str(environment.ROOT / "infra/airflow"))
        assert not bag.import_errors, bag.import_errors
        assert set(bag.dags) == {"adlake_batch_run", "adlake_quality", "adlake_maintenance"}, set(bag.dags)
        for dag in bag.dags.values():
            assert dag.max_active_runs == 1 and not dag.catchup, dag.dag_id
            for task in dag.tasks:
                assert task.retries == 3 and task.on_failure_callback and task.execution_timeout, task.task_id
        maintenance = bag.dags["adlake_maintenance"]
        assert maintenance.get_task("compact").downstream_task_ids == {"checkpoint"}
        assert maintenance.get_task("checkpoint").downstream_task_ids == {"vacuum"}
        (outlet,) = bag.dags["adlake_batch_run"].get_task("run").outlets
        followed = bag.dags["adlake_quality"].timetable.asset_condition.objects
        assert [asset.uri for asset in followed] == [outlet.uri], followed
        for name in ("adlake_batch_run", "adlake_quality", "adlake_maintenance"):
            done = subprocess.run([airflow, "dags", "test", name, "2026-11-28"], capture_output=True, text=True, timeout=300)
            assert done.returncode == 0, f"{name}: {done.stdout[-3000:]}{done.stderr[-3000:]}"
        status = subprocess.run([program, "batch", "status"], capture_output=True, text=True, check=True).stdout
        for job in ("run", "compact", "checkpoint", "vacuum"):
            assert job in status, status
        assert (folder / "lake/batch/manifest/_delta_log").is_dir(), "nothing was published"
        checked = [program, "query", "SELECT DISTINCT decision FROM quality", "--format", "json"]
        decisions = {row["decision"] for row in json.loads(subprocess.run(checked, capture_output=True, check=True).stdout)}
        assert decisions == {"publish", "check"}, f"the run and the check have left their results: {decisions}"
        # An expectation that is not met, and a wrong configuration, must fail at once: three retries would take longer than the limit.
        (folder / "never.toml").write_text('[[expectation]]\ntable = "impressions"\ntype = "row_count"\nmax = 1\nseverity = "fail"\n')
        os.environ["ADLAKE_QUALITY__EXPECTATIONS"] = str(folder / "never.toml")
        done = subprocess.run([airflow, "dags", "test", "adlake_quality", "2026-11-29"], capture_output=True, text=True, timeout=200)
        text = done.stdout + done.stderr
        assert "an expectation of severity fail is not met" in text and "runbooks/quality-not-met.md" in text, text[-3000:]
        os.environ["ADLAKE_LAKE__URL"] = "wrong"
        done = subprocess.run([airflow, "dags", "test", "adlake_batch_run", "2026-11-29"], capture_output=True, text=True, timeout=200)
        text = done.stdout + done.stderr
        assert "the configuration has to be changed" in text and "adlake: run failed in run" in text, text[-3000:]
        print("airflow_run: Airflow ran all DAGs; a wrong configuration and an expectation that is not met failed at once", flush=True)


if __name__ == "__main__":
    main()
