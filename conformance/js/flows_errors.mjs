/**
 * What goes wrong, and how the SDK must see it: refusals, upstream failures, cuts, retries,
 * budgets.
 */
import assert from 'node:assert/strict';
import OpenAI, {
  APIConnectionTimeoutError,
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
} from 'openai';
import { readSse } from './events.mjs';
import {
  all,
  eventually,
  flow,
  MODEL,
  raises,
  refusedByName,
  same,
  some,
  words,
} from './flows.mjs';

flow('error_401_bad_key', async (f) => {
  const client = f.with({ key: 'hf_not_a_key' });
  const calls = [
    () => client.models.list(),
    () => client.chat.completions.create({ model: MODEL, messages: f.user('x') }),
    () => client.responses.create({ model: MODEL, input: f.mark }),
    () => client.responses.retrieve('resp_x'),
  ];
  for (const call of calls) {
    const error = await raises(AuthenticationError, call());
    same([error.status, error.code], [401, 'invalid_api_key']);
    assert(!error.message.includes('hf_not_a_key'), 'the error repeats the secret');
  }
  same(f.sent(), []);
});

flow('error_404_unknown_model', async (f) => {
  const chat = await raises(NotFoundError, f.ask('x', { model: 'mock/nothing' }));
  same([chat.status, chat.code, chat.param], [404, 'model_not_found', 'model']);
  assert(chat.message.includes('mock/nothing'), chat.message);
  const response = await raises(NotFoundError, f.respond('x', { model: 'mock/nothing' }));
  same([response.code, response.param], ['model_not_found', 'model']);
  same(f.sent(), []);
});

flow('error_404_unknown_path', async (f) => {
  const error = await raises(NotFoundError, f.client.get('/nothing'));
  assert(error.message.length > 20 && error.error.message, 'no error object');
});

flow('error_400_field_types', async (f) => {
  const cases = [
    [{ model: 5, messages: f.user('x') }, 'model'],
    [{ messages: f.user('x') }, 'model'],
    [{ model: MODEL, messages: f.user('x'), stream: 'yes' }, 'stream'],
    [{ model: MODEL, messages: f.user('x'), max_tokens: 'many' }, 'max_tokens'],
    [{ model: MODEL, messages: f.user('x'), max_completion_tokens: -1 }, 'max_completion_tokens'],
  ];
  for (const [body, field] of cases) {
    refusedByName(
      await raises(BadRequestError, f.client.post('/chat/completions', { body })),
      field,
    );
  }
  same(f.sent(), []);
});

flow('error_400_of_the_provider', async (f) => {
  const asked = f
    .retrying()
    .chat.completions.create({ model: MODEL, messages: f.user('[[fault:status=400]]') });
  const error = await raises(BadRequestError, asked);
  same(error.error, {
    message: 'scripted failure with status 400',
    type: 'invalid_request_error',
    param: null,
    code: 'scripted_bad_request',
  });
  assert.match(error.headers.get('holdfast-call-id'), /^hfc_/);
  assert.equal(f.sent().length, 1, 'a 400 is not asked again');
});

// What limits how much it takes is asked less for a while: not where other flows would wait.
const LIMITED = 'mock/unpriced';

flow('error_429_is_retried', async (f) => {
  const messages = f.user('[[fault:status=429,times=1]] second time lucky');
  const answer = await f.retrying().chat.completions.create({ model: LIMITED, messages });
  assert.equal(answer.choices[0].message.content, `You said: second time lucky ${f.mark}`);
  same(
    f.sent().map((line) => line.status),
    [429, 200],
  );
  assert.equal(
    new Set(f.sent().map((line) => line.call_id)).size,
    2,
    'each POST is a Call of its own',
  );
});

flow('error_429_says_when', async (f) => {
  const error = await raises(RateLimitError, f.ask('[[fault:status=429,retry_after=3]]', { model: LIMITED }));
  same(
    [error.status, error.code, error.headers.get('retry-after')],
    [429, 'rate_limit_exceeded', '3'],
  );
  assert.equal(f.sent().length, 1);
});

flow('error_5xx_retry_counts', async (f) => {
  for (const status of [500, 503]) {
    const messages = f.user(`[[fault:status=${status}]] number${status}`);
    const asked = f.retrying().chat.completions.create({ model: MODEL, messages });
    const error = await raises(InternalServerError, asked);
    assert(error.error.message && error.error.code, JSON.stringify(error.error));
    // The SDK obeys `x-should-retry`; without it, it asks three times.
    const expected = error.headers.get('x-should-retry') === 'false' ? 1 : 3;
    const lines = f.sent().filter((line) => line.body.includes(`number${status}`));
    same(
      lines.map((line) => line.status),
      Array(expected).fill(status),
      `requests after a ${status}`,
    );
  }
});

flow('error_connection_dropped_is_not_retried', async (f) => {
  const asked = f
    .retrying()
    .chat.completions.create({ model: MODEL, messages: f.user('[[fault:drop]]') });
  const error = await raises(InternalServerError, asked);
  assert.equal(error.headers.get('x-should-retry'), 'false', 'it may have been billed');
  assert(error.code, 'no code');
  assert.equal(f.sent().length, 1, 'requests at the provider');
});

flow('error_json_cut_is_not_retried', async (f) => {
  const asked = f
    .retrying()
    .chat.completions.create({ model: MODEL, messages: f.user('[[fault:cut_after=1]]') });
  const error = await raises(InternalServerError, asked);
  assert.equal(error.headers.get('x-should-retry'), 'false');
  assert.equal(f.sent().length, 1, 'requests at the provider');
});

flow('error_stream_cut', async (f) => {
  const messages = f.user('[[words:20]] [[fault:cut_after=5]]');
  const stream = await f
    .retrying()
    .chat.completions.create({ model: MODEL, messages, stream: true });
  const seen = [];
  const read = async () => {
    for await (const chunk of stream) seen.push(...chunk.choices);
  };
  const error = await raises(APIError, read());
  assert.equal(seen.map((choice) => choice.delta.content ?? '').join(''), words(5));
  assert(!seen.some((choice) => choice.finish_reason), 'a finish reason on a cut stream');
  assert(error.error.message && error.code, JSON.stringify(error.error));
  same(
    f.sent().map((line) => line.finished),
    [false],
  );
});

flow('error_stream_cut_in_the_helper', async (f) => {
  const body = { model: MODEL, messages: f.user('[[words:20]] [[fault:cut_after=3]]') };
  const stream = f.client.chat.completions.stream(body);
  let whole = false;
  stream.on('content.done', () => (whole = true));
  await raises(OpenAI.OpenAIError, stream.finalChatCompletion());
  assert.equal(whole, false, 'a cut answer that looks whole');
});

flow('error_stream_cut_has_no_done', async (f) => {
  const response = await f.ask('[[words:20]] [[fault:cut_after=2]]', { stream: true }).asResponse();
  const data = (await response.text()).split('\n').filter((line) => line.startsWith('data:'));
  assert(!data.includes('data: [DONE]'), 'a cut stream ends in [DONE]');
  const { error } = JSON.parse(data.at(-1).slice(5));
  assert(error.message && error.code, JSON.stringify(error));
});

flow('error_stream_error_event', async (f) => {
  const stream = await f.ask('[[words:9]] [[fault:error_after=2]]', { stream: true });
  await raises(APIError, all(stream));
});

flow('error_stream_malformed_chunk', async (f) => {
  const stream = await f.ask('[[words:9]] [[fault:malformed]]', { stream: true });
  let error;
  await all(stream).catch((problem) => (error = problem));
  assert(
    error instanceof APIError || error instanceof SyntaxError,
    `a broken chunk went unnoticed: ${error}`,
  );
});

flow('stream_without_done_is_whole', async (f) => {
  const response = await f.ask('[[words:3]] [[fault:no_done]]', { stream: true }).asResponse();
  const { events } = readSse(await response.text());
  const choices = events.flatMap((event) => event.choices ?? []);
  assert.equal(choices.map((choice) => choice.delta.content ?? '').join(''), words(3));
  assert.equal(choices.at(-1).finish_reason, 'stop');
});

flow('error_client_timeout_stops_the_provider', async (f) => {
  const asked = f.ask('[[delay_ms=8000]]', {}, { timeout: 600 });
  await raises(APIConnectionTimeoutError, asked);
  const [line] = await eventually('the provider sees the cut', () => some(f.sent()));
  assert.equal(line.finished, false);
});

/** The 429 of a budget: OpenAI's own code, the limit named, and not asked again. */
async function refusedByBudget(f, asked) {
  const error = await raises(RateLimitError, asked);
  same([error.status, error.code], [429, 'insufficient_quota']);
  assert.equal(error.headers.get('x-should-retry'), 'false');
  assert(error.message.includes('0.001'), `the limit is not named: ${error.message}`);
  same(f.sent(), [], 'requests at the provider');
}

flow('budget_refusal', async (f) => {
  let posts = 0;
  const counting = (url, init) => {
    posts += 1;
    return fetch(url, init);
  };
  const client = f.with({ key: 'poor', maxRetries: 2, fetch: counting });
  const body = { model: MODEL, messages: f.user('rich text'), max_tokens: 4000 };
  await refusedByBudget(f, client.chat.completions.create(body));
  assert.equal(posts, 1, 'the SDK did not try again');
});

flow('budget_refusal_of_a_stream', async (f) => {
  const client = f.retrying('poor');
  const body = { model: MODEL, messages: f.user('rich text'), max_tokens: 4000, stream: true };
  await refusedByBudget(f, client.chat.completions.create(body));
});

flow('budget_refusal_of_a_response', async (f) => {
  const client = f.retrying('poor');
  const body = { model: MODEL, input: `${f.mark} rich`, max_output_tokens: 4000 };
  await refusedByBudget(f, client.responses.create(body));
});

flow('budget_allows_what_fits', async (f) => {
  const body = { model: MODEL, messages: f.user('[[say:cheap]]'), max_tokens: 5 };
  const answer = await f.with({ key: 'poor' }).chat.completions.create(body);
  assert.equal(answer.choices[0].message.content, 'cheap');
});

flow('budget_sets_an_output_cap', async (f) => {
  const body = { model: MODEL, messages: f.user('uncapped') };
  const capped = await f.with({ key: 'capped' }).chat.completions.create(body).withResponse();
  const cap = Number(capped.response.headers.get('holdfast-output-cap'));
  assert(cap >= 4096 && cap <= 32_768, `cap ${cap}`);
  const sent = JSON.parse(f.sent()[0].body);
  assert.equal(sent.max_completion_tokens ?? sent.max_tokens, cap);
  const free = await f.ask('free').withResponse();
  assert.equal(free.response.headers.get('holdfast-output-cap'), null, 'a cap without a budget');
});

flow('models_list', async (f) => {
  const models = await all(f.client.models.list());
  const ids = models.map((model) => model.id);
  assert(ids.includes(MODEL), ids.join(' '));
  assert.equal(ids.length, new Set(ids).size);
  assert(
    models.every(
      (model) => model.object === 'model' && Number.isInteger(model.created) && model.owned_by,
    ),
  );
});

flow('models_retrieve', async (f) => {
  const model = await f.client.models.retrieve(MODEL);
  same([model.id, model.object], [MODEL, 'model']);
  const error = await raises(NotFoundError, f.client.models.retrieve('mock/nothing'));
  assert.equal(error.code, 'model_not_found');
});
