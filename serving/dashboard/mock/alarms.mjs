/** Alarms, their history, the quality of the data and invalid traffic, as docs/api.md describes them. */
import { DAY_MS, HOUR_MS } from "./data.mjs";
import { Refusal } from "./query.mjs";

const iso = (ms) => new Date(ms).toISOString();

/** What fires: a campaign, a feed, and the groups that a rule has no room for. */
const ACTIVE = [
  {
    id: "0123456789abcdef0123456789abcdef",
    rule: "ctr_drop",
    description: "The click-through rate of a campaign has fallen",
    metric: "ctr",
    group: { campaign_id: "c-101" },
    state: "FIRING",
    severity: "warning",
    hours: 5,
    value: 0.0061,
    expected_low: 0.0083,
    expected_high: 0.0104,
    why: "ctr is 0.0061, -33.7%; 0.0083 to 0.0104 is expected (the same hours of 6 weeks)",
    cause: "site puzzle-hub.example (93% of the change), creative c-101-v2 (41% of the change)",
    owner: "trading",
    runbook: "docs/runbooks/ctr_drop.md",
  },
  {
    id: "fedcba9876543210fedcba9876543210",
    rule: "ingest_lag",
    description: "Events are taken in long after they happened",
    metric: "ingest_lag",
    group: { table: "raw/interactions" },
    state: "FIRING",
    severity: "critical",
    hours: 2,
    value: 11_520,
    expected_low: null,
    expected_high: 1800,
    why: "ingest_lag is 11520; at most 1800 is expected",
    cause: null,
    owner: "platform",
    runbook: "https://wiki.example/ingest-lag",
  },
  {
    id: "00112233445566778899aabbccddeeff",
    rule: "ctr_drop",
    description: "The click-through rate of a campaign has fallen",
    metric: "ctr",
    group: { others: "*" },
    state: "FIRING",
    severity: "warning",
    hours: 1,
    value: 35,
    expected_low: null,
    expected_high: null,
    why: "35 further groups beside the 20 that are told one by one (max_alerts); all of them: adlake alarms list",
    cause: null,
    owner: "trading",
    runbook: "docs/runbooks/ctr_drop.md",
  },
];

const sameGroup = (a, b) => a.rule === b.rule && JSON.stringify(a.group) === JSON.stringify(b.group);

const acked = new Map();
const silenced = new Map();

export function alarms(user, asOf) {
  const seen = ACTIVE.filter(({ group }) => user.scope.all || group.campaign_id === "c-101");
  const shown = seen.map(({ hours, ...alarm }) => ({
    ...alarm,
    since: iso(asOf - hours * HOUR_MS),
    is_told: true,
    acked_by: acked.get(alarm.id) ?? null,
    silenced_until: alarm.group.others ? null : (silenced.get(alarm.rule) ?? null),
  }));
  return {
    alarms: shown,
    evaluated_at: iso(asOf),
    is_enabled: true,
    is_leader: true,
    may_act: user.role !== "advertiser",
    runbooks: ["docs/runbooks/ctr_drop.md", "docs/runbooks/ingest_lag.md"],
  };
}

export function act(user, path, body, asOf) {
  if (user.role === "advertiser") throw new Refusal(403, "role_not_sufficient", "this key's role may not see this");
  const id = /^\/v1\/alarms\/([^/]+)\/ack$/.exec(path)?.[1];
  if (id !== undefined) {
    if (!ACTIVE.some((alarm) => alarm.id === id)) throw new Refusal(404, "not_found", "there is no such thing");
    acked.set(id, user.name);
    return { id, acked_by: user.name };
  }
  if (path !== "/v1/alarms/silences") throw new Refusal(404, "not_found", "no such address");
  if (body.why === "refuse this") throw new Refusal(422, "bad_silence", "at most 1000 characters", "/why");
  const hours = { "1h": 1, "4h": 4, "1day": 24, "7days": 168 }[body.for];
  if (hours === undefined) throw new Refusal(422, "bad_silence", "a silence lasts between 1s and 90 days", "/for");
  const until = iso(asOf + hours * HOUR_MS);
  silenced.set(body.rule, until);
  return { id: "s1", until };
}

export function history(user, query, asOf) {
  const change = (at, state, why, by = null) => ({ at: iso(at), state, value: null, why, by });
  const trouble = (alarm, id, from, to, changes) => ({
    id, rule: alarm.rule, group: alarm.group, state: "FIRING", severity: alarm.severity, from: iso(from),
    to: to && iso(to), is_told: true, cause: alarm.cause, acked_by: null, changes,
  });
  const all = ACTIVE.filter(({ group }) => user.scope.all || group.campaign_id === "c-101").flatMap((alarm) => {
    const since = asOf - alarm.hours * HOUR_MS;
    const before = asOf - 6.2 * DAY_MS;
    return [
      trouble(alarm, alarm.id, since, null, [change(since, "FIRING", alarm.why)]),
      trouble(alarm, `${alarm.id}-1`, before, before + 3 * HOUR_MS, [
        change(before, "FIRING", alarm.why),
        change(before + HOUR_MS, "ACKED", "", "Ana Lyst"),
        change(before + 3 * HOUR_MS, "OK", "it is as expected again"),
      ]),
    ];
  });
  const like = all.find((one) => one.id === query.get("like"));
  const bound = (name, none) => (query.get(name) ? Date.parse(query.get(name)) : none);
  const shown = all.filter(
    (one) =>
      Date.parse(one.from) < bound("to", Infinity) &&
      (one.to === null || Date.parse(one.to) >= bound("from", -Infinity)) &&
      (!like || sameGroup(one, like)),
  );
  shown.sort((a, b) => (a.from < b.from ? 1 : -1));
  return { alarms: shown, since: iso(asOf - 120 * DAY_MS), truncated: false };
}

export function series(id, asOf) {
  const alarm = ACTIVE.find((one) => one.id === id);
  if (!alarm) throw new Refusal(404, "not_found", "there is no such thing");
  if (alarm.metric !== "ctr" || alarm.group.others) return { id, metric: alarm.metric, window_hours: 1, points: null };
  const last = Math.floor(asOf / HOUR_MS) * HOUR_MS;
  const points = Array.from({ length: 48 }, (_, at) => {
    const hour = last - (47 - at) * HOUR_MS;
    const middle = 0.0094 + 0.0011 * Math.sin((hour / DAY_MS) * 2 * Math.PI);
    const isLow = hour > asOf - (alarm.hours + 1) * HOUR_MS;
    const value = (isLow ? 0.65 : 1) * (middle + 0.0003 * Math.sin(at * 2.3));
    return { at: iso(hour), value, expected_low: middle * 0.88, expected_high: middle * 1.12 };
  });
  return { id, metric: "ctr", window_hours: 3, points };
}

export function quality(user, asOf) {
  if (user.role === "advertiser") throw new Refusal(403, "role_not_sufficient", "this key's role may not see this");
  const one = (expectation, kind, table, column, severity, status, more = {}) => ({
    expectation, kind, table, column, severity, status, observed: null, expected: null, checked_rows: 2_600,
    violating_rows: 0, note: null, owner: null, description: null, run: 12, decision: "publish", decided_by: null,
    checked_at: iso(asOf - 14 * 60_000), ...more,
  });
  return [
    one("clicks_within_impressions", "custom_sql", "campaign_kpis", null, "fail", "pass"),
    one("creative_is_known", "relationship", "impressions", "ad_creative_id", "warn", "warn", {
      observed: 0.0312, expected: "at most 0.01 of the rows", violating_rows: 81, owner: "adops@example.org",
      description: "A creative that is not in ref/creatives has no campaign.",
    }),
    one("impressions_are_fresh", "freshness", "impressions", "event_time", "warn", "pass"),
    one("spend_is_not_negative", "range", "campaign_kpis", "spend", "fail", "pass"),
  ];
}

export function invalidTraffic(factor) {
  const row = (kind, reason, events, cost) => ({
    kind, reason, events: Math.round(events * factor), cost: (cost * factor).toFixed(6),
  });
  return [
    row("click", "bot", 4_120, 0), row("impression", "bot", 31_204, 118.42), row("impression", "zero_size", 912, 3.4),
    row("refund", "order_invalid", 37, 0),
  ];
}
