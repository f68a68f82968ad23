"""CloudWatch's API for the tests: moto, and in front of it the protocol that AWS's newer SDKs speak (CBOR), which moto does
not know. A request is decoded, made with boto3 over JSON, and its answer is encoded.

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
from moto.server import ThreadedMotoServer

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
