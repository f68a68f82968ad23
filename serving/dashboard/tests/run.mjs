/**
 * Runs the tests of the page.
 *
 *   node tests/run.mjs                                    against mocks that it starts
 *   node tests/run.mjs --base http://host:port/ [--key K] against a server: only what any server can do
 *   --sign-in                                             against a server that asks to sign in: `tests/sign_in.mjs`.
 *                                                         The environment has its ADLAKE_KEY (of an advertiser) and
 *                                                         ADLAKE_PASSWORD (of the user "analyst")
 *   --only TEXT                                           tests whose name has TEXT (a regular expression)
 */
import { spawn } from "node:child_process";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { launch } from "./browser.mjs";
import { Api } from "./numbers.mjs";
import { mockTests as alarmStates, tests as alarms } from "./alarms.mjs";
import { tests as accessibility } from "./accessibility.mjs";
import { tests as page } from "./page.mjs";
import { tests as pure } from "./pure.mjs";
import { tests as signIns } from "./sign_in.mjs";
import { tests as states } from "./states.mjs";

const { values: options } = parseArgs({
  options: {
    base: { type: "string" },
    key: { type: "string" },
    "sign-in": { type: "boolean", default: false },
    only: { type: "string", default: "" },
  },
});

const mocks = [];

/** Starts a mock at a free port, and waits until it says its address. */
async function startMock(...extra) {
  const server = fileURLToPath(new URL("../mock/server.mjs", import.meta.url));
  const args = [server, "--port", "0", "--live", "0", "--now", "2026-11-20T14:25:00Z", ...extra];
  const mock = spawn(process.execPath, args, { stdio: ["ignore", "pipe", "inherit"] });
  mocks.push(mock);
  for await (const text of mock.stdout) {
    const address = /http:\S+/.exec(String(text));
    if (address) return address[0];
  }
  throw new Error("the mock did not start");
}

const isOwn = options.base === undefined;
const base = isOwn ? await startMock() : options.base;
const signIn = isOwn
  ? { base: await startMock("--auth"), key: "advertiser-key", name: "analyst", password: "the password", isMock: true }
  : { base, key: process.env.ADLAKE_KEY, name: "analyst", password: process.env.ADLAKE_PASSWORD, isMock: false };
const anywhere = { ...pure, ...page, ...alarms, ...accessibility };
const all = isOwn ? { ...anywhere, ...alarmStates, ...states, ...signIns } : options["sign-in"] ? signIns : anywhere;
const browser = await launch();
const context = { browser, base, signIn, key: options.key, api: new Api(base, options.key) };

let passed = 0;
let failed = 0;
for (const [name, test] of Object.entries(all)) {
  if (!new RegExp(options.only).test(name)) continue;
  const start = Date.now();
  try {
    const opened = await test(context);
    if (opened?.problems.length > 0) throw new Error(opened.problems.join("\n"));
    passed++;
    console.log(`ok      ${name} (${((Date.now() - start) / 1000).toFixed(1)} s)`);
  } catch (error) {
    failed++;
    console.log(`FAILED  ${name}\n        ${String(error.message).replaceAll("\n", "\n        ")}`);
  }
  for (const open of browser.contexts()) await open.close();
}
await browser.close();
for (const mock of mocks) mock.kill();
console.log(`\n${passed} passed, ${failed} failed`);
process.exit(failed === 0 ? 0 : 1);
