/**
 * Functions that the client runs itself, over the Responses API: by hand, parsed, and in the SDK's
 * own loop.
 */
import assert from 'node:assert/strict';
import { zodResponsesFunction } from 'openai/helpers/zod';
import { ResponsesToolRunner } from 'openai/helpers/responses-tool-runner';
import { z } from 'zod';
import { checkEvents } from './events.mjs';
import { all, flow, MODEL, same } from './flows.mjs';

function functionTool(name, field) {
  const parameters = {
    type: 'object',
    properties: { [field]: { type: 'string' } },
    required: [field],
    additionalProperties: false,
  };
  return { type: 'function', name, description: `Does ${name}.`, parameters, strict: true };
}

const FIND_TOOL = functionTool('find_note', 'query');
const ADD_TOOL = functionTool('add_note', 'text');

function userItem(text) {
  return { role: 'user', content: text };
}

function outputOf(call, output) {
  return { type: 'function_call_output', call_id: call.call_id, output };
}

flow('responses_function_call', async (f) => {
  const find = zodResponsesFunction({
    name: 'find_note',
    parameters: z.object({ query: z.string() }),
  });
  const input = `[[tool:find_note {"query":"harbor"}]] ${f.mark}`;
  const first = await f.client.responses.parse({ model: MODEL, input, tools: [find] });
  const [call, ...more] = first.output;
  same(
    [call.type, call.name, call.status, more.length],
    ['function_call', 'find_note', 'completed', 0],
  );
  same(call.parsed_arguments, { query: 'harbor' });
  assert.match(call.id, /^fc_/);
  assert.match(call.call_id, /^call_/);
  const input2 = [outputOf(call, 'It opens at 6.')];
  const second = await f.client.responses.create({
    model: MODEL,
    input: input2,
    previous_response_id: first.id,
  });
  assert.equal(second.output_text, 'The tool said: It opens at 6.');
});

flow('responses_function_call_stream', async (f) => {
  const events = await all(
    await f.respond('[[tool:add_note {"text":"a b c"}]]', { tools: [ADD_TOOL], stream: true }),
  );
  const final = checkEvents(events);
  const kind = 'response.function_call_arguments.delta';
  const pieces = events.filter((event) => event.type === kind).map((event) => event.delta);
  assert(pieces.length > 1, 'the arguments came in one piece');
  same(JSON.parse(pieces.join('')), { text: 'a b c' });
  same([final.output[0].name, final.output[0].arguments], ['add_note', pieces.join('')]);
});

flow('responses_function_calls_parallel', async (f) => {
  const text = '[[tool:add_note {"text":"one"}]] [[tool:find_note {"query":"two"}]]';
  const stream = f.streamed(text, { tools: [ADD_TOOL, FIND_TOOL] });
  const snapshots = [];
  stream.on('response.function_call_arguments.delta', ({ snapshot }) => snapshots.push(snapshot));
  const first = await stream.finalResponse();
  same(
    first.output.map((item) => item.name),
    ['add_note', 'find_note'],
  );
  same(JSON.parse(snapshots.at(-1)), { query: 'two' });
  const input = first.output.map((call) => outputOf(call, `result of ${call.name}`));
  const second = await f.client.responses.create({
    model: MODEL,
    input,
    previous_response_id: first.id,
  });
  assert.equal(second.output_text, 'The tool said: result of find_note');
});

flow('responses_function_call_without_state', async (f) => {
  const input = [userItem(`[[tool:find_note {"query":"x"}]] ${f.mark}`)];
  const body = { model: MODEL, input, tools: [FIND_TOOL], store: false };
  const first = await f.client.responses.create(body);
  input.push(...first.output, outputOf(first.output[0], 'found'));
  const second = await f.client.responses.create(body);
  assert.equal(second.output_text, 'The tool said: found');
});

flow('responses_tool_choice', async (f) => {
  const tools = [ADD_TOOL, FIND_TOOL];
  const named = await f.respond('look', {
    tools,
    tool_choice: { type: 'function', name: 'find_note' },
  });
  assert.equal(named.output[0].name, 'find_note');
  const none = await f.respond('[[tool:find_note {"query":"x"}]] talk', {
    tools,
    tool_choice: 'none',
  });
  assert.equal(none.output[0].type, 'message');
  const required = await f.respond('save', {
    tools,
    tool_choice: 'required',
    parallel_tool_calls: false,
  });
  same(
    required.output.map((item) => item.name),
    ['add_note'],
  );
});

/** The SDK's own loop of functions over the Responses API, streamed or not. */
async function runnerFlow(f, options) {
  const asked = [];
  const execute = ({ query }) => {
    asked.push(query);
    return `Nothing about ${query}.`;
  };
  const runner = new ResponsesToolRunner({ functions: [{ tool: FIND_TOOL, execute }] });
  const rounds =
    '[[tool:find_note {"query":"harbor"}]][[next]][[tool:find_note {"query":"garden"}]]';
  const input = [userItem(`${rounds} ${f.mark}`)];
  const final = await runner.run(f.client, { model: MODEL, input }, options);
  assert.equal(final.output[0].content[0].text, 'The tool said: Nothing about garden.');
  same(asked, ['harbor', 'garden']);
  same(
    f.sent().map((line) => line.finished),
    [true, true, true],
  );
}

flow('responses_tool_runner', (f) => runnerFlow(f, {}));

flow('responses_tool_runner_stream', async (f) => {
  const kinds = new Set();
  await runnerFlow(f, { stream: true, onEvent: (event) => void kinds.add(event.type) });
  assert(
    kinds.has('response.function_call_arguments.delta') && kinds.has('response.completed'),
    [...kinds].join(' '),
  );
});
