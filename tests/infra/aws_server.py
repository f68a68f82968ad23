#!/usr/bin/env python3
"""A local AWS API for Terraform: moto, and in front of it what moto lacks or answers differently from AWS.

Usage: aws_server.py PORT LOG

The shim below exists so that production HCL runs unchanged. It answers for what moto does not have (the configuration and the
SCRAM secrets of MSK, subscribers of budgets, scalable targets' tags) and corrects what moto answers otherwise than AWS. It says
nothing about whether AWS would accept a request.
"""

import io
import json
import os
import sys
import threading
import time
import urllib.parse
from xml.sax.saxutils import escape

os.environ["MOTO_IAM_LOAD_MANAGED_POLICIES"] = "true"

from moto.moto_server.werkzeug_app import DomainDispatcherApplication, create_backend_app  # noqa: E402
from werkzeug.serving import run_simple  # noqa: E402


class Shim:
    """WSGI middleware. `self.lock` guards the dictionaries: the server has a thread for each request."""

    def __init__(self, application, log):
        self.application = application
        self.log = log
        self.lock = threading.Lock()
        self.subscribers = {}
        self.configurations = {}
        self.scram = {}
        self.tags = {}
        self.composites = {}

    def __call__(self, environ, start_response):
        length = int(environ.get("CONTENT_LENGTH") or 0)
        body = environ["wsgi.input"].read(length) if length else b""
        environ["wsgi.input"] = io.BytesIO(body)
        target = environ.get("HTTP_X_AMZ_TARGET", "").split(".")[-1]
        path = urllib.parse.unquote(environ.get("PATH_INFO", ""))
        method = environ["REQUEST_METHOD"]
        with self.lock:
            xml = self.composite(body)
            answer = None if xml else self.own(method, path, target, body)
        if xml:
            return self.reply(start_response, "200 OK", xml.encode(), "text/xml")
        if answer is not None:
            status, value = answer
            error = value.get("__type") if status.startswith("4") else None
            return self.reply(start_response, status, json.dumps(value).encode(), "application/x-amz-json-1.1", error)
        caught = {}

        def catch(status, headers, exc_info=None):
            caught["status"], caught["headers"] = status, list(headers)
            return lambda data: None

        try:
            content = b"".join(self.application(environ, catch))
        except KeyError as error:
            # moto ends with this where AWS says that there is no such cluster.
            if "/clusters/" not in path:
                raise
            missing = json.dumps({"message": f"no cluster {error}"}).encode()
            return self.reply(start_response, "404 Not Found", missing, "application/json", "NotFoundException")
        status = caught["status"]
        content = self.corrected(method, path, target, content)
        if not status.startswith(("2", "3")):
            line = f"{status} {method} {path} {target} {body[:200]!r} -> {content[:300]!r}\n"
            with self.lock, open(self.log, "a") as log:
                log.write(line)
        headers = [(name, value) for name, value in caught["headers"] if name.lower() != "content-length"]
        start_response(status, [*headers, ("Content-Length", str(len(content)))])
        return [content]

    @staticmethod
    def reply(start_response, status, content, kind, error=None):
        headers = [("Content-Type", kind), ("Content-Length", str(len(content)))]
        start_response(status, headers + ([("x-amzn-ErrorType", error)] if error else []))
        return [content]

    def own(self, method, path, target, body):
        """The answer to what moto does not have, or None."""
        ok = "200 OK"
        if target in ("CreateBudget", "CreateNotification", "DescribeSubscribersForNotification"):
            return self.budget(target, json.loads(body))
        if target == "ListTagsForResource" and b"scalable-target" in body:
            return ok, {"Tags": {}}
        if target == "ListTagsForResource" and b":budgets:" in body:
            return ok, {"ResourceTags": self.tags.get(json.loads(body)["ResourceARN"].rsplit("/", 1)[1], [])}
        if path.startswith("/v1/configurations"):
            return self.configuration(method, path, json.loads(body or b"{}"))
        if path.startswith("/v1/clusters/") and path.endswith("/scram-secrets"):
            known = self.scram.setdefault(path, [])
            if method == "GET":
                return ok, {"secretArnList": known}
            sent = json.loads(body)["secretArnList"]
            self.scram[path] = known + sent if method == "POST" else [arn for arn in known if arn not in sent]
            return ok, {"clusterArn": path.split("/", 3)[3].rsplit("/", 1)[0], "unprocessedScramSecrets": []}
        if path.startswith("/v1/clusters/") and path.endswith("/bootstrap-brokers"):
            brokers = ",".join(f"b-{number}.adlake.test.kafka.local:{{port}}" for number in (1, 2, 3))
            return ok, {
                "bootstrapBrokerStringSaslScram": brokers.format(port=9096),
                "bootstrapBrokerStringSaslIam": brokers.format(port=9098),
            }
        return None

    def composite(self, body):
        """Composite alarms, in CloudWatch's query protocol."""
        if not body.startswith(b"Action=") or b"monitoring" not in body and b"Alarm" not in body and b"alarm" not in body:
            return None
        sent = {name: values[0] for name, values in urllib.parse.parse_qs(body.decode()).items()}
        action, result = sent["Action"], ""
        if action == "PutCompositeAlarm":
            self.composites[sent["AlarmName"]] = sent
        elif action == "DescribeAlarms" and sent.get("AlarmTypes.member.1") == "CompositeAlarm":
            known = self.composites.get(sent.get("AlarmNames.member.1"))
            result = f"<CompositeAlarms>{self.composite_xml(known) if known else ''}</CompositeAlarms><MetricAlarms/>"
        elif action == "DeleteAlarms" and sent.get("AlarmNames.member.1") in self.composites:
            del self.composites[sent["AlarmNames.member.1"]]
        elif action == "ListTagsForResource" and sent.get("ResourceARN", "").split(":alarm:")[-1] in self.composites:
            result = f"<Tags>{self.tags_xml(self.composites[sent['ResourceARN'].split(':alarm:')[-1]])}</Tags>"
        else:
            return None
        space = "http://monitoring.amazonaws.com/doc/2010-08-01/"
        return (
            f'<{action}Response xmlns="{space}"><{action}Result>{result}</{action}Result>'
            f"<ResponseMetadata><RequestId>0</RequestId></ResponseMetadata></{action}Response>"
        )

    @staticmethod
    def tags_xml(sent):
        pairs = []
        for number in range(1, 51):
            if f"Tags.member.{number}.Key" in sent:
                key, value = sent[f"Tags.member.{number}.Key"], sent.get(f"Tags.member.{number}.Value", "")
                pairs.append(f"<member><Key>{escape(key)}</Key><Value>{escape(value)}</Value></member>")
        return "".join(pairs)

    @staticmethod
    def composite_xml(sent):
        def members(name):
            values = [sent[key] for key in sorted(sent) if key.startswith(f"{name}.member.")]
            return f"<{name}>{''.join(f'<member>{escape(value)}</member>' for value in values)}</{name}>"

        arn = f"arn:aws:cloudwatch:eu-central-1:123456789012:alarm:{sent['AlarmName']}"
        plain = "".join(
            f"<{name}>{escape(sent[name])}</{name}>"
            for name in ("AlarmName", "AlarmDescription", "AlarmRule", "ActionsEnabled")
            if name in sent
        )
        return (
            f"<member><AlarmArn>{arn}</AlarmArn>{plain}<StateValue>OK</StateValue>"
            f"{''.join(members(name) for name in ('AlarmActions', 'OKActions', 'InsufficientDataActions'))}</member>"
        )

    def budget(self, target, body):
        def key(notification):
            return body.get("BudgetName") or body["Budget"]["BudgetName"], json.dumps(
                [notification[name] for name in ("NotificationType", "ComparisonOperator")]
                + [float(notification["Threshold"]), notification.get("ThresholdType", "PERCENTAGE")]
            )

        if target == "DescribeSubscribersForNotification":
            return "200 OK", {"Subscribers": self.subscribers.get(key(body["Notification"]), [])}
        if target == "CreateBudget":
            self.tags[body["Budget"]["BudgetName"]] = body.get("ResourceTags", [])
        pairs = body.get("NotificationsWithSubscribers") or []
        if target == "CreateNotification":
            pairs = [body]
        for pair in pairs:
            self.subscribers[key(pair["Notification"])] = pair["Subscribers"]
        return None

    def configuration(self, method, path, body):
        now = time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime())
        if method == "POST":
            arn = f"arn:aws:kafka:eu-central-1:123456789012:configuration/{body['name']}/00000000-0000-4000-8000-000000000001-1"
            self.configurations[arn] = body
            revision = {"creationTime": now, "revision": 1}
            return "200 OK", {"arn": arn, "name": body["name"], "creationTime": now, "latestRevision": revision, "state": "ACTIVE"}
        arn = path.removeprefix("/v1/configurations/").split("/revisions")[0]
        known = self.configurations.get(arn)
        if known is None:
            return "400 Bad Request", {"__type": "BadRequestException", "message": "Configuration ARN does not exist"}
        if method == "DELETE":
            del self.configurations[arn]
            return "200 OK", {"arn": arn, "state": "DELETING"}
        revision = {"creationTime": now, "revision": 1, "description": known.get("description", "")}
        if "/revisions/" in path:
            return "200 OK", {"arn": arn, **revision, "serverProperties": known["serverProperties"]}
        return "200 OK", {
            "arn": arn, "name": known["name"], "kafkaVersions": known.get("kafkaVersions", []), "creationTime": now,
            "latestRevision": revision, "state": "ACTIVE", "description": known.get("description", ""),
        }

    @staticmethod
    def corrected(method, path, target, content):
        """moto's answer as AWS would give it."""
        if method == "GET" and "/v2/clusters/" in path or method == "GET" and path.startswith("/v1/clusters/"):
            return content.replace(b'"state": "CREATING"', b'"state": "ACTIVE"')
        return content


def main():
    port, log = int(sys.argv[1]), sys.argv[2]
    open(log, "w").close()
    shim = Shim(DomainDispatcherApplication(create_backend_app), log)
    run_simple("127.0.0.1", port, shim, threaded=True)


if __name__ == "__main__":
    main()
