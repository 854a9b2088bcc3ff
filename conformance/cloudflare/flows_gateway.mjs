/** AI Gateway's provider endpoints and the compat one, by the providers' own SDKs. */
import assert from 'node:assert/strict';
import { request } from 'node:http';
import Anthropic from '@anthropic-ai/sdk';
import { AuthenticationError, BadRequestError } from 'openai';
import { raises, same } from './evidence.mjs';
import { ACCOUNT, CF_MODEL, flow } from './flows.mjs';

const BASE = `/ai-gateway/v1/${ACCOUNT}/default`;

/** The gateway's own envelope of an error. */
async function turnedAway(answer, status, number, code) {
  const body = await answer.json();
  assert.equal(answer.status, status, JSON.stringify(body));
  same([body.success, body.result], [false, []]);
  same([body.error[0].code, body.error[0].holdfast.code], [number, code]);
  return body.error[0].message;
}

flow('gateway_openai_chat', async (f) => {
  const client = f.openai(`${BASE}/openai`);
  const { data, response } = await client.chat.completions
    .create({ model: 'demo', messages: f.user('hello') })
    .withResponse();
  same(data.choices[0].message.content, `You said: hello ${f.mark}`);
  const header = (name) => response.headers.get(name);
  same([header('cf-aig-provider'), header('cf-aig-model')], ['openai', 'demo']);
  same([header('cf-aig-step'), header('cf-aig-cache-status')], ['0', null]);
  assert.equal(header('cf-aig-log-id'), header('holdfast-call-id'));
  same(f.bodies()[0].model, 'demo');
});

flow('gateway_openai_stream', async (f) => {
  const body = { model: 'demo', messages: f.user('stream'), stream: true };
  let text = '';
  for await (const chunk of await f.openai(`${BASE}/openai`).chat.completions.create(body)) {
    text += chunk.choices[0]?.delta.content ?? '';
  }
  same(text, `You said: stream ${f.mark}`);
});

flow('gateway_bytes_pass_through', async (f) => {
  const body = `{ "z":1e2,"model" : "demo", "messages":[{"role":"user","content":"\\u00fc ${f.mark}"}]}`;
  const answer = await f.gateway('/openai/chat/completions', body);
  assert.equal(answer.status, 200);
  assert.equal(f.sent()[0].body, body);
});

flow('gateway_openai_responses', async (f) => {
  const client = f.openai(`${BASE}/openai`);
  const answer = await client.responses.create({ model: 'demo', input: `hello ${f.mark}` });
  same(answer.output_text, `You said: hello ${f.mark}`);
});

flow('gateway_openai_embeddings', async (f) => {
  const body = { model: 'demo', input: `a gate ${f.mark}` };
  const { data } = await f.openai(`${BASE}/openai`).embeddings.create(body);
  assert(data[0].embedding.length > 1);
});

flow('gateway_anthropic_messages', async (f) => {
  const client = new Anthropic({
    apiKey: 'sk-ant-of-the-client',
    baseURL: `${f.url}${BASE}/anthropic`,
    defaultHeaders: { 'cf-aig-authorization': `Bearer ${f.key()}` },
    maxRetries: 0,
  });
  const ask = { model: 'demo', max_tokens: 50, messages: f.user('hello') };
  const answer = await client.messages.create(ask);
  same(answer.content, [{ type: 'text', text: `You said: hello ${f.mark}` }]);
  same(await client.messages.countTokens({ model: 'demo', messages: f.user('x') }).then(
    ({ input_tokens: tokens }) => tokens > 0,
  ), true);
});

flow('gateway_slug_of_another_name', async (f) => {
  const body = { model: 'demo', messages: f.user('hello') };
  const { response } = await f.openai(`${BASE}/grok/v1`).chat.completions.create(body).withResponse();
  assert.equal(response.headers.get('holdfast-model'), 'xai/demo');
  const custom = await f.gateway('/custom-mock/v1/chat/completions', body);
  assert.equal(custom.headers.get('holdfast-model'), 'mock/demo');
});

flow('gateway_compat', async (f) => {
  const client = f.openai(`${BASE}/compat`);
  const target = async (model) => {
    const asked = client.chat.completions.create({ model, messages: f.user('hello') });
    return (await asked.withResponse()).response.headers.get('holdfast-model');
  };
  same(await target('openai/demo'), 'openai/demo');
  same(await target('grok/demo'), 'xai/demo');
  same(await target(`workers-ai/${CF_MODEL}`), 'mock/demo');
  same(await target('dynamic/support'), 'mock/demo');
});

flow('gateway_workers_ai', async (f) => {
  const ask = async (place) => {
    const answer = await f.gateway(`/workers-ai/${place}`, { prompt: f.mark });
    return (await answer.json()).result?.response;
  };
  same(await ask(CF_MODEL), `You said: ${f.mark}`);
  same(await ask(`run/${CF_MODEL}`), `You said: ${f.mark}`);
  const client = f.openai(`${BASE}/workers-ai/v1`);
  const chat = await client.chat.completions.create({ model: CF_MODEL, messages: f.user('x') });
  same(chat.choices[0].message.content, `You said: x ${f.mark}`);
});

flow('gateway_a_providers_key_goes_nowhere', async (f) => {
  // The scripted provider takes the operator's key only: an answer says which one was sent.
  const client = f.openai(`${BASE}/openai`, {
    key: 'sk-of-the-client',
    defaultHeaders: { 'cf-aig-authorization': `Bearer ${f.key()}` },
  });
  const answer = await client.chat.completions.create({ model: 'demo', messages: f.user('x') });
  same(answer.choices[0].message.content, `You said: x ${f.mark}`);
});

flow('gateway_needs_a_key', async (f) => {
  const ask = (headers) =>
    f.gateway('/openai/chat/completions', { model: 'demo', messages: f.user('x') }, { headers });
  const none = await ask({ authorization: undefined });
  await turnedAway(none, 401, 2009, 'unauthenticated');
  const wrong = await ask({ 'cf-aig-authorization': 'Bearer hf_wrong' });
  await turnedAway(wrong, 401, 2009, 'unauthenticated');
  const client = f.openai(`${BASE}/openai`, { key: 'hf_wrong' });
  const asked = client.chat.completions.create({ model: 'demo', messages: f.user('x') });
  await raises(AuthenticationError, asked);
  assert.equal(f.sent().length, 0);
});

flow('gateway_needs_what_there_is', async (f) => {
  const at = (path) => f.http('POST', path, { body: { model: 'demo', messages: f.user('x') } });
  const no = (rest) => at(`/ai-gateway/v1/default/default/${rest}`);
  await turnedAway(await at('/ai-gateway/v1/default/Other/openai/responses'), 400, 2001, 'not_found');
  await turnedAway(await at('/ai-gateway/v1/acme/default/openai/responses'), 404, 7003, 'not_found');
  const text = await turnedAway(await no('cohere/chat/completions'), 404, 7003, 'not_found');
  assert(text.includes('openai'), `it does not say what there is: ${text}`);
  await turnedAway(await no('openai/images/generations'), 404, 7003, 'not_found');
  const get = await f.http('GET', '/ai-gateway/v1/default/default/openai/chat/completions');
  await turnedAway(get, 405, 7001, 'method_not_allowed');
});

flow('gateway_wrong_headers', async (f) => {
  const ask = (headers) =>
    f.gateway('/openai/chat/completions', { model: 'demo', messages: f.user('x') }, { headers });
  for (const [name, value] of [
    ['cf-aig-max-attempts', '6'],
    ['cf-aig-retry-delay', '5001'],
    ['cf-aig-backoff', 'random'],
    ['cf-aig-request-timeout', 'soon'],
    ['cf-aig-metadata', '{"a":1,"b":2,"c":3,"d":4,"e":5,"f":6}'],
    ['cf-aig-cache-ttl', '1'],
  ]) {
    const message = await turnedAway(await ask({ [name]: value }), 400, 5006, 'invalid_request');
    assert(message.includes(name), message);
  }
  assert.equal(f.sent().length, 0);
});

flow('gateway_headers_that_do_nothing_are_taken', async (f) => {
  const answer = await f.gateway(
    '/openai/chat/completions',
    { model: 'demo', messages: f.user('x') },
    {
      headers: {
        'cf-aig-skip-cache': 'true',
        'cf-aig-cache-ttl': '3600',
        'cf-aig-cache-key': 'mine',
        'cf-aig-collect-log': 'false',
        'cf-aig-collect-log-payload': 'false',
        'cf-aig-custom-cost': '{"per_token_in":0.1,"per_token_out":0.2}',
        'cf-aig-metadata': '{"team":"harbor","n":1}',
        'cf-aig-event-id': 'mine-1',
        'cf-aig-zdr': 'true',
      },
    },
  );
  same([answer.status, answer.headers.get('cf-aig-event-id')], [200, 'mine-1']);
});

flow('gateway_tries_again', async (f) => {
  const body = { model: 'demo', messages: f.user('[[fault:status=500,times=2]] hello') };
  const headers = { 'cf-aig-max-attempts': '3', 'cf-aig-retry-delay': '20' };
  const answer = await f.gateway('/openai/chat/completions', body, {
    headers: { ...headers, 'cf-aig-backoff': 'constant' },
  });
  same([answer.status, answer.headers.get('holdfast-attempts')], [200, '3']);
  same(
    f.sent().map((line) => line.status),
    [500, 500, 200],
  );
});

flow('gateway_tries_once_unless_told', async (f) => {
  const body = { model: 'demo', messages: f.user('[[fault:status=500,times=1]] hello') };
  const answer = await f.gateway('/openai/chat/completions', body);
  assert.equal(answer.status, 502);
  assert.equal(f.sent().length, 1);
});

flow('gateway_request_timeout', async (f) => {
  const began = performance.now();
  const answer = await f.gateway(
    '/openai/chat/completions',
    { model: 'demo', messages: f.user('[[delay_ms=8000]] hello') },
    { headers: { 'cf-aig-request-timeout': '200' } },
  );
  same([answer.status, (await answer.json()).error.code], [504, 'upstream_timeout']);
  assert(performance.now() - began < 4000, 'it waited for the answer');
});

flow('gateway_errors_are_the_doors_own', async (f) => {
  const client = f.openai(`${BASE}/openai`);
  const error = await raises(
    BadRequestError,
    client.chat.completions.create({ model: 'demo', messages: 'none' }),
  );
  assert.equal(error.param, 'messages');
});

/** One request with a `Host` of its own, which `fetch` does not let anybody set. */
function withHost(f, host, path, body) {
  const headers = { host, authorization: `Bearer ${f.key()}`, 'content-type': 'application/json' };
  return new Promise((resolve, reject) => {
    const sent = request(f.url + path, { method: 'POST', headers }, (answer) => {
      const pieces = [];
      answer.on('data', (piece) => pieces.push(piece));
      answer.on('end', () => resolve([answer.statusCode, Buffer.concat(pieces).toString()]));
    });
    sent.on('error', reject);
    sent.end(JSON.stringify(body));
  });
}

flow('gateway_by_host_and_below_v1', async (f) => {
  const body = { model: 'demo', messages: f.user('hello') };
  const path = '/v1/default/default/openai/chat/completions';
  same((await withHost(f, 'gateway.localhost', path, body))[0], 200);
  same((await withHost(f, 'localhost', path, body))[0], 200);
  const named = path.replace('default', ACCOUNT);
  same((await withHost(f, 'localhost', named, body))[0], 200);
  same((await withHost(f, 'localhost', '/v1/chat/completions', { ...body, model: 'openai/demo' }))[0], 200);
  assert.equal(f.sent().length, 4);
});

flow('gateway_headers_act_at_cloudflares_rest_api', async (f) => {
  const options = { headers: { 'cf-aig-gateway-id': 'default', 'cf-aig-max-attempts': '2', 'cf-aig-retry-delay': '10' } };
  const prompt = `[[fault:status=500,times=1]] ${f.mark}`;
  const answer = await f.post(`run/mock/demo`, { prompt }, options);
  same([answer.status, answer.headers.get('cf-aig-model')], [200, 'demo']);
  const other = await f.post(`run/mock/demo`, { prompt: f.mark }, { headers: { 'cf-aig-gateway-id': 'Other' } });
  assert.equal(other.status, 404);
});

const hello = (f) => ({ model: 'dynamic/choice', messages: f.user('hello') });

flow('gateway_of_any_name', async (f) => {
  for (const name of ['default', 'team-7']) {
    const path = `/ai-gateway/v1/default/${name}/openai/chat/completions`;
    const answer = await f.http('POST', path, { body: { ...hello(f), model: 'demo' } });
    assert.equal(answer.status, 200, name);
  }
});

flow('gateway_allowed_targets', async (f) => {
  const ask = (headers, body = hello(f)) => f.gateway('/compat/chat/completions', body, { headers });
  const routed = (answer) => [
    answer.headers.get('cf-aig-routed-model'),
    answer.headers.get('cf-aig-routing-reason'),
  ];
  const free = await ask({});
  same(routed(free), ['openai/demo', 'first_listed']);
  assert.equal(free.headers.get('cf-aig-routing-decision-id'), free.headers.get('holdfast-call-id'));
  // AI Gateway's own name of the provider, and a pattern.
  const forced = ['xai/demo', 'forced_by_candidate_pool'];
  same(routed(await ask({ 'cf-aig-allowed-providers': 'anthropic, grok' })), forced);
  same(routed(await ask({ 'cf-aig-allowed-models': 'grok/d*' })), forced);
  const both = { 'cf-aig-allowed-providers': 'openai,grok', 'cf-aig-allowed-models': '*/demo' };
  same(routed(await ask(both)), ['openai/demo', 'first_listed']);
  // A model by its own name was decided by nobody.
  same(routed(await ask({}, { ...hello(f), model: 'openai/demo' })), [null, null]);
  const before = f.sent().length;
  for (const headers of [
    { 'cf-aig-allowed-providers': 'anthropic' },
    { 'cf-aig-allowed-models': '*' },
    { 'cf-aig-allowed-providers': 'openai', 'cf-aig-allowed-models': 'xai/*' },
  ]) {
    const refused = await ask(headers);
    same([refused.status, (await refused.json()).error.param], [400, 'model']);
  }
  const plain = await ask({ 'cf-aig-allowed-providers': 'grok' }, { ...hello(f), model: 'openai/demo' });
  assert.equal(plain.status, 400);
  assert.equal(f.sent().length, before, 'a model that is not allowed was asked');
});

flow('gateway_allowed_targets_of_responses', async (f) => {
  const body = { model: 'route/choice', input: `hello ${f.mark}` };
  const ask = (headers) => f.http('POST', `/client/v4/accounts/${ACCOUNT}/ai/v1/responses`, { body, headers });
  assert.equal((await ask({ 'cf-aig-allowed-providers': 'grok' })).status, 200);
  assert.equal((await ask({ 'cf-aig-allowed-providers': 'anthropic' })).status, 400);
});

flow('gateway_session_turn_and_trace', async (f) => {
  const headers = {
    'cf-aig-session-id': `talk-${f.mark}`,
    'cf-aig-turn-id': 'turn-3',
    'cf-aig-no-session-affinity': 'true',
    'cf-aig-otel-trace-id': '0af7651916cd43dd8448eb211c80319c',
    'cf-aig-otel-parent-span-id': 'b7ad6b7169203331',
    'cf-aig-byok-alias': 'default',
  };
  const answer = await f.gateway('/compat/chat/completions', hello(f), { headers });
  assert.equal(answer.status, 200);
  const named = await f.http('POST', '/v1/chat/completions', {
    body: hello(f),
    headers: { 'holdfast-session': `talk-${f.mark}` },
  });
  const session = answer.headers.get('holdfast-session');
  assert(session?.startsWith('sess_') && session === named.headers.get('holdfast-session'), session);
});

flow('gateway_wrong_ways', async (f) => {
  for (const [name, value] of [
    ['cf-aig-byok-alias', 'mine'],
    ['cf-aig-otel-trace-id', '0af7'],
    ['cf-aig-otel-trace-id', '0'.repeat(32)],
    ['cf-aig-otel-parent-span-id', 'b7ad6b7169203331'],
    ['cf-aig-session-id', 's'.repeat(129)],
    ['cf-aig-turn-id', ''],
    ['cf-aig-allowed-models', ' , '],
    ['cf-aig-no-session-affinity', 'maybe'],
  ]) {
    const answer = await f.gateway('/compat/chat/completions', hello(f), { headers: { [name]: value } });
    const body = await answer.json();
    assert.equal(answer.status, 400, `${name}: ${JSON.stringify(body)}`);
    assert(body.error[0].message.includes(name), body.error[0].message);
  }
  assert.equal(f.sent().length, 0);
});
