/** Asks the API as the page does, and writes numbers as the page does, to compare the two. */
import { equal } from "./browser.mjs";

export class Api {
  constructor(base, key) {
    this.base = base;
    this.key = key;
  }

  headers() {
    return { "content-type": "application/json", ...(this.key ? { authorization: `Bearer ${this.key}` } : {}) };
  }

  async get(path) {
    const response = await fetch(new URL(path, this.base), { headers: this.headers() });
    if (!response.ok) throw new Error(`${path}: ${response.status} ${await response.text()}`);
    return response.json();
  }

  async ask(question) {
    const init = { method: "POST", headers: this.headers(), body: JSON.stringify(question) };
    const response = await fetch(new URL("v1/query", this.base), init);
    if (!response.ok) throw new Error(`${JSON.stringify(question)}: ${response.status} ${await response.text()}`);
    return response.json();
  }
}

/** The exact figure of a metric, as it is read to screen readers. */
export function exact(name, value, currency) {
  if (value === null) return "not available";
  const number = (options) => new Intl.NumberFormat("en-US", options).format(value);
  if (["ctr", "cvr", "viewability", "win_rate"].includes(name)) {
    return number({ style: "percent", maximumFractionDigits: 6 });
  }
  if (["spend", "revenue", "cpa", "cpm", "cpc"].includes(name)) {
    return number({ style: "currency", currency, minimumFractionDigits: 2, maximumFractionDigits: 6 });
  }
  if (["roas", "frequency"].includes(name)) return `${number({ maximumFractionDigits: 8 })}×`;
  return number({ maximumFractionDigits: 9 });
}

/** A figure in a table. */
export function full(name, value, currency) {
  if (value === null) return "–";
  const number = (options) => new Intl.NumberFormat("en-US", options).format(value);
  const two = { minimumFractionDigits: 2, maximumFractionDigits: 2 };
  if (["ctr", "cvr", "viewability", "win_rate"].includes(name)) return number({ style: "percent", ...two });
  if (["spend", "revenue", "cpa", "cpm", "cpc"].includes(name) || name.includes("revenue")) {
    return number({ style: "currency", currency, ...two });
  }
  if (["roas", "frequency"].includes(name)) return `${number(two)}×`;
  return number({ maximumFractionDigits: 2 });
}

/** The figures of all tiles that are on the page. */
export async function tileTexts(page) {
  return page.$$eval(".tile", (tiles) =>
    Object.fromEntries(
      tiles.map((tile) => [tile.dataset.metric, tile.querySelector("[data-exact]")?.textContent ?? null]),
    ),
  );
}

/** Compares the tiles with the API's answer for the same filters and range. */
export async function expectTiles(page, api, filters, range) {
  const shown = await tileTexts(page);
  const names = Object.keys(shown).filter((name) => name !== "reach" && name !== "frequency");
  const question = { metrics: names, time: { range }, ...(filters ? { filters } : {}) };
  const answer = await api.ask(question);
  for (const [at, name] of names.entries()) {
    equal(shown[name], exact(name, answer.rows[0][at], answer.meta.currency), `tile ${name}`);
  }
}

export function addDays(day, days) {
  return new Date(Date.parse(`${day}T00:00:00Z`) + days * 86_400_000).toISOString().slice(0, 10);
}
