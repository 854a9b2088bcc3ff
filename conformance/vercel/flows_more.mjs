/** What single providers of the SDK can do. */
import { createAnthropic } from '@ai-sdk/anthropic';
import { createOpenAI } from '@ai-sdk/openai';
import { createOpenAICompatible } from '@ai-sdk/openai-compatible';
import { APICallError, embedMany, generateText, streamText } from 'ai';
import { all, flow, raises, same } from '../js/common.mjs';

const URL = process.env.HOLDFAST_URL;
const thinking = { anthropic: { thinking: { type: 'enabled', budgetTokens: 1024 } } };

function claude(f) {
  return createAnthropic({ baseURL: `${URL}/v1`, apiKey: f.key() })('claude/sonnet');
}

flow('reasoning', async (f) => {
  const { reasoningText, text } = await generateText({
    model: claude(f),
    prompt: `[[think:I wonder.]] hello ${f.mark}`,
    providerOptions: thinking,
    maxOutputTokens: 2000,
  });
  same([reasoningText, text], ['I wonder.', `You said:  hello ${f.mark}`.replace('  ', ' ')]);
});

flow('reasoning_streamed', async (f) => {
  const stream = streamText({
    model: claude(f),
    prompt: `[[think:I wonder.]] hello ${f.mark}`,
    providerOptions: thinking,
    maxOutputTokens: 2000,
  });
  const parts = await all(stream.fullStream);
  const told = parts.filter(({ type }) => type === 'reasoning-delta').map(({ text }) => text);
  same(told.join(''), 'I wonder.');
});

for (const [name, make] of [
  ['openai', (apiKey) => createOpenAI({ baseURL: `${URL}/v1`, apiKey }).embedding('mock/demo')],
  [
    'compatible',
    (apiKey) =>
      createOpenAICompatible({ name: 'holdfast', baseURL: `${URL}/v1`, apiKey }).embeddingModel(
        'mock/demo',
      ),
  ],
]) {
  flow(`embeddings_by_${name}`, async (f) => {
    const values = [`one ${f.mark}`, 'two'];
    const { embeddings, usage } = await embedMany({ model: make(f.key()), values });
    same(embeddings.length, 2);
    same(embeddings[0].length === embeddings[1].length && embeddings[0].length > 0, true);
    same(usage.tokens > 0, true);
  });
}

flow('an_empty_budget', async (f) => {
  const model = createOpenAI({ baseURL: `${URL}/v1`, apiKey: f.key('poor') }).chat('mock/demo');
  const asked = generateText({ model, prompt: f.mark, maxRetries: 0, maxOutputTokens: 100000 });
  const error = await raises(APICallError, asked);
  same(error.statusCode, 429);
});

flow('a_stored_conversation', async (f) => {
  const model = createOpenAI({ baseURL: `${URL}/v1`, apiKey: f.key() }).responses('mock/demo');
  const first = await generateText({ model, prompt: `one ${f.mark}` });
  const previousResponseId = first.providerMetadata.openai.responseId;
  const second = await generateText({
    model,
    prompt: `[[echo:messages]] ${f.mark}`,
    providerOptions: { openai: { previousResponseId } },
  });
  same(second.text.includes('You said: one'), true);
});
