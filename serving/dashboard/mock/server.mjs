/**
 * A server that answers like `adlake serve`, over synthetic data, for work on the page and for its
 * tests. It serves `dist/` with the same Content-Security-Policy.
 *
 *   node mock/server.mjs [--port 8090] [--auth] [--mode ok] [--now 2026-11-20T14:25:00Z] [--live 10]
 *
 * `--auth` asks for a key: `admin-key`, `analyst-key` or `advertiser-key`. Modes: `ok`, `error`,
 * `unauthorized`, `forbidden`, `no_access`, `slow`, `empty`, `stale`, `down`. The mode can be changed while it
 * runs (`POST /mock/mode?mode=stale`), and time can be moved (`POST /mock/advance?minutes=30`).
 * The real server has no `/mock` addresses.
 */
import { createHash } from "node:crypto";
import { readFileSync } from "node:fs";
import { createServer } from "node:http";
import { fileURLToPath } from "node:url";
import { parseArgs } from "node:util";
import { campaignsAt, DAY_MS, generate, HOUR_MS } from "./data.mjs";
import { act, alarms, history, invalidTraffic, quality, series } from "./alarms.mjs";
import { answer, metaOf, METRICS, Refusal } from "./query.mjs";

const { values: options } = parseArgs({
  options: {
    port: { type: "string", default: process.env.MOCK_PORT ?? "8090" },
    auth: { type: "boolean", default: process.env.MOCK_AUTH === "1" },
    mode: { type: "string", default: process.env.MOCK_MODE ?? "ok" },
    now: { type: "string", default: process.env.MOCK_NOW ?? "" },
    live: { type: "string", default: process.env.MOCK_LIVE_SECONDS ?? "10" },
    dist: { type: "string", default: fileURLToPath(new URL("../dist", import.meta.url)) },
  },
});

const CSP =
  "default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; img-src 'self' data:; " +
  "base-uri 'none'; frame-ancestors 'none'; form-action 'self'";

const KEYS = {
  "admin-key": { role: "admin", name: "Ada Admin", scope: { all: true, campaigns: null, advertisers: null } },
  "analyst-key": { role: "analyst", name: "Ana Lyst", scope: { all: true, campaigns: null, advertisers: null } },
  "advertiser-key": {
    role: "advertiser",
    name: "Northwind",
    scope: { all: false, campaigns: null, advertisers: ["a-1"] },
  },
};

const bornAt = Date.now();
const firstNow = options.now ? Date.parse(options.now) : bornAt;
const rows = generate(firstNow);
let { mode } = options;
let advancedMs = 0;
let version = 561;
let frozenAt = null;
const streams = new Set();

/** With a fixed `now`, time moves only by `/mock/advance`, so that tests see the same figures. */
function now() {
  return firstNow + advancedMs + (options.now ? 0 : Date.now() - bornAt);
}

let asOf = now();

function newSnapshot() {
  if (mode === "stale") return;
  asOf = now();
  version++;
  for (const send of streams) send();
}

function worldFor(user) {
  const shown = mode === "stale" ? (frozenAt ??= asOf - 3 * HOUR_MS) : asOf;
  const all = campaignsAt(firstNow);
  const scope = user.scope.all
    ? null
    : all.filter((one) => user.scope.advertisers.includes(one.advertiser_id)).map((one) => one.campaign_id);
  return { rows: mode === "empty" ? [] : rows, asOf: shown, snapshot: `12-340-120-${version}`, scope };
}

const campaignList = (world) =>
  campaignsAt(firstNow).filter((one) => world.scope === null || world.scope.includes(one.campaign_id));

function freshness(world) {
  const table = (name, lateMs, rowCount) => ({
    table: name,
    version: 340,
    published_version: 338,
    published_at: new Date(Math.floor(world.asOf / HOUR_MS) * HOUR_MS).toISOString(),
    rows: rowCount,
    newest_event_time: new Date(world.asOf - lateMs).toISOString(),
    newest_ingested_at: new Date(world.asOf - 4000).toISOString(),
  });
  const isStale = mode === "stale";
  return {
    tables: [
      table("raw/bid_requests", 6000, 41_882_310),
      table("raw/impressions", 9000, 6_204_118),
      table("raw/interactions", 3.2 * HOUR_MS, 91_204),
    ],
    server: {
      snapshot: world.snapshot,
      as_of: new Date(world.asOf).toISOString(),
      is_stale: isStale,
      stale_since: isStale ? new Date(world.asOf + 60_000).toISOString() : null,
      problem: isStale ? "The object store does not answer: connection refused." : null,
    },
    meta: metaOf(world),
  };
}

const DEAD_LETTERS = [
  ["raw/impressions", "timestamp_in_the_future", 312, 120],
  ["raw/interactions", "unknown_interaction_type", 41, 3400],
  ["raw/bid_requests", "malformed_json", 1290, 40],
];

const EDGES = [0, 60, 600, 3600, 4 * 3600, 12 * 3600, 86_400, 3 * 86_400, 7 * 86_400, 14 * 86_400, null];
const SHARES = [0.09, 0.17, 0.2, 0.14, 0.1, 0.11, 0.09, 0.06, 0.03, 0.01];

function campaignQuestion(world, id, query) {
  if (id !== "all" && !campaignList(world).some((one) => one.campaign_id === id)) {
    throw new Refusal(404, "not_found", `there is no campaign "${id}"`);
  }
  const range = [query.get("from"), query.get("to")];
  const question = { metrics: ["conversions"], time: { range } };
  if (id !== "all") question.filters = ["=", "campaign_id", id];
  return question;
}

function timeToConversion(world, id, query) {
  const total = answer(world, campaignQuestion(world, id, query)).rows[0][0];
  const buckets = SHARES.map((share, at) => ({
    from_seconds: EDGES[at],
    to_seconds: EDGES[at + 1],
    conversions: Math.round(total * share),
  }));
  return { buckets, meta: metaOf(world) };
}

const FUNNEL = { bids: "bids", wins: "wins", impressions: "impressions", viewable: "viewable_impressions",
  clicks: "clicks", conversions: "conversions" };

function campaignAnswer(world, id, what, query) {
  const base = campaignQuestion(world, id, query);
  if (what === "time_to_conversion") return timeToConversion(world, id, query);
  if (what === "funnel") {
    const counts = answer(world, { ...base, metrics: Object.values(FUNNEL) }).rows[0];
    const stages = Object.keys(FUNNEL).map((stage, at) => ({
      stage,
      events: counts[at],
      rate: at === 0 || counts[at - 1] === 0 ? null : counts[at] / counts[at - 1],
    }));
    return { stages, meta: metaOf(world) };
  }
  if (what === "invalid_traffic") {
    const reasons = mode === "empty" ? [] : invalidTraffic(id === "all" ? 1 : 0.1);
    return { reasons, meta: metaOf(world) };
  }
  if (what === "geography") return answer(world, { ...base, metrics: ["spend"], dimensions: ["country", "region"] });
  if (what === "timeseries") {
    const metrics = (query.get("metrics") ?? "impressions").split(",");
    return answer(world, { ...base, metrics, time: { ...base.time, grain: query.get("grain") ?? "day" } });
  }
  if (what === "attribution") {
    const metrics = METRICS.filter((name) => /^attributed_.+_(touch|linear|based|decay)$/.test(name));
    return answer(world, { ...base, metrics });
  }
  throw new Refusal(404, "not_found", "no such address");
}

function route(user, method, path, query, body) {
  const world = worldFor(user);
  const campaign = /^\/v1\/campaigns\/([^/]+)\/([a-z_]+)$/.exec(path);
  if (method === "POST" && path === "/v1/query") return answer(world, body);
  if (method === "POST" && path.startsWith("/v1/alarms/")) return act(user, path, body, world.asOf);
  if (method !== "GET") throw new Refusal(404, "not_found", "no such address");
  if (path === "/v1/whoami") return { ...user, has_session: options.auth === true };
  if (path === "/v1/metrics") return { metrics: METRICS.map((name) => ({ name })), meta: metaOf(world) };
  if (path === "/v1/freshness") return freshness(world);
  if (path === "/v1/campaigns") {
    const search = (query.get("search") ?? "").toLowerCase();
    const found = campaignList(world).filter((one) => one.name.toLowerCase().includes(search));
    return { campaigns: found.slice(0, Number(query.get("limit") ?? 1000)), meta: metaOf(world) };
  }
  if (path === "/v1/alarms") {
    const answer = alarms(user, world.asOf);
    return mode === "empty" ? { ...answer, alarms: [] } : answer;
  }
  if (path === "/v1/alarms/history") {
    const answer = history(user, query, world.asOf);
    return mode === "empty" ? { ...answer, alarms: [] } : answer;
  }
  const alarm = /^\/v1\/alarms\/([^/]+)\/series$/.exec(path)?.[1];
  if (alarm !== undefined) return series(alarm, world.asOf);
  if (path === "/v1/quality") {
    return { expectations: mode === "empty" ? [] : quality(user, world.asOf), meta: metaOf(world) };
  }
  if (path === "/v1/dead_letters") {
    if (user.role !== "admin") throw new Refusal(403, "role_not_sufficient", "only administrators may see this");
    const reasons = DEAD_LETTERS.map(([table, reason, records, ago]) => ({
      table,
      reason,
      records,
      newest_ingested_at: new Date(world.asOf - ago * 1000).toISOString(),
    }));
    return { reasons: mode === "empty" ? [] : reasons, meta: metaOf(world) };
  }
  if (campaign) return campaignAnswer(world, decodeURIComponent(campaign[1]), campaign[2], query);
  throw new Refusal(404, "not_found", "no such address");
}

function userOf(request) {
  if (mode === "unauthorized") throw new Refusal(401, "unknown_key", "this key is not known");
  if (mode === "no_access") throw new Refusal(403, "role_not_sufficient", "the role may not see this");
  if (!options.auth) return KEYS["admin-key"];
  const bearer = /^Bearer (.+)$/.exec(request.headers.authorization ?? "")?.[1];
  const given = bearer ?? /adlake_session=([^;]+)/.exec(request.headers.cookie ?? "")?.[1];
  if (given === undefined) throw new Refusal(401, "no_key", "a key is needed");
  if (!(given in KEYS)) throw new Refusal(401, "unknown_key", "this key is not known");
  return KEYS[given];
}

/** Signs in and out. A session is the key itself: this is a mock. */
async function session(request, response) {
  if (request.method === "GET") {
    response.writeHead(200, { "content-type": "application/json" });
    return response.end(JSON.stringify({ is_needed: options.auth === true, methods: ["password", "key"] }));
  }
  const cookie = (text, seconds) => `adlake_session=${text}; Path=/; HttpOnly; SameSite=Strict; Max-Age=${seconds}`;
  if (request.method === "DELETE") return response.writeHead(204, { "set-cookie": cookie("", 0) }).end();
  const sent = await readBody(request);
  const key = sent.key ?? (sent.password === "the password" ? `${sent.name}-key` : "");
  if (!(key in KEYS)) throw new Refusal(401, "unknown_key", "this key is not known");
  response.writeHead(200, { "content-type": "application/json", "set-cookie": cookie(key, 3600) });
  return response.end(JSON.stringify({ ...KEYS[key], has_session: true }));
}

/** Addresses that answer in every mode: else the page could not start and show the states of its parts. */
const ALWAYS = ["/v1/whoami", "/v1/campaigns", "/v1/freshness"];

function applyMode(path) {
  if (ALWAYS.includes(path)) return;
  if (mode === "error") throw new Refusal(503, "overloaded", "the server has too much to do");
  if (mode === "forbidden") throw new Refusal(403, "role_not_sufficient", "the role may not see this");
}

function problem(response, error) {
  // The page went away before it was answered.
  if (error.code === "ECONNRESET") return;
  const status = error.status ?? 500;
  const detail = error.status ? error.detail : "the mock failed";
  if (!error.status) console.error(error);
  response.writeHead(status, { "content-type": "application/problem+json", "cache-control": "no-store" });
  const body = { type: "about:blank", title: String(status), status, code: error.code ?? "internal", detail };
  response.end(JSON.stringify({ ...body, pointer: error.pointer, request_id: "01JMOCK" }));
}

async function readBody(request) {
  const parts = [];
  for await (const part of request) parts.push(part);
  if (parts.length === 0) return undefined;
  try {
    return JSON.parse(Buffer.concat(parts).toString());
  } catch {
    throw new Refusal(400, "malformed_body", "the body is no JSON");
  }
}

function live(request, response, user, query) {
  let question;
  try {
    question = JSON.parse(query.get("query") ?? "");
  } catch {
    throw new Refusal(400, "malformed_query", "query: no JSON");
  }
  answer(worldFor(user), question);
  response.writeHead(200, { "content-type": "text/event-stream", "cache-control": "no-store" });
  response.flushHeaders();
  const send = () => {
    const world = worldFor(user);
    response.write(`id: ${world.snapshot}\ndata: ${JSON.stringify(answer(world, question))}\n\n`);
  };
  if (request.headers["last-event-id"] !== worldFor(user).snapshot) send();
  streams.add(send);
  const beat = setInterval(() => response.write(": still here\n\n"), 15_000);
  response.on("close", () => {
    streams.delete(send);
    clearInterval(beat);
  });
}

function control(response, path, query) {
  if (path === "/mock/mode") {
    mode = query.get("mode") ?? "ok";
    frozenAt = null;
  }
  if (path === "/mock/advance") {
    advancedMs += Number(query.get("minutes") ?? 10) * 60_000;
    newSnapshot();
  }
  if (path === "/mock/cut") for (const socket of sockets) socket.destroy();
  response.end("ok\n");
}

const manifest = JSON.parse(readFileSync(`${options.dist}/manifest.json`));
const files = new Map(manifest.files.map((entry) => [entry.file, entry]));

function serveFile(response, path) {
  if (/^\/runbooks\/[a-z_]+\.md$/.test(path)) {
    const text = readFileSync(fileURLToPath(new URL(`../../../docs${path}`, import.meta.url)));
    response.writeHead(200, { "content-type": "text/plain; charset=utf-8" });
    return response.end(text);
  }
  const entry = files.get(path === "/" ? "index.html" : path.slice(1));
  if (!entry) {
    response.writeHead(404, { "content-type": "text/plain" });
    return response.end("not found\n");
  }
  response.writeHead(200, {
    "content-type": entry.content_type,
    "content-security-policy": CSP,
    "x-content-type-options": "nosniff",
    "referrer-policy": "same-origin",
    "cache-control": entry.file === "index.html" ? "no-cache" : "public, max-age=31536000, immutable",
  });
  return response.end(readFileSync(`${options.dist}/${entry.file}`));
}

async function handle(request, response) {
  const url = new URL(request.url, "http://localhost");
  if (url.pathname.startsWith("/mock/")) return control(response, url.pathname, url.searchParams);
  if (!url.pathname.startsWith("/v1/")) return serveFile(response, url.pathname);
  if (mode === "down") return request.socket.destroy();
  try {
    if (mode === "slow") await new Promise((resolve) => setTimeout(resolve, 4000));
    if (url.pathname === "/v1/session") return await session(request, response);
    const user = userOf(request);
    applyMode(url.pathname);
    if (url.pathname === "/v1/live") return live(request, response, user, url.searchParams);
    const body = await readBody(request);
    const result = route(user, request.method, url.pathname, url.searchParams, body);
    const text = JSON.stringify(result);
    const etag = `"${createHash("sha256").update(text).digest("base64url").slice(0, 20)}"`;
    const headers = {
      "content-type": "application/json",
      "cache-control": "private, no-cache",
      vary: "Authorization, Accept",
      etag,
      "x-adlake-snapshot": worldFor(user).snapshot,
    };
    if (request.headers["if-none-match"] === etag) return response.writeHead(304, headers).end();
    response.writeHead(200, headers);
    return response.end(text);
  } catch (error) {
    return problem(response, error);
  }
}

const sockets = new Set();
const server = createServer((request, response) => void handle(request, response));
server.on("connection", (socket) => {
  sockets.add(socket);
  socket.on("close", () => sockets.delete(socket));
});
const liveSeconds = Number(options.live);
if (liveSeconds > 0) setInterval(newSnapshot, liveSeconds * 1000);
server.listen(Number(options.port), "127.0.0.1", () => {
  const days = Math.round((rows.at(-1).time - rows[0].time) / DAY_MS);
  console.log(`http://127.0.0.1:${server.address().port}/ (${rows.length} rows over ${days} days, mode ${mode})`);
});
