"""A real Kafka broker on a free port, from the jars that tests/setup/setup.sh kafka fetches."""

import base64
import subprocess
import uuid

import environment

PROPERTIES = """process.roles=broker,controller
node.id=1
controller.quorum.voters=1@127.0.0.1:{controller}
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller}
advertised.listeners=PLAINTEXT://127.0.0.1:{port}
controller.listener.names=CONTROLLER
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT
inter.broker.listener.name=PLAINTEXT
log.dirs={folder}/data
auto.create.topics.enable=false
offsets.topic.replication.factor=1
offsets.topic.num.partitions=1
transaction.state.log.replication.factor=1
transaction.state.log.min.isr=1
transaction.state.log.num.partitions=1
share.coordinator.state.topic.replication.factor=1
share.coordinator.state.topic.min.isr=1
group.initial.rebalance.delay.ms=0
"""


def broker(folder):
    """A process to be entered, and the address of the broker."""
    libraries = environment.CACHE / "kafka/libs"
    if not libraries.is_dir():
        environment.lacking("Apache Kafka: tests/setup/setup.sh kafka")
    java = environment.tool("java", "version 17 or newer: apt-get install openjdk-17-jdk-headless")
    folder.mkdir()
    port = environment.free_port()
    file = folder / "server.properties"
    file.write_text(PROPERTIES.format(port=port, controller=environment.free_port(), folder=folder))
    start = [java, "-Xmx256m", "-XX:+UseSerialGC", "-XX:TieredStopAtLevel=1", "-cp", f"{libraries}/*"]
    cluster = base64.urlsafe_b64encode(uuid.uuid4().bytes).decode().rstrip("=").replace("-", "a")
    done = subprocess.run([*start, "kafka.tools.StorageTool", "format", "-t", cluster, "-c", file], capture_output=True, text=True)
    assert done.returncode == 0, f"cannot format the broker's storage: {done.stdout}{done.stderr}"
    return environment.Process([*start, "kafka.Kafka", file], folder / "kafka.log", cwd=folder), port
