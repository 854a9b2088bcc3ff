/** When all flows are done: what the server billed is what the provider wrote down. */
import assert from 'node:assert/strict';
import { costOf, jsonLines, MODEL, nanodollars } from './flows.mjs';

/** All rows of the ledger by attempt. */
async function rows(f) {
  const found = new Map();
  for (let query = ''; ;) {
    const page = await f.api('GET', `calls?limit=1000${query}`);
    for (const row of page.data) {
      assert(!found.has(row.attempt), `two rows of one attempt: ${JSON.stringify(row)}`);
      found.set(row.attempt, row);
    }
    if (!page.has_more) return found;
    query = `&before=${page.data.at(-1).call}`;
  }
}

/**
 * Every attempt that the provider saw is one row, and every one that it finished has its usage at
 * its exact cost.
 */
export async function ledgerAgreesWithProvider(f) {
  const ledger = await rows(f);
  for (const line of jsonLines(f.env.HOLDFAST_PROVIDER_LOG)) {
    const row = ledger.get(line.attempt_id);
    assert(row, `no ledger row of ${JSON.stringify(line).slice(0, 300)}`);
    assert.equal(row.call, line.call_id);
    const charged = nanodollars(row.cost) + nanodollars(row.unreconciled);
    if (line.finished && row.error === null && row.target === MODEL) {
      assert.equal(nanodollars(row.cost), costOf(line.usage), `the cost of ${line.attempt_id}`);
    } else if (line.status >= 400) {
      assert.equal(charged, 0n, `a refused attempt was charged: ${JSON.stringify(row)}`);
    }
  }
}
