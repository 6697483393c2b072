"""Sends every case of CASES to the server at BASE and records the responses: record.py BASE CASES OUT

A case: {"id", "method", "path", "body" (text, sent unchanged) | "body_b64", "headers"}; a response: {"id", "status",
"type", "body"}.
"""

import base64
import http.client
import json
import sys
import urllib.parse
from pathlib import Path
from typing import Any


def send(case: dict[str, Any], host: str, port: int) -> dict[str, Any]:
    connection = http.client.HTTPConnection(host, port, timeout=20)
    body = base64.b64decode(case["body_b64"]) if "body_b64" in case else case.get("body", "").encode()
    connection.putrequest(case["method"], case["path"], skip_accept_encoding=True)
    for name, value in case.get("headers", {"Content-Type": "application/json"}).items():
        connection.putheader(name, value)
    if case["method"] != "GET" or body:
        connection.putheader("Content-Length", str(len(body)))
    connection.endheaders(body or None)
    response = connection.getresponse()
    text = response.read().decode("utf-8", "backslashreplace")
    connection.close()
    return {"id": case["id"], "status": response.status, "type": response.getheader("Content-Type"), "body": text}


base, cases, out = sys.argv[1:4]
address = urllib.parse.urlparse(base)
responses = [send(case, address.hostname, address.port) for case in json.loads(Path(cases).read_text(encoding="utf-8"))]
Path(out).write_text(json.dumps(responses, indent=1, ensure_ascii=False), encoding="utf-8")
print(len(responses), "responses")
