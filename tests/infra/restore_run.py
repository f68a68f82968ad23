#!/usr/bin/env python3
"""The backup and the restore of docs/operations.md, on folders: a lake is copied while it is written, logs before data.

The copy must be whole, its published rows must be right, and ingest of the same files must add exactly what the copy lacks.
"""

import json
import os
import pathlib
import shutil
import subprocess
import tempfile

import environment


def main():
    adlake = environment.adlake()
    with tempfile.TemporaryDirectory(prefix="adlake-restore-") as folder:
        folder = pathlib.Path(folder)

        def run(lake, *arguments, code=0):
            variables = {"PATH": os.environ["PATH"], "HOME": str(folder), "ADLAKE_LAKE__URI": str(folder / lake)}
            done = subprocess.run([adlake, *arguments], env=variables, cwd=folder, capture_output=True, text=True, timeout=200)
            assert done.returncode == code, f"{lake}: {arguments}: {done.returncode} {done.stdout[-1500:]}{done.stderr[-1500:]}"
            return done.stdout

        def counts(lake):
            query = "SELECT (SELECT count(*) FROM impressions) AS i, (SELECT count(*) FROM clicks) AS c, (SELECT count(*) FROM bid_requests) AS b"
            return json.loads(run(lake, "query", query, "--format", "json"))[0]

        for seed in ("1", "2", "3"):
            run("lake", "generate", "--seed", seed, "--events", "4000", "--to-files", str(folder / f"traffic-{seed}"))
        run("lake", "ingest", "files", "traffic-1/events")
        run("lake", "batch", "run")
        before = counts("lake")

        # Written beside the copy: a watcher takes files that come while the copy is made.
        landing = folder / "landing"
        landing.mkdir()
        variables = {
            "PATH": os.environ["PATH"], "HOME": str(folder), "ADLAKE_LAKE__URI": str(folder / "lake"), "ADLAKE_FILES__SETTLE": "50ms",
            "ADLAKE_FILES__POLL_INTERVAL": "50ms", "ADLAKE_INGEST__FLUSH_INTERVAL": "50ms",
        }
        with environment.Process([adlake, "ingest", "files", landing, "--watch"], folder / "watch.log", env=variables, cwd=folder) as watch:
            give(folder, landing, "2")
            environment.wait_for(lambda: counts("lake")["i"] > before["i"], "the first files are in the lake", watch)
            middle = counts("lake")
            copy(folder, "wrong", "data")
            copy(folder, "copy", "manifest")
            give(folder, landing, "3")
            environment.wait_for(lambda: counts("lake")["i"] > middle["i"], "more files are in the lake", watch)
            for what in ("logs", "letters", "data"):
                copy(folder, "copy", what)
            for what in ("manifest", "logs", "letters"):
                copy(folder, "wrong", what)
            in_copy = counts("copy")
        # The other order leaves logs that name files which are not there.
        run("wrong", "check-lake", "--no-recompute", code=1)
        assert in_copy["i"] > before["i"], (before, in_copy)
        run("copy", "check-lake", "--all")
        run("copy", "batch", "run")
        # What the copy lacks comes again, once.
        run("lake", "ingest", "files", str(landing))
        run("copy", "ingest", "files", str(landing))
        assert counts("copy") == counts("lake"), (counts("copy"), counts("lake"))
        run("copy", "batch", "run")
        run("copy", "check-lake", "--all")
        print(f"restore_run: a copy made while rows came is whole; with the rest taken in, it answers the same ({counts('copy')})", flush=True)


def give(folder, landing, seed):
    for file in sorted((folder / f"traffic-{seed}/events").iterdir()):
        place = landing / f"{file.stem.split('-')[0]}-{seed}{file.suffix}"
        shutil.copy(file, place.with_suffix(".part"))
        place.with_suffix(".part").rename(place)


def copy(folder, to, what):
    """What `aws s3 sync` does with the patterns of docs/operations.md: files that the copy lacks, or that differ."""
    for file in sorted((folder / "lake").rglob("*")):
        name = str(file.relative_to(folder / "lake"))
        if "_delta_log/" not in name:
            kind = "data"
        elif name.startswith("batch/manifest/"):
            kind = "manifest"
        else:
            kind = "letters" if name.startswith("raw/dead_letters/") else "logs"
        if not file.is_file() or kind != what or name.endswith("_last_checkpoint"):
            continue
        place = folder / to / name
        place.parent.mkdir(parents=True, exist_ok=True)
        if not place.exists() or place.stat().st_size != file.stat().st_size:
            shutil.copy(file, place)


if __name__ == "__main__":
    main()
