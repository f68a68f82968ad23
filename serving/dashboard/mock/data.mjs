/**
 * Synthetic advertising data: the same for the same `now`.
 *
 * Twelve campaigns over 60 days. One fades, one was launched nine days ago, one site had a burst
 * of fraudulent clicks six days ago, and the feed of interactions is three hours late.
 */

export const HOUR_MS = 3_600_000;
export const DAY_MS = 24 * HOUR_MS;
export const DAYS = 60;

const ADVERTISERS = { "a-1": "Northwind Outdoor", "a-2": "Kestrel Bank", "a-3": "Lumen Audio", "a-4": "Verde Foods" };

/** Daily spend in units, CPM, CTR, CVR, value of a conversion; then dates as days from today. */
const PLAN = [
  ["c-101", "Autumn Jackets – Prospecting", "a-1", 910, 3.4, 0.0092, 0.034, 96, -52, 20, 1.0],
  ["c-102", "Autumn Jackets – Retargeting", "a-1", 420, 4.1, 0.0151, 0.062, 104, -52, 20, 0.97],
  ["c-103", "Winter Boots Launch", "a-1", 760, 3.9, 0.0118, 0.041, 88, -9, 33, 1.22],
  ["c-104", "Trail Running", "a-1", 310, 2.9, 0.0087, 0.031, 74, -41, 12, 0.78],
  ["c-201", "Savings Account", "a-2", 640, 5.2, 0.0064, 0.048, 140, -58, 30, 1.03],
  ["c-202", "Mortgage Calculator", "a-2", 520, 6.1, 0.0058, 0.029, 310, -30, 28, 0.88],
  ["c-203", "Student Card", "a-2", 240, 3.6, 0.0102, 0.055, 60, -24, 36, 1.08],
  ["c-301", "Headphones Pro", "a-3", 580, 3.8, 0.0126, 0.037, 148, -45, 15, 1.0],
  ["c-302", "Studio Monitors", "a-3", 190, 4.4, 0.0079, 0.022, 420, -59, 8, 0.69],
  ["c-401", "Oat Drinks", "a-4", 330, 2.2, 0.0071, 0.051, 18, -50, 25, 1.05],
  ["c-402", "Plant Burgers", "a-4", 280, 2.4, 0.0081, 0.046, 22, -35, 18, 0.95],
  ["c-403", "Meal Kits", "a-4", 450, 2.8, 0.0098, 0.039, 64, -47, 44, 1.15],
];

const SITES = ["daily-herald.example", "trailpost.example", "money-matters.example", "soundwave.example",
  "kitchen-table.example", "weather-now.example", "puzzle-hub.example", "cycling-news.example"];
const DEVICES = [["mobile", 0.58], ["desktop", 0.31], ["tablet", 0.08], ["tv", 0.03]];
const COUNTRIES = [["DE", 0.24, "DE-BE"], ["US", 0.19, "US-CA"], ["GB", 0.13, "GB-ENG"], ["FR", 0.11, "FR-IDF"],
  ["PL", 0.07, "PL-14"], ["ES", 0.06, "ES-MD"], ["NL", 0.05, "NL-NH"], ["SE", 0.04, "SE-AB"], ["BR", 0.03, "BR-SP"],
  ["JP", 0.025, "JP-13"], ["AU", 0.02, "AU-NSW"], ["SG", 0.01, "SG-01"], ["IN", 0.015, "IN-MH"], [null, 0.01, null]];
const HOURS = [2, 1, 1, 1, 1, 2, 4, 6, 7, 7, 7, 7, 8, 8, 7, 7, 7, 8, 9, 10, 11, 10, 7, 4].map(
  (weight) => weight / 142,
);
const WEEKDAYS = [1.06, 0.97, 0.96, 0.98, 1.0, 1.05, 1.1];

/** A number in [0, 1) that depends on nothing but its input (a hash of 32 bits). */
function random(...parts) {
  let hash = 2166136261;
  for (const part of parts.join("|")) hash = Math.imul(hash ^ part.charCodeAt(0), 16777619);
  hash ^= hash >>> 15;
  hash = Math.imul(hash, 2246822507);
  hash ^= hash >>> 13;
  hash = Math.imul(hash, 3266489909);
  return ((hash ^ (hash >>> 16)) >>> 0) / 4294967296;
}

function pick(weighted, chance) {
  let rest = chance;
  for (const entry of weighted) {
    rest -= entry[1];
    if (rest < 0) return entry;
  }
  return weighted[0];
}

export function dayText(ms) {
  return new Date(ms).toISOString().slice(0, 10);
}

/** Rounds by chance, so that small expectations do not vanish. */
function whole(value, chance) {
  return Math.floor(value + chance);
}

export function campaignsAt(now) {
  const today = Math.floor(now / DAY_MS) * DAY_MS;
  return PLAN.map(([id, name, advertiser, daily, cpm, ctr, cvr, value, start, end, pace]) => {
    const days = end - start + 1;
    const hasTargets = id !== "c-203";
    const roas = (1000 / cpm) * ctr * cvr * value * 0.36;
    return {
      campaign_id: id,
      name,
      advertiser_id: advertiser,
      advertiser_name: ADVERTISERS[advertiser],
      budget: id === "c-403" ? null : `${Math.round((daily * days) / pace / 100) * 100}.000000`,
      target_cpa: hasTargets ? (((value * 0.36) / roas) * 1.05).toFixed(6) : null,
      target_roas: hasTargets ? Math.round(roas * 0.97 * 100) / 100 : null,
      start_date: dayText(today + start * DAY_MS),
      end_date: dayText(today + end * DAY_MS),
    };
  });
}

const SUMS = ["impressions", "measurable_impressions", "viewable_impressions", "clicks", "conversions", "bid_requests",
  "bids", "wins", "spend", "revenue"];
const MODELS = { last_touch: 1, first_touch: 0, linear: 0, position_based: 0, time_decay: 0 };

/** All events, as rows of sums with a time. They reach a day past `now`, so that time can advance. */
export function generate(now) {
  const today = Math.floor(now / DAY_MS) * DAY_MS;
  const rows = [];
  for (const plan of [...PLAN, [null, null, null, 14, 2.5, 0.006, 0.02, 40, -60, 40, 1]]) {
    const [id, , advertiser, daily, cpm, ctr, cvr, value, start, end] = plan;
    for (let day = Math.max(start, -DAYS + 1); day <= Math.min(end, 1); day++) {
      const dayMs = today + day * DAY_MS;
      // The campaign that fades: people have seen it too often.
      const fade = id === "c-101" ? Math.max(0.42, 1 - Math.max(0, day + 30) * 0.02) : 1;
      const rise = id === "c-103" ? Math.min(1.15, 0.55 + (day + 9) * 0.07) : 1;
      const noise = 0.9 + 0.2 * random(id, dayMs);
      const level = WEEKDAYS[new Date(dayMs).getUTCDay()] * noise * rise;
      for (let hour = 0; hour < 24; hour++) {
        for (let part = 0; part < 4; part++) {
          const seed = [id, dayMs, hour, part];
          const time = dayMs + hour * HOUR_MS + (part * 15 + Math.floor(15 * random("m", ...seed))) * 60_000;
          const site = SITES[Math.floor(random(id, "s", random("site", ...seed) < 0.5 ? 0 : part) * SITES.length)];
          const creative = `${id ?? "x"}-v${1 + Math.floor(5 * random("cr", ...seed))}`;
          const [device] = pick(DEVICES, random("d", ...seed));
          const [country, , region] = pick(COUNTRIES, random("c", ...seed));
          const share = (daily * level * HOURS[hour]) / 4;
          const impressions = whole((share / cpm) * 1000 * (0.8 + 0.4 * random("i", ...seed)), random("ir", ...seed));
          const isFraud = id === "c-302" && day === -6 && hour >= 9 && hour < 15;
          const clickRate = ctr * fade * (device === "mobile" ? 1.1 : 0.9) * (isFraud ? 14 : 1);
          const clicks = whole(impressions * clickRate, random("k", ...seed));
          const converts = isFraud ? 0 : cvr * (device === "desktop" ? 1.35 : 0.85) * (0.7 + 0.3 * fade);
          const conversions = whole(clicks * converts, random("v", ...seed));
          const measurable = whole(impressions * 0.94, 0.5);
          const wins = impressions + whole(impressions * 0.015, 0.5);
          const website = isFraud ? "puzzle-hub.example" : site;
          const base = { time, campaign_id: id, advertiser_id: advertiser, website, ad_creative_id: creative,
            device_type: device, country, region };
          rows.push({
            ...base, conversion_type: null, impressions, measurable_impressions: measurable,
            viewable_impressions: whole(measurable * (0.6 + 0.2 * random("w", ...seed)), 0.5), clicks, conversions: 0,
            bid_requests: wins * 9, bids: Math.round(wins * (2.9 + 0.8 * random("b", ...seed))), wins,
            spend: Math.round(impressions * cpm * 1000 * (0.9 + 0.2 * random("p", ...seed))), revenue: 0,
          });
          if (conversions > 0) rows.push(conversionRow(base, conversions, value, seed));
        }
      }
    }
  }
  return rows.sort((a, b) => a.time - b.time);
}

function conversionRow(base, conversions, value, seed) {
  const revenue = Math.round(conversions * value * 1_000_000 * 0.36 * (0.7 + 0.6 * random("r", ...seed)));
  const row = { ...base, conversion_type: random("t", ...seed) < 0.8 ? "purchase" : "signup" };
  for (const sum of SUMS) row[sum] = 0;
  row.conversions = conversions;
  row.revenue = revenue;
  const lean = base.campaign_id?.endsWith("2") ? -1 : 1;
  for (const model of Object.keys(MODELS)) {
    const shift = { last_touch: 0, first_touch: 0.16, linear: 0.07, position_based: 0.1, time_decay: 0.03 }[model];
    const factor = 0.96 * (1 + shift * lean * (0.4 + random(model, ...seed)));
    row[`attributed_conversions_${model}`] = Math.round(conversions * factor * 1e6);
    row[`attributed_revenue_${model}`] = Math.round(revenue * factor);
  }
  return row;
}
