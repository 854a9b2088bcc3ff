/** Bytes, errors, budgets: what the SDK raises, and what it does not show. */
import assert from 'node:assert/strict';
import { both, flow, rejects, PASSED, TRANSLATED } from './flows.mjs';

const details = (error) => JSON.parse(error.message).error.details[0];

flow('bytes_pass_as_they_came', async (f) => {
  const body = `{ "contents" : [{"parts":[{"text":"caf\\u00e9 [[say:x]] ${f.mark}"}]}],"generation_config":{"top_k": 4e1} }`;
  const response = await f.http(`/v1beta/models/${PASSED}:generateContent`, body);
  assert.equal(response.status, 200);
  assert.equal(f.sent()[0].body, body);
});

flow('the_other_version_works_too', async (f) => {
  const client = f.clientOf('ci', { apiVersion: 'v1' });
  const contents = f.said('[[say:y]]');
  assert.equal((await client.models.generateContent({ model: PASSED, contents })).text, 'y');
});

flow('a_wrong_key', async (f) => {
  const contents = f.said('x');
  const client = f.clientOf('hf_nobody');
  const error = await rejects(client.models.generateContent({ model: PASSED, contents }));
  assert.equal(error.status, 401);
  assert.equal(details(error).reason, 'UNAUTHENTICATED');
});

flow('a_model_that_is_not_there', async (f) => {
  const error = await rejects(f.ask('google/nothing', 'x'));
  assert.equal(error.status, 404);
  assert.equal(details(error).reason, 'MODEL_NOT_FOUND');
});

flow('a_rate_limit_is_one', async (f) => {
  // A model of its own: until then nobody else is let through to it.
  const error = await rejects(f.ask('google/gemini-3-limited', '[[fault:status=429,retry_after=7]]'));
  assert.equal(error.status, 429);
});

flow('an_empty_account_is_not_the_clients_fault', async (f) => {
  const error = await rejects(f.ask(PASSED, '[[fault:status=429,quota=PerDay]]'));
  assert.equal(error.status, 502);
  assert.equal(details(error).reason, 'UPSTREAM_QUOTA');
});

flow('a_budget_refuses', async (f) => {
  const request = { model: PASSED, contents: f.said('x'), config: { maxOutputTokens: 100_000 } };
  const error = await rejects(f.clientOf('poor').models.generateContent(request));
  assert.equal(error.status, 429);
  assert.equal(details(error).reason, 'BUDGET_EXCEEDED');
  assert.deepEqual(f.sent(), []);
});

flow('under_a_budget_no_search_is_asked', async (f) => {
  const config = { tools: [{ googleSearch: {} }], maxOutputTokens: 9 };
  const request = { model: PASSED, contents: f.said('x'), config };
  const error = await rejects(f.clientOf('capped').models.generateContent(request));
  assert(error.message.includes('googleSearch'), error.message);
});

flow('several_candidates_are_refused_elsewhere', async (f) => {
  const answer = await f.ask(PASSED, '[[say:x]]', { candidateCount: 2 });
  assert.equal(answer.candidates.length, 2);
  const error = await rejects(f.ask(TRANSLATED, 'x', { candidateCount: 2 }));
  assert(error.message.includes('candidateCount'), error.message);
});

both('a_cut_stream_is_an_error', async (f, model) => {
  const error = await rejects(f.stream(model, '[[words:9]] [[fault:cut_after=4]]'));
  assert.equal(error.status, 502, String(error));
});

both('a_stream_without_events_is_a_list', async (f, model) => {
  const body = { contents: [{ parts: [{ text: f.said('[[words:3]]') }] }] };
  const response = await f.http(`/v1beta/models/${model}:streamGenerateContent`, body);
  const chunks = await response.json();
  assert.equal(chunks.at(-1).candidates[0].finishReason, 'STOP');
});
