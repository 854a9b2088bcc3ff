/** MCP tools that the server runs itself: what they do, what they leave behind, and doubt. */
import assert from 'node:assert/strict';
import { APIError, BadRequestError } from 'openai';
import { checkEvents } from './events.mjs';
import { all, eventually, flow, MODEL, plain, raises, same, take } from './flows.mjs';

const NOTES = { type: 'mcp', server_label: 'notes', require_approval: 'never' };
// The same program with an answer that comes far too late: its writing steps end in doubt.
const SLOW = { type: 'mcp', server_label: 'slow' };
const FIND_HARBOR = '[[tool:find_note {"query":"harbor"}]]';
const HARBOR = 'The harbor gate opens at 6.';
const STEP = /step_[0-9a-hjkmnp-tv-z]{26}/g;

function add(text) {
  return `[[tool:add_note {"text":"${text}"}]]`;
}

function items(response, type) {
  return response.output.filter((item) => item.type === type);
}

function kinds(response) {
  return response.output.map((item) => item.type);
}

flow('mcp_find', async (f) => {
  const response = await f.respond(FIND_HARBOR, { tools: [NOTES] });
  same(kinds(response), ['mcp_list_tools', 'mcp_call', 'message']);
  const [listed, call, message] = response.output;
  assert.equal(listed.server_label, 'notes');
  same(listed.tools.map((tool) => tool.name).sort(), ['add_note', 'find_note', 'set_title']);
  same(listed.tools.find((tool) => tool.name === 'find_note').input_schema.required, ['query']);
  same([call.name, call.server_label, call.status], ['find_note', 'notes', 'completed']);
  same([JSON.parse(call.arguments), call.output], [{ query: 'harbor' }, HARBOR]);
  assert.equal(call.error ?? null, null);
  assert.equal(message.content[0].text, `The tool said: ${HARBOR}`);
  const counted = f.sent().reduce((sum, line) => sum + line.usage.total_tokens, 0);
  assert.equal(response.usage.total_tokens, counted, 'usage of both model calls');
});

flow('mcp_stream', async (f) => {
  const events = await all(await f.respond(FIND_HARBOR, { tools: [NOTES], stream: true }));
  checkEvents(events);
  const seen = events.map((event) => event.type);
  const order = [
    'response.mcp_list_tools.in_progress',
    'response.mcp_list_tools.completed',
    'response.mcp_call_arguments.done',
    'response.mcp_call.in_progress',
    'response.mcp_call.completed',
    'response.output_text.done',
  ];
  same(
    order.filter((type) => !seen.includes(type)),
    [],
    'missing events',
  );
  assert(
    seen.indexOf('response.mcp_list_tools.completed') <
      seen.indexOf('response.mcp_call.in_progress'),
  );
});

flow('mcp_stream_helper', async (f) => {
  const stream = f.streamed(FIND_HARBOR, { tools: [NOTES] });
  const calls = [];
  stream.on('response.mcp_call.completed', (event) => calls.push(event.item_id));
  const final = await stream.finalResponse();
  assert.equal(final.output_text, `The tool said: ${HARBOR}`);
  same(
    items(final, 'mcp_call').map((item) => item.id),
    calls,
  );
});

flow('mcp_write_has_one_effect', async (f) => {
  const text = `berth 12 ${f.mark}`;
  const { data, response } = await f.respond(add(text), { tools: [NOTES] }).withResponse();
  const [effect, ...more] = f.effects();
  same([effect.tool, effect.arguments, more.length], ['add_note', { text }, 0]);
  assert(items(data, 'mcp_call')[0].output.includes(text));
  const steps = await f.steps(response.headers.get('holdfast-session'));
  const step = steps.find((entry) => entry.id === effect.idempotency_key);
  same([step?.kind, step?.tool, step?.state], ['tool', 'add_note', 'done'], 'the step of that key');
});

flow('mcp_five_calls', async (f) => {
  const garden = '[[tool:find_note {"query":"garden"}]]';
  const rounds = [FIND_HARBOR, add(`a ${f.mark}`), garden, add(`b ${f.mark}`)].join('[[next]]');
  const stream = f.streamed(rounds, { tools: [NOTES] });
  const response = await stream.finalResponse();
  same(
    items(response, 'mcp_call').map((item) => item.name),
    ['find_note', 'add_note', 'find_note', 'add_note'],
  );
  assert.equal(f.sent().length, 5, 'model calls');
  same(
    f.effects().map((effect) => effect.arguments.text),
    [`a ${f.mark}`, `b ${f.mark}`],
  );
});

flow('mcp_tool_error', async (f) => {
  const response = await f.respond('[[tool:add_note {"text":" "}]]', { tools: [NOTES] });
  const [call] = items(response, 'mcp_call');
  same([call.status, response.status], ['failed', 'completed']);
  assert.equal(call.error.type, 'mcp_tool_execution_error');
  assert(call.error.content[0].text.includes('must be a text'), JSON.stringify(call));
  assert(response.output_text.includes('must be a text'), response.output_text);
});

flow('mcp_call_limit_of_the_client', async (f) => {
  const two = add(`a ${f.mark}`) + add(`b ${f.mark}`);
  const response = await f.respond(two, { tools: [NOTES], max_tool_calls: 1 });
  const [made, refused] = items(response, 'mcp_call');
  same([made.status, made.error ?? null, refused.status], ['completed', null, 'failed']);
  same([refused.error.type, typeof refused.error.code], ['mcp_protocol_error', 'number']);
  assert(refused.error.message.includes('no more tool calls'), refused.error.message);
  assert.equal(f.effects().length, 1);
});

flow('mcp_parallel_calls', async (f) => {
  const text = `${FIND_HARBOR}[[tool:find_note {"query":"printer"}]]`;
  const stream = f.streamed(text, { tools: [NOTES] });
  const ids = items(await stream.finalResponse(), 'mcp_call').map((call) => call.id);
  assert.equal(ids.length, 2);
  // The model reads them as it said them: in one message, the results behind it.
  const told = JSON.parse(f.sent()[1].body).messages.slice(-3);
  same(
    told.map((message) => message.role),
    ['assistant', 'tool', 'tool'],
  );
  same(
    told[0].tool_calls.map((call) => call.id),
    ids,
  );
  same(
    told.slice(1).map((message) => message.tool_call_id),
    ids,
  );
});

flow('mcp_allowed_tools', async (f) => {
  const tools = [{ ...NOTES, allowed_tools: ['find_note'] }];
  const response = await f.respond(add(f.mark), { tools });
  const offered = JSON.parse(f.sent()[0].body).tools.map((tool) => tool.function.name);
  same([offered.length, offered[0].endsWith('find_note')], [1, true], 'what the model was offered');
  same(f.effects(), []);
  same(
    items(response, 'mcp_list_tools')[0].tools.map((tool) => tool.name),
    ['find_note'],
  );
});

flow('mcp_allowed_tools_of_each_turn', async (f) => {
  const narrow = { ...NOTES, allowed_tools: ['find_note'] };
  const first = await f.respond(FIND_HARBOR, { tools: [narrow] });
  const wide = { tools: [NOTES], previous_response_id: first.id };
  const second = await f.respond(add(`wider ${f.mark}`), wide);
  same([items(second, 'mcp_call')[0]?.name, f.effects().length], ['add_note', 1]);
  const again = { tools: [narrow], previous_response_id: second.id };
  const third = await f.respond(add(`no more ${f.mark}`), again);
  same([items(third, 'mcp_call').length, f.effects().length], [0, 1], 'it is not allowed any more');
});

flow('mcp_with_function_tool', async (f) => {
  const parameters = {
    type: 'object',
    properties: { question: { type: 'string' } },
    required: ['question'],
  };
  const tools = [NOTES, { type: 'function', name: 'ask_captain', parameters }];
  const first = await f.respond(`${FIND_HARBOR}[[next]][[tool:ask_captain {"question":"go?"}]]`, {
    tools,
  });
  same(kinds(first), ['mcp_list_tools', 'mcp_call', 'function_call']);
  const input = [
    { type: 'function_call_output', call_id: first.output[2].call_id, output: 'Aye.' },
  ];
  const second = await f.client.responses.create({
    model: MODEL,
    input,
    previous_response_id: first.id,
    tools,
  });
  assert.equal(second.output_text, 'The tool said: Aye.');
});

flow('mcp_next_turn_knows', async (f) => {
  const first = await f.respond(FIND_HARBOR, { tools: [NOTES] });
  const second = await f.respond('[[echo:messages]]', {
    previous_response_id: first.id,
    tools: [NOTES],
  });
  const seen = JSON.parse(second.output_text);
  assert(
    seen.some(([role, text]) => role === 'tool' && text === HARBOR),
    second.output_text,
  );
});

flow('mcp_denied_to_other_keys', async (f) => {
  const { responses } = f.with({ key: 'stranger' });
  const error = await raises(
    APIError,
    responses.create({ model: MODEL, input: add(f.mark), tools: [NOTES] }),
  );
  assert([400, 403].includes(error.status), `status ${error.status}`);
  assert(!JSON.stringify(error.error).includes('add_note'), 'it tells what the tools are');
  same([f.effects(), f.sent()], [[], []]);
});

flow('mcp_unknown_server', async (f) => {
  const error = await raises(
    APIError,
    f.respond('x', { tools: [{ type: 'mcp', server_label: 'nobody' }] }),
  );
  assert([400, 403].includes(error.status), `status ${error.status}`);
  assert(error.message.includes('nobody'), error.message);
  same(f.sent(), []);
});

flow('mcp_background_resume', async (f) => {
  const body = { tools: [NOTES], background: true, stream: true };
  const stream = await f.respond(`${add(f.mark)}[[next]][[delay_ms=30]][[words:20]]`, body);
  const iterator = stream[Symbol.asyncIterator]();
  const head = await take(iterator, 5);
  await iterator.return();
  const again = f.client.responses.stream({
    response_id: head[0].response.id,
    starting_after: head.at(-1).sequence_number,
  });
  const tail = await all(again);
  const final = checkEvents(plain([...head, ...tail]));
  same(kinds(final), ['mcp_list_tools', 'mcp_call', 'message']);
  assert.equal(f.effects().length, 1);
});

flow('mcp_turn_is_taken_once', async (f) => {
  const options = { headers: { 'idempotency-key': `turn-${f.mark}` } };
  const ask = () => f.respond(add(f.mark), { tools: [NOTES] }, options);
  const [first, second] = await Promise.all([ask(), ask()]);
  assert.equal(first.id, second.id);
  assert.equal(f.effects().length, 1, 'effects of two equal POSTs');
});

/**
 * A background turn whose writing tool had its effect and never answered: [id, session, the open
 * item].
 */
async function doubtful(f) {
  const body = { tools: [SLOW], background: true };
  const { data, response } = await f.respond(add(f.mark), body).withResponse();
  const item = await eventually('its step is in doubt', async () => {
    const now = await f.client.responses.retrieve(data.id);
    assert(['queued', 'in_progress'].includes(now.status), now.status);
    return items(now, 'mcp_call').find((call) => call.holdfast?.state === 'in_doubt');
  });
  return [data.id, response.headers.get('holdfast-session'), item];
}

function resolve(f, session, step, decision) {
  return f.api('POST', `sessions/${session}/steps/${step}/resolve`, decision);
}

flow('doubt_is_shown', async (f) => {
  const [id, session, item] = await doubtful(f);
  const { step } = item.holdfast;
  same([item.name, item.status], ['add_note', 'in_progress']);
  assert.equal(f.effects('HOLDFAST_SLOW_EFFECTS')[0].idempotency_key, step);
  assert(
    JSON.stringify(await f.api('GET', 'sessions?state=in_doubt')).includes(session),
    'it is not listed',
  );
  const error = await raises(BadRequestError, f.respond('meanwhile', { previous_response_id: id }));
  assert.equal(error.code, 'session_in_doubt');
  assert(error.message.includes(step), error.message);
  assert.equal((await f.client.responses.cancel(id)).status, 'cancelled');
  const closed = (await f.steps(session)).find((entry) => entry.id === step);
  assert.equal(closed.state, 'abandoned');
});

flow('doubt_resolved_while_streaming', async (f) => {
  const [id, session, item] = await doubtful(f);
  const stream = f.client.responses.stream({ response_id: id });
  const final = stream.finalResponse();
  await resolve(f, session, item.holdfast.step, { decision: 'done', output: 'It was saved.' });
  const response = await final;
  assert.equal(items(response, 'mcp_call')[0].output, 'It was saved.');
  assert.equal(response.output_text, 'The tool said: It was saved.');
  assert.equal(f.effects('HOLDFAST_SLOW_EFFECTS').length, 1);
  checkEvents(await all(await f.client.responses.retrieve(id, { stream: true })));
});

flow('doubt_resolved_by_retry', async (f) => {
  const [id, session, item] = await doubtful(f);
  await resolve(f, session, item.holdfast.step, { decision: 'retry' });
  const done = await f.finished(id);
  assert(done.output_text.includes('has been used already'), done.output_text);
  assert.equal(f.effects('HOLDFAST_SLOW_EFFECTS').length, 1, 'effects');
});

flow('doubt_of_a_json_post', async (f) => {
  const asked = f
    .retrying()
    .responses.create({ model: MODEL, input: `${add(f.mark)} ${f.mark}`, tools: [SLOW] });
  const error = await raises(BadRequestError, asked);
  same([error.code, error.headers.get('x-should-retry')], ['session_in_doubt', 'false']);
  const [step] = error.message.match(STEP);
  const [id] = error.message.match(/resp_[0-9a-z]+/);
  same(
    f.effects('HOLDFAST_SLOW_EFFECTS').map((effect) => effect.idempotency_key),
    [step],
  );
  assert.equal((await f.client.responses.retrieve(id)).status, 'in_progress');
  const session = error.headers.get('holdfast-session');
  assert.match(session ?? '', /^sess_/, 'the error does not say which session waits');
  await resolve(f, session, step, { decision: 'done', output: 'ok' });
  assert.equal((await f.finished(id)).output_text, 'The tool said: ok');
});
