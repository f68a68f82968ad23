"""What the tests of infra/ share: where things are, servers on free ports, and what is said if a tool is missing."""

import http.server
import os
import pathlib
import shutil
import socket
import subprocess
import sys
import threading
import time

HERE = pathlib.Path(__file__).resolve().parent
ROOT = HERE.parents[1]
CACHE = pathlib.Path(os.environ.get("ADLAKE_CACHE") or pathlib.Path.home() / ".cache/adlake")
PROVIDER = "registry.terraform.io/hashicorp/aws"


def lacking(what):
    sys.exit(f"tests/infra: MISSING: {what}")


def tool(name, how):
    """The path of a program. Ends the test if there is none."""
    found = shutil.which(name) or (CACHE / "infra/bin" / name if (CACHE / "infra/bin" / name).is_file() else None)
    return str(found) if found else lacking(f"{name}: {how}")


def adlake():
    path = os.environ.get("ADLAKE_BIN") or pathlib.Path(os.environ.get("CARGO_TARGET_DIR") or CACHE / "target") / "release/adlake"
    return str(path) if pathlib.Path(path).is_file() else lacking(f"the program ({path}): make build")


def versitygw():
    """The S3 server."""
    path = CACHE / "versitygw/versitygw"
    return path if path.is_file() else lacking("the S3 server: tests/setup/setup.sh versitygw")


class Between(http.server.ThreadingHTTPServer):
    """A server of this process that stands before another one."""

    daemon_threads = True

    def __init__(self, upstream_port, handler):
        super().__init__(("127.0.0.1", 0), handler)
        self.upstream_port = upstream_port
        threading.Thread(target=self.serve_forever, daemon=True).start()

    @property
    def address(self):
        return f"http://127.0.0.1:{self.server_address[1]}"


class BetweenHandler(http.server.BaseHTTPRequestHandler):
    """Handles a request of such a server, and logs nothing."""

    protocol_version = "HTTP/1.1"

    def log_message(self, *arguments):
        pass


def provider_mirror():
    """A folder with Terraform's AWS provider, laid out as `terraform providers mirror` and Terraform's own search do."""
    places = [pathlib.Path(os.environ["ADLAKE_TERRAFORM_PLUGINS"])] if os.environ.get("ADLAKE_TERRAFORM_PLUGINS") else []
    places += [pathlib.Path.home() / ".terraform.d/plugins"]
    for base in ("/usr/local/share", "/usr/share", "/opt"):
        places += [pathlib.Path(base) / "terraform/plugins", *sorted(pathlib.Path(base).glob("*plugins"))]
    for place in places:
        if (place / PROVIDER).is_dir():
            return str(place)
    return lacking(
        "Terraform's AWS provider 5.100 or newer: terraform providers mirror FOLDER, in infra/terraform/examples/complete, on a machine "
        "that reaches the registry of Terraform; then ADLAKE_TERRAFORM_PLUGINS=FOLDER"
    )


def terraform_environment(folder, port=None):
    """The variables under which terraform takes the provider from the mirror, and speaks to the local AWS API."""
    tool("terraform", "version 1.11 or newer, from its makers, or: go install github.com/hashicorp/terraform@v1.11.4")
    (folder / "terraformrc").write_text(
        f'provider_installation {{\n  filesystem_mirror {{\n    path    = "{provider_mirror()}"\n    include = ["registry.terraform.io/*/*"]\n  }}\n}}\n'
    )
    variables = {
        "TF_CLI_CONFIG_FILE": str(folder / "terraformrc"), "TF_DATA_DIR": str(folder / "data"), "CHECKPOINT_DISABLE": "1",
        "TF_IN_AUTOMATION": "1", "AWS_ACCESS_KEY_ID": "none", "AWS_SECRET_ACCESS_KEY": "none", "AWS_REGION": "eu-central-1",
        "AWS_DEFAULT_REGION": "eu-central-1", "AWS_EC2_METADATA_DISABLED": "true",
    }
    if port:
        variables["AWS_ENDPOINT_URL"] = f"http://127.0.0.1:{port}"
    return variables


def free_port():
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


class Process:
    """A server of a test. It is stopped by its id when the block ends."""

    def __init__(self, command, log, **options):
        self.log = pathlib.Path(log)
        self.command = [str(part) for part in command]
        self.options = options

    def __enter__(self):
        self.process = subprocess.Popen(
            self.command, stdin=subprocess.DEVNULL, stdout=self.log.open("w"), stderr=subprocess.STDOUT, **self.options
        )
        return self

    def __exit__(self, *_):
        self.process.terminate()
        try:
            self.process.wait(30)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()

    def check(self):
        if self.process.poll() is not None:
            sys.exit(f"{self.command[0]} ended with {self.process.returncode}: {self.log.read_text()[-3000:]}")


def wait_for(condition, what, process=None, seconds=60):
    end = time.monotonic() + seconds
    while True:
        if process:
            process.check()
        value = condition()
        if value:
            return value
        if time.monotonic() > end:
            sys.exit(f"not within {seconds} s: {what}" + (f": {process.log.read_text()[-3000:]}" if process else ""))
        time.sleep(0.1)


def wait_for_port(port, process):
    def listens():
        with socket.socket() as client:
            return client.connect_ex(("127.0.0.1", port)) == 0

    wait_for(listens, f"port {port}", process)


def run_python(name, text):
    done = subprocess.run([sys.executable, HERE / name], input=text, text=True)
    if done.returncode != 0:
        sys.exit(f"{name} failed")
