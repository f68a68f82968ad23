"""A proxy before an S3 server that enforces policy documents of IAM: each part of adlake with only its own permissions.

The part is told by the access key of the request: AKIA + the part's name. A request that no statement of the part's policy allows
is answered as AWS would, and noted: by 403, or by an error for each key that is to be deleted.
"""

import fnmatch
import http.client
import re
import urllib.parse
from xml.sax.saxutils import escape

import environment


def actions(method, bucket, key, query, body):
    """What a request does: pairs of an action and a resource, or an action and the prefix that it lists."""
    objects = f"arn:aws:s3:::{bucket}/{key}"
    if method in ("GET", "HEAD") and not key:
        return [("s3:ListBucket", query.get("prefix", [""])[0])]
    if method == "POST" and "delete" in query:
        keys = re.findall(rb"<Key>([^<]*)</Key>", body)
        return [("s3:DeleteObject", f"arn:aws:s3:::{bucket}/{urllib.parse.unquote(name.decode())}") for name in keys]
    if method == "DELETE" and "uploadId" in query:
        return [("s3:AbortMultipartUpload", objects)]
    return [({"GET": "s3:GetObject", "HEAD": "s3:GetObject", "DELETE": "s3:DeleteObject"}.get(method, "s3:PutObject"), objects)]


def allows(policy, action, resource):
    """Whether a statement allows it. Only what module access renders is understood: Allow, and StringLike on s3:prefix."""
    for statement in policy["Statement"]:
        assert statement["Effect"] == "Allow", statement
        named = statement["Action"] if isinstance(statement["Action"], list) else [statement["Action"]]
        if action not in named:
            continue
        resources = statement["Resource"] if isinstance(statement["Resource"], list) else [statement["Resource"]]
        if action == "s3:ListBucket":
            prefixes = statement["Condition"]["StringLike"]["s3:prefix"]
            prefixes = prefixes if isinstance(prefixes, list) else [prefixes]
            if any(fnmatch.fnmatchcase(resource, prefix) for prefix in prefixes):
                return True
        elif any(fnmatch.fnmatchcase(resource, pattern) for pattern in resources):
            return True
    return False


class Proxy(environment.Between):
    """`policies` by part. `refused` has what was refused: (part, action, resource); `done`, what was allowed."""

    def __init__(self, upstream_port, policies):
        # Before the first request can come.
        self.policies, self.refused, self.done = policies, [], set()
        super().__init__(upstream_port, Handler)


class Handler(environment.BetweenHandler):
    def handle_one(self):
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        address = urllib.parse.urlsplit(self.path)
        bucket, _, key = urllib.parse.unquote(address.path).lstrip("/").partition("/")
        query = urllib.parse.parse_qs(address.query, keep_blank_values=True)
        found = re.search(r"Credential=AKIA([A-Z]+)/", self.headers.get("Authorization", ""))
        part = found.group(1).lower() if found else "nobody"
        for action, resource in actions(self.command, bucket, key, query, body):
            if part not in self.server.policies or not allows(self.server.policies[part], action, resource):
                self.server.refused.append((part, action, resource))
                if self.command == "POST" and "delete" in query:
                    return self.refuse_keys(part, action, body)
                return self.refuse(part, action)
            self.server.done.add((part, action))
        connection = http.client.HTTPConnection("127.0.0.1", self.server.upstream_port, timeout=60)
        # The signature covers the address that the client called, so the server behind must see the same.
        connection.putrequest(self.command, self.path, skip_host=True, skip_accept_encoding=True)
        for name, value in self.headers.items():
            connection.putheader(name, value)
        connection.endheaders(body or None)
        answer = connection.getresponse()
        content = answer.read()
        self.send_response_only(answer.status)
        for name, value in answer.getheaders():
            if name.lower() not in ("transfer-encoding", "connection", "content-length"):
                self.send_header(name, value)
        length = answer.getheader("Content-Length") if self.command == "HEAD" else str(len(content))
        if length is not None:
            self.send_header("Content-Length", length)
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
        connection.close()

    do_GET = do_HEAD = do_PUT = do_POST = do_DELETE = handle_one

    def refuse(self, part, action):
        self.answer(403, f"<Error>{self.denied(part, action)}</Error>")

    def refuse_keys(self, part, action, body):
        """S3 answers 200, with an error for each key. Here none of the keys is deleted, if one may not be."""
        keys = [key.decode() for key in re.findall(rb"<Key>([^<]*)</Key>", body)]
        errors = "".join(f"<Error><Key>{key}</Key>{self.denied(part, action)}</Error>" for key in keys)
        self.answer(200, f'<DeleteResult xmlns="http://s3.amazonaws.com/doc/2006-03-01/">{errors}</DeleteResult>')

    def denied(self, part, action):
        return f"<Code>AccessDenied</Code><Message>{escape(f'{part} may not {action}')}</Message>"

    def answer(self, status, xml):
        content = f'<?xml version="1.0" encoding="UTF-8"?>{xml}'.encode()
        self.send_response_only(status)
        self.send_header("Content-Type", "application/xml")
        self.send_header("Content-Length", str(len(content)))
        self.end_headers()
        if self.command != "HEAD":
            self.wfile.write(content)
