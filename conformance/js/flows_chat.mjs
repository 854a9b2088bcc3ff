/** Chat completions: what the SDK sends, and what it must get back. */
import assert from 'node:assert/strict';
import { createHash } from 'node:crypto';
import { APIUserAbortError } from 'openai';
import { LengthFinishReasonError } from 'openai/error';
import { zodFunction, zodResponseFormat } from 'openai/helpers/zod';
import { z } from 'zod';
import { readSse } from './events.mjs';
import {
  all,
  commentFields,
  costOf,
  eventually,
  flow,
  MODEL,
  nanodollars,
  raises,
  same,
  some,
  words,
} from './flows.mjs';

export const Berth = z.object({ harbor: z.string(), number: z.int(), free: z.boolean() });

function tool(name, field, description) {
  const parameters = {
    type: 'object',
    properties: { [field]: { type: 'string' } },
    required: [field],
    additionalProperties: false,
  };
  return { type: 'function', function: { name, description, parameters } };
}

const ADD_TOOL = tool('add_note', 'text', 'Adds a note.');
const FIND_TOOL = tool('find_note', 'query', 'Finds the notes about a word.');
const TWO_CALLS = '[[tool:add_note {"text":"one"}]] [[tool:find_note {"query":"two"}]]';

/** The text and the last finish reason of one choice of a stream's chunks. */
function told(chunks, index = 0) {
  const mine = chunks.flatMap((chunk) => chunk.choices).filter((choice) => choice.index === index);
  return {
    text: mine.map((choice) => choice.delta.content ?? '').join(''),
    stop: mine.map((choice) => choice.finish_reason).findLast(Boolean),
  };
}

flow('chat_plain', async (f) => {
  const answer = await f.ask('hello there');
  const [choice] = answer.choices;
  assert.equal(choice.message.content, `You said: hello there ${f.mark}`);
  same([choice.message.role, choice.finish_reason], ['assistant', 'stop']);
  same(
    [answer.usage.prompt_tokens, answer.usage.completion_tokens, answer.usage.total_tokens],
    [3, 5, 8],
  );
  assert.match(answer.id, /^chatcmpl-/);
  const [line, ...more] = f.sent();
  same([line.finished, line.status, more.length], [true, 200, 0]);
});

flow('chat_response_headers', async (f) => {
  const { data, response, request_id: requestId } = await f.ask('price me').withResponse();
  const header = (name) => response.headers.get(name);
  assert.equal(nanodollars(header('holdfast-cost')), costOf(data.usage));
  same([header('holdfast-model'), header('holdfast-attempts')], [MODEL, '1']);
  assert.match(header('holdfast-call-id'), /^hfc_[0-9a-hjkmnp-tv-z]{26}$/);
  assert(requestId, 'no x-request-id: the SDK has nothing to report');
  assert.equal(data._request_id, requestId);
  const [line] = f.sent({ call: header('holdfast-call-id') });
  assert.match(line.attempt_id, /^att_/);
  assert(line.body.includes(f.mark));
});

flow('chat_raw_response', async (f) => {
  const response = await f.ask('raw bytes').asResponse();
  assert.equal(response.status, 200);
  assert.match(response.headers.get('content-type'), /^application\/json/);
  const answer = await response.json();
  assert.equal(answer.choices[0].message.content, `You said: raw bytes ${f.mark}`);
});

flow('chat_stream', async (f) => {
  const { data: stream, response } = await f.ask('stream this', { stream: true }).withResponse();
  const chunks = await all(stream);
  same(told(chunks), { text: `You said: stream this ${f.mark}`, stop: 'stop' });
  assert.equal(chunks[0].choices[0].delta.role, 'assistant');
  assert.equal(new Set(chunks.map((chunk) => chunk.id)).size, 1, 'one id for all chunks');
  assert.match(response.headers.get('content-type'), /^text\/event-stream/);
  assert.match(response.headers.get('holdfast-call-id'), /^hfc_/);
  assert.equal(f.sent().length, 1);
});

flow('chat_stream_with_usage', async (f) => {
  const chunks = await all(
    await f.ask('count this', { stream: true, stream_options: { include_usage: true } }),
  );
  const last = chunks.at(-1);
  same([last.choices, last.usage.prompt_tokens, last.usage.completion_tokens], [[], 3, 5]);
  assert(
    chunks.slice(0, -1).every((chunk) => !chunk.usage),
    'usage on an ordinary chunk',
  );
});

flow('chat_stream_without_usage', async (f) => {
  const chunks = await all(await f.ask('do not count', { stream: true }));
  assert(
    chunks.every((chunk) => chunk.choices.length && !chunk.usage),
    'usage that nobody asked for',
  );
  const [line] = f.sent();
  same(
    JSON.parse(line.body).stream_options,
    { include_usage: true },
    'what the provider was asked',
  );
  assert.equal(line.usage.completion_tokens, 6);
});

flow('chat_stream_cost_comment', async (f) => {
  const response = await f.ask('comment', { stream: true }).asResponse();
  const { events, comments } = readSse(await response.text());
  assert.equal(events.at(-1).type, '[DONE]');
  const priced = comments.filter(([, text]) => text.includes('holdfast-cost'));
  assert.equal(priced.length, 1, 'comment lines with the cost');
  const [[at, text]] = priced;
  assert.equal(at, events.length - 1, 'it comes directly before [DONE]');
  const fields = commentFields(text);
  assert.equal(nanodollars(fields['holdfast-cost']), costOf(f.sent()[0].usage));
  assert.equal(fields['holdfast-attempts'], '1');
});

flow('chat_stream_tee', async (f) => {
  const stream = await f.ask('[[words:20]]', { stream: true });
  const [left, right] = await Promise.all(stream.tee().map(all));
  same(left, right);
  assert.equal(told(left).text, words(20));
});

flow('chat_stream_helper', async (f) => {
  const options = { stream_options: { include_usage: true } };
  const stream = f.client.chat.completions.stream({
    model: MODEL,
    messages: f.user('help me'),
    ...options,
  });
  const deltas = [];
  let done;
  stream
    .on('content.delta', ({ delta }) => deltas.push(delta))
    .on('content.done', (event) => (done = event));
  const text = `You said: help me ${f.mark}`;
  assert.equal(await stream.finalContent(), text);
  same([deltas.join(''), done.content], [text, text]);
  assert(deltas.length > 1, 'it came in one piece');
  const final = await stream.finalChatCompletion();
  same([final.object, final.choices[0].finish_reason], ['chat.completion', 'stop']);
  const usage = await stream.totalUsage();
  same([usage.prompt_tokens, usage.completion_tokens, usage.total_tokens], [3, 5, 8]);
});

flow('chat_many_at_once', async (f) => {
  const numbers = Array.from({ length: 16 }, (_, index) => index);
  const answers = await Promise.all(
    numbers.map((number) => f.ask(`[[delay_ms=20]] number ${number}`)),
  );
  same(
    answers.map((answer) => answer.choices[0].message.content),
    numbers.map((number) => `You said: number ${number} ${f.mark}`),
  );
});

flow('chat_tool_call', async (f) => {
  const answer = await f.ask('[[tool:add_note {"text":"tide at 7"}]]', { tools: [ADD_TOOL] });
  const [choice] = answer.choices;
  const [call, ...more] = choice.message.tool_calls;
  same(
    [choice.finish_reason, call.type, call.function.name, more.length],
    ['tool_calls', 'function', 'add_note', 0],
  );
  same(JSON.parse(call.function.arguments), { text: 'tide at 7' });
  assert.match(call.id, /^call_/);
});

flow('chat_tool_call_stream', async (f) => {
  const chunks = await all(
    await f.ask('[[tool:add_note {"text":"a b c"}]]', { tools: [ADD_TOOL], stream: true }),
  );
  const deltas = chunks.flatMap((chunk) => chunk.choices[0]?.delta.tool_calls ?? []);
  assert(deltas.every((delta) => delta.index === 0));
  same(
    deltas.map((delta) => delta.function.name).filter(Boolean),
    ['add_note'],
    'the name comes once',
  );
  assert.equal(deltas.map((delta) => delta.id).filter(Boolean).length, 1, 'the id comes once');
  const pieces = deltas.map((delta) => delta.function.arguments);
  assert(pieces.filter(Boolean).length > 1, 'the arguments came in one piece');
  same(JSON.parse(pieces.join('')), { text: 'a b c' });
  assert.equal(told(chunks).stop, 'tool_calls');
});

flow('chat_tools_parallel_stream_helper', async (f) => {
  const body = { model: MODEL, messages: f.user(TWO_CALLS), tools: [ADD_TOOL, FIND_TOOL] };
  const stream = f.client.chat.completions.stream(body);
  const done = [];
  stream.on('tool_calls.function.arguments.done', (event) => done.push(event));
  const message = await stream.finalMessage();
  same(
    done.map(({ index, name }) => [index, name]),
    [
      [0, 'add_note'],
      [1, 'find_note'],
    ],
  );
  same(JSON.parse(done[1].arguments), { query: 'two' });
  assert.equal(new Set(message.tool_calls.map((call) => call.id)).size, 2);
});

flow('chat_tool_choice', async (f) => {
  const tools = [ADD_TOOL, FIND_TOOL];
  const calls = async (text, body) => {
    const answer = await f.ask(text, { tools, ...body });
    return (answer.choices[0].message.tool_calls ?? []).map((call) => call.function.name);
  };
  const named = { type: 'function', function: { name: 'find_note' } };
  same(await calls('look', { tool_choice: named }), ['find_note']);
  same(await calls('save', { tool_choice: 'required' }), ['add_note']);
  same(await calls(`${TWO_CALLS} talk`, { tool_choice: 'none' }), []);
  same(await calls(TWO_CALLS, { parallel_tool_calls: false }), ['add_note']);
});

flow('chat_tool_result_round_trip', async (f) => {
  const messages = f.user('[[tool:find_note {"query":"harbor"}]] look');
  const first = await f.client.chat.completions.create({
    model: MODEL,
    messages,
    tools: [FIND_TOOL],
  });
  const { message } = first.choices[0];
  messages.push(message, {
    role: 'tool',
    tool_call_id: message.tool_calls[0].id,
    content: 'The gate opens at 6.',
  });
  const second = await f.client.chat.completions.create({
    model: MODEL,
    messages,
    tools: [FIND_TOOL],
  });
  assert.equal(second.choices[0].message.content, 'The tool said: The gate opens at 6.');
  assert.equal(second.choices[0].finish_reason, 'stop');
});

/** A tool that the SDK runs by itself, and what it was called with. */
function notes() {
  const asked = [];
  const find = zodFunction({
    name: 'find_note',
    description: 'Finds the notes about a word.',
    parameters: z.object({ query: z.string() }),
    function: ({ query }) => {
      asked.push(query);
      return `Nothing about ${query}.`;
    },
  });
  return { asked, find };
}

const TWO_ROUNDS =
  '[[tool:find_note {"query":"harbor"}]][[next]][[tool:find_note {"query":"garden"}]]';

flow('chat_run_tools', async (f) => {
  const { asked, find } = notes();
  const body = { model: MODEL, messages: f.user(TWO_ROUNDS), tools: [find] };
  const runner = f.client.chat.completions.runTools(body);
  assert.equal(await runner.finalContent(), 'The tool said: Nothing about garden.');
  same(asked, ['harbor', 'garden']);
  assert.equal(await runner.finalFunctionToolCallResult(), 'Nothing about garden.');
  const lines = f.sent();
  assert.equal(lines.length, 3, 'requests at the provider');
  const counted = lines.reduce((sum, line) => sum + line.usage.total_tokens, 0);
  assert.equal((await runner.totalUsage()).total_tokens, counted, 'usage of all three');
  assert.equal(JSON.parse(lines[0].body).tools[0].function.strict, true);
});

flow('chat_run_tools_stream', async (f) => {
  const { asked, find } = notes();
  const body = { model: MODEL, messages: f.user(TWO_ROUNDS), tools: [find], stream: true };
  const runner = f.client.chat.completions.runTools(body);
  const chunks = await all(runner);
  assert.equal(told(chunks).text, 'The tool said: Nothing about garden.');
  same(asked, ['harbor', 'garden']);
  same(
    runner.messages.map((message) => message.role),
    ['user', 'assistant', 'tool', 'assistant', 'tool', 'assistant'],
  );
  assert.equal(f.sent().length, 3, 'requests at the provider');
});

flow('chat_parse_zod', async (f) => {
  const body = {
    model: MODEL,
    messages: f.user('berth 14 please'),
    response_format: zodResponseFormat(Berth, 'berth'),
  };
  const answer = await f.client.chat.completions.parse(body);
  same(answer.choices[0].message.parsed, {
    harbor: `berth 14 please ${f.mark}`,
    number: 14,
    free: true,
  });
  const asked = JSON.parse(f.sent()[0].body).response_format.json_schema;
  same(
    [asked.name, asked.strict, asked.schema.required],
    ['berth', true, ['harbor', 'number', 'free']],
  );
});

flow('chat_parse_zod_stream', async (f) => {
  const body = {
    model: MODEL,
    messages: f.user('berth 9'),
    response_format: zodResponseFormat(Berth, 'berth'),
  };
  const stream = f.client.chat.completions.stream(body);
  const partial = [];
  stream.on('content.delta', ({ parsed }) => partial.push(parsed));
  const final = await stream.finalChatCompletion();
  same(final.choices[0].message.parsed, { harbor: `berth 9 ${f.mark}`, number: 9, free: true });
  assert(
    partial.some((value) => value && !('number' in value)),
    'nothing was parsed on the way',
  );
});

flow('chat_parse_cut_short', async (f) => {
  const response_format = zodResponseFormat(Berth, 'berth');
  const body = {
    model: MODEL,
    messages: f.user('a very long name of a harbor'),
    response_format,
    max_tokens: 3,
  };
  await raises(LengthFinishReasonError, f.client.chat.completions.parse(body));
  assert.equal(f.sent()[0].usage.completion_tokens, 3);
});

flow('chat_json_schema', async (f) => {
  const schema = {
    type: 'object',
    properties: {
      level: { enum: ['low', 'high'] },
      tags: { type: 'array', items: { type: 'string' } },
    },
    required: ['level', 'tags'],
    additionalProperties: false,
  };
  const json_schema = { name: 'tide', schema, strict: true };
  const answer = await f.ask('tide', { response_format: { type: 'json_schema', json_schema } });
  same(JSON.parse(answer.choices[0].message.content), { level: 'low', tags: [`tide ${f.mark}`] });
});

flow('chat_choices_and_limits', async (f) => {
  const chunks = await all(await f.ask('both', { n: 2, stream: true }));
  same(
    [told(chunks, 0).text, told(chunks, 1).text],
    [`You said: both ${f.mark}`, `Choice 1: You said: both ${f.mark}`],
  );
  const short = await f.ask('[[words:50]]', { max_completion_tokens: 4 });
  same([short.choices[0].message.content, short.choices[0].finish_reason], [words(4), 'length']);
  const stopped = await f.ask('[[say:north east south]]', { stop: ['south'] });
  assert.equal(stopped.choices[0].message.content, 'north east ');
});

flow('chat_bytes_pass_through', async (f) => {
  let bytes;
  const spying = (url, init) => {
    bytes = init.body;
    return fetch(url, init);
  };
  const odd = {
    zebra: { nested: [1.5, 'ü 你好 🚢', null, { b: 1, a: 2 }], e: 1e-7 },
    provider_quirk: 'keep me',
  };
  const body = { model: MODEL, messages: f.user('bytes'), max_tokens: 50, ...odd };
  const { response } = await f.with({ fetch: spying }).chat.completions.create(body).withResponse();
  const expected = bytes.replace('"mock/demo"', '"demo"');
  const [line] = f.sent({ call: response.headers.get('holdfast-call-id') });
  assert.equal(line.body, expected, 'the body at the provider');
  assert.equal(line.body_sha256, createHash('sha256').update(expected).digest('hex'));
});

flow('chat_content_parts_and_roles', async (f) => {
  const parts = ['[[echo:messages]]', f.mark].map((text) => ({ type: 'text', text }));
  const messages = [
    { role: 'developer', content: 'Be brief.' },
    { role: 'user', content: parts },
  ];
  const answer = await f.client.chat.completions.create({ model: MODEL, messages });
  const seen = JSON.parse(answer.choices[0].message.content);
  same(seen, [
    ['developer', 'Be brief.'],
    ['user', `[[echo:messages]] ${f.mark}`],
  ]);
});

flow('chat_long_stream', async (f) => {
  const chunks = await all(await f.ask('[[words:1000]]', { stream: true }));
  assert.equal(told(chunks).text, words(1000));
});

flow('chat_abort_stream_by_break', async (f) => {
  const { data: stream, response } = await f
    .ask('[[delay_ms=100]] [[words:200]]', { stream: true })
    .withResponse();
  let seen = 0;
  for await (const chunk of stream) {
    assert(chunk.id);
    seen += 1;
    if (seen === 4) break;
  }
  const call = response.headers.get('holdfast-call-id');
  const [line] = await eventually('the provider sees the cut', () => some(f.sent({ call })));
  assert.equal(line.finished, false);
  assert(line.usage.completion_tokens < 100, 'the provider went on');
  const after = await f.ask('[[say:still here]]');
  assert.equal(after.choices[0].message.content, 'still here', 'the client stays usable');
});

flow('chat_abort_helper', async (f) => {
  const body = { model: MODEL, messages: f.user('[[delay_ms=100]] [[words:200]]') };
  const stream = f.client.chat.completions.stream(body);
  stream.on('content.delta', ({ snapshot }) => snapshot.includes('word2') && stream.abort());
  await raises(APIUserAbortError, stream.done());
  assert.equal(stream.aborted, true);
  const [line] = await eventually('the provider sees the cut', () => some(f.sent()));
  assert.equal(line.finished, false);
});

flow('chat_abort_before_the_answer', async (f) => {
  const controller = new AbortController();
  const asked = f.ask('[[delay_ms=8000]] never', {}, { signal: controller.signal });
  setTimeout(() => controller.abort(), 300);
  await raises(APIUserAbortError, asked);
  const [line] = await eventually('the provider sees the cut', () => some(f.sent()));
  assert.equal(line.finished, false);
  assert.equal(f.sent().length, 1, 'nobody asked again');
});

flow('chat_task_and_session_headers', async (f) => {
  const headers = { 'holdfast-session': f.mark, 'holdfast-task': `task-${f.mark}` };
  const { data, response } = await f.ask('on the bill', {}, { headers }).withResponse();
  assert.match(response.headers.get('holdfast-session') ?? '', /^sess_/);
  const call = response.headers.get('holdfast-call-id');
  const row = await eventually('the Call is in the ledger', async () => {
    const found = await f.api('GET', `calls?task=task-${f.mark}`);
    return found.data.find((entry) => entry.call === call);
  });
  assert.equal(row.usage.input_tokens, data.usage.prompt_tokens);
  assert.equal(row.attempt, f.sent()[0].attempt_id);
});
