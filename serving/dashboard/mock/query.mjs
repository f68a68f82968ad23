/** Answers questions over the synthetic rows, as docs/api.md describes it. */
import { createHash } from "node:crypto";
import { DAY_MS, HOUR_MS } from "./data.mjs";

export class Refusal extends Error {
  constructor(status, code, detail, pointer) {
    super(detail);
    Object.assign(this, { status, code, detail, pointer });
  }
}

const MODELS = ["last_touch", "first_touch", "linear", "position_based", "time_decay"];
const DIMENSIONS = ["campaign_id", "advertiser_id", "website", "ad_creative_id", "device_type", "country", "region",
  "conversion_type"];
const MEMBERS = ["metrics", "dimensions", "filters", "time", "compare", "model", "order", "limit", "totals", "cursor"];
const COUNTS = ["impressions", "measurable_impressions", "viewable_impressions", "clicks", "conversions",
  "bid_requests", "bids", "wins"];
const RATIOS = {
  ctr: ["clicks", "impressions"], cvr: ["conversions", "clicks"], cpc: ["spend", "clicks", 1e-6],
  cpm: ["spend", "impressions", 1e-3], cpa: ["spend", "conversions", 1e-6], roas: ["revenue", "spend"],
  viewability: ["viewable_impressions", "measurable_impressions"], win_rate: ["wins", "bids"],
};
const PEOPLE = ["reach", "frequency"];
const MONEY_RATIOS = ["cpc", "cpm", "cpa"];

function attributed(name, model) {
  const match = /^attributed_(conversions|revenue)(?:_(.+))?$/.exec(name);
  if (!match || (match[2] && !MODELS.includes(match[2]))) return null;
  return `attributed_${match[1]}_${match[2] ?? model}`;
}

/** Sums that are counted over valid and invalid events too. Here a fiftieth is invalid. */
const GROSS = ["impressions", "clicks", "conversions", "spend", "revenue"];
const GROSS_RATIOS = ["ctr", "cvr", "cpc", "cpm", "cpa", "roas"];

export const METRICS = [
  ...[...GROSS, ...GROSS_RATIOS].map((name) => `gross_${name}`),
  ...COUNTS, "spend", "revenue", ...Object.keys(RATIOS), ...PEOPLE,
  ...["conversions", "revenue"].flatMap((what) =>
    [`attributed_${what}`, ...MODELS.map((model) => `attributed_${what}_${model}`)]),
];

function columnOf(name) {
  if (name.startsWith("gross_")) return { ...columnOf(name.slice(6)), name };
  if (COUNTS.includes(name) || name === "reach") return { name, role: "metric", type: "integer", unit: "events" };
  if (name.startsWith("attributed_conversions")) return { name, role: "metric", type: "decimal", unit: "events" };
  const isMoney = name === "spend" || name.includes("revenue");
  if (isMoney) return { name, role: "metric", type: "decimal", unit: "currency" };
  return { name, role: "metric", type: "number", unit: MONEY_RATIOS.includes(name) ? "currency" : "ratio" };
}

/** A bound of a range in milliseconds: a day, or a time on a full hour. */
function bound(text, pointer) {
  if (text === null || text === undefined) return null;
  const ms = Date.parse(/^\d{4}-\d{2}-\d{2}$/.test(text) ? `${text}T00:00:00Z` : text);
  if (Number.isNaN(ms) || ms % HOUR_MS !== 0) {
    throw new Refusal(422, "bad_range", `"${text}" is no day or hour`, pointer);
  }
  return ms;
}

function filterOf(expression, pointer = "/filters") {
  if (expression === undefined || expression === null) return () => true;
  if (!Array.isArray(expression)) throw new Refusal(422, "bad_filter", "a filter is a list", pointer);
  const [operator, ...rest] = expression;
  const parts = () => rest.map((part, at) => filterOf(part, `${pointer}/${at + 1}`));
  if (operator === "and") return ((all) => (row) => all.every((test) => test(row)))(parts());
  if (operator === "or") return ((all) => (row) => all.some((test) => test(row)))(parts());
  if (operator === "not") return ((all) => (row) => !all[0](row))(parts());
  const [column, value] = rest;
  if (!DIMENSIONS.includes(column)) throw new Refusal(422, "bad_filter", `no dimension "${column}"`, `${pointer}/1`);
  if (operator === "in" && Array.isArray(value)) return (row) => value.includes(row[column]);
  if (operator === "=") return (row) => row[column] === value;
  if (operator === "!=") return (row) => row[column] !== value;
  throw new Refusal(422, "bad_filter", `no operator "${operator}"`, `${pointer}/0`);
}

function filteredColumns(expression) {
  if (!Array.isArray(expression)) return [];
  if (["and", "or", "not"].includes(expression[0])) return expression.slice(1).flatMap(filteredColumns);
  return [expression[1]];
}

function bucketStart(ms, grain) {
  const date = new Date(ms);
  if (grain === "hour") return Math.floor(ms / HOUR_MS) * HOUR_MS;
  const day = Math.floor(ms / DAY_MS) * DAY_MS;
  if (grain === "week") return day - ((date.getUTCDay() + 6) % 7) * DAY_MS;
  if (grain === "month") return Date.UTC(date.getUTCFullYear(), date.getUTCMonth(), 1);
  return day;
}

function nextBucket(ms, grain) {
  if (grain === "hour") return ms + HOUR_MS;
  if (grain === "week") return ms + 7 * DAY_MS;
  if (grain === "month") return Date.UTC(new Date(ms).getUTCFullYear(), new Date(ms).getUTCMonth() + 1, 1);
  return ms + DAY_MS;
}

function isoHour(ms) {
  return new Date(ms).toISOString().replace(".000Z", "Z");
}

function decimal(micros) {
  const sign = micros < 0 ? "-" : "";
  const digits = String(Math.abs(Math.round(micros))).padStart(7, "0");
  return `${sign}${digits.slice(0, -6)}.${digits.slice(-6)}`;
}

function figure(name, sums, model) {
  if (name.startsWith("gross_")) {
    const more = GROSS.map((sum) => [sum, (sums?.[sum] ?? 0) + Math.floor((sums?.[sum] ?? 0) / 50)]);
    return figure(name.slice(6), Object.fromEntries(more), model);
  }
  const value = (sum) => sums?.[sum] ?? 0;
  if (COUNTS.includes(name)) return value(name);
  if (name === "spend" || name === "revenue") return decimal(value(name));
  const credit = attributed(name, model);
  if (credit) return decimal(value(credit));
  if (name === "reach") return Math.round(value("impressions") ** 0.93 * 0.62);
  if (name === "frequency") {
    const reach = Math.round(value("impressions") ** 0.93 * 0.62);
    return reach === 0 ? null : value("impressions") / reach;
  }
  const [top, bottom, factor = 1] = RATIOS[name];
  if (value(bottom) === 0) return null;
  return Number(((value(top) * factor) / value(bottom)).toPrecision(15));
}

function addTo(groups, key, row) {
  let sums = groups.get(key);
  if (!sums) groups.set(key, (sums = {}));
  for (const name in row) {
    if (typeof row[name] === "number" && name !== "time") sums[name] = (sums[name] ?? 0) + row[name];
  }
}

/** Sums by group. The key is the JSON of the values of time and dimensions. */
function group(world, from, to, test, dimensions, grain) {
  const groups = new Map();
  const total = new Map();
  for (const row of world.rows) {
    if (row.time > world.asOf) break;
    if ((from !== null && row.time < from) || (to !== null && row.time >= to) || !test(row)) continue;
    const key = dimensions.map((dimension) => row[dimension]);
    if (grain) key.unshift(bucketStart(row.time, grain));
    addTo(groups, JSON.stringify(key), row);
    addTo(total, "total", row);
  }
  return { groups, total: total.get("total") };
}

function check(question) {
  for (const member of Object.keys(question)) {
    if (!MEMBERS.includes(member)) throw new Refusal(400, "malformed_body", `unknown member "${member}"`, `/${member}`);
  }
  if (!Array.isArray(question.metrics) || question.metrics.length === 0) {
    throw new Refusal(400, "malformed_body", "metrics: at least one", "/metrics");
  }
  question.metrics.forEach((name, at) => {
    if (METRICS.includes(name)) return;
    throw new Refusal(422, "unknown_metric", `there is no metric "${name}"`, `/metrics/${at}`);
  });
  (question.dimensions ?? []).forEach((name, at) => {
    if (!DIMENSIONS.includes(name)) {
      throw new Refusal(422, "unknown_dimension", `there is no dimension "${name}"`, `/dimensions/${at}`);
    }
  });
  if (question.model && !MODELS.includes(question.model)) throw new Refusal(400, "malformed_body", "model", "/model");
  const { fill } = question.time ?? {};
  if (fill && question.dimensions?.length) {
    throw new Refusal(422, "bad_range", "fill is without dimensions", "/time/fill");
  }
  checkReach(question);
}

function checkReach({ metrics, dimensions = [], filters, time = {} }) {
  if (!metrics.some((name) => PEOPLE.includes(name))) return;
  const refuse = (detail) => {
    throw new Refusal(422, "reach_not_available", detail, "/metrics");
  };
  const allowed = ["campaign_id", "advertiser_id"];
  if (dimensions.some((name) => !allowed.includes(name))) refuse("reach needs no dimension but the campaign");
  if (filteredColumns(filters).some((name) => !allowed.includes(name))) refuse("reach is filtered by campaign only");
  if (time.grain === "hour") refuse("reach needs a grain of a day or longer");
  if ((time.range ?? []).some((text) => text && bound(text) % DAY_MS !== 0)) refuse("reach needs whole days");
}

function periodBefore(kind, from, to) {
  const length = to - from;
  if (kind === "previous_period") return from - length;
  if (kind === "same_weekdays") return from - Math.ceil(length / (7 * DAY_MS)) * 7 * DAY_MS;
  if (kind === "previous_year") {
    const date = new Date(from);
    return Date.UTC(date.getUTCFullYear() - 1, date.getUTCMonth(), date.getUTCDate(), date.getUTCHours());
  }
  throw new Refusal(400, "malformed_body", `compare: "${kind}"`, "/compare");
}

/** The answer to a question on `world`: `{rows, asOf, snapshot, scope}`. */
export function answer(world, question) {
  check(question);
  const { metrics, dimensions = [], time = {}, model = "last_touch" } = question;
  const { grain } = time;
  const limit = question.limit ?? 1000;
  if (!(limit >= 1 && limit <= 10_000)) throw new Refusal(422, "bad_limit", "limit: 1 to 10000", "/limit");
  const from = bound(time.range?.[0], "/time/range/0");
  const to = bound(time.range?.[1], "/time/range/1");
  if (from !== null && to !== null && from >= to) throw new Refusal(422, "bad_range", "an empty range", "/time/range");
  const chosen = filterOf(question.filters);
  const test = (row) => (world.scope === null || world.scope.includes(row.campaign_id)) && chosen(row);

  const { groups, total } = group(world, from, to, test, dimensions, grain);
  let keys = [...groups.keys()].map((key) => JSON.parse(key));
  if (!grain && dimensions.length === 0) keys = [[]];
  if (grain && time.fill && from !== null && to !== null) {
    keys = [];
    for (let start = bucketStart(from, grain); start < to; start = nextBucket(start, grain)) keys.push([start]);
  }
  const figures = (sums) => metrics.map((name) => figure(name, sums, model));
  const cells = (key) => key.map((value, at) => (grain && at === 0 ? isoHour(value) : value));
  const rowOf = (key, sums) => [...cells(key), ...figures(sums)];
  const columns = [
    ...(grain ? [{ name: "time", role: "dimension", type: "timestamp" }] : []),
    ...dimensions.map((name) => ({ name, role: "dimension", type: "string" })),
    ...metrics.map(columnOf),
  ];
  keys = sortKeys(keys, groups, question, columns, figures, grain);

  const page = pageOf(world, question, keys, limit);
  const rows = page.keys.map((key) => rowOf(key, groups.get(JSON.stringify(key))));
  const blank = columns.filter((column) => column.role === "dimension").map(() => null);
  const result = { columns, rows };
  if (question.totals) result.totals = [...blank, ...figures(total)];
  if (question.compare) {
    if (from === null || to === null) throw new Refusal(422, "bad_range", "compare needs both ends", "/time/range");
    const lastHour = Math.floor(world.asOf / HOUR_MS) * HOUR_MS;
    const end = Math.max(from, Math.min(to, lastHour));
    const start = periodBefore(question.compare, from, to);
    const shift = from - start;
    const current = to === end ? { groups, total } : group(world, from, end, test, dimensions, grain);
    const before = group(world, start, end - shift, test, dimensions, grain);
    const shifted = (key) => (grain ? [bucketStart(key[0] - shift, grain), ...key.slice(1)] : key);
    const pick = (source, key) => {
      const sums = source.groups.get(JSON.stringify(key));
      return sums || (dimensions.length === 0 && (time.fill || !grain)) ? rowOf(key, sums) : null;
    };
    result.compare = {
      range: [isoHour(start), isoHour(end - shift)],
      to_date: [isoHour(from), isoHour(end)],
      rows: page.keys.map((key) => pick(before, shifted(key))),
      current: page.keys.map((key) => pick(current, key)),
      totals: question.totals ? [...blank, ...figures(before.total)] : null,
      current_totals: question.totals ? [...blank, ...figures(current.total)] : null,
    };
  }
  result.meta = { ...metaOf(world), truncated: page.next !== null, next_cursor: page.next };
  return result;
}

function sortKeys(keys, groups, question, columns, figures, grain) {
  const names = columns.map((column) => column.name);
  const order = (question.order ?? []).map((text, at) => {
    const name = text.replace(/^-/, "");
    if (!names.includes(name)) throw new Refusal(422, "bad_order", `no column "${name}"`, `/order/${at}`);
    return [names.indexOf(name), text.startsWith("-") ? -1 : 1];
  });
  const isNumber = columns.map((column) => column.role === "metric");
  const rank = (a, b, at) => {
    if (a === b) return 0;
    if (a === null) return 1;
    if (b === null) return -1;
    return (isNumber[at] ? Number(a) - Number(b) : a < b ? -1 : 1) || 0;
  };
  const full = keys.map((key) => ({ key, row: [...key, ...figures(groups.get(JSON.stringify(key)))] }));
  const width = (grain ? 1 : 0) + (question.dimensions?.length ?? 0);
  full.sort((a, b) => {
    for (const [at, sign] of order) {
      const difference = rank(a.row[at], b.row[at], at);
      // Rows without a value come last, whatever the direction.
      const hasNull = a.row[at] === null || b.row[at] === null;
      if (difference !== 0) return hasNull ? difference : difference * sign;
    }
    for (let at = 0; at < width; at++) {
      const difference = rank(a.row[at], b.row[at], at);
      if (difference !== 0) return difference;
    }
    return 0;
  });
  return full.map(({ key }) => key);
}

function pageOf(world, question, keys, limit) {
  const { cursor, ...others } = question;
  const hash = createHash("sha256").update(JSON.stringify(others)).digest("base64url").slice(0, 12);
  let offset = 0;
  if (cursor !== undefined) {
    const [snapshot, known, at] = Buffer.from(String(cursor), "base64url").toString().split("|");
    if (known !== hash) throw new Refusal(422, "bad_cursor", "the cursor is of another question", "/cursor");
    if (snapshot !== world.snapshot) throw new Refusal(410, "cursor_expired", "begin again", "/cursor");
    offset = Number(at);
  }
  const end = offset + limit;
  const next = end < keys.length ? Buffer.from(`${world.snapshot}|${hash}|${end}`).toString("base64url") : null;
  return { keys: keys.slice(offset, end), next };
}

export function metaOf(world) {
  return {
    snapshot: world.snapshot,
    as_of: new Date(world.asOf).toISOString(),
    manifest: { run: 12, published_at: isoHour(Math.floor(world.asOf / HOUR_MS) * HOUR_MS) },
    versions: { "raw/impressions": 340, "raw/interactions": 120, "raw/bid_requests": 561 },
    provisional_from: isoHour(Math.floor(world.asOf / HOUR_MS) * HOUR_MS - 2 * HOUR_MS),
    zone: "UTC",
    currency: "USD",
    truncated: false,
    next_cursor: null,
    source: "memory",
    warnings: [],
  };
}
