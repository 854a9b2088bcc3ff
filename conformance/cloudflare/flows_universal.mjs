/** AI Gateway's universal endpoint: by hand, and by the Vercel AI SDK's provider of it. */
import assert from 'node:assert/strict';
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { generateText, streamText } from 'ai';
import { AiGatewayUnauthorizedError, createAiGateway } from 'ai-gateway-provider';
import { createUnified } from 'ai-gateway-provider/providers/unified';
import { raises, same } from './evidence.mjs';
import { ACCOUNT, CF_MODEL, flow, readStream } from './flows.mjs';

/** A step that asks OpenAI's chat completions. */
function chat(f, text, others = {}) {
  const { query, ...step } = others;
  const body = { model: 'demo', messages: f.user(text), ...query };
  return { provider: 'openai', endpoint: 'chat/completions', headers: {}, query: body, ...step };
}

flow('universal_first_step_answers', async (f) => {
  const answer = await f.gateway('', [chat(f, 'one'), chat(f, 'two')]);
  same([answer.status, answer.headers.get('cf-aig-step')], [200, '0']);
  same((await answer.json()).choices[0].message.content, `You said: one ${f.mark}`);
  assert.equal(f.sent().length, 1);
});

flow('universal_next_step_answers', async (f) => {
  const steps = [
    chat(f, '[[fault:status=500]] one'),
    { provider: 'workers-ai', endpoint: CF_MODEL, query: { prompt: `two ${f.mark}` } },
  ];
  const answer = await f.gateway('', steps);
  same([answer.status, answer.headers.get('cf-aig-step')], [200, '1']);
  same((await answer.json()).result.response, `You said: two ${f.mark}`);
  assert.equal(answer.headers.get('cf-aig-provider'), 'mock');
  same(
    f.sent().map((line) => line.status),
    [500, 200],
  );
});

flow('universal_winners_bytes_are_unchanged', async (f) => {
  const query = { model: 'demo', messages: f.user('[[say:the winner]]'), stream: true };
  const steps = [chat(f, '[[fault:status=503]] one'), { ...chat(f, ''), query }];
  const answer = await f.gateway('', steps);
  const { events } = readStream(await answer.text());
  const text = events.filter((event) => event !== '[DONE]');
  same(text.map((event) => event.choices[0]?.delta.content ?? '').join(''), 'the winner');
  assert.equal(events.at(-1), '[DONE]');
  assert.equal(answer.headers.get('cf-aig-step'), '1');
});

flow('universal_stream_that_breaks_early_gives_way', async (f) => {
  const query = { stream: true };
  const steps = [chat(f, '[[fault:drop]] one', { query }), chat(f, 'two', { query })];
  const answer = await f.gateway('', steps);
  same([answer.status, answer.headers.get('cf-aig-step')], [200, '1']);
  const { events } = readStream(await answer.text());
  const text = events.map((event) => event.choices?.[0]?.delta.content ?? '').join('');
  same(text, `You said: two ${f.mark}`);
});

flow('universal_timeout_gives_way', async (f) => {
  const slow = chat(f, '[[delay_ms=8000]] one', { config: { requestTimeout: 200 } });
  const began = performance.now();
  const answer = await f.gateway('', [slow, chat(f, 'two')]);
  same([answer.status, answer.headers.get('cf-aig-step')], [200, '1']);
  assert(performance.now() - began < 4000, 'it waited for the first step');
});

flow('universal_step_tries_again', async (f) => {
  const config = { maxAttempts: 2, retryDelay: 10, backoff: 'linear' };
  const steps = [chat(f, '[[fault:status=500,times=1]] one', { config }), chat(f, 'two')];
  const answer = await f.gateway('', steps);
  same([answer.status, answer.headers.get('cf-aig-step')], [200, '0']);
  assert.equal(f.sent().length, 2);
});

flow('universal_last_failure_is_the_answer', async (f) => {
  const steps = [chat(f, '[[fault:status=500]] one'), chat(f, '[[fault:status=400]] two')];
  const answer = await f.gateway('', steps);
  same([answer.status, answer.headers.get('cf-aig-step')], [400, '1']);
  assert((await answer.json()).error.message);
});

flow('universal_mistakes_are_found_before_anything_is_asked', async (f) => {
  const refused = async (steps) => {
    const answer = await f.gateway('', steps);
    const body = await answer.json();
    same(body.success, false);
    return [answer.status, body.error[0].message];
  };
  const [status, message] = await refused([chat(f, 'x'), chat(f, 'y', { provider: 'nobody' })]);
  assert.equal(status, 404);
  assert(message.includes('step 1') && message.includes('nobody'), message);
  const wrong = chat(f, 'y', { headers: { 'cf-aig-max-attempts': '9' } });
  same((await refused([chat(f, 'x'), wrong]))[0], 400);
  same((await refused([{ provider: 'openai' }]))[0], 400);
  same((await refused([]))[0], 400);
  assert.equal(f.sent().length, 0);
});

flow('universal_one_step_without_a_list', async (f) => {
  const answer = await f.gateway('', chat(f, 'alone'));
  same((await answer.json()).choices[0].message.content, `You said: alone ${f.mark}`);
});

flow('universal_budget', async (f) => {
  const query = { max_tokens: 100_000 };
  const steps = [chat(f, 'dear', { query }), chat(f, 'cheap', { query: { max_tokens: 5 } })];
  const answer = await f.gateway('', steps, { key: 'poor' });
  same([answer.status, answer.headers.get('cf-aig-step')], [200, '1']);
  assert.equal(f.sent().length, 1);
});

/** The Vercel AI SDK's provider of AI Gateway. */
function gateway(f, options = {}) {
  return createAiGateway({ accountId: ACCOUNT, gateway: 'default', apiKey: f.key(), ...options });
}

const openai = createOpenAI({ apiKey: 'sk-of-the-client' });
const anthropic = createAnthropic({ apiKey: 'sk-of-the-client' });

flow('vercel_gateway_generate', async (f) => {
  const model = gateway(f)(openai.chat('demo'));
  const { text, usage } = await generateText({ model, prompt: `hello ${f.mark}` });
  same([text, usage.inputTokens], [`You said: hello ${f.mark}`, 2]);
});

flow('vercel_gateway_stream', async (f) => {
  const model = gateway(f)(openai.chat('demo'));
  const stream = streamText({ model, prompt: `stream ${f.mark}` });
  same(await stream.text, `You said: stream ${f.mark}`);
  same(await stream.finishReason, 'stop');
});

flow('vercel_gateway_responses', async (f) => {
  const model = gateway(f)(openai('demo'));
  const { text } = await generateText({ model, prompt: `hello ${f.mark}` });
  same(text, `You said: hello ${f.mark}`);
});

flow('vercel_gateway_falls_back_to_another_format', async (f) => {
  const model = gateway(f)([openai.chat('nobody-has-it'), anthropic('demo')]);
  const { text } = await generateText({ model, prompt: `hello ${f.mark}`, maxRetries: 0 });
  same(text, `You said: hello ${f.mark}`);
});

flow('vercel_gateway_options', async (f) => {
  const retries = { maxAttempts: 3, retryDelayMs: 10, backoff: 'constant' };
  const options = { retries, metadata: { team: 'harbor' }, cacheTtl: 60, skipCache: true };
  const model = gateway(f, { options })(openai.chat('demo'));
  const prompt = `[[fault:status=500,times=2]] hello ${f.mark}`;
  const { text } = await generateText({ model, prompt, maxRetries: 0 });
  same([text, f.sent().length], [`You said: hello ${f.mark}`, 3]);
});

flow('vercel_gateway_unified', async (f) => {
  const unified = createUnified({ apiKey: 'sk-of-the-client' });
  const { text } = await generateText({
    model: gateway(f)(unified('dynamic/support')),
    prompt: `hello ${f.mark}`,
  });
  same(text, `You said: hello ${f.mark}`);
});

flow('vercel_gateway_unauthorized', async (f) => {
  const model = gateway(f, { apiKey: 'hf_wrong' })(openai.chat('demo'));
  const asked = generateText({ model, prompt: f.mark, maxRetries: 0 });
  await raises(AiGatewayUnauthorizedError, asked);
});
