"""The suite `telemetry`: what is exported by OTLP, as a collector sees it.

    otlp.py [NAME …]     only the checks whose name contains one of the NAMEs

A collector of the suite's own takes what is posted and reads it with OpenTelemetry's messages for
Python. What is judged: spans and their parents, the conventions' attributes against what the
provider really said, metrics, that no content and no key is in any post, and that a collector that
hangs or is gone holds up nobody.
"""

import json
import os
import pathlib
import sys
import time

from opentelemetry.proto.collector.metrics.v1.metrics_service_pb2 import (
    ExportMetricsServiceRequest,
)
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span, Status

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

import running  # noqa: E402
from doubles import ANSWER, Provider, Receiver, ask  # noqa: E402
from harness import Server, eventually  # noqa: E402

KEY = "hf_suite_otlp_0123456789abcdef"
UPSTREAM_KEY = "upstream-key-that-nobody-exports"
COLLECTOR_KEY = "collector-key-0123456789"
PROMPT = "a-prompt-that-nobody-exports"
TRACE = "0af7651916cd43dd8448eb211c80319c"
CALLER = "b7ad6b7169203331"

CONFIG = """
[telemetry]
{telemetry}

[[providers]]
name = "p"
vendor = "openai-compatible"
base_url = "{provider}/v1"
api_key = "{upstream}"

[[providers]]
name = "own"
vendor = "openai-compatible"
base_url = "{provider}/v1"
api_key = "{upstream}"
propagate_trace = true

[[routes]]
name = "r"
aliases = ["two-tries"]
targets = ["p/e500", "p/d0-0"]
tries_per_target = 1

[[keys]]
name = "suite"
secret = "{key}"
"""


def config(provider, telemetry):
    return CONFIG.format(
        provider=provider.url, telemetry=telemetry, key=KEY, upstream=UPSTREAM_KEY
    )


def export_to(collector, more=""):
    return (
        f'otlp_endpoint = "{collector.url}"\n'
        f'otlp_headers = {{ x-collector-key = "{COLLECTOR_KEY}" }}\n'
        f'metrics_interval = "1s"\nservice_name = "suite"\n{more}'
    )


def plain(value):
    """An attribute's value as Python has it."""
    kind = value.WhichOneof("value")
    if kind == "array_value":
        return [plain(one) for one in value.array_value.values]
    return getattr(value, kind)


def attributes(thing):
    return {one.key: plain(one.value) for one in thing.attributes}


class Collector(Receiver):
    """Reads what it was posted."""

    def spans(self):
        found = []
        for post in self.to("/v1/traces"):
            request = ExportTraceServiceRequest.FromString(post["body"])
            for resource in request.resource_spans:
                for scope in resource.scope_spans:
                    found.extend(scope.spans)
        return found

    def resources(self):
        request = ExportTraceServiceRequest.FromString(self.to("/v1/traces")[0]["body"])
        return [attributes(one.resource) for one in request.resource_spans]

    def metrics(self):
        """The newest post's metrics by name."""
        posts = self.to("/v1/metrics")
        if not posts:
            return {}
        request = ExportMetricsServiceRequest.FromString(posts[-1]["body"])
        scopes = [scope for one in request.resource_metrics for scope in one.scope_metrics]
        return {metric.name: metric for scope in scopes for metric in scope.metrics}

    def of_call(self, call):
        """A Call's own span, and those of its attempts."""
        mine = [s for s in self.spans() if attributes(s).get("holdfast.call.id") == call]
        own = [s for s in mine if "holdfast.attempt.id" not in attributes(s)]
        return own, [s for s in mine if "holdfast.attempt.id" in attributes(s)]

    def wait_for(self, call, attempts):
        def there():
            own, tried = self.of_call(call)
            return own and len(tried) >= attempts

        eventually(f"the spans of {call}", there)
        own, tried = self.of_call(call)
        return own[0], sorted(tried, key=lambda span: span.start_time_unix_nano)


SCENES = []
check = running.Statements()


def scene(function):
    SCENES.append(function)
    return function


@scene
def one_call(of):
    server, collector = of.server, of.collector
    began = time.time_ns()
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-01", "holdfast-class": "batch"}
    status, answered, _ = ask(server, KEY, "d200-0", headers, stream=True, text=PROMPT)
    ended = time.time_ns()
    assert status == 200, answered
    call = answered["holdfast-call-id"]
    own, attempts = collector.wait_for(call, 1)
    check("a call is one span", len(collector.of_call(call)[0]) == 1)
    check("one attempt is one span below it", len(attempts) == 1, len(attempts))
    attempt = attempts[0]
    check("an attempt's parent is its call", attempt.parent_span_id == own.span_id)
    trace = {own.trace_id.hex(), attempt.trace_id.hex()}
    check("the caller's trace goes on", trace == {TRACE}, trace)
    check("the caller's span is the parent", own.parent_span_id.hex() == CALLER)
    kinds = (own.kind, attempt.kind)
    wanted = (Span.SPAN_KIND_SERVER, Span.SPAN_KIND_CLIENT)
    check("a call is served and an attempt asks", kinds == wanted, kinds)
    check("spans are named as the conventions say", own.name == "chat p/d200-0", own.name)
    times = began <= own.start_time_unix_nano <= own.end_time_unix_nano <= ended
    check("a call's times are those of the wall", times)
    took = (attempt.end_time_unix_nano - attempt.start_time_unix_nano) / 1e9
    check("an attempt's time is the provider's", 0.19 < took < 5, took)
    said = attributes(attempt)
    wanted = {
        "gen_ai.operation.name": "chat",
        "gen_ai.provider.name": "p",
        "gen_ai.request.model": "d200-0",
        "gen_ai.response.model": "d200-0-version-7",
        "gen_ai.response.finish_reasons": ["stop"],
        "gen_ai.usage.input_tokens": 11,
        "gen_ai.usage.output_tokens": 7,
        "gen_ai.usage.cache_read.input_tokens": 3,
        "gen_ai.usage.reasoning.output_tokens": 2,
    }
    wrong = {key: said.get(key) for key, value in wanted.items() if said.get(key) != value}
    check("an attempt says what the provider said", not wrong, wrong)
    first = said.get("gen_ai.response.time_to_first_chunk", 0)
    check("and when its first content came", 0.19 < first < 5, first)
    said = attributes(own)
    wanted = {
        "gen_ai.request.model": "p/d200-0",
        "holdfast.class": "batch",
        "holdfast.door": "openai_chat",
        "holdfast.key.name": "suite",
        "holdfast.target": "p/d200-0",
    }
    wrong = {key: said.get(key) for key, value in wanted.items() if said.get(key) != value}
    check("a call says whose it is", not wrong, wrong)
    check("what ended well has no error", not own.status.code and "error.type" not in said)
    resource = collector.resources()[0]
    check("the service has its name", resource.get("service.name") == "suite", resource)
    upstream = [headers for headers, _ in of.provider.asked]
    leaked = [headers for headers in upstream if "traceparent" in {h.lower() for h in headers}]
    check("a provider is not told of the trace", not leaked, leaked)


@scene
def told_of_traces(of):
    given = {"traceparent": f"00-{TRACE}-{CALLER}-01"}
    for headers in (given, {}):
        body = {"model": "own/d0-0", "messages": [{"role": "user", "content": PROMPT}]}
        status, head, _ = of.server.http("POST", "/v1/chat/completions", body, KEY, headers)
        own, [attempt] = of.collector.wait_for(head["holdfast-call-id"], 1)
        sent = {name.lower(): value for name, value in of.provider.asked[-1][0].items()}
        wanted = f"00-{own.trace_id.hex()}-{attempt.span_id.hex()}-01"
        told = sent.get("traceparent")
        check("its own servers are told of the attempt", status == 200 and told == wanted, told)
        is_callers = own.trace_id.hex() == TRACE
        check("in the caller's trace, if it has one", is_callers == bool(headers))


@scene
def two_attempts(of):
    server, collector = of.server, of.collector
    body = {"model": "two-tries", "messages": [{"role": "user", "content": PROMPT}]}
    status, headers, data = server.http("POST", "/v1/chat/completions", body, KEY)
    assert status == 200, data
    own, attempts = collector.wait_for(headers["holdfast-call-id"], 2)
    check("a call of two attempts has two spans below it", len(attempts) == 2, len(attempts))
    parents = {attempt.parent_span_id for attempt in attempts}
    check("both are below the call", parents == {own.span_id})
    codes = [(a.status.code, attributes(a).get("error.type")) for a in attempts]
    wanted = [(Status.STATUS_CODE_ERROR, "upstream_failed"), (0, None)]
    check("the first failed and the second did not", codes == wanted, codes)
    check("the call did not fail", not own.status.code, own.status)
    check("without a caller's trace it is a root", not own.parent_span_id)


@scene
def one_turn(of):
    server, collector = of.server, of.collector
    body = {"model": "p/d0-0", "input": PROMPT, "store": True}
    status, headers, data = server.http("POST", "/v1/responses", body, KEY)
    assert status == 200, data
    own, attempts = collector.wait_for(headers["holdfast-call-id"], 1)
    said = attributes(own)
    named = said.get("gen_ai.conversation.id", "").startswith("sess_")
    check("a session's step names its conversation", named, said)
    check("a session's step has its attempt", len(attempts) == 1)


@scene
def failing(of):
    server, collector = of.server, of.collector
    status, headers, _ = ask(server, KEY, "e500", text=PROMPT)
    own, _ = collector.wait_for(headers["holdfast-call-id"], 1)
    said = (status, own.status.code, attributes(own).get("error.type"))
    wanted = (502, Status.STATUS_CODE_ERROR, "upstream_failed")
    check("a call that failed says its code", said == wanted, said)
    ours = own.status.message
    check("and not its provider's words", ours == "upstream_failed", ours)


@scene
def sampled_out(of):
    server, collector = of.server, of.collector
    headers = {"traceparent": f"00-{TRACE}-{CALLER}-00"}
    _, answered, _ = ask(server, KEY, "d0-0", headers)
    _, later, _ = ask(server, KEY, "d0-0")
    collector.wait_for(later["holdfast-call-id"], 1)
    own, attempts = collector.of_call(answered["holdfast-call-id"])
    check("what its caller does not keep is not exported", not own and not attempts)


@scene
def figures(of):
    collector = of.collector

    def counted():
        usage = collector.metrics().get("gen_ai.client.token.usage")
        points = usage.histogram.data_points if usage else []
        return {
            (attributes(p)["gen_ai.request.model"], attributes(p)["gen_ai.token.type"]): p
            for p in points
        }

    eventually("metrics", lambda: ("d200-0", "input") in counted())
    eventually("metrics of all", lambda: counted().get(("d0-0", "input")))
    points = counted()
    sums = [points[("d200-0", kind)].sum for kind in ("input", "output")]
    check("tokens are those that the provider counted", sums == [11, 7], sums)
    metrics = collector.metrics()
    duration = metrics["gen_ai.client.operation.duration"].histogram.data_points
    failed = [p for p in duration if attributes(p).get("error.type") == "upstream_failed"]
    check("durations are told apart by error", failed and failed[0].count >= 2, failed)
    first = metrics["gen_ai.client.operation.time_to_first_chunk"].histogram.data_points
    slow = [p for p in first if attributes(p)["gen_ai.request.model"] == "d200-0"]
    check("the time to the first chunk is measured", slow and 0.19 < slow[0].sum < 5, slow)
    whole = all(sum(p.bucket_counts) == p.count for p in duration)
    shape = all(len(p.bucket_counts) == len(p.explicit_bounds) + 1 for p in duration)
    check("histograms are whole", whole and shape)


@scene
def secrets_stay(of):
    collector = of.collector
    secrets = [KEY, UPSTREAM_KEY, PROMPT, ANSWER, COLLECTOR_KEY]
    leaks = [s for s in secrets for post in collector.posts if s.encode() in post["body"]]
    check("no prompt, answer or key is in any post", not leaks, leaks)
    headers = [post["headers"].get("x-collector-key") for post in collector.posts]
    check("the collector is shown its key", set(headers) == {COLLECTOR_KEY}, set(headers))
    kinds = {post["headers"]["content-type"] for post in collector.posts}
    check("posts are protocol buffers", kinds == {"application/x-protobuf"}, kinds)


@scene
def clean_stop(of):
    collector = of.world.double(Collector())
    server = of.another("stopping", export_to(collector))
    _, headers, _ = ask(server, KEY, "d0-0")
    ended = server.stop()
    own, attempts = collector.of_call(headers["holdfast-call-id"])
    check("a clean stop exports what is left", ended and own and attempts, (ended, own))


@scene
def by_environment(of):
    collector = of.world.double(Collector())
    environment = {"OTEL_EXPORTER_OTLP_ENDPOINT": collector.url, "OTEL_SERVICE_NAME": "by-env"}
    server = of.another("environment", "", environment)
    ask(server, KEY, "d0-0")
    server.stop()
    names = [one.get("service.name") for one in collector.resources()] if collector.posts else []
    check("the standard environment variables export too", names == ["by-env"], names)


@scene
def a_collector_that_hangs(of):
    collector = of.world.double(Collector())
    without_collector(of, collector, "hangs")


@scene
def a_collector_that_is_gone(of):
    collector = Collector()
    collector.close()
    without_collector(of, collector, "is gone")


def without_collector(of, collector, what):
    collector.plan("/v1/traces", None)
    collector.plan("/v1/metrics", None)
    server = of.another(what.replace(" ", "-"), export_to(collector))
    times = []
    for _ in range(30):
        began = time.monotonic()
        status, _, _ = ask(server, KEY, "d0-0")
        times.append((time.monotonic() - began, status))
    # Whoever waited for it would wait for its ten seconds.
    slowest = max(times)[0]
    answered = {status for _, status in times} == {200}
    check(f"a collector that {what} holds up no call", answered and slowest < 4, times)
    began = time.monotonic()
    ended = server.stop()
    took = time.monotonic() - began
    check(f"a collector that {what} holds up no stop for long", ended and took < 8, took)


@scene
def the_log(of):
    log = of.server.output.read_text()
    # The first lines are for whoever started it, and no part of the log.
    logged = [json.loads(line) for line in log.splitlines() if line.startswith("{")]
    failed = [one for one in logged if one.get("code") == "upstream_failed"]
    wanted = {"timestamp", "level", "message", "call"}
    found = bool(failed) and all(wanted <= one.keys() for one in failed)
    check("the log is one JSON object per line, with calls' ids", found, log)
    leaks = [s for s in (PROMPT, ANSWER, KEY, UPSTREAM_KEY, COLLECTOR_KEY) if s in log]
    check("nor is one in the log", not leaks, leaks)


class Around:
    """The provider, the collector, and a server that exports to it."""

    def __init__(self, world):
        self.world = world
        self.provider, self.collector = world.double(Provider()), world.double(Collector())
        self.server = world.start(
            Server,
            config(self.provider, export_to(self.collector)),
            arguments=["--log-format", "json"],
        )

    def another(self, name, telemetry, environment=None):
        """Another server, in a folder of its own."""
        text = config(self.provider, telemetry)
        return self.world.start(Server, text, environment, name=name, below=name)


if __name__ == "__main__":
    for name in [name for name in os.environ if name.startswith("OTEL_")]:
        del os.environ[name]
    sys.exit(running.main(SCENES, sys.argv[1:], Around, check))
