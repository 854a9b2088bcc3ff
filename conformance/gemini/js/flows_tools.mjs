/** Functions: calls, their signatures, their answers, and who may call. */
import assert from 'node:assert/strict';
import { both, PASSED, all } from './flows.mjs';

const WEATHER = {
  name: 'weather',
  description: 'The weather of a place',
  parameters: { type: 'OBJECT', properties: { place: { type: 'STRING' } }, required: ['place'] },
};
const NOW = { name: 'now', parametersJsonSchema: { type: 'object' } };
const tools = [{ functionDeclarations: [WEATHER, NOW] }];
const CALL = '[[tool:weather {"place":"Ulm"}]]';
const user = (text) => ({ role: 'user', parts: [{ text }] });
const answer = (name, response) => ({ functionResponse: { name, response } });

const ask = (f, model, contents, more = {}) =>
  f.client.models.generateContent({ model, contents, config: { tools, ...more } });

both('a_call_and_its_answer', async (f, model) => {
  const asked = user(f.said(CALL));
  const called = await ask(f, model, [asked]);
  assert.deepEqual(called.functionCalls[0].args, { place: 'Ulm' });
  const result = { role: 'user', parts: [answer('weather', { output: 'sunny' })] };
  const final = await ask(f, model, [asked, called.candidates[0].content, result]);
  assert(final.text.includes('sunny'), final.text);
  if (model === PASSED) {
    assert(f.bodies(model)[1].contents[1].parts[0].thoughtSignature, 'the signature is lost');
  }
});

both('streamed_calls', async (f, model) => {
  const contents = f.said(`${CALL}[[tool:now {}]]`);
  const request = { model, contents, config: { tools } };
  const chunks = await all(await f.client.models.generateContentStream(request));
  const calls = chunks.flatMap((chunk) => chunk.functionCalls ?? []);
  assert.deepEqual(
    calls.map(({ name, args }) => [name, args]),
    [
      ['weather', { place: 'Ulm' }],
      ['now', {}],
    ],
  );
});

both('a_function_that_failed', async (f, model) => {
  const asked = user(f.said(CALL));
  const called = await ask(f, model, [asked]);
  const result = { role: 'user', parts: [answer('weather', { error: 'no such place' })] };
  const final = await ask(f, model, [asked, called.candidates[0].content, result]);
  assert(final.text.includes('no such place'), final.text);
});

both('a_call_can_be_demanded_or_forbidden', async (f, model) => {
  const config = (mode, allowedFunctionNames) => ({
    toolConfig: { functionCallingConfig: { mode, allowedFunctionNames } },
  });
  const any = await ask(f, model, f.said('Ulm'), config('ANY', ['now']));
  assert.deepEqual(
    any.functionCalls.map((call) => call.name),
    ['now'],
  );
  const none = await ask(f, model, f.said(CALL), config('NONE'));
  assert(!none.functionCalls?.length && none.text);
});

both('the_sdk_calls_functions_itself', async (f, model) => {
  const asked = [];
  const callable = {
    tool: async () => ({ functionDeclarations: [WEATHER] }),
    callTool: async (calls) => {
      asked.push(...calls.map((call) => call.args.place));
      return calls.map((call) => ({
        functionResponse: { id: call.id, name: call.name, response: { output: 'rain' } },
      }));
    },
  };
  const contents = f.said(CALL);
  const config = { tools: [callable] };
  const final = await f.client.models.generateContent({ model, contents, config });
  assert.deepEqual(asked, ['Ulm']);
  assert(final.text.includes('rain'), final.text);
});
