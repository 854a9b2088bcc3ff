/** The Responses API in the foreground: stored, chained, forked, streamed, structured, refused. */
import assert from 'node:assert/strict';
import { APIError, BadRequestError, NotFoundError } from 'openai';
import { zodTextFormat } from 'openai/helpers/zod';
import { checkEvents, readSse } from './events.mjs';
import {
  all,
  commentFields,
  costOf,
  eventually,
  flow,
  MODEL,
  nanodollars,
  plain,
  raises,
  refusedByName,
  same,
  some,
  take,
  words,
} from './flows.mjs';
import { Berth } from './flows_chat.mjs';

// The fields of a response that are always there, and never or sometimes null.
const ALWAYS = `
  id object created_at status model output tools tool_choice truncation parallel_tool_calls text
  top_p presence_penalty frequency_penalty temperature top_logprobs store background service_tier
  metadata`;
const MAY_BE_NULL = `
  completed_at incomplete_details previous_response_id instructions error reasoning usage
  max_output_tokens max_tool_calls safety_identifier prompt_cache_key`;

/** What the provider was given, from an answer to `[[echo:messages]]`: [role, text] each. */
function history(response) {
  return JSON.parse(response.output_text);
}

function userItem(text) {
  return { role: 'user', content: text };
}

flow('responses_create', async (f) => {
  const response = await f.respond('hello there');
  same([response.object, response.status], ['response', 'completed']);
  assert.equal(response.output_text, `You said: hello there ${f.mark}`);
  assert.match(response.id, /^resp_/);
  const [message, ...more] = response.output;
  same(
    [message.type, message.role, message.status, more.length],
    ['message', 'assistant', 'completed', 0],
  );
  assert.match(message.id, /^msg_/);
  same(message.content[0].annotations, []);
  const { usage } = response;
  same([usage.input_tokens, usage.output_tokens, usage.total_tokens], [3, 5, 8]);
  same(
    [usage.input_tokens_details.cached_tokens, usage.output_tokens_details.reasoning_tokens],
    [0, 0],
  );
});

flow('responses_object_is_whole', async (f) => {
  const response = await (await f.respond('shape').asResponse()).json();
  for (const field of ALWAYS.trim().split(/\s+/))
    assert(response[field] != null, `${field} is ${response[field]}`);
  for (const field of MAY_BE_NULL.trim().split(/\s+/))
    assert(field in response, `${field} is missing`);
  same([response.store, response.background, response.metadata], [true, false, {}]);
});

flow('responses_headers', async (f) => {
  const { data, response, request_id: requestId } = await f.respond('price me').withResponse();
  const header = (name) => response.headers.get(name);
  assert.equal(nanodollars(header('holdfast-cost')), costOf(data.usage));
  assert.match(header('holdfast-session'), /^sess_[0-9a-hjkmnp-tv-z]{26}$/);
  assert.match(header('holdfast-call-id'), /^hfc_/);
  assert.equal(header('holdfast-model'), MODEL);
  assert(requestId, 'no x-request-id: the SDK has nothing to report');
});

flow('responses_retrieve', async (f) => {
  const response = await f.respond('keep me');
  const again = await f.client.responses.retrieve(response.id);
  same(again, response);
  assert.equal(again.output_text, `You said: keep me ${f.mark}`);
});

flow('responses_delete', async (f) => {
  const { id } = await f.respond('gone soon');
  await f.client.responses.delete(id);
  assert.equal((await raises(NotFoundError, f.client.responses.retrieve(id))).status, 404);
  await raises(NotFoundError, f.client.responses.delete(id));
  await raises(NotFoundError, all(f.client.responses.inputItems.list(id)));
  const error = await raises(BadRequestError, f.respond('x', { previous_response_id: id }));
  assert.equal(error.code, 'previous_response_not_found');
});

flow('responses_of_another_key', async (f) => {
  const { id } = await f.respond('mine');
  const { responses } = f.with({ key: 'stranger' });
  for (const ask of [
    () => responses.retrieve(id),
    () => responses.delete(id),
    () => responses.cancel(id),
    () => all(responses.inputItems.list(id)),
  ]) {
    await raises(NotFoundError, ask());
  }
  const chained = responses.create({ model: MODEL, input: 'x', previous_response_id: id });
  assert.equal((await raises(BadRequestError, chained)).code, 'previous_response_not_found');
  assert.equal((await f.client.responses.retrieve(id)).status, 'completed');
});

flow('responses_input_items', async (f) => {
  const texts = [0, 1, 2, 3, 4].map((number) => `item ${number} ${f.mark}`);
  const { id } = await f.client.responses.create({ model: MODEL, input: texts.map(userItem) });
  const newestFirst = await all(f.client.responses.inputItems.list(id));
  same(
    newestFirst.map((item) => item.content[0].text),
    texts.toReversed(),
  );
  assert.equal(new Set(newestFirst.map((item) => item.id)).size, 5);
  const paged = await all(f.client.responses.inputItems.list(id, { limit: 2, order: 'asc' }));
  same(
    paged.map((item) => item.id),
    newestFirst.map((item) => item.id).reverse(),
    'two a page',
  );
});

flow('responses_chain', async (f) => {
  const first = await f.respond('My name is Ada.').withResponse();
  const second = await f
    .respond('And my boat is Wren.', { previous_response_id: first.data.id })
    .withResponse();
  const third = await f.respond('[[echo:messages]]', { previous_response_id: second.data.id });
  assert.equal(third.previous_response_id, second.data.id);
  same(history(third), [
    ['user', `My name is Ada. ${f.mark}`],
    ['assistant', `You said: My name is Ada. ${f.mark}`],
    ['user', `And my boat is Wren. ${f.mark}`],
    ['assistant', `You said: And my boat is Wren. ${f.mark}`],
    ['user', `[[echo:messages]] ${f.mark}`],
  ]);
  const session = first.response.headers.get('holdfast-session');
  assert.equal(second.response.headers.get('holdfast-session'), session, 'a chain is one session');
  same(
    (await f.steps(session)).map((step) => step.kind),
    ['model', 'model', 'model'],
  );
});

flow('responses_fork', async (f) => {
  const root = await f.respond('trunk').withResponse();
  const from = (previous_response_id, text) =>
    f.respond(text, { previous_response_id }).withResponse();
  const left = await from(root.data.id, 'left');
  const right = await from(root.data.id, '[[echo:messages]]');
  same(
    history(right.data).map(([, text]) => text),
    [`trunk ${f.mark}`, `You said: trunk ${f.mark}`, `[[echo:messages]] ${f.mark}`],
    'the fork does not know the other branch',
  );
  const session = (turn) => turn.response.headers.get('holdfast-session');
  assert.equal(session(left), session(root));
  assert.notEqual(session(right), session(root), 'the fork has its own session');
  const more = await from(left.data.id, '[[echo:messages]]');
  assert(history(more.data).some(([, text]) => text === `left ${f.mark}`));
});

flow('responses_unknown_previous', async (f) => {
  for (const previous_response_id of ['resp_nothing', `resp_${'0'.repeat(26)}`, 'x', '../x']) {
    const error = await raises(BadRequestError, f.respond('x', { previous_response_id }));
    same([error.code, error.param], ['previous_response_not_found', 'previous_response_id']);
  }
  same(f.sent(), []);
});

flow('responses_instructions_are_not_inherited', async (f) => {
  const first = await f.respond('[[echo:messages]]', { instructions: 'Speak like a sailor.' });
  same(history(first)[0], ['system', 'Speak like a sailor.']);
  assert.equal(first.instructions, 'Speak like a sailor.');
  const second = await f.respond('[[echo:messages]]', { previous_response_id: first.id });
  assert.equal(second.instructions, null);
  same(
    history(second).map(([role]) => role),
    ['user', 'assistant', 'user'],
  );
});

flow('responses_manual_history', async (f) => {
  const input = [userItem(`first ${f.mark}`)];
  const first = await f.client.responses.create({ model: MODEL, input, store: false });
  input.push(...first.output, userItem(`[[echo:messages]] ${f.mark}`));
  const second = await f.client.responses.create({ model: MODEL, input, store: false });
  same(
    history(second).map(([role]) => role),
    ['user', 'assistant', 'user'],
  );
});

flow('responses_item_reference', async (f) => {
  const first = await f.respond('referred to');
  const reference = { type: 'item_reference', id: first.output[0].id };
  const input = [reference, userItem(`[[echo:messages]] ${f.mark}`)];
  const second = await f.client.responses.create({ model: MODEL, input });
  same(history(second)[0], ['assistant', `You said: referred to ${f.mark}`]);
});

flow('responses_metadata', async (f) => {
  const metadata = { trip: 'north', leg: '2' };
  const response = await f.respond('tagged', { metadata });
  same(response.metadata, metadata);
  same((await f.client.responses.retrieve(response.id)).metadata, metadata);
});

flow('responses_sampling_reaches_the_provider', async (f) => {
  const body = { temperature: 0.25, top_p: 0.5, max_output_tokens: 77 };
  const response = await f.respond('sampled', body);
  const sent = JSON.parse(f.sent()[0].body);
  same(
    [sent.temperature, sent.top_p, sent.max_completion_tokens ?? sent.max_tokens],
    [0.25, 0.5, 77],
  );
  same([response.temperature, response.top_p, response.max_output_tokens], [0.25, 0.5, 77]);
});

flow('responses_incomplete', async (f) => {
  const response = await f.respond('[[words:50]]', { max_output_tokens: 4 });
  same([response.status, response.incomplete_details.reason], ['incomplete', 'max_output_tokens']);
  assert.equal(response.output_text, words(4));
  assert.equal(response.usage.output_tokens, 4);
  assert.equal((await f.client.responses.retrieve(response.id)).status, 'incomplete');
});

flow('responses_incomplete_stream_helper', async (f) => {
  const stream = f.streamed('[[words:50]]', { max_output_tokens: 3 });
  const events = await all(stream);
  assert.equal(events.at(-1).type, 'response.incomplete');
  const final = await stream.finalResponse();
  same([final.status, final.incomplete_details.reason], ['incomplete', 'max_output_tokens']);
  assert.equal(final.output_text, words(3));
  checkEvents(plain(events));
});

flow('responses_store_false', async (f) => {
  const response = await f.respond('forget me', { store: false });
  same([response.status, response.store], ['completed', false]);
  assert.equal(response.output_text, `You said: forget me ${f.mark}`);
  await raises(NotFoundError, f.client.responses.retrieve(response.id));
  const error = await raises(
    BadRequestError,
    f.respond('x', { previous_response_id: response.id }),
  );
  assert.equal(error.code, 'previous_response_not_found');
});

flow('responses_stream_wire', async (f) => {
  const response = await f.respond('wire', { stream: true }).asResponse();
  assert.match(response.headers.get('content-type'), /^text\/event-stream/);
  assert.match(response.headers.get('holdfast-session'), /^sess_/);
  const { events, comments } = readSse(await response.text());
  const final = checkEvents(events);
  same([final.status, events.at(-1).type], ['completed', '[DONE]']);
  const priced = comments.filter(([, text]) => text.includes('holdfast-cost'));
  assert.equal(priced.length, 1, 'comment lines with the cost');
  const [[at, text]] = priced;
  assert.equal(events[at].type, 'response.completed', 'what follows the comment');
  assert.equal(nanodollars(commentFields(text)['holdfast-cost']), costOf(final.usage));
});

flow('responses_stream_raw', async (f) => {
  const events = await all(await f.respond('typed events', { stream: true }));
  const final = checkEvents(events);
  const text = events
    .filter((event) => event.type === 'response.output_text.delta')
    .map((event) => event.delta);
  assert.equal(text.join(''), `You said: typed events ${f.mark}`);
  assert.equal(final.output[0].content[0].text, text.join(''));
  assert.equal(final.usage.total_tokens, 8);
  same((await f.client.responses.retrieve(final.id)).output, final.output);
});

flow('responses_stream_helper', async (f) => {
  const stream = f.streamed('helped along the way');
  const snapshots = [];
  stream.on('response.output_text.delta', ({ snapshot }) => snapshots.push(snapshot));
  const kinds = (await all(stream)).map((event) => event.type);
  const final = await stream.finalResponse();
  const text = `You said: helped along the way ${f.mark}`;
  same([final.output_text, snapshots.at(-1), final.status], [text, text, 'completed']);
  assert(snapshots.length > 1, 'it came in one piece');
  same([kinds[0], kinds.at(-1)], ['response.created', 'response.completed']);
  assert.equal(final.usage.output_tokens, f.sent()[0].usage.completion_tokens);
});

flow('responses_stream_tee', async (f) => {
  const stream = await f.respond('[[words:20]]', { stream: true });
  const [left, right] = await Promise.all(stream.tee().map(all));
  same(left, right);
  assert.equal(checkEvents(left).output[0].content[0].text, words(20));
});

flow('responses_parse_zod', async (f) => {
  const body = {
    model: MODEL,
    input: `berth 21 ${f.mark}`,
    text: { format: zodTextFormat(Berth, 'berth') },
  };
  const response = await f.client.responses.parse(body);
  same(response.output_parsed, { harbor: `berth 21 ${f.mark}`, number: 21, free: true });
  same([response.text.format.type, response.text.format.name], ['json_schema', 'berth']);
});

flow('responses_parse_zod_stream', async (f) => {
  const stream = f.streamed('berth 8', { text: { format: zodTextFormat(Berth, 'berth') } });
  same((await stream.finalResponse()).output_parsed, {
    harbor: `berth 8 ${f.mark}`,
    number: 8,
    free: true,
  });
});

flow('responses_json_object', async (f) => {
  const response = await f.respond('json', { text: { format: { type: 'json_object' } } });
  same(JSON.parse(response.output_text), { answer: `json ${f.mark}` });
});

flow('responses_upstream_failure', async (f) => {
  const asked = f
    .retrying()
    .responses.create({ model: MODEL, input: `[[fault:status=500]] ${f.mark}` });
  const error = await raises(APIError, asked);
  assert(error.status >= 500 && error.code && error.error.message, JSON.stringify(error.error));
  assert.equal(error.headers.get('x-should-retry'), 'false');
  assert.equal(f.sent().length, 1, 'requests at the provider');
});

flow('responses_upstream_failure_stream', async (f) => {
  const events = await all(await f.respond('[[words:9]] [[fault:cut_after=3]]', { stream: true }));
  assert.equal(events.at(-1).type, 'response.failed');
  const final = checkEvents(events);
  assert.equal(final.status, 'failed');
  assert(final.error.code && final.error.message, JSON.stringify(final.error));
  const stored = await f.client.responses.retrieve(final.id);
  same([stored.status, stored.error.code], ['failed', final.error.code]);
  assert.equal(f.sent().length, 1, 'requests at the provider');
});

flow('responses_upstream_failure_helper', async (f) => {
  const stream = f.streamed('[[words:9]] [[fault:cut_after=2]]');
  const kinds = (await all(stream)).map((event) => event.type);
  const final = await stream.finalResponse();
  same([kinds.at(-1), final.status], ['response.failed', 'failed']);
  assert(final.error.code && final.error.message, JSON.stringify(final.error));
});

flow('responses_unsupported_fields', async (f) => {
  const mcp = { type: 'mcp', server_label: 'notes' };
  const ask = { type: 'function', name: 'ask', parameters: { type: 'object', properties: {} } };
  const cases = [
    [{ tools: [{ ...mcp, require_approval: 'always' }] }, 'require_approval'],
    [
      { tools: [{ ...mcp, require_approval: { always: { tool_names: ['add_note'] } } }] },
      'require_approval',
    ],
    [{ tools: [{ ...mcp, server_url: 'https://example.com/mcp' }] }, 'server_url'],
    [{ tools: [mcp], store: false }, 'store'],
    [{ background: true, store: false }, 'background'],
    [{ tools: [{ type: 'file_search', vector_store_ids: ['vs_1'] }] }, 'tools[0].vector_store_ids'],
    [{ tools: [ask, { type: 'code_interpreter', container: { type: 'auto' } }] }, 'tools[1].type'],
    [{ tools: [{ type: 'function' }] }, 'tools[0].name'],
    [{ conversation: 'conv_1' }, 'conversation'],
    [{ prompt: { id: 'pmpt_1' } }, 'prompt'],
    [
      { context_management: [{ type: 'compaction', compact_threshold: 1000 }] },
      'context_management',
    ],
  ];
  for (const [body, field] of cases)
    refusedByName(await raises(BadRequestError, f.respond('refused', body)), field);
  same(f.sent(), []);
});

flow('responses_field_types', async (f) => {
  const good = { model: MODEL, input: `x ${f.mark}` };
  const cases = [
    [{ model: MODEL }, 'input'],
    [{ input: 'x' }, 'model'],
    [{ ...good, input: 5 }, 'input'],
    [{ ...good, input: [{ type: 'nonsense' }] }, 'input[0]'],
    [{ ...good, input: [{ role: 'pirate', content: 'x' }] }, 'input[0]'],
    [{ ...good, tools: 'all' }, 'tools'],
    [{ ...good, stream: 1 }, 'stream'],
    [{ ...good, metadata: { a: 1 } }, 'metadata'],
    [{ ...good, temperature: 'hot' }, 'temperature'],
    [{ ...good, max_output_tokens: -4 }, 'max_output_tokens'],
    [{ ...good, previous_response_id: 7 }, 'previous_response_id'],
  ];
  for (const [body, field] of cases) {
    refusedByName(await raises(BadRequestError, f.client.post('/responses', { body })), field);
  }
  same(f.sent(), []);
});

flow('responses_idempotency_key', async (f) => {
  const options = { headers: { 'idempotency-key': `idem-${f.mark}` } };
  const first = await f.respond('once', {}, options);
  const second = await f.respond('once', {}, options);
  assert.equal(second.id, first.id);
  assert.equal(f.sent().length, 1, 'requests at the provider');
});

flow('responses_retried_post_attaches', async (f) => {
  const client = f.with({ maxRetries: 2, timeout: 1000 });
  const input = `[[fault:stall=8,times=1]] patience ${f.mark}`;
  const response = await client.responses.create({ model: MODEL, input });
  assert.equal(response.output_text, `You said: patience ${f.mark}`);
  assert.equal(
    f.sent().filter((line) => line.finished).length,
    1,
    'finished answers at the provider',
  );
  assert.equal(new Set(f.sent().map((line) => line.call_id)).size, 1, 'the step is the same');
});

flow('responses_broken_connection_attaches', async (f) => {
  let posts = 0;
  let hangUp;
  // The first connection breaks after the request was taken, before any answer: the SDK sends it
  // again.
  const breaking = async (url, init) => {
    posts += 1;
    if (posts > 1) return fetch(url, init);
    const controller = new AbortController();
    hangUp = () => controller.abort();
    await fetch(url, { ...init, signal: controller.signal }).catch(() => {});
    throw new TypeError('the connection broke');
  };
  const client = f.with({ maxRetries: 2, fetch: breaking });
  const input = `[[delay_ms=250]] kept ${f.mark}`;
  setTimeout(() => hangUp(), 400);
  const response = await client.responses.create({ model: MODEL, input });
  assert.equal(response.output_text, `You said: kept ${f.mark}`);
  assert.equal(posts, 2);
  assert.equal(
    f.sent().filter((line) => line.finished).length,
    1,
    'finished answers at the provider',
  );
});

flow('responses_abort_stream_by_break', async (f) => {
  const stream = await f.respond('[[delay_ms=100]] [[words:200]]', { stream: true });
  const seen = await take(stream[Symbol.asyncIterator](), 6);
  assert(seen.some((event) => event.type === 'response.output_text.delta'));
  stream.controller.abort();
  const [line] = await eventually('the provider sees the cut', () => some(f.sent()));
  assert.equal(line.finished, false);
  assert.equal(f.sent().length, 1, 'requests at the provider');
});

flow('responses_abort_helper', async (f) => {
  const stream = f.streamed('[[delay_ms=100]] [[words:200]]');
  for await (const event of stream) {
    if (event.type === 'response.output_text.delta') break;
  }
  const [line] = await eventually('the provider sees the cut', () => some(f.sent()));
  assert.equal(line.finished, false);
});
