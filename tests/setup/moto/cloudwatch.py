"""CloudWatch's API for the tests: moto, and in front of it the protocol that AWS's newer SDKs speak (CBOR), which moto does
not know. A request is decoded, made with boto3 over JSON, and its answer is encoded. moto's alarms have a rule, but no operation that
makes composite alarms: it is added here, with what AWS refuses.

    cloudwatch.py PORT

Programs that speak JSON or the query protocol, like boto3, use PORT + 1, which is moto itself.
"""

import datetime
import gzip
import re
import sys
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import boto3
import botocore.exceptions
import cbor2
from moto.cloudwatch.exceptions import ValidationError
from moto.cloudwatch.models import CloudWatchBackend
from moto.cloudwatch.responses import CloudWatchResponse
from moto.core.responses import ActionResult
from moto.server import ThreadedMotoServer

CHILDREN_MAX, RULE_CHARACTERS_MAX = 100, 10_240


def children(rule):
    return re.findall(r'\b(?:ALARM|OK|INSUFFICIENT_DATA)\("([^"]+)"\)', rule or "")


def put_composite_alarm(self):
    rule = self._get_param("AlarmRule")
    alarms = self.cloudwatch_backend.alarms
    missing = [name for name in children(rule) if name not in alarms]
    if missing:
        raise ValidationError(f"Could not save the composite alarm as alarms {missing} in the alarm rule do not exist.")
    if not children(rule) or len(set(children(rule))) > CHILDREN_MAX or len(rule) > RULE_CHARACTERS_MAX:
        raise ValidationError("AlarmRule is empty or too large.")
    return self.put_metric_alarm()


def describe_alarms(self, describe=CloudWatchResponse.describe_alarms):
    found = describe(self).result
    types = self._get_param("AlarmTypes", []) or ["MetricAlarm"]
    composites = found["CompositeAlarms"] if "CompositeAlarm" in types else []
    for alarm in composites:
        alarm.alarm_rule = alarm.rule
    metrics = found["MetricAlarms"] if "MetricAlarm" in types else []
    return ActionResult({"MetricAlarms": metrics, "CompositeAlarms": composites})


def delete_alarms(self, names, delete=CloudWatchBackend.delete_alarms):
    if len(names) > 100 or sum(name in self.alarms and self.alarms[name].rule is not None for name in names) > 1:
        raise ValidationError("At most 100 alarms are deleted at once, and at most one composite alarm.")
    needed = {name for alarm in self.alarms.values() if alarm.name not in names for name in children(alarm.rule)}
    if needed & set(names):
        raise ValidationError(f"Cannot delete {','.join(needed & set(names))} as there are composite alarm(s) depending on it.")
    delete(self, names)


CloudWatchResponse.put_composite_alarm = put_composite_alarm
CloudWatchResponse.describe_alarms = describe_alarms
CloudWatchBackend.delete_alarms = delete_alarms

port = int(sys.argv[1])
moto = ThreadedMotoServer(ip_address="127.0.0.1", port=port + 1, verbose=False)
moto.start()
client = boto3.client(
    "cloudwatch",
    "eu-central-1",
    endpoint_url=f"http://127.0.0.1:{port + 1}",
    aws_access_key_id="test",
    aws_secret_access_key="test",
)


class Handler(BaseHTTPRequestHandler):
    protocol_version = "HTTP/1.1"

    def log_message(self, *_):
        pass

    def do_GET(self):
        self.answer(200, {})

    def do_POST(self):
        body = self.rfile.read(int(self.headers.get("content-length") or 0))
        if self.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        operation = self.path.rsplit("/", 1)[-1]
        name = re.sub(r"(?<!^)(?=[A-Z])", "_", operation).lower()
        try:
            answer = getattr(client, name)(**(cbor2.loads(body) if body else {}))
            answer.pop("ResponseMetadata", None)
            self.answer(200, answer)
        except botocore.exceptions.ClientError as error:
            self.answer(400, {"__type": error.response["Error"]["Code"], "message": str(error)})
        except Exception as error:
            self.answer(400, {"__type": "ValidationException", "message": repr(error)})

    def answer(self, status, value):
        body = cbor2.dumps(value, datetime_as_timestamp=True, timezone=datetime.timezone.utc)
        self.send_response(status)
        self.send_header("content-type", "application/cbor")
        self.send_header("smithy-protocol", "rpc-v2-cbor")
        self.send_header("content-length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)


ThreadingHTTPServer(("127.0.0.1", port), Handler).serve_forever()
