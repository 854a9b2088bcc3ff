/** Checks a stream of the Responses API against the order that all known clients accept. */
import assert from 'node:assert/strict';
import { same } from './flows.mjs';

const TERMINAL = ['response.completed', 'response.failed', 'response.incomplete'];

/**
 * Parses the bytes of a stream into events and comments; refuses what SDK decoders trip over.
 * A comment is [number of events before it, its text].
 */
export function readSse(text) {
  const events = [];
  const comments = [];
  for (const frame of text.split('\n\n').filter(Boolean)) {
    const lines = frame.split('\n');
    for (const line of lines) {
      assert(!/^(id|retry):/.test(line), `a line that breaks clients: ${line}`);
      if (line.startsWith(':')) comments.push([events.length, line.slice(1).trim()]);
    }
    const data = lines
      .filter((line) => line.startsWith('data:'))
      .map((line) => line.slice(5).trim());
    const name = lines
      .find((line) => line.startsWith('event:'))
      ?.slice(6)
      .trim();
    assert(data.length || !name, `event ${name} without data`);
    if (!data.length) continue;
    events.push(data[0] === '[DONE]' ? { type: '[DONE]' } : JSON.parse(data.join('\n')));
    assert(
      name === undefined || events.at(-1).type === name,
      `event: ${name} with type ${events.at(-1).type}`,
    );
  }
  return { events, comments };
}

/**
 * Asserts the whole life of one response, from `created` (or the event numbered `first`) to its one
 * terminal event. Returns the terminal event's response.
 */
export function checkEvents(events, first = 0) {
  const numbered = events.filter((event) => !['[DONE]', 'keepalive'].includes(event.type));
  same(
    numbered.map((event) => event.sequence_number),
    numbered.map((_, index) => first + index),
    'numbers',
  );
  const ends = numbered.filter((event) => TERMINAL.includes(event.type));
  assert.equal(ends.length, 1, 'one terminal event');
  assert.equal(ends[0], numbered.at(-1), 'the terminal event is the last');
  const ids = new Set(numbered.filter((event) => event.response).map((event) => event.response.id));
  assert.equal(ids.size, 1, `response ids: ${[...ids]}`);
  if (first === 0) {
    checkOpening(numbered);
    checkItems(numbered);
  }
  return ends[0].response;
}

function checkOpening(events) {
  const kinds = events.slice(0, 3).map((event) => event.type);
  assert.equal(kinds[0], 'response.created');
  assert(kinds.slice(1).includes('response.in_progress'), kinds.join(' '));
  assert.equal(events[0].response.object, 'response');
  same(events[0].response.output, []);
  assert(['queued', 'in_progress'].includes(events[0].response.status), events[0].response.status);
}

/** Items open and close in order, parts inside items, and deltas add up to what `done` says. */
function checkItems(events) {
  const items = [];
  const pieces = new Map();
  for (const event of events) {
    const item = items[event.output_index];
    const place = `${event.output_index}.${event.content_index}`;
    if ('item_id' in event)
      assert.equal(event.item_id, item?.added.id, `foreign item id in ${event.type}`);
    if (event.type === 'response.output_item.added') {
      assert.equal(event.output_index, items.length, 'output_index without gaps');
      items.push({ added: event.item });
    } else if (event.type === 'response.output_item.done') {
      assert.equal(event.item.id, item.added.id, 'the id of an item');
      item.done = event.item;
    } else if (event.type === 'response.content_part.added') {
      pieces.set(place, '');
    } else if (event.type === 'response.output_text.delta') {
      assert(pieces.has(place), `text before its part: ${JSON.stringify(event)}`);
      pieces.set(place, pieces.get(place) + event.delta);
    } else if (event.type === 'response.output_text.done') {
      assert.equal(event.text, pieces.get(place), 'the whole text');
    } else if (event.type.endsWith('arguments.delta')) {
      pieces.set(place, (pieces.get(place) ?? '') + event.delta);
    } else if (event.type.endsWith('arguments.done')) {
      assert.equal(event.arguments, pieces.get(place) ?? event.arguments, 'the whole arguments');
    }
  }
  checkFinal(events.at(-1), items);
}

/** The final response has every finished item, as `output_item.done` had it. */
function checkFinal(terminal, items) {
  const output = new Map(terminal.response.output.map((item) => [item.id, item]));
  for (const { added, done } of items) {
    if (!done) assert.equal(terminal.type, 'response.failed', `${added.id} was never closed`);
    else if (output.has(done.id)) same(output.get(done.id), done, 'an item at the end');
    else assert.equal(done.status, 'incomplete', `${done.id} is finished and missing at the end`);
  }
}
