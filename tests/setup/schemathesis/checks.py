"""What requests and answers are, beyond what schemathesis itself makes of the description."""

import re

import schemathesis

SNAPSHOT = re.compile("[0-9]{1,18}(-[0-9]{1,18}){6}")


@schemathesis.hook
def before_call(context, case, kwargs):
    """A server waits for a snapshot that it has not reached, and then answers 503. So snapshots are ones that it has. And
    for what has a pattern, schemathesis sends an empty header as if the pattern allowed it."""
    headers = case.headers or {}
    if headers.get("X-Adlake-Snapshot") == "":
        del headers["X-Adlake-Snapshot"]
    elif SNAPSHOT.fullmatch(headers.get("X-Adlake-Snapshot", "")):
        headers["X-Adlake-Snapshot"] = "0-0-0-0-0-0-0"


@schemathesis.check
def problems_name_their_request(ctx, response, case):
    """The header and the body of a problem name the same request."""
    kind = response.headers.get("content-type", [""])[0]
    assert response.headers.get("x-request-id"), "an answer without the number of its request"
    if response.status_code >= 400 and case.method != "HEAD":
        assert kind == "application/problem+json", f"{response.status_code} as {kind!r}"
        assert response.json()["request_id"] == response.headers["x-request-id"][0], response.text
