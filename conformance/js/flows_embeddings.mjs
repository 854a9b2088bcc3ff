/** Embeddings: what the SDK asks, and what it must get back. */
import assert from 'node:assert/strict';
import { BadRequestError, NotFoundError } from 'openai';
import { flow, LOCAL, MODEL, raises, same } from './flows.mjs';

flow('embed_batch', async (f) => {
  const input = [`one ${f.mark}`, `two words ${f.mark}`];
  const answer = await f.client.embeddings.create({ model: MODEL, input });
  same(
    answer.data.map((one) => [one.index, one.embedding.length]),
    [
      [0, 16],
      [1, 16],
    ],
  );
  same(answer.usage, { prompt_tokens: 5, total_tokens: 5 });
  const [line] = f.sent();
  same([line.finished, JSON.parse(line.body).encoding_format], [true, 'base64']);
  const floats = await f.client.embeddings.create({
    model: MODEL,
    input: input[1],
    encoding_format: 'float',
    dimensions: 16,
  });
  for (const [place, number] of floats.data[0].embedding.entries()) {
    assert.ok(Math.abs(number - answer.data[1].embedding[place]) < 1e-6, `number ${place}`);
  }
});

flow('embed_refused', async (f) => {
  const asked = (model) => f.client.embeddings.create({ model, input: f.mark });
  const unknown = await raises(NotFoundError, asked('mock/nothing'));
  assert.equal(unknown.code, 'model_not_found');
  const chat = await raises(BadRequestError, asked(LOCAL));
  same([chat.code, chat.param], ['unsupported_parameter', 'model']);
  same(f.sent(), []);
});
