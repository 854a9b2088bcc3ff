/**
 * The suite `vercel-js`: the unmodified Vercel AI SDK, by each of its providers whose format there is
 * a door for, over models that speak chat completions and messages.
 *
 *     node suite.mjs [NAME …]     only the flows whose name contains one of the NAMEs
 */
import { chosenBy, runAll } from '../js/common.mjs';
import { Given } from './flows.mjs';

import './flows_doors.mjs';
import './flows_more.mjs';

// What it says to a user about models that it does not know.
globalThis.AI_SDK_LOG_WARNINGS = false;
const began = performance.now();
const chosen = chosenBy(process.argv.slice(2));
const passed = await runAll(chosen, (name) => new Given(name));
console.log(`${((performance.now() - began) / 1000).toFixed(1)} s`);
console.log(`${passed} passed, ${chosen.length - passed} failed`);
process.exit(chosen.length && passed === chosen.length ? 0 : 1);
