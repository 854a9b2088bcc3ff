/** What is said and answered: texts, streams, chats, media, shapes, limits, counts. */
import assert from 'node:assert/strict';
import { both, flow, all, LOCAL, PASSED, TRANSLATED } from './flows.mjs';

const PIXEL =
  'iVBORw0KGgoAAAANSUhEUgAAAAEAAAABCAYAAAAfFcSJAAAADUlEQVR42mP8z8BQDwAEhQGAhKmMIQAAAABJRU5ErkJggg==';
const COUNTING = '[[words:12]]';
const COUNTED = Array.from({ length: 12 }, (_, n) => `word${n + 1}`).join(' ');
const finish = (answer) => answer.candidates?.[0]?.finishReason;
const joined = (chunks) => chunks.map((chunk) => chunk.text ?? '').join('');

both('text', async (f, model) => {
  const answer = await f.ask(model, '[[say:Good day.]]');
  assert.equal(answer.text, 'Good day.');
  assert.equal(finish(answer), 'STOP');
  assert.equal(answer.usageMetadata.candidatesTokenCount, 2);
  assert(answer.responseId && answer.modelVersion);
});

both('stream', async (f, model) => {
  const chunks = await f.stream(model, COUNTING);
  assert(chunks.length > 6, `${chunks.length} chunks`);
  assert.equal(joined(chunks), COUNTED);
  assert.deepEqual(chunks.map(finish).filter(Boolean), ['STOP']);
  assert.equal(chunks.at(-1).usageMetadata.candidatesTokenCount, 12);
});

both('system', async (f, model) => {
  const answer = await f.ask(model, '[[echo:messages]]', { systemInstruction: 'Be brief.' });
  assert(answer.text.includes('["system","Be brief."]'), answer.text);
});

both('chat', async (f, model) => {
  const chat = f.client.chats.create({ model });
  const first = await chat.sendMessage({ message: f.said('[[say:first]]') });
  assert.equal(first.text, 'first');
  const second = await chat.sendMessage({ message: f.said('[[echo:messages]]') });
  assert(second.text.includes('first'), second.text);
  assert.equal(chat.getHistory(true).length, 4);
});

both('chat_streamed', async (f, model) => {
  const chat = f.client.chats.create({ model });
  const chunks = await all(await chat.sendMessageStream({ message: f.said(COUNTING) }));
  assert.equal(joined(chunks), COUNTED);
  // The SDK forgets turns that it takes for broken.
  const second = await chat.sendMessage({ message: f.said('[[echo:messages]]') });
  assert(second.text.includes('word5'), second.text);
});

both('image', async (f, model) => {
  const part = { inlineData: { mimeType: 'image/png', data: PIXEL } };
  await f.client.models.generateContent({ model, contents: [part, { text: f.said('[[say:x]]') }] });
  assert(f.sent(model)[0].body.includes(PIXEL));
});

both('schema', async (f, model) => {
  const responseSchema = { type: 'OBJECT', properties: { n: { type: 'INTEGER' } } };
  const config = { responseMimeType: 'application/json', responseSchema };
  assert.deepEqual(JSON.parse((await f.ask(model, 'Nine 9', config)).text), { n: 9 });
});

both('schema_as_json', async (f, model) => {
  const responseJsonSchema = { type: 'object', properties: { n: { type: 'integer' } } };
  const config = { responseMimeType: 'application/json', responseJsonSchema };
  assert.deepEqual(JSON.parse((await f.ask(model, 'Nine 9', config)).text), { n: 9 });
});

both('cap', async (f, model) => {
  const answer = await f.ask(model, COUNTING, { maxOutputTokens: 5 });
  assert.equal(answer.text.split(' ').length, 5);
  assert.equal(finish(answer), 'MAX_TOKENS');
});

both('stop_sequences', async (f, model) => {
  const answer = await f.ask(model, COUNTING, { stopSequences: ['word4'] });
  assert.equal(answer.text.trim(), 'word1 word2 word3');
});

flow('thoughts_are_shown_and_signed', async (f) => {
  const config = { thinkingConfig: { includeThoughts: true } };
  const answer = await f.ask(PASSED, '[[think:let me see]] [[say:so]]', config);
  const [thought, said] = answer.candidates[0].content.parts;
  assert.deepEqual([thought.text, thought.thought, said.text], ['let me see', true, 'so']);
  assert(said.thoughtSignature);
  assert.equal(answer.usageMetadata.thoughtsTokenCount, 3);
});

flow('signed_texts_go_back_as_they_were', async (f) => {
  const chat = f.client.chats.create({ model: PASSED });
  await chat.sendMessage({ message: f.said('[[think:hm]] [[say:a b]]') });
  await all(await chat.sendMessageStream({ message: f.said('[[think:hm]] [[say:c d]]') }));
  // The provider refuses a signature that is not its own.
  const last = await chat.sendMessage({ message: f.said('[[say:done]]') });
  assert.equal(last.text, 'done');
});

flow('a_blocked_prompt_has_no_candidate', async (f) => {
  const answer = await f.ask(PASSED, '[[block]]');
  assert.equal(answer.promptFeedback.blockReason, 'PROHIBITED_CONTENT');
});

flow('tokens_are_counted_by_the_provider_or_estimated', async (f) => {
  const count = (model) =>
    f.client.models.countTokens({ model, contents: f.said('one two three') });
  assert.equal((await count(PASSED)).totalTokens, 4);
  assert((await count(TRANSLATED)).totalTokens > 3);
  assert.deepEqual(f.sent(TRANSLATED), []);
});

flow('models_are_listed_and_found', async (f) => {
  const names = (await all(await f.client.models.list())).map((model) => model.name);
  assert(names.includes(`models/${PASSED}`) && names.includes(`models/${LOCAL}`), names.join());
  const paged = await all(await f.client.models.list({ config: { pageSize: 1 } }));
  assert.equal(paged.length, names.length);
  const one = await f.client.models.get({ model: PASSED });
  assert.equal(one.name, `models/${PASSED}`);
});

flow('local_text', async (f) => {
  const config = { maxOutputTokens: 40 };
  const contents = 'Hello, who are you?';
  const answer = await f.client.models.generateContent({ model: LOCAL, contents, config });
  assert(answer.text.trim() && answer.usageMetadata.candidatesTokenCount > 0);
});

flow('local_stream', async (f) => {
  const request = { model: LOCAL, contents: 'Say hello.', config: { maxOutputTokens: 40 } };
  const chunks = await all(await f.client.models.generateContentStream(request));
  assert(chunks.length > 2, 'it did not come in pieces');
  assert(['STOP', 'MAX_TOKENS'].includes(finish(chunks.at(-1))));
});
