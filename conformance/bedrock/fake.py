"""Amazon Bedrock's Converse API as botocore knows it: its own signer and its own model of the service
judge each request, and each answer of this fake too. A real HTTP/1.1 server."""

import binascii
import json
import struct
import urllib.parse

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from botocore.loaders import Loader
from botocore.model import ServiceModel
from botocore.validate import ParamValidator
from http_double import HttpDouble

REGION, SERVICE = "eu-central-1", "bedrock"
KEY_ID, SECRET, TOKEN = "AKIDSUITE", "very/secret+key=", "a-token-of-temporary-credentials"
MODEL = ServiceModel(Loader().load_service_model("bedrock-runtime", "service-2"))
CONVERSE = MODEL.operation_model("Converse")
USAGE = {"inputTokens": 12, "outputTokens": 7, "totalTokens": 19, "cacheReadInputTokens": 4}


def problem_of_signature(handler, body):
    """What is wrong with a request's signature, by botocore's own signer; `None` if nothing."""
    scheme, _, rest = handler.headers["authorization"].partition(" ")
    given = dict(part.strip().split("=", 1) for part in rest.split(","))
    names = given["SignedHeaders"].split(";")
    if not {"host", "x-amz-date", "x-amz-security-token"} <= set(names):
        return f"not signed: {names}"
    url = f"http://{handler.headers['host']}{handler.path}"
    headers = {name: handler.headers[name] for name in names}
    request = AWSRequest("POST", url, headers=headers, data=body)
    request.context["timestamp"] = headers["x-amz-date"]
    signer = SigV4Auth(Credentials(KEY_ID, SECRET, TOKEN), SERVICE, REGION)
    text = signer.string_to_sign(request, signer.canonical_request(request))
    scope = f"{KEY_ID}/{signer.credential_scope(request)}"
    wanted = ("AWS4-HMAC-SHA256", scope, signer.signature(text, request))
    found = (scheme, given["Credential"], given["Signature"])
    return None if found == wanted else f"{found} is not {wanted}"


def problem_of_shape(value, shape):
    """What is wrong with a value, by botocore's model of the service; `None` if nothing."""
    report = ParamValidator().validate(value, shape)
    return report.generate_report() if report.has_errors() else None


def frame(kind, payload, message="event"):
    """One frame of Amazon's event stream."""
    typed = ":event-type" if message == "event" else ":exception-type"
    headers = {typed: kind, ":content-type": "application/json", ":message-type": message}
    head = b"".join(
        bytes([len(name)]) + name.encode() + b"\x07" + struct.pack(">H", len(text)) + text.encode()
        for name, text in headers.items()
    )
    data = json.dumps(payload).encode()
    prelude = struct.pack(">II", len(head) + len(data) + 16, len(head))
    whole = prelude + struct.pack(">I", binascii.crc32(prelude)) + head + data
    return whole + struct.pack(">I", binascii.crc32(whole))


class Fake(HttpDouble):
    """Says what was planned for a model."""

    def __init__(self):
        self.plans, self.asked = {}, {}
        super().__init__()

    def plan(self, model, content=(), stop="end_turn", fails=None):
        """`fails`: (status, exception), or ("stream", exception) after the first piece."""
        with self.lock:
            self.plans[model] = (list(content), stop, fails)

    def post(self, request):
        raw, body = request.body, request.json()
        _, place, model, method = request.path.split("/")
        model = urllib.parse.unquote(model)
        seen = {"body": body, "signature": problem_of_signature(request, raw), "place": place}
        seen |= {"path": request.path, "shape": problem_of_shape(body | {"modelId": model}, CONVERSE.input_shape)}
        with self.lock:
            self.asked.setdefault(model, []).append(seen)
            content, stop, fails = self.plans[model]
        if fails and fails[0] != "stream":
            status, kind = fails
            told = {"x-amzn-errortype": kind}
            return request.reply(status, "application/json", {"message": "said so"}, told)
        if method == "converse":
            return request.reply(200, "application/json", answer(content, stop))
        data = b"".join(frames(content, stop, fails and fails[1]))
        request.reply(200, "application/vnd.amazon.eventstream", data)


def answer(content, stop):
    message = {"role": "assistant", "content": content}
    metrics = {"latencyMs": 5}
    said = {"output": {"message": message}, "stopReason": stop, "usage": USAGE, "metrics": metrics}
    problem = problem_of_shape(said, CONVERSE.output_shape)
    assert problem is None, f"the fake itself is wrong: {problem}"
    return said


def frames(content, stop, cut):
    yield frame("messageStart", {"role": "assistant"})
    for index, block in enumerate(content):
        place = {"contentBlockIndex": index}
        if "toolUse" in block:
            call = block["toolUse"]
            start = {"toolUse": {"toolUseId": call["toolUseId"], "name": call["name"]}}
            yield frame("contentBlockStart", place | {"start": start})
            text = json.dumps(call["input"])
            pieces = [{"toolUse": {"input": piece}} for piece in (text[:5], text[5:])]
        else:
            half = len(block["text"]) // 2
            pieces = [{"text": piece} for piece in (block["text"][:half], block["text"][half:])]
        for piece in pieces:
            yield frame("contentBlockDelta", place | {"delta": piece})
            if cut:
                yield frame(cut, {"message": "said so"}, "exception")
                return
        yield frame("contentBlockStop", place)
    yield frame("messageStop", {"stopReason": stop})
    yield frame("metadata", {"usage": USAGE, "metrics": {"latencyMs": 5}})
