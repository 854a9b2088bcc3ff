"""Functions: calls, their signatures, their answers, and who may call."""

import json

from google.genai import types

from flows import OLDER, PASSED, TRANSLATED, both, equal, flow

WEATHER = types.FunctionDeclaration(
    name="weather",
    description="The weather of a place",
    parameters=types.Schema(
        type="OBJECT", properties={"place": types.Schema(type="STRING")}, required=["place"]
    ),
)
TIME = types.FunctionDeclaration(
    name="now", description="The time", parameters_json_schema={"type": "object"}
)
TOOLS = [types.Tool(function_declarations=[WEATHER, TIME])]
CALL = '[[tool:weather {"place":"Ulm"}]]'


def config(**more):
    off = types.AutomaticFunctionCallingConfig(disable=True)
    return types.GenerateContentConfig(tools=TOOLS, automatic_function_calling=off, **more)


def calling(mode, *names):
    called = types.FunctionCallingConfig(mode=mode, allowed_function_names=list(names) or None)
    return types.ToolConfig(function_calling_config=called)


def answered(call, **response):
    """An answer as the SDK's own loop makes it: without the call's id."""
    return types.Part.from_function_response(name=call.name, response=response)


def ask(f, model, contents, **more):
    return f.client.models.generate_content(model=model, contents=contents, config=config(**more))


@both
def a_call_and_its_answer(f, model):
    asked = types.UserContent(parts=[types.Part(text=f.said(CALL))])
    answer = ask(f, model, [asked])
    (call,) = answer.function_calls
    equal((call.name, call.args), ("weather", {"place": "Ulm"}))
    equal(answer.candidates[0].finish_reason.name, "STOP")
    result = types.UserContent(parts=[answered(call, result="sunny")])
    final = ask(f, model, [asked, answer.candidates[0].content, result])
    assert "sunny" in final.text, final.text
    if model == PASSED:
        said = f.bodies()[1]["contents"][1]["parts"][0]
        assert said["thoughtSignature"], "the signature is lost"


@both
def streamed_calls(f, model):
    chunks = list(
        f.client.models.generate_content_stream(
            model=model, contents=f.said(CALL + "[[tool:now {}]]"), config=config()
        )
    )
    calls = [call for chunk in chunks for call in chunk.function_calls or []]
    equal([(c.name, c.args) for c in calls], [("weather", {"place": "Ulm"}), ("now", {})])
    equal(chunks[-1].candidates[0].finish_reason.name, "STOP")


@both
def parallel_calls_are_answered_in_any_order(f, model):
    asked = types.UserContent(parts=[types.Part(text=f.said(CALL + "[[tool:now {}]]"))])
    answer = ask(f, model, [asked])
    weather, now = answer.function_calls
    result = types.UserContent(parts=[answered(now, result="noon"), answered(weather, result="sun")])
    final = ask(f, model, [asked, answer.candidates[0].content, result])
    assert final.text.startswith("The tool said"), final.text
    if model == TRANSLATED:
        told = [m for m in f.bodies(model)[-1]["messages"] if m["role"] == "tool"]
        calls = f.bodies(model)[-1]["messages"][-3]["tool_calls"]
        names = {call["id"]: call["function"]["name"] for call in calls}
        said = {names[m["tool_call_id"]]: m["content"] for m in told}
        equal(said, {"weather": "sun", "now": "noon"})


@both
def the_sdk_calls_functions_itself(f, model):
    asked = []

    def weather(place: str) -> str:
        """The weather of a place."""
        asked.append(place)
        return "rain"

    answer = f.client.models.generate_content(
        model=model, contents=f.said(CALL), config={"tools": [weather]}
    )
    equal(asked, ["Ulm"])
    assert "rain" in answer.text, answer.text
    equal(len(f.sent(model)), 2)


@both
def a_function_that_failed(f, model):
    asked = types.UserContent(parts=[types.Part(text=f.said(CALL))])
    answer = ask(f, model, [asked])
    result = types.UserContent(parts=[answered(answer.function_calls[0], error="no such place")])
    final = ask(f, model, [asked, answer.candidates[0].content, result])
    assert "no such place" in final.text, final.text


@both
def a_call_can_be_demanded(f, model):
    answer = ask(f, model, f.said("Ulm"), tool_config=calling("ANY"))
    equal([call.name for call in answer.function_calls], ["weather"])
    answer = ask(f, model, f.said("time"), tool_config=calling("ANY", "now"))
    equal([call.name for call in answer.function_calls], ["now"])


@both
def a_call_can_be_forbidden(f, model):
    answer = ask(f, model, f.said(CALL), tool_config=calling("NONE"))
    assert not answer.function_calls and answer.text


@flow
def calls_without_ids_find_their_answers(f):
    """Older models give no ids: whoever comes by another door gets them made."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    messages = [{"role": "user", "content": f.said("[[no_id]]" + CALL)}]
    body = {"model": OLDER, "messages": messages, "tools": [tool]}
    path = "/v1/chat/completions"
    said = json.loads(f.server.http("POST", path, body, f.keys["ci"])[2])["choices"][0]["message"]
    (call,) = said["tool_calls"]
    assert call["id"].startswith("gemini_"), call
    messages += [said, {"role": "tool", "tool_call_id": call["id"], "content": "sunny"}]
    status, _, data = f.server.http("POST", path, body, f.keys["ci"])
    equal(status, 200, data)
    parts = f.bodies()[1]["contents"][1]["parts"][0]
    assert "id" not in parts["functionCall"], parts


@flow
def a_chat_client_keeps_what_it_cannot_carry(f):
    """Chat has no field for a signature: it is put back for the same account."""
    tool = {"type": "function", "function": {"name": "weather", "parameters": {"type": "object"}}}
    messages = [{"role": "user", "content": f.said(CALL)}]
    body = {"model": PASSED, "messages": messages, "tools": [tool]}
    path = "/v1/chat/completions"
    said = json.loads(f.server.http("POST", path, body, f.keys["ci"])[2])["choices"][0]["message"]
    messages += [said, {"role": "tool", "tool_call_id": said["tool_calls"][0]["id"], "content": "x"}]
    status, _, data = f.server.http("POST", path, body, f.keys["ci"])
    equal(status, 200, data)
    signature = f.bodies()[1]["contents"][1]["parts"][0]["thoughtSignature"]
    assert signature != "skip_thought_signature_validator", "the signature was not put back"
    # Another user's key has no part in it, and the documented stand-in is sent.
    status, _, data = f.server.http("POST", path, body, f.keys["stranger"])
    equal(status, 200, data)


@flow
def a_responses_client_carries_signatures(f):
    tool = {"type": "function", "name": "weather", "parameters": {"type": "object"}}
    asked = {"role": "user", "content": f.said(CALL)}
    body = {"model": PASSED, "input": [asked], "tools": [tool], "store": False}
    body["include"] = ["reasoning.encrypted_content"]
    status, _, data = f.server.http("POST", "/v1/responses", body, f.keys["ci"])
    equal(status, 200, data)
    output = json.loads(data)["output"]
    equal([item["type"] for item in output], ["reasoning", "function_call"])
    assert output[0]["encrypted_content"].startswith("hf1.gemini_redacted."), output[0]
    result = {"type": "function_call_output", "call_id": output[1]["call_id"], "output": "sun"}
    body["input"] = [asked, *output, result]
    # Another user's key: nothing is put back for it, the client carries all.
    status, _, data = f.server.http("POST", "/v1/responses", body, f.keys["stranger"])
    equal(status, 200, data)
    signature = f.bodies()[-1]["contents"][1]["parts"][0]["thoughtSignature"]
    equal(signature, output[0]["encrypted_content"].removeprefix("hf1.gemini_redacted."))


@flow
def a_messages_client_carries_signatures(f):
    tool = {"name": "weather", "input_schema": {"type": "object"}}
    asked = {"role": "user", "content": f.said(CALL)}
    body = {"model": PASSED, "messages": [asked], "tools": [tool], "max_tokens": 99}
    status, _, data = f.server.http("POST", "/v1/messages", body, f.keys["ci"])
    equal(status, 200, data)
    content = json.loads(data)["content"]
    equal([block["type"] for block in content], ["redacted_thinking", "tool_use"])
    result = {"type": "tool_result", "tool_use_id": content[1]["id"], "content": "sun"}
    said = {"role": "assistant", "content": content}
    body["messages"] = [asked, said, {"role": "user", "content": [result]}]
    status, _, data = f.server.http("POST", "/v1/messages", body, f.keys["stranger"])
    equal(status, 200, data)
    signature = f.bodies()[-1]["contents"][1]["parts"][0]["thoughtSignature"]
    assert signature in content[0]["data"], content[0]
