/**
 * States that only the mock can be put into: errors, no key, no permission, slow, empty, stale, a
 * server that goes away and comes back. Each is looked at by axe in both themes.
 */
import { axe } from "./axe.mjs";
import { check, equal, open, settle } from "./browser.mjs";
import { addDays, tileTexts } from "./numbers.mjs";

async function mode(base, name) {
  await fetch(new URL(`mock/mode?mode=${name}`, base), { method: "POST" });
}

/** Opens the page in a mode, in both themes, and expects a text in it. */
async function look({ browser, base, key }, name, text, { isRefused = false } = {}) {
  for (const theme of ["light", "dark"]) {
    await mode(base, name);
    const page = await open(browser, base, { theme, key });
    try {
      await page.getByText(text).first().waitFor();
      const violations = await axe(page);
      check(violations.length === 0, `${name}, ${theme}:\n${violations.join("\n")}`);
      check(isRefused || page.refusals.length === 0, page.refusals.join("\n"));
      check(page.problems.length === 0, page.problems.join("\n"));
    } finally {
      await mode(base, "ok");
      await page.context().close();
    }
  }
}

export const tests = {
  "errors are shown, with a way to try again": (context) =>
    look(context, "error", "This could not be loaded", { isRefused: true }),
  "no permission for the widgets": (context) => look(context, "forbidden", "No permission", { isRefused: true }),
  "no permission for the page": (context) =>
    look(context, "no_access", "You may not see the dashboard", { isRefused: true }),
  "the form to sign in": (context) => look(context, "unauthorized", "Sign in", { isRefused: true }),
  "nothing there": (context) => look(context, "empty", "No data for these days"),
  "stale data": (context) => look(context, "stale", "The figures are not current"),

  async "slow answers show where figures will be"({ browser, base, key }) {
    const page = await open(browser, base, { key });
    await settle(page);
    await mode(base, "slow");
    await page.getByRole("button", { name: /^Date range/ }).click();
    await page.getByRole("radio", { name: "Yesterday" }).check();
    await page.waitForSelector('.card[aria-busy="true"]');
    check((await page.locator(".tile-value").count()) > 10, "the figures before stay while new ones are on their way");
    await page.reload();
    await page.waitForSelector(".gate-wait, .skeleton");
    await mode(base, "ok");
    await settle(page);
    return page;
  },

  async "nothing matches the filters"({ browser, base, key }) {
    const page = await open(browser, base, { query: "?country=ZZ", key });
    await settle(page);
    equal((await page.getByText("Nothing matches the filters").count()) > 2, true, "empty by filter");
    await page.getByRole("button", { name: "Clear filters" }).first().click();
    await page.waitForSelector(".chip", { state: "detached" });
    await settle(page);
    check((await page.getByText("Nothing matches the filters").count()) === 0, "figures are back");
    return page;
  },

  async "new figures come by the stream, without a reload"({ browser, base, key }) {
    const page = await open(browser, base, { query: "?range=today", key });
    await settle(page);
    await page.waitForSelector('.live-badge[data-state="live"]');
    const before = await tileTexts(page);
    const name = page.locator(".breakdown tbody tr .cell-link").first();
    await name.focus();
    await fetch(new URL("mock/advance?minutes=20", base), { method: "POST" });
    await page.waitForFunction(
      (text) => document.querySelector('[data-metric="spend"] [data-exact]').textContent !== text,
      before.spend,
    );
    await page.waitForFunction(() => {
      const total = document.querySelector('.breakdown tfoot td[data-metric="conversions"]').textContent;
      return total === document.querySelector('.tile[data-metric="conversions"] [data-exact]').textContent;
    });
    check(await name.evaluate((one) => one === document.activeElement), "the focus stays where it was");
    return page;
  },

  async "the stream is opened again when the server comes back"({ browser, base, key }) {
    const page = await open(browser, base, { query: "?range=today", key });
    await settle(page);
    await page.waitForSelector('.live-badge[data-state="live"]');
    await mode(base, "down");
    await fetch(new URL("mock/cut", base), { method: "POST" }).catch(() => undefined);
    await page.waitForSelector('.live-badge[data-state="reconnecting"]');
    check((await page.locator(".tile-value").count()) > 10, "the figures stay");
    await mode(base, "ok");
    await page.waitForSelector('.live-badge[data-state="live"]');
    return page;
  },

  async "a long table goes on, page by page"({ browser, base, api, key }) {
    const page = await open(browser, base, {
      query: "?layout=breakdown.ad_creative_id.performance:12x8",
      key,
    });
    await settle(page);
    equal(await page.locator(".breakdown tbody tr").count(), 50, "rows of the first page");
    await page.getByRole("button", { name: "Show more" }).click();
    await page.waitForFunction(() => document.querySelectorAll(".breakdown tbody tr").length > 50);
    const day = (await api.get("v1/freshness")).server.as_of.slice(0, 10);
    const range = [addDays(day, -27), addDays(day, 1)];
    const answer = await api.ask({ metrics: ["spend"], dimensions: ["ad_creative_id"], time: { range }, limit: 1000,
      order: ["-spend"] });
    const shown = await page.$$eval(".breakdown tbody tr", (rows) => rows.map((row) => row.dataset.value));
    equal(shown, answer.rows.map((row) => row[0]), "every row, once, in order");
    return page;
  },
};
