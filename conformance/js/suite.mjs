/**
 * The suite `openai-js`: the unmodified OpenAI SDK for JavaScript against a server of its own.
 *
 *     node suite.mjs [NAME …]     only the flows whose name contains one of the NAMEs
 *
 * `run` starts it inside `../standard.py`, which starts the server and says in the environment
 * where all is.
 */
import { chosenBy, judged, runAll } from './common.mjs';
import { Flow } from './flows.mjs';
import { ledgerAgreesWithProvider } from './ledger.mjs';
import { closeAll } from './restartable.mjs';

import './flows_chat.mjs';
import './flows_embeddings.mjs';
import './flows_errors.mjs';
import './flows_responses.mjs';
import './flows_functions.mjs';
import './flows_background.mjs';
import './flows_tools.mjs';
import './flows_local.mjs';
import './flows_restart.mjs';

async function main(names) {
  const chosen = chosenBy(names);
  const began = performance.now();
  let passed = await runAll(chosen, (name) => new Flow(name));
  await closeAll();
  const ledger = { name: 'ledger_agrees_with_provider', run: ledgerAgreesWithProvider };
  if (await judged(ledger, (name) => new Flow(name))) passed += 1;
  console.log(`${((performance.now() - began) / 1000).toFixed(1)} s`);
  const failed = chosen.length + 1 - passed;
  console.log(`${passed} passed, ${failed} failed`);
  return chosen.length && !failed ? 0 : 1;
}

process.exit(await main(process.argv.slice(2)));
