#!/usr/bin/env python3
"""The image without a Docker engine: its root file system, laid by the script that the Dockerfile runs, and the program started in it.

1. The compose file follows the Compose schema, and what it says of adlake is what the program accepts. 2. A root file system is made
of Debian's packages and infra/docker/root.sh. 3. Under bwrap, with a read-only root and without capabilities, as the user 10001:
the server starts with keys from the environment, its health check tells the truth, nothing but /var/lib/adlake can be written.

What this does not show: that the first stage of the Dockerfile builds on its base image.
"""

import json
import os
import pathlib
import re
import subprocess
import sys
import tempfile
import urllib.error
import urllib.request

import jsonschema
import yaml

import environment

DOCKER = environment.ROOT / "infra/docker"
# What Debian's slim image has of what the program and its two scripts need.
PACKAGES = [
    "base-files", "bash", "ca-certificates", "coreutils", "dash", "libacl1", "libattr1", "libc6", "libgcc-s1", "libgmp10", "libpcre2-8-0",
    "libselinux1", "libssl3", "libtinfo6", "zlib1g",
]
COMPOSE = "github.com/compose-spec/compose-go/v2@v2.4.7"


def main():
    environment.tool("bwrap", "apt-get install bubblewrap")
    embedded_files()
    compose()
    with tempfile.TemporaryDirectory(prefix="adlake-image-", dir="/tmp") as folder:
        folder = pathlib.Path(folder)
        folder.chmod(0o755)
        root = layout(folder)
        started(folder, root)


def embedded_files():
    """What the program embeds from outside of its crates is in the context of the build."""
    ignored = (DOCKER / "Dockerfile.dockerignore").read_text().split()
    crates = [entry[1:] for entry in ignored if entry.startswith("!")]
    found = set()
    for source in (file for crate in crates for file in (environment.ROOT / crate).rglob("*.rs")):
        for path in re.findall(r'include_(?:str|bytes)!\(\s*(?:concat!\(\s*)?"([^"]+)"', source.read_text()):
            found.add((source.parent / path).resolve().relative_to(environment.ROOT))
    assert any(str(path).startswith("docs/") for path in found), found
    missing = [str(path) for path in found if not any(path.is_relative_to(crate) for crate in crates)]
    assert not missing, f"Dockerfile.dockerignore leaves out what the program embeds: {missing}"


def compose():
    environment.tool("go", "Go 1.21 or newer")
    with tempfile.TemporaryDirectory() as folder:
        (pathlib.Path(folder) / "go.mod").write_text("module schema\n\ngo 1.21\n")
        done = subprocess.run(["go", "mod", "download", "-json", COMPOSE], cwd=folder, capture_output=True, text=True)
        if done.returncode != 0:
            environment.lacking(f"the schema of Compose: go mod download {COMPOSE}: {done.stdout}{done.stderr}")
        schema = json.loads((pathlib.Path(json.loads(done.stdout)["Dir"]) / "schema/compose-spec.json").read_text())
    file = yaml.safe_load((DOCKER / "compose.yml").read_text())
    jsonschema.validate(file, schema)
    # The schema really refuses: a misspelt key must not pass.
    wrong = json.loads(json.dumps(file))
    wrong["services"]["serve"]["enviroment"] = {}
    try:
        jsonschema.validate(wrong, schema)
    except jsonschema.ValidationError:
        pass
    else:
        sys.exit("the Compose schema takes a misspelt key")
    for name, service in file["services"].items():
        assert re.search(r":[^:/]+$", service["image"]) and not service["image"].endswith(":latest"), f"{name}: name a version of the image"
        for other in service.get("depends_on", {}):
            assert other in file["services"], (name, other)
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            if source.startswith("../"):
                assert (DOCKER / source).is_dir(), f"{name}: there is no {source}"
            elif not source.startswith("./secrets"):
                assert source in file["volumes"], f"{name}: {source} is no volume"
        if service["image"].startswith("adlake:"):
            accepted(name, service["command"], service["environment"])
            assert service["read_only"] and service["cap_drop"] == ["ALL"], name
    dockerfile = (DOCKER / "Dockerfile").read_text()
    assert "USER 10001:10001" in dockerfile and "HEALTHCHECK" in dockerfile and "root.sh /tmp/adlake /tmp/docker /" in dockerfile
    print(f"image_run: compose.yml follows the schema; {len(file['services'])} services", flush=True)


def accepted(name, command, variables):
    """The program takes this command and these variables."""
    clean = {"PATH": os.environ["PATH"], **variables}
    for arguments in (["config", "check"], [*command, "--help"]):
        done = subprocess.run([environment.adlake(), *arguments], env=clean, capture_output=True, text=True)
        assert done.returncode == 0, f"{name}: {arguments}: {done.stderr}"


def layout(folder):
    root, packages = folder / "root", folder / "packages"
    packages.mkdir()
    for name in ("usr/bin", "usr/sbin", "usr/lib", "usr/lib64", "proc", "dev", "tmp", "mnt", "var/lib/adlake", "etc"):
        (root / name).mkdir(parents=True)
    for name in ("bin", "sbin", "lib", "lib64"):
        (root / name).symlink_to(f"usr/{name}")
    download = ["apt-get", "download", "-qq", *PACKAGES]
    done = subprocess.run(download, cwd=packages, capture_output=True, text=True)
    if done.returncode != 0:
        # The lists of packages may be missing or old.
        subprocess.run(["apt-get", "update", "-qq"], capture_output=True)
        done = subprocess.run(download, cwd=packages, capture_output=True, text=True)
    if done.returncode != 0:
        environment.lacking(f"packages of Debian (apt-get update; apt-get download): {done.stderr}")
    for package in sorted(packages.glob("*.deb")):
        tar = subprocess.Popen(["dpkg-deb", "--fsys-tarfile", package], stdout=subprocess.PIPE)
        subprocess.run(["tar", "-x", "--keep-directory-symlink", "-C", root], stdin=tar.stdout, check=True)
        assert tar.wait() == 0, package
    stripped = folder / "adlake"
    subprocess.run(["strip", "-o", stripped, environment.adlake()], check=True)
    subprocess.run(["bash", DOCKER / "root.sh", stripped, DOCKER, root], check=True)
    size = sum(file.lstat().st_size for file in root.rglob("*"))
    print(f"image_run: the root file system has {size >> 20} MiB, {stripped.stat().st_size >> 20} MiB of it the program", flush=True)
    return root


def started(folder, root):
    work, lake = folder / "work", folder / "lake"
    for place in (work, lake):
        place.mkdir()
        os.chown(place, 10001, 10001)

    def inside(*command, **variables):
        """The command line that runs a command as the image would."""
        settings = [part for name, value in variables.items() for part in ("--setenv", name, value)]
        return [
            "bwrap", "--unshare-user", "--unshare-pid", "--unshare-ipc", "--uid", "10001", "--gid", "10001", "--die-with-parent",
            "--ro-bind", root, "/", "--bind", work, "/var/lib/adlake", "--bind", lake, "/mnt", "--tmpfs", "/tmp", "--proc", "/proc", "--dev", "/dev",
            "--clearenv", "--setenv", "PATH", "/usr/local/bin:/usr/bin:/bin", *settings, *command,
        ]

    def run(*command, **variables):
        return subprocess.run([str(part) for part in inside(*command, **variables)], capture_output=True, text=True, user=10001, group=10001)

    version = run("adlake-entrypoint", "--version")
    assert version.returncode == 0 and version.stdout.startswith("adlake "), version
    refused = run("sh", "-c", "touch /usr/x || touch /etc/x || touch /x")
    assert refused.returncode != 0 and refused.stderr.count("Read-only file system") == 3, refused
    # Without keys the server must not listen for others.
    port = environment.free_port()
    alone = run("adlake-entrypoint", "serve", "--listen", f"0.0.0.0:{port}", ADLAKE_LAKE__URI="/mnt/lake")
    assert alone.returncode == 2 and "there are no keys" in alone.stderr, alone

    landing = folder / "lake/landing"
    landing.mkdir()
    event = '{"ad_creative_id": "c", "user_id": "u", "timestamp": "2026-01-01T00:00:00Z", "website": "w"}\n'
    (landing / "impressions.json").write_text(event)
    taken = run("adlake-entrypoint", "ingest", "files", "/mnt/landing", ADLAKE_LAKE__URI="/mnt/lake")
    assert taken.returncode == 0, taken
    made = run("adlake-entrypoint", "keys", "create", "ops", "--role", "admin", "--format", "json", ADLAKE_SERVE__KEYS_FILE="/var/lib/adlake/made")
    assert made.returncode == 0, made
    key = json.loads(made.stdout)["key"]
    text = (work / "made").read_text()
    (work / "made").unlink()
    unhealthy = run("adlake-health", str(port))
    assert unhealthy.returncode != 0, "a server that is not there must not be well"
    variables = {
        "ADLAKE_LAKE__URI": "/mnt/lake", "ADLAKE_SERVE__KEYS_FILE": "/var/lib/adlake/keys", "ADLAKE_IMAGE_KEYS": text,
        "ADLAKE_IMAGE_CONFIG": f'[serve]\nlisten = "0.0.0.0:{port}"\n',
    }
    command = inside("adlake-entrypoint", "serve", **variables)
    with environment.Process(command, folder / "serve.log", user=10001, group=10001) as server:
        environment.wait_for(lambda: run("adlake-health", str(port)).returncode == 0, "the health check passes", server)
        assert ask(port, None) == 401 and ask(port, key) == 200
        assert run("adlake-health", str(port), "/nothing").returncode == 1, "404 is not well"
        assert (work / "keys").stat().st_mode & 0o077 == 0, "the keys must be readable by the program alone"
        pids = subprocess.run(["pgrep", "-f", "adlake serve"], capture_output=True, text=True).stdout.split()
        told = [pathlib.Path(f"/proc/{pid}/environ").read_bytes() for pid in pids if pathlib.Path(f"/proc/{pid}/environ").exists()]
        assert any(b"ADLAKE_SERVE__KEYS_FILE" in text and b"ADLAKE_IMAGE_KEYS" not in text for text in told), "the keys are not handed on"
    print("image_run: the program runs in it, read-only, without capabilities, as 10001", flush=True)


def ask(port, key):
    request = urllib.request.Request(f"http://127.0.0.1:{port}/metrics", headers={"Authorization": f"Bearer {key}"} if key else {})
    try:
        return urllib.request.urlopen(request, timeout=10).status
    except urllib.error.HTTPError as error:
        return error.code


if __name__ == "__main__":
    main()
