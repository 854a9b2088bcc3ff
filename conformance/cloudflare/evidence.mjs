/** What flows hold against each other: logs, errors, money. */
import assert from 'node:assert/strict';
import { readFileSync } from 'node:fs';

// The prices that the suite's configuration sets, in nanodollars per token.
const INPUT_NANODOLLARS = 1000n;
const OUTPUT_NANODOLLARS = 2000n;

/** The whole lines of a JSONL file that another process may be writing at this moment. */
export function jsonLines(path) {
  let data;
  try {
    data = readFileSync(path, 'utf8');
  } catch (error) {
    if (error.code === 'ENOENT') return [];
    throw error;
  }
  const whole = data.slice(0, data.lastIndexOf('\n') + 1);
  return whole
    .split('\n')
    .filter(Boolean)
    .map((line) => JSON.parse(line));
}

/** The error of that class that `promise` ends in; anything else fails the flow. */
export async function raises(kind, promise) {
  let value;
  try {
    value = await promise;
  } catch (error) {
    if (error instanceof kind) return error;
    throw error;
  }
  const text = `expected ${kind.name}, got ${JSON.stringify(value)?.slice(0, 300)}`;
  throw new assert.AssertionError({ message: text });
}

/** Deep equality of what JSON can say: fields that are `undefined` do not count. */
export function same(found, expected, what) {
  const plain = (value) => (value === undefined ? undefined : JSON.parse(JSON.stringify(value)));
  const text = what && `${what}: ${JSON.stringify(found)} is not ${JSON.stringify(expected)}`;
  assert.deepEqual(plain(found), plain(expected), text);
}

/** What the suite's prices make of a chat completion's usage: nanodollars. */
export function costOf({ prompt_tokens: input, completion_tokens: output = 0 }) {
  return BigInt(input) * INPUT_NANODOLLARS + BigInt(output) * OUTPUT_NANODOLLARS;
}

/** A decimal string of dollars as nanodollars, exactly. */
export function nanodollars(text) {
  const match = /^(\d+)(?:\.(\d{1,9})0*)?$/.exec(text);
  assert(match, `not an amount of dollars: ${text}`);
  return BigInt(match[1]) * 1_000_000_000n + BigInt((match[2] ?? '').padEnd(9, '0'));
}

/** The fields of the comment line that ends a stream: `holdfast-cost=…; holdfast-attempts=…`. */
export function commentFields(comment) {
  return Object.fromEntries(comment.split(';').map((part) => part.trim().split('=', 2)));
}

/** All rows of the ledger by attempt. */
async function rows(f) {
  const found = new Map();
  for (let query = ''; ; ) {
    const path = `/api/calls?limit=1000${query}`;
    const answer = await f.http('GET', path, { key: f.env.HOLDFAST_ADMIN_KEY });
    const page = await answer.json();
    for (const row of page.data) found.set(row.attempt, row);
    if (!page.has_more) return found;
    query = `&before=${page.data.at(-1).call}`;
  }
}

/**
 * When all flows are done: every attempt that the provider saw is one row, and every one that it
 * finished has its usage at its exact cost.
 */
export async function ledgerAgreesWithProvider(f) {
  const ledger = await rows(f);
  for (const line of jsonLines(f.env.HOLDFAST_PROVIDER_LOG)) {
    const row = ledger.get(line.attempt_id);
    assert(row, `no ledger row of ${JSON.stringify(line).slice(0, 300)}`);
    assert.equal(row.call, line.call_id);
    if (line.finished && row.error === null) {
      assert.equal(nanodollars(row.cost), costOf(line.usage), `the cost of ${line.attempt_id}`);
    }
  }
}
