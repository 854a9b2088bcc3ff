/** What goes wrong, and how the SDK must see it. */
import assert from 'node:assert/strict';
import {
  APIError,
  AuthenticationError,
  BadRequestError,
  InternalServerError,
  NotFoundError,
  RateLimitError,
} from '@anthropic-ai/sdk';
import { all, BOTH, flow, over, raises, refused, same, texts, words } from './flows.mjs';

/** A client that counts the requests that it makes. */
function counting(f, key) {
  const made = [];
  const client = f.with({
    key,
    maxRetries: 2,
    fetch: (...args) => {
      made.push(args[0]);
      return fetch(...args);
    },
  });
  return { client, made };
}

over(BOTH, 'error_400_no_max_tokens', async (f) => {
  const body = { model: f.model, messages: f.user('x') };
  const error = await raises(BadRequestError, f.client.post('/v1/messages', { body }));
  refused(error, 'invalid_request_error', 400);
  assert.equal(error.apiMessage, 'max_tokens: Field required');
  same(f.sent(), []);
});

flow('error_401_bad_key', async (f) => {
  const client = f.with({ key: 'hf_not_a_key' });
  for (const call of [() => client.models.list(), () => f.ask('x', {}, {}, client)]) {
    const error = await raises(AuthenticationError, call());
    same([error.status, error.type], [401, 'authentication_error']);
    assert(!error.message.includes('hf_not_a_key'), 'the error repeats the secret');
  }
});

over(BOTH, 'error_404_model', async (f) => {
  const error = await raises(NotFoundError, f.ask('x', { model: 'nobody/x' }));
  refused(error, 'not_found_error', 404, 'model_not_found');
});

flow('error_404_path', async (f) => {
  const error = await raises(NotFoundError, f.client.messages.batches.list());
  assert.equal(error.type, 'not_found_error');
});

flow('error_413_of_the_provider', async (f) => {
  const error = await raises(APIError, f.ask('[[fault:status=413]]'));
  same([error.status, error.type], [413, 'request_too_large']);
});

over(BOTH, 'error_429_of_the_provider', async (f) => {
  const error = await raises(RateLimitError, f.ask('[[fault:status=429,retry_after=3]]'));
  assert.equal(error.type, 'rate_limit_error');
  assert.equal(error.headers.get('retry-after'), '3');
});

over(BOTH, 'budget_refuses_at_once', async (f) => {
  const { client, made } = counting(f, 'poor');
  const error = await raises(RateLimitError, f.ask('rich text', { max_tokens: 8000 }, {}, client));
  refused(error, 'rate_limit_error', 429, 'enforced_spend_limit_reached');
  assert.equal(made.length, 1, 'requests');
  same(f.sent(), []);
});

over(BOTH, 'budget_allows_what_fits', async (f) => {
  const client = f.with({ key: 'capped' });
  assert.equal(texts(await f.ask('[[say:cheap]]', { max_tokens: 50 }, {}, client)), 'cheap');
});

over(BOTH, 'error_529_is_retried', async (f) => {
  const text = `[[fault:status=${f.isPassed ? 529 : 503},times=2]][[say:at last]]`;
  const error = await raises(InternalServerError, f.ask(text));
  same([error.status, error.type], f.isPassed ? [529, 'overloaded_error'] : [502, 'api_error']);
  assert.equal(texts(await f.ask(text, {}, {}, f.retrying())), 'at last');
  assert.equal(f.sent().length, 3);
});

flow('error_of_an_account_without_money', async (f) => {
  const { client, made } = counting(f, 'ci');
  const error = await raises(InternalServerError, f.ask('[[fault:credit]]', {}, {}, client));
  same([error.status, error.type], [502, 'api_error']);
  same([made.length, f.sent().length], [1, 1]);
});

over(BOTH, 'error_in_the_middle_of_a_stream', async (f) => {
  const text = '[[words:9]][[fault:error_after=4]]';
  const stream = f.streamed(text);
  const pieces = [];
  stream.on('text', (piece) => pieces.push(piece));
  const error = await raises(APIError, stream.finalMessage());
  assert.equal(pieces.join(''), words(4));
  assert.equal(error.error.type, 'error');
  await raises(APIError, f.ask(text, { stream: true }).then(all));
});

over(BOTH, 'stream_that_is_cut', async (f) => {
  // The helper takes a stream that merely ends for whole: it must be told.
  const text = '[[words:9]][[fault:cut_after=4]]';
  const error = await raises(APIError, f.streamed(text).finalMessage());
  assert.equal(error.type, 'api_error');
  await raises(APIError, f.ask(text, { stream: true }).then(all));
});

flow('stream_without_its_end', async (f) => {
  await raises(APIError, f.streamed('[[words:9]][[fault:no_stop]]').finalMessage());
});

over(BOTH, 'others_money_is_refused', async (f) => {
  const error = await raises(BadRequestError, f.ask('x', { billing_policy: 'a' }));
  refused(error, 'invalid_request_error', 400, 'unsupported');
  assert(error.message.includes('billing_policy'), error.message);
  same(f.sent(), []);
});
