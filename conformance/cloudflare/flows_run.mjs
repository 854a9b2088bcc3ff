/** Workers AI's own door: `ai/run`, by the SDK and by hand. */
import assert from 'node:assert/strict';
import { AuthenticationError, NotFoundError, RateLimitError } from 'cloudflare';
import { commentFields, costOf, nanodollars, raises, same } from './evidence.mjs';
import { ACCOUNT, CF_MODEL, flow, MODEL, readStream, refused } from './flows.mjs';

const FIND = {
  name: 'find_note',
  description: 'Finds the notes about a word.',
  parameters: {
    type: 'object',
    properties: { query: { type: 'string', description: 'The word.' } },
    required: ['query'],
  },
};
const BERTH = {
  type: 'object',
  properties: { harbor: { type: 'string' }, number: { type: 'integer' } },
  required: ['harbor', 'number'],
};
const CALL = '[[tool:find_note {"query":"harbor"}]]';

flow('run_messages', async (f) => {
  const result = await f.run({ messages: f.user('hello') });
  same(result.response, `You said: hello ${f.mark}`);
  same([result.usage.prompt_tokens, result.usage.completion_tokens], [2, 4]);
  const [body, ...more] = f.bodies();
  same([body.model, body.messages[0].role, more.length], ['demo', 'user', 0]);
});

flow('run_prompt', async (f) => {
  const result = await f.run({ prompt: `once ${f.mark}`, temperature: 0.3, seed: 4, top_k: 5 });
  same(result.response, `You said: once ${f.mark}`);
  const [body] = f.bodies();
  same([body.temperature, body.seed], [0.3, 4]);
});

flow('run_envelope_and_headers', async (f) => {
  const answer = await f.post(`run/${MODEL}`, { messages: f.user('price me') });
  const { result, ...envelope } = await answer.json();
  same(envelope, { success: true, errors: [], messages: [] });
  assert.equal(nanodollars(answer.headers.get('holdfast-cost')), costOf(result.usage));
  assert.match(answer.headers.get('holdfast-call-id'), /^hfc_/);
  assert.equal(answer.headers.get('holdfast-model'), MODEL);
  assert.match(answer.headers.get('content-type'), /^application\/json/);
});

flow('run_model_in_the_path_encoded_or_not', async (f) => {
  for (const name of ['mock/demo', 'mock%2Fdemo', 'mock%2fdemo/']) {
    const answer = await f.post(`run/${name}`, { prompt: f.mark });
    same((await answer.json()).result?.response, `You said: ${f.mark}`, name);
  }
});

flow('run_model_in_the_body', async (f) => {
  for (const body of [
    { model: MODEL, prompt: f.mark },
    { model: MODEL, input: { prompt: f.mark, max_tokens: 50 } },
  ]) {
    const answer = await f.post('run', body);
    same((await answer.json()).result?.response, `You said: ${f.mark}`);
  }
  same(
    f.bodies().map((body) => body.max_completion_tokens),
    [undefined, 50],
  );
  await refused(await f.post('run', { prompt: f.mark }), 400, 5006, 'invalid_request');
});

flow('run_stream', async (f) => {
  const request = f.run({ messages: f.user('stream this'), stream: true });
  const response = await request.asResponse();
  assert.match(response.headers.get('content-type'), /^text\/event-stream/);
  const { events, comments } = readStream(await response.text());
  assert.equal(events.at(-1), '[DONE]');
  const text = events.slice(0, -1).map((event) => event.response);
  same(text.join(''), `You said: stream this ${f.mark}`);
  assert(text.length > 3, 'it came in one piece');
  const { usage, finish_reason: reason } = events.at(-2);
  same([usage.prompt_tokens, usage.completion_tokens, reason], [3, 5, 'stop']);
  const [[at, comment]] = comments;
  same([at, comments.length], [events.length - 1, 1]);
  assert.equal(nanodollars(commentFields(comment)['holdfast-cost']), costOf(usage));
});

flow('run_tools', async (f) => {
  const result = await f.run({ messages: f.user(CALL), tools: [FIND] });
  const [call, ...more] = result.tool_calls;
  same([call.name, call.arguments, more.length], ['find_note', { query: 'harbor' }, 0]);
  assert.equal(result.response, null);
  const [body] = f.bodies();
  same(body.tools, [{ type: 'function', function: FIND }]);
});

flow('run_tools_stream', async (f) => {
  const answer = await f.post(`run/${MODEL}`, {
    messages: f.user(`${CALL} [[tool:find_note {"query":"tide"}]]`),
    tools: [{ type: 'function', function: FIND }],
    stream: true,
  });
  const { events } = readStream(await answer.text());
  const calls = events.flatMap((event) => event.tool_calls ?? []);
  same(
    calls.map((call) => [call.index, call.name, call.arguments.query]),
    [
      [0, 'find_note', 'harbor'],
      [1, 'find_note', 'tide'],
    ],
  );
  assert.equal(events.at(-2).finish_reason, 'tool_calls');
});

flow('run_tool_result_by_name', async (f) => {
  const messages = f.user(CALL);
  const { tool_calls: calls } = await f.run({ messages, tools: [FIND] });
  messages.push({ role: 'assistant', content: '', tool_calls: calls });
  messages.push({ role: 'tool', name: 'find_note', content: 'The gate opens at 6.' });
  const { response } = await f.run({ messages, tools: [FIND] });
  same(response, 'The tool said: The gate opens at 6.');
  const [, assistant, result] = f.bodies()[1].messages;
  same(result.tool_call_id, assistant.tool_calls[0].id);
});

flow('run_json_mode', async (f) => {
  const response_format = { type: 'json_schema', json_schema: BERTH };
  const result = await f.run({ messages: f.user('berth 14'), response_format });
  same(result.response, { harbor: `berth 14 ${f.mark}`, number: 14 });
  same(f.bodies()[0].response_format.json_schema.schema, BERTH);
});

flow('run_cloudflares_name', async (f) => {
  const { response } = await f.run({ prompt: f.mark }, { model: CF_MODEL });
  same(response, `You said: ${f.mark}`);
});

flow('run_embeddings', async (f) => {
  const one = await f.run({ text: `a gate ${f.mark}` });
  same([one.shape[0], one.data.length, one.data[0].length], [1, 1, one.shape[1]]);
  const two = await f.run({ text: [`a gate ${f.mark}`, `a quay ${f.mark}`] });
  same([two.shape, two.data[0]], [[2, one.shape[1]], one.data[0]]);
  const answer = await f.post(`run/${MODEL}`, { text: f.mark, pooling: 'cls' });
  await refused(answer, 400, 5006, 'unsupported');
});

flow('run_max_tokens', async (f) => {
  const result = await f.run({ prompt: `[[words:50]] ${f.mark}`, max_tokens: 4 });
  same([result.response, result.finish_reason], ['word1 word2 word3 word4', 'length']);
});

flow('run_reports_what_was_dropped', async (f) => {
  const answer = await f.post(`run/${MODEL}`, { prompt: f.mark, sparkle: 1 });
  same([answer.status, answer.headers.get('holdfast-dropped')], [200, 'sparkle']);
});

flow('run_unknown_model', async (f) => {
  const error = await raises(NotFoundError, f.run({ prompt: f.mark }, { model: '@cf/no/such' }));
  same([error.errors[0].code, error.errors[0].holdfast.code], [5007, 'model_not_found']);
  assert(error.errors[0].message.includes('@cf/no/such'));
  assert.equal(f.sent().length, 0);
});

flow('run_bad_input', async (f) => {
  const at = async (body) => {
    const answer = await f.post(`run/${MODEL}`, body);
    return (await refused(answer, 400, 5006, 'invalid_request')).source?.pointer;
  };
  same(await at({}), '/messages');
  same(await at({ messages: [{ role: 'user' }] }), '/messages/0/content');
  same(await at({ prompt: 'x', max_tokens: 'many' }), '/max_tokens');
  await at('{"prompt":');
  const raw = await f.post(`run/${MODEL}`, { prompt: 'x', raw: true });
  await refused(raw, 400, 5006, 'unsupported');
});

flow('run_needs_a_key', async (f) => {
  const wrong = f.cloudflare({ key: 'hf_wrong' }).ai.run(MODEL, { account_id: ACCOUNT, prompt: 'x' });
  const error = await raises(AuthenticationError, wrong);
  same(error.errors[0].code, 10_000);
  const none = await f.post(`run/${MODEL}`, { prompt: 'x' }, { headers: { authorization: undefined } });
  await refused(none, 401, 10_000, 'unauthenticated');
});

flow('run_needs_the_keys_own_account', async (f) => {
  const other = await f.post(`run/${MODEL}`, { prompt: f.mark }, { account: 'a'.repeat(32) });
  await refused(other, 403, 10_000, 'permission_denied');
  const none = await f.post(`run/${MODEL}`, { prompt: f.mark }, { account: 'acme' });
  await refused(none, 404, 7003, 'not_found');
  const own = await f.post(`run/${MODEL}`, { prompt: f.mark }, { account: ACCOUNT });
  assert.equal(own.status, 200);
  assert.equal(f.sent().length, 1);
});

flow('run_budget', async (f) => {
  let requests = 0;
  const counting = (...request) => {
    requests += 1;
    return fetch(...request);
  };
  const { ai } = f.cloudflare({ key: 'poor', maxRetries: 2, fetch: counting });
  const dear = ai.run(MODEL, { account_id: ACCOUNT, prompt: 'x', max_tokens: 100_000 });
  const error = await raises(RateLimitError, dear);
  same([error.errors[0].code, error.errors[0].holdfast.code], [3036, 'budget_exceeded']);
  assert.equal(requests, 1, 'the SDK tried again');
});

flow('run_methods_and_places', async (f) => {
  const get = await f.http('GET', `/client/v4/accounts/default/ai/run/${MODEL}`);
  await refused(get, 405, 7001, 'method_not_allowed');
  const away = await f.http('GET', '/client/v4/accounts/default/ai/nothing');
  await refused(away, 404, 7003, 'not_found');
});

flow('run_provider_fails', async (f) => {
  const answer = await f.post(`run/${MODEL}`, { prompt: `[[fault:status=500]] ${f.mark}` });
  await refused(answer, 502, 3043, 'upstream_failed');
});

flow('run_stream_breaks', async (f) => {
  const prompt = `[[fault:cut_after=3]] [[words:20]] ${f.mark}`;
  const answer = await f.post(`run/${MODEL}`, { prompt, stream: true });
  const { events } = readStream(await answer.text());
  const last = events.at(-1);
  same([last.success, last.errors[0].holdfast.code], [false, 'stream_cut']);
  assert(!events.includes('[DONE]'), 'a cut stream looks finished');
});

flow('run_models_search', async (f) => {
  const names = [];
  for await (const model of f.ai.models.list({ account_id: ACCOUNT, per_page: 2 })) {
    names.push(model.name);
  }
  assert(names.includes(MODEL) && new Set(names).size === names.length, names.join());
  const answer = await f.http(
    'GET',
    '/client/v4/accounts/default/ai/models/search?search=MOCK',
  );
  const { result, result_info: info } = await answer.json();
  same([result.map((model) => model.name), info.total_count], [[MODEL], 1]);
});
