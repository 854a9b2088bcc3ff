"""Bytes, errors, budgets: what an SDK does not show, and what it raises."""

import json

from google.genai import errors, types

from flows import PASSED, TRANSLATED, both, equal, flow, raises


def path(model, method="generateContent", query=""):
    return f"/v1beta/models/{model}:{method}{query}"


@flow
def bytes_pass_as_they_came(f):
    body = (
        '{ "contents" : [{"parts":[{"text":"caf\\u00e9 [[say:x]] %s"}]}],'
        '"generation_config":{"top_k": 4e1, "max_output_tokens":64} }' % f.mark
    ).encode()
    status, _, data = f.http(path(PASSED), body)
    equal(status, 200, data)
    equal(f.sent()[0]["body"].encode(), body)
    equal(f.sent()[0]["path"], "/v1beta/models/gemini-3-script:generateContent")


@flow
def a_models_name_may_be_encoded_and_the_version_one(f):
    body = {"contents": [{"parts": [{"text": f.said("[[say:x]]")}]}]}
    for name in (PASSED, PASSED.replace("/", "%2F")):
        equal(f.http(path(name), body)[0], 200)
        equal(f.http(path(name).replace("v1beta", "v1"), body)[0], 200)
    status, _, data = f.http("/v1/models", method="GET")
    assert status == 200 and "models" in json.loads(data), data
    client = f.client_of("ci", api_version="v1")
    equal(client.models.generate_content(model=PASSED, contents=f.said("[[say:y]]")).text, "y")


@flow
def the_key_may_be_in_the_query(f):
    body = {"contents": [{"parts": [{"text": f.said("[[say:x]]")}]}]}
    query = f"?key={f.keys['ci']}"
    equal(f.http(path(PASSED, query=query), body, key=None)[0], 200)
    # Two that differ are as good as none.
    equal(f.http(path(PASSED, query="?key=hf_other"), body)[0], 401)
    assert f.keys["ci"] not in f.sent()[0]["path"], "the key was passed on"


@both
def a_stream_without_events_is_a_list(f, model):
    body = {"contents": [{"parts": [{"text": f.said("[[words:5]]")}]}]}
    status, headers, data = f.http(path(model, "streamGenerateContent"), body)
    equal((status, headers["content-type"]), (200, "application/json"))
    chunks = json.loads(data)
    parts = [c["candidates"][0]["content"]["parts"][0].get("text", "") for c in chunks]
    equal("".join(parts), "word1 word2 word3 word4 word5")
    equal(chunks[-1]["candidates"][0]["finishReason"], "STOP")


@both
def a_stream_has_only_data(f, model):
    """Google's Python SDK takes a comment for a chunk."""
    body = {"contents": [{"parts": [{"text": f.said("[[words:5]]")}]}]}
    _, headers, data = f.http(path(model, "streamGenerateContent", "?alt=sse"), body)
    assert headers["content-type"].startswith("text/event-stream")
    lines = [line for line in data.decode().splitlines() if line]
    assert lines and all(line.startswith("data: {") for line in lines), lines


@both
def a_slow_stream_on_a_route_has_only_data(f, model):
    """Signs of life that are comments would be chunks to the SDK, which it can't read."""
    route = "route/" + model.split("/")[0]
    asked = f.said("[[delay_ms=400]] [[words:3]]")
    body = {"contents": [{"parts": [{"text": asked}]}]}
    _, headers, data = f.http(path(route, "streamGenerateContent", "?alt=sse"), body)
    assert headers["content-type"].startswith("text/event-stream")
    assert "holdfast-model" not in headers, "the head did not come before who answers was known"
    lines = [line for line in data.decode().splitlines() if line]
    assert lines and all(line.startswith("data: {") for line in lines), lines
    chunks = f.client.models.generate_content_stream(model=route, contents=asked)
    equal("".join(chunk.text or "" for chunk in chunks), "word1 word2 word3")


def refused(f, call, code, status):
    error = raises(errors.APIError, call)
    equal((error.code, error.status), (code, status), error.message)
    return error


@flow
def a_wrong_key(f):
    client = f.client_of("hf_nobody")
    ask = lambda: client.models.generate_content(model=PASSED, contents=f.said("x"))  # noqa: E731
    refused(f, ask, 401, "UNAUTHENTICATED")
    equal(f.sent(), [])


@flow
def a_model_that_is_not_there(f):
    error = refused(f, lambda: f.ask("google/nothing", "x"), 404, "NOT_FOUND")
    details = error.details["error"]["details"][0]
    equal(details["reason"], "MODEL_NOT_FOUND")
    assert details["metadata"]["call"].startswith("hfc_"), details


@flow
def a_path_that_is_not_there(f):
    status, _, data = f.http("/v1beta/models/x:predict", {})
    equal((status, json.loads(data)["error"]["status"]), (405, "UNIMPLEMENTED"))
    status, _, data = f.http("/v1beta/files", {})
    equal((status, json.loads(data)["error"]["status"]), (404, "NOT_FOUND"))


@flow
def a_malformed_request_names_its_field(f):
    for body, name in [
        (b'{"contents":', "valid JSON"),
        ({"contents": "x"}, "contents"),
        ({"contents": [], "generationConfig": {"maxOutputTokens": "many"}}, "maxOutputTokens"),
        ({"contents": [], "system_instruction": {}, "systemInstruction": {}}, "systemInstruction"),
    ]:
        status, _, data = f.http(path(TRANSLATED), body)
        error = json.loads(data)["error"]
        equal((status, error["code"], error["status"]), (400, 400, "INVALID_ARGUMENT"))
        assert name in error["message"], error


@flow
def a_refusal_of_google_passes_as_it_came(f):
    error = refused(f, lambda: f.ask(PASSED, "x", tools=[{"function_declarations": [{"name": "1"}]}]), 400, "INVALID_ARGUMENT")
    equal(error.message, "Invalid function name 1")


@flow
def a_key_that_google_refuses_is_the_operators(f):
    error = refused(f, lambda: f.ask("wrong/gemini-3-script", "x"), 502, "UNAVAILABLE")
    assert "operator" in error.message, error.message


@flow
def a_rate_limit_says_when_to_come_back(f):
    # A model of its own: until then nobody else is let through to it.
    ask = lambda: f.ask("google/gemini-3-limited", "[[fault:status=429,retry_after=7]]")  # noqa: E731
    error = refused(f, ask, 429, "RESOURCE_EXHAUSTED")
    equal(error.response.headers["retry-after"], "7")


@flow
def an_empty_account_is_not_the_clients_fault(f):
    ask = lambda: f.ask(PASSED, "[[fault:status=429,quota=PerDay]]")  # noqa: E731
    error = refused(f, ask, 502, "UNAVAILABLE")
    equal(error.response.headers["x-should-retry"], "false")


@flow
def the_sdk_tries_again_when_told_to(f):
    retry = types.HttpRetryOptions(attempts=3, initial_delay=0.01, max_delay=0.02)
    client = f.client_of("ci", retry_options=retry)
    answer = client.models.generate_content(
        model=PASSED, contents=f.said("[[fault:status=503,times=1]] [[say:back]]")
    )
    equal(answer.text, "back")
    equal(len(f.sent()), 2)


@both
def a_cut_answer_is_an_error(f, model):
    ask = lambda: f.ask(model, "[[words:9]] [[fault:cut_after=2]]")  # noqa: E731
    equal(raises(errors.ServerError, ask).code, 502)


@both
def a_cut_stream_never_looks_whole(f, model):
    ask = lambda: f.stream(model, "[[words:9]] [[fault:cut_after=4]]")  # noqa: E731
    equal(raises(errors.ServerError, ask).code, 502)
    body = {"contents": [{"parts": [{"text": f.said("[[words:9]] [[fault:cut_after=4]]")}]}]}
    _, _, data = f.http(path(model, "streamGenerateContent", "?alt=sse"), body)
    last = json.loads(data.decode().strip().splitlines()[-1].removeprefix("data: "))
    equal(last["error"]["status"], "UNAVAILABLE")
    _, _, data = f.http(path(model, "streamGenerateContent"), body)
    equal(json.loads(data)[-1]["error"]["status"], "UNAVAILABLE")


@flow
def a_stream_without_a_reason_to_stop_is_cut(f):
    body = {"contents": [{"parts": [{"text": f.said("[[words:3]] [[fault:no_finish]]")}]}]}
    _, _, data = f.http(path(PASSED, "streamGenerateContent", "?alt=sse"), body)
    last = json.loads(data.decode().strip().splitlines()[-1].removeprefix("data: "))
    equal(last["error"]["details"][0]["reason"], "STREAM_CUT")


@flow
def an_error_in_a_stream_comes_as_one(f):
    body = {"contents": [{"parts": [{"text": f.said("[[words:9]] [[fault:error_after=3]]")}]}]}
    _, _, data = f.http(path(PASSED, "streamGenerateContent", "?alt=sse"), body)
    lines = [line for line in data.decode().splitlines() if line]
    equal(len(lines), 4)
    assert "finishReason" not in data.decode()


@flow
def mistakes_of_the_model_are_no_answers_elsewhere(f):
    text = f.said("[[say:x]] [[finish:MALFORMED_FUNCTION_CALL]]")
    answer = f.ask(PASSED, "[[say:x]] [[finish:MALFORMED_FUNCTION_CALL]]")
    equal(answer.candidates[0].finish_reason.name, "MALFORMED_FUNCTION_CALL")
    body = {"model": PASSED, "messages": [{"role": "user", "content": text}]}
    equal(f.server.http("POST", "/v1/chat/completions", body, f.keys["ci"])[0], 502)


@flow
def a_budget_refuses_once(f):
    client = f.client_of("poor")
    ask = lambda: client.models.generate_content(  # noqa: E731
        model=PASSED, contents=f.said("x"), config={"max_output_tokens": 100000}
    )
    error = refused(f, ask, 429, "RESOURCE_EXHAUSTED")
    equal(error.details["error"]["details"][0]["reason"], "BUDGET_EXCEEDED")
    equal(f.sent(), [])


@flow
def under_a_budget_nothing_is_asked_whose_cost_nobody_knows(f):
    client, body = f.client_of("capped"), {"max_output_tokens": 10}
    for name, config in [
        ("googleSearch", {"tools": [{"google_search": {}}]}),
        ("codeExecution", {"tools": [{"code_execution": {}}]}),
        ("cachedContent", {"cached_content": "cachedContents/x"}),
    ]:
        ask = lambda: client.models.generate_content(  # noqa: E731
            model=PASSED, contents=f.said("x"), config=body | config  # noqa: B023
        )
        error = raises(errors.ClientError, ask)
        assert name in error.message, (name, error.message)
    equal(f.sent(), [])
    equal(client.models.generate_content(model=PASSED, contents=f.said("[[say:y]]"), config=body).text, "y")


@flow
def what_only_google_can_do_is_refused_elsewhere(f):
    for name, config in [
        ("googleSearch", {"tools": [{"google_search": {}}]}),
        ("candidateCount", {"candidate_count": 2}),
    ]:
        error = raises(errors.ClientError, lambda: f.ask(TRANSLATED, "x", **config))  # noqa: B023
        assert name in str(error.details), error.details
    equal(f.sent(TRANSLATED), [])


@flow
def a_prompts_beginning_stays_the_same(f):
    """Over a conversation through another door, what was said before is sent in the same bytes."""
    messages, sent = [{"role": "system", "content": "Be brief."}], []
    for turn in range(4):
        messages.append({"role": "user", "content": f.said(f"[[say:answer {turn}]]")})
        body = {"model": PASSED, "messages": messages}
        data = f.server.http("POST", "/v1/chat/completions", body, f.keys["ci"])[2]
        messages.append(json.loads(data)["choices"][0]["message"])
        sent.append(f.sent()[-1]["body"])
    for before, after in zip(sent, sent[1:], strict=False):
        start = before[: before.index(',"generationConfig"')].rstrip("]")
        assert after.startswith(start), (before, after)
