"""openai-agents, unmodified: agents that use tools, over the Responses API and over chat."""

import asyncio
import json

from agents import (
    Agent,
    HostedMCPTool,
    ModelSettings,
    OpenAIChatCompletionsModel,
    OpenAIResponsesModel,
    Runner,
    function_tool,
    set_tracing_disabled,
)
from flows_tools import FIND_HARBOR, HARBOR, NOTES, add, own_effects
from pydantic import BaseModel

from flows import LOCAL, MODEL, equal, flow

set_tracing_disabled(True)


class Answer(BaseModel):
    place: str
    hour: int


def find_tool(calls):
    @function_tool
    def find_note(query: str) -> str:
        """Finds the notes about a word."""
        calls.append(query)
        return HARBOR

    return find_note


def run_agent(f, model, text, kind=OpenAIResponsesModel, runs=None, **options):
    """One run of an agent made inside the loop that its client lives in."""

    async def run():
        async with f.async_client() as client:
            agent = Agent(name="Notes", model=kind(model=model, openai_client=client), **options)
            return await (runs or Runner.run)(agent, text)

    return asyncio.run(run())


@flow
def agents_function_tool(f):
    calls = []
    result = run_agent(
        f,
        MODEL,
        f"{FIND_HARBOR} {f.mark}",
        tools=[find_tool(calls)],
        instructions="Use your tools.",
    )
    equal(calls, ["harbor"])
    equal(result.final_output, f"The tool said: {HARBOR}")


@flow
def agents_function_tool_over_chat(f):
    calls = []
    result = run_agent(
        f,
        MODEL,
        f"{FIND_HARBOR} {f.mark}",
        kind=OpenAIChatCompletionsModel,
        tools=[find_tool(calls)],
    )
    equal((calls, result.final_output), (["harbor"], f"The tool said: {HARBOR}"))


@flow
def agents_streamed(f):
    calls = []

    async def streamed(agent, text):
        result = Runner.run_streamed(agent, text)
        kinds = [event.type async for event in result.stream_events()]
        assert "raw_response_event" in kinds and "run_item_stream_event" in kinds, set(kinds)
        return result

    result = run_agent(f, MODEL, f"{FIND_HARBOR} {f.mark}", runs=streamed, tools=[find_tool(calls)])
    equal((calls, result.final_output), (["harbor"], f"The tool said: {HARBOR}"))


@flow
def agents_hosted_mcp(f):
    """The server runs the tool; the agent sees the finished items."""
    result = run_agent(
        f, MODEL, f"{add(f.mark)} {f.mark}", tools=[HostedMCPTool(tool_config=dict(NOTES))]
    )
    assert result.final_output.startswith("The tool said: Note "), result.final_output
    equal(len(own_effects(f)), 1)


@flow
def agents_typed_output(f):
    result = run_agent(f, MODEL, f"gate 6 {f.mark}", output_type=Answer)
    equal(result.final_output, Answer(place=f"gate 6 {f.mark}", hour=6))


@flow
def agents_previous_response(f):
    """Two runs, the second on the first's response."""

    async def twice(agent, text):
        first = await Runner.run(agent, text)
        return await Runner.run(
            agent, f"[[echo:messages]] {f.mark}", previous_response_id=first.last_response_id
        )

    seen = json.loads(run_agent(f, MODEL, f"remember {f.mark}", runs=twice).final_output)
    assert ["user", f"remember {f.mark}"] in seen, seen


@flow
def agents_local_function_tool(f):
    """The demo model completes a run that uses a tool."""
    calls = []
    result = run_agent(
        f,
        LOCAL,
        "Find my note about the harbor.",
        tools=[find_tool(calls)],
        model_settings=ModelSettings(tool_choice="required", max_tokens=200),
    )
    assert calls, "the tool was not called"
    assert result.final_output.strip(), "no final answer"


@flow
def agents_local_hosted_mcp(f):
    result = run_agent(
        f,
        LOCAL,
        "Find my note about the harbor.",
        tools=[HostedMCPTool(tool_config=NOTES | {"server_url": "holdfast:notes"})],
        model_settings=ModelSettings(max_tokens=200),
    )
    kinds = [item.type for response in result.raw_responses for item in response.output]
    assert "mcp_call" in kinds, kinds
    assert result.final_output.strip(), "no final answer"
