/**
 * What the page must do with any server that keeps to docs/api.md: it shows the figures that the
 * API gives for the same question, and everything can be done with the keyboard.
 *
 * The range is one of closed days, so that the figures stand still while they are compared.
 */
import { readFileSync } from "node:fs";
import { check, equal, open, settle } from "./browser.mjs";
import { addDays, expectTiles, full, tileTexts } from "./numbers.mjs";

/** Seven whole days before today, as the query of the page and as a range of the API. */
export async function closedRange(api) {
  const freshness = await api.get("v1/freshness");
  const today = freshness.server.as_of.slice(0, 10);
  const range = [addDays(today, -7), today];
  return { range, query: `?range=${range[0]}..${addDays(range[1], -1)}`, today };
}

async function cellsOf(page, row) {
  return page.locator(row).first().locator("td[data-metric]").allInnerTexts();
}

/** The figures of the totals row, by metric. */
async function totalsOf(page) {
  return page.$$eval(".breakdown tfoot td[data-metric]", (cells) =>
    Object.fromEntries(cells.map((cell) => [cell.dataset.metric, cell.textContent])),
  );
}

const MODELS = ["last_touch", "first_touch", "linear", "position_based", "time_decay"];

export const tests = {
  async "tiles show the figures of the API"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    await expectTiles(page, api, null, range);
    const reach = await api.ask({ metrics: ["reach"], time: { range } });
    equal((await tileTexts(page)).reach, reach.rows[0][0].toLocaleString("en-US"), "reach");
    return page;
  },

  async "tiles compare with the period that was chosen"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    for (const compare of ["previous_period", "same_weekdays"]) {
      const page = await open(browser, base, { query: `${query}&compare=${compare}`, key });
      await settle(page);
      const answer = await api.ask({ metrics: ["clicks"], time: { range }, compare });
      const [before] = answer.compare.rows[0];
      const change = answer.compare.current[0][0] / before - 1;
      const percent = new Intl.NumberFormat("en-US", { style: "percent", minimumFractionDigits: 1,
        maximumFractionDigits: 1 }).format(Math.abs(change));
      const shown = await page.locator('.tile[data-metric="clicks"] .delta-relative').innerText();
      equal(shown, `${Math.abs(change) < 0.0005 ? "" : change > 0 ? "+" : "−"}${percent}`, compare);
      check(page.problems.length === 0, page.problems.join("\n"));
      await page.context().close();
    }
    const page = await open(browser, base, { query: `${query}&compare=none`, key });
    await settle(page);
    equal(await page.locator(".delta-relative").count(), 0, "changes without a comparison");
    return page;
  },

  async "the breakdown's rows are the API's, and its totals are the tiles'"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    const metrics = ["spend", "revenue", "roas", "conversions", "cpa", "cvr"];
    const question = { metrics, dimensions: ["campaign_id"], time: { range }, order: ["-spend"], totals: true };
    const answer = await api.ask({ ...question, limit: 50 });
    const { currency } = answer.meta;
    const rows = page.locator(".breakdown tbody tr");
    equal(await rows.count(), answer.rows.length, "rows");
    for (const [at, row] of answer.rows.entries()) {
      const shown = await rows.nth(at).locator("td[data-metric]").allInnerTexts();
      equal(shown, metrics.map((name, column) => full(name, row[column + 1], currency)), `row ${at}`);
    }
    const totals = await totalsOf(page);
    for (const [at, name] of metrics.entries()) {
      equal(totals[name], full(name, answer.totals[at + 1], currency), `total ${name}`);
    }
    equal(totals.conversions, (await tileTexts(page)).conversions, "conversions in the tile and in the totals");
    return page;
  },

  async "a click on a head sorts, and the order is the API's"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    await page.getByRole("columnheader", { name: "Conversions" }).getByRole("button").last().click();
    await page.waitForSelector('.breakdown th[aria-sort="descending"] >> text=Conversions');
    await settle(page);
    const answer = await api.ask({ metrics: ["conversions"], dimensions: ["campaign_id"], time: { range },
      order: ["-conversions"] });
    const ids = await page.$$eval(".breakdown tbody tr", (rows) => rows.map((row) => row.dataset.value));
    equal(ids, answer.rows.map((row) => row[0] ?? ""), "order");
    return page;
  },

  async "a name drills down, filters everything, and the breadcrumb goes back"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    const first = page.locator(".breakdown tbody tr").first();
    const campaign = await first.getAttribute("data-value");
    await first.locator(".cell-link").click();
    await page.waitForSelector(`.chip`);
    await page.waitForSelector(".breakdown thead >> text=Site");
    await settle(page);
    const filters = ["in", "campaign_id", [campaign]];
    await expectTiles(page, api, filters, range);
    const sites = await api.ask({ metrics: ["spend"], dimensions: ["website"], filters, time: { range },
      order: ["-spend"], limit: 50, totals: true });
    const shown = await page.$$eval(".breakdown tbody tr", (rows) => rows.map((row) => row.dataset.value));
    equal(shown, sites.rows.map((row) => row[0] ?? ""), "sites");
    equal((await totalsOf(page)).spend, full("spend", sites.totals[1], sites.meta.currency), "total of the sites");

    await page.locator(".breakdown tbody tr").first().locator(".cell-link").click();
    await page.waitForSelector(".breakdown thead >> text=Creative");
    await settle(page);
    const both = ["and", filters, ["in", "website", [sites.rows[0][0]]]];
    await expectTiles(page, api, both, range);
    check(new URL(page.url()).searchParams.get("website") === sites.rows[0][0], "the address holds the site");

    await page.locator(".crumbs").getByRole("button", { name: /^All/ }).click();
    await page.waitForSelector(".chip", { state: "detached" });
    await settle(page);
    await expectTiles(page, api, null, range);
    return page;
  },

  async "a cross-filter applies to every widget, and its chip takes it away"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    const row = page.locator('[data-type="map"] tbody tr').first();
    const country = await row.getAttribute("data-value");
    await row.locator(".cell-link").click();
    await page.waitForSelector(".chip");
    await settle(page);
    const filters = ["in", "country", [country]];
    await expectTiles(page, api, filters, range);
    const funnel = await api.ask({ metrics: ["clicks"], filters, time: { range } });
    const exactClicks = await page.locator('[data-stage="clicks"] .funnel-count').getAttribute("title");
    equal(exactClicks, funnel.rows[0][0].toLocaleString("en-US"), "clicks in the funnel");
    const reach = await page.locator('.tile[data-metric="reach"]').innerText();
    check(/Remove the other filters/.test(reach), "reach says why it is not there");
    check((await page.locator('[data-type="time_to_conversion"] .card-note').count()) === 1, "a note on the filter");
    await page.getByRole("button", { name: /^Remove filter/ }).click();
    await page.waitForSelector(".chip", { state: "detached" });
    await settle(page);
    await expectTiles(page, api, null, range);
    return page;
  },

  async "the time series shows the API's figures, to the pointer's and to the keyboard's cursor"(context) {
    const { browser, base, api, key } = context;
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    const answer = await api.ask({ metrics: ["spend", "conversions"], time: { range, grain: "day", fill: true } });
    const slider = page.locator('[data-type="series"] [role="slider"]');
    await slider.focus();
    await page.keyboard.press("Home");
    for (const [at, row] of answer.rows.entries()) {
      const text = await slider.getAttribute("aria-valuetext");
      const spend = full("spend", row[1], answer.meta.currency);
      check(text.includes(`Spend ${spend}`), `bucket ${at}: ${text} has no ${spend}`);
      check(text.includes(`Conversions ${full("conversions", row[2])}`), `bucket ${at}: ${text}`);
      await page.keyboard.press("ArrowRight");
    }
    check(await page.locator('[data-type="series"] .chart-tip').isVisible(), "the tooltip is shown");
    await page.locator('[data-type="series"]').getByRole("button", { name: "Show as table" }).click();
    const cells = await page.locator('[data-type="series"] tbody tr').first().locator("td").allInnerTexts();
    check(cells.includes(full("spend", answer.rows[0][1], answer.meta.currency)), "the table has the same figures");
    return page;
  },

  async "the attribution models are the API's"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    const metrics = MODELS.flatMap((model) => [`attributed_conversions_${model}`, `attributed_revenue_${model}`]);
    const answer = await api.ask({ metrics, time: { range } });
    for (const [at, model] of MODELS.entries()) {
      const cells = await page.locator(`[data-model="${model}"] td`).allInnerTexts();
      equal(cells[0].split("\n")[0], full("conversions", answer.rows[0][at * 2]), `${model} conversions`);
      equal(cells[1], full("revenue", answer.rows[0][at * 2 + 1], answer.meta.currency), `${model} revenue`);
    }
    return page;
  },

  async "the time to conversion is the API's"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    const answer = await api.get(`v1/campaigns/all/time_to_conversion?from=${range[0]}&to=${range[1]}`);
    const widget = page.locator('[data-type="time_to_conversion"]');
    await widget.getByRole("button", { name: "Show as table" }).click();
    const shown = await widget.locator("tbody tr td:nth-child(2)").allInnerTexts();
    equal(shown, answer.buckets.map((bucket) => bucket.conversions.toLocaleString("en-US")), "buckets");
    return page;
  },

  async "pacing, freshness and dead letters are the API's"({ browser, base, api, key }) {
    const { query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    const freshness = await api.get("v1/freshness");
    equal(await page.locator("[data-table]").count(), freshness.tables.length, "tables");
    const who = await api.get("v1/whoami");
    const letters = page.locator('[data-type="dead_letters"]');
    if (who.role === "admin") {
      const { reasons } = await api.get("v1/dead_letters");
      const shown = await letters.locator("tbody td").allInnerTexts();
      equal(shown, reasons.map((reason) => reason.records.toLocaleString("en-US")), "rejected records");
    } else check(/No permission/.test(await letters.innerText()), "no permission for dead letters");
    const { campaigns } = await api.get("v1/campaigns");
    const spend = await api.ask({ metrics: ["spend"], dimensions: ["campaign_id"] });
    for (const row of await page.locator("[data-campaign]").all()) {
      const id = await row.getAttribute("data-campaign");
      const { budget } = campaigns.find((campaign) => campaign.campaign_id === id);
      const [, spent] = spend.rows.find(([other]) => other === id);
      const title = await row.locator(".pace-foot span").first().getAttribute("title");
      equal(title, `${full("spend", spent, spend.meta.currency)} of ${full("spend", budget, spend.meta.currency)}`, id);
    }
    return page;
  },

  async "the CSV is what the table shows"({ browser, base, api, key }) {
    const { query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    const button = page.getByRole("button", { name: "CSV" });
    const [download] = await Promise.all([page.waitForEvent("download"), button.click()]);
    const lines = readFileSync(await download.path(), "utf8").trim().split("\r\n");
    const rows = await page.locator(".breakdown tbody tr").count();
    equal(lines.length, rows + 2, "a head, the rows, the totals");
    const first = (await cellsOf(page, ".breakdown tbody tr"))[0];
    check(lines[1].includes(`"${first}"`) || lines[1].includes(first), `${lines[1]} has no ${first}`);
    check(!/(^|,)"?[=+@\-]/m.test(lines.join("\n")), "no cell begins like a formula");
    return page;
  },

  async "the address reproduces the view, and holds no key"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    await page.getByRole("button", { name: /^Attribution model/ }).click();
    await page.getByRole("radio", { name: "Linear" }).check();
    await page.keyboard.press("Escape");
    await page.locator(".breakdown tbody tr").nth(1).locator(".row-filter").click();
    await page.waitForSelector(".chip");
    await settle(page);
    const address = page.url();
    check(key === undefined || !address.includes(key), "the key is in the address");
    const chip = await page.locator(".chip-value").innerText();
    const tiles = await tileTexts(page);
    const again = await open(browser, base, { query: new URL(address).search, key });
    await settle(again);
    equal(await tileTexts(again), tiles, "tiles of the link");
    equal(await again.locator(".chip-value").innerText(), chip, "the chip of the link");
    await again.getByRole("button", { name: /^Attribution model: Linear/ }).waitFor();
    check(again.problems.length === 0, again.problems.join("\n"));
    await again.context().close();
    await page.goBack();
    await page.waitForSelector(".chip", { state: "detached" });
    await settle(page);
    await expectTiles(page, api, null, range);
    return page;
  },

  async "views are saved under a name and opened again"({ browser, base, api, key }) {
    const { query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    await page.getByRole("button", { name: "Saved views" }).click();
    await page.getByLabel("Save this view as").fill("Weekly review");
    await page.getByRole("button", { name: "Save", exact: true }).click();
    await page.keyboard.press("Escape");
    await page.getByRole("button", { name: /^Date range/ }).click();
    await page.getByRole("radio", { name: "Yesterday" }).check();
    await page.keyboard.press("Escape");
    await page.reload();
    await settle(page);
    await page.getByRole("button", { name: "Saved views" }).click();
    await page.getByRole("button", { name: "Weekly review", exact: true }).click();
    const wanted = new URLSearchParams(query).get("range");
    await page.waitForFunction((text) => new URLSearchParams(location.search).get("range") === text, wanted);
    return page;
  },

  async "widgets are added, moved, resized and removed with the keyboard only, and stay so"(context) {
    const { browser, base, key } = context;
    const page = await open(browser, base, { key });
    await settle(page);
    const order = () => page.$$eval(".cell", (cells) => cells.map((cell) => cell.getAttribute("aria-label")));
    const before = await order();
    await page.getByRole("button", { name: "Customize" }).focus();
    await page.keyboard.press("Enter");
    const grip = (name) => page.getByRole("button", { name: `Move or resize ${name}`, exact: true });

    await grip(before[0]).focus();
    await page.keyboard.press("ArrowRight");
    equal((await order()).slice(0, 2), [before[1], before[0]], "moved later");
    check(await grip(before[0]).evaluate((one) => one === document.activeElement), "the focus goes along");
    const width = () => page.locator(`.cell[aria-label="${before[0]}"]`).evaluate((cell) => cell.clientWidth);
    const narrow = await width();
    await page.keyboard.press("Shift+ArrowRight");
    check((await width()) > narrow, "wider");
    await page.keyboard.press("Delete");
    check(!(await order()).includes(before[0]), "removed");

    await page.getByLabel("Widget to add").focus();
    await page.keyboard.type("Frequency");
    await page.getByRole("button", { name: "Add widget" }).focus();
    await page.keyboard.press("Enter");
    await page.waitForSelector('.cell[aria-label="Frequency"]');
    equal((await order())[0], "Frequency", "the new widget is the first");
    const after = await order();
    await page.goto(base);
    await settle(page);
    equal(await order(), after, "the arrangement after a new start");
    return page;
  },

  async "widgets are moved and resized with the mouse"({ browser, base, key }) {
    const page = await open(browser, base, { key });
    await settle(page);
    const order = () => page.$$eval(".cell", (cells) => cells.map((cell) => cell.getAttribute("aria-label")));
    const before = await order();
    await page.getByRole("button", { name: "Customize" }).click();
    const grip = await page.locator(".cell .grip").first().boundingBox();
    const second = await page.locator(".cell").nth(1).boundingBox();
    await page.mouse.move(grip.x + 8, grip.y + 8);
    await page.mouse.down();
    await page.mouse.move(second.x + second.width - 8, second.y + 24, { steps: 6 });
    await page.mouse.up();
    equal((await order()).slice(0, 2), [before[1], before[0]], "dragged past its neighbour");
    const cell = page.locator(".cell").first();
    const size = await cell.boundingBox();
    await page.mouse.move(size.x + size.width - 10, size.y + size.height - 10);
    await page.mouse.down();
    await page.mouse.move(size.x + size.width * 1.6, size.y + size.height + 60, { steps: 6 });
    await page.mouse.up();
    const larger = await cell.boundingBox();
    check(larger.width > size.width && larger.height > size.height, "dragged larger");
    return page;
  },

  async "the map filters by keyboard"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    const map = page.locator('[data-type="map"] [role="slider"]');
    await map.focus();
    await page.keyboard.press("ArrowRight");
    const answer = await api.ask({ metrics: ["spend"], dimensions: ["country"], time: { range }, order: ["-spend"] });
    const first = answer.rows.find((row) => row[0] !== null);
    const text = await map.getAttribute("aria-valuetext");
    check(text.endsWith(full("spend", first[1], answer.meta.currency)), `${text} is not ${first}`);
    await page.keyboard.press("Enter");
    await page.waitForSelector(".chip");
    equal(new URL(page.url()).searchParams.get("country"), first[0], "the country in the address");
    return page;
  },

  async "themes change and stay"({ browser, base, key }) {
    const page = await open(browser, base, { key });
    await settle(page);
    await page.getByRole("button", { name: "Theme" }).click();
    await page.getByRole("radio", { name: "Dark" }).check();
    await page.waitForSelector('html[data-theme="dark"]');
    await page.goto(base);
    await page.waitForSelector('html[data-theme="dark"]');
    return page;
  },
};
