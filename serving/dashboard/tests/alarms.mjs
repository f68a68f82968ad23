/**
 * Alarms, quality and invalid traffic on the page. What any server can be asked is in `tests`; what only the mock shows
 * for certain, and what changes something, is in `mockTests`.
 */
import { axe } from "./axe.mjs";
import { check, equal, open, settle } from "./browser.mjs";
import { addDays, exact, full, tileTexts } from "./numbers.mjs";
import { closedRange } from "./page.mjs";

const alarmsOf = (page) => page.locator('[data-type="alarms"]');

/** Waits until the page has the alarms of the API: they may change in between, and the page asks every ten seconds. */
async function sameAlarms(page, api) {
  const deadline = Date.now() + 40_000;
  for (;;) {
    const answer = await api.get("v1/alarms");
    const told = answer.alarms.filter((alarm) => alarm.state !== "PENDING");
    const wanted = told.map((alarm) => alarm.id).sort();
    const shown = await alarmsOf(page).locator("[data-alarm]").evaluateAll((all) =>
      all.map((one) => one.dataset.alarm).sort());
    if (JSON.stringify(shown) === JSON.stringify(wanted)) return { answer, told };
    check(Date.now() < deadline, `the page shows ${shown}, the API has ${wanted}`);
    await page.waitForTimeout(500);
  }
}

/** Opens the first alarm, and waits for its parts. */
async function openFirst(page) {
  const head = alarmsOf(page).locator(".alarm-head").first();
  await head.focus();
  await page.keyboard.press("Enter");
  await alarmsOf(page).locator(".alarm-details").waitFor();
  await settle(page);
}

/** What the page calls the rule and the group of an alarm. */
function nameOf({ rule, group }, campaigns) {
  const text = rule.replaceAll("_", " ").replace(/\b(ctr|cvr|cpc|cpm|cpa|roas)\b/g, (word) => word.toUpperCase());
  const own = campaigns.find((one) => one.campaign_id === group.campaign_id)?.name ?? group.campaign_id;
  const of = campaigns.find((one) => one.advertiser_id === group.advertiser_id)?.advertiser_name ?? group.advertiser_id;
  const labels = { website: "Site", ad_creative_id: "Creative", device_type: "Device", country: "Country",
    region: "Region", conversion_type: "Conversion type" };
  const parts = Object.entries(group).map(([name, value]) => {
    if (name === "others") return "further groups";
    if (name === "campaign_id") return own;
    if (name === "advertiser_id") return of;
    return name in labels ? `${labels[name]} ${value}` : value;
  });
  return [text.charAt(0).toUpperCase() + text.slice(1), parts.join(", ")].filter((part) => part !== "").join(": ");
}

/** The texts of the marks of the time series, one an alarm, by mark. */
async function markTexts(widget) {
  const labels = await widget.locator(".alarm-mark").evaluateAll((all) => all.map((one) => one.ariaLabel));
  return labels.map((label) => {
    const [, count, texts] = /^(?:Alarm|(\d+) alarms): (.+)$/.exec(label);
    const split = texts.split("; ");
    equal(split.length, Number(count ?? 1), label);
    return split;
  });
}

export const tests = {
  async "alarms are the API's, with their series, their band and their history"({ browser, base, api, key }) {
    const page = await open(browser, base, { key });
    await settle(page);
    const { answer, told } = await sameAlarms(page, api);
    const bell = page.getByRole("button", { name: /alarms?: show them$/ });
    equal(await bell.getAttribute("title"), told.length === 0 ? "No alarms" : told.length === 1 ? "1 alarm" :
      `${told.length} alarms`, "the bell");
    if (told.length === 0) return page;

    await bell.click();
    check(await alarmsOf(page).evaluate((one) => one.contains(document.activeElement)), "the bell leads to them");
    await openFirst(page);
    const first = await alarmsOf(page).locator("[data-alarm]").first().getAttribute("data-alarm");
    const alarm = told.find((one) => one.id === first);
    const text = await alarmsOf(page).locator(".alarm-details").innerText();
    for (const part of [alarm.why, alarm.cause, alarm.owner, alarm.runbook]) {
      check(!part || text.includes(part), `${JSON.stringify(part)} is not in ${text}`);
    }
    const link = alarmsOf(page).locator(".text-link");
    if (answer.runbooks.includes(alarm.runbook)) {
      const runbook = await fetch(new URL(await link.getAttribute("href"), base));
      check(runbook.ok && (await runbook.text()).startsWith("#"), "the runbook is there");
    }
    const series = await api.get(`v1/alarms/${alarm.id}/series`);
    if (series.points?.length > 0) {
      const slider = alarmsOf(page).getByRole("slider");
      await slider.focus();
      await page.keyboard.press("Home");
      check(/expected/.test(await slider.getAttribute("aria-valuetext")), "the cursor tells what was expected");
      await alarmsOf(page).getByRole("button", { name: "Show as table" }).click();
      const shown = await alarmsOf(page).locator(".alarm-series tbody tr").count();
      check(Math.abs(shown - series.points.length) <= 1, `${shown} points, not ${series.points.length}`);
    }
    const past = await api.get(`v1/alarms/history?like=${alarm.id}&limit=20`);
    const troubles = await alarmsOf(page).locator(".alarm-past [data-trouble]").evaluateAll((all) =>
      all.map((one) => one.dataset.trouble));
    equal(troubles, past.alarms.map((one) => one.id), "earlier alarms of the group");
    equal(await axe(page), [], "what axe finds in an alarm");
    return page;
  },

  async "alarms are the API's as marks on the time series, and in its table"({ browser, base, api, key }) {
    // Until the end of today, so that what is wrong now has a mark.
    const { today } = await closedRange(api);
    const range = [addDays(today, -7), addDays(today, 1)];
    const page = await open(browser, base, { query: `?range=${range[0]}..${today}`, key });
    await settle(page);
    const shown = page.locator('[data-type="series"]');
    const { campaigns } = await api.get("v1/campaigns?limit=1000");
    // The name is what comes before the time of the beginning.
    const named = (text) => /^(.+?), [A-Z][a-z]{2} \d{1,2}, \d\d:\d\d – /.exec(text)[1];
    const deadline = Date.now() + 40_000;
    let marks = [];
    for (;;) {
      const { alarms } = await api.get(`v1/alarms/history?from=${range[0]}&to=${range[1]}&limit=500`);
      const wanted = alarms.filter((one) => one.is_told).map((one) => nameOf(one, campaigns)).sort();
      marks = await markTexts(shown);
      const names = marks.flat().map(named).sort();
      if (JSON.stringify(names) === JSON.stringify(wanted)) break;
      check(Date.now() < deadline, `the marks are ${JSON.stringify(names)}, the API has ${JSON.stringify(wanted)}`);
      await page.waitForTimeout(500);
    }
    if (marks.length === 0) return page;
    const mark = shown.locator(".alarm-mark").last();
    await mark.focus();
    await shown.locator(".alarm-tip").waitFor();
    equal(await axe(page), [], "what axe finds with a mark's tip");
    await page.keyboard.press("Escape");
    await shown.locator(".alarm-tip").waitFor({ state: "detached" });
    await shown.getByRole("button", { name: "Show as table" }).click();
    const cells = await shown.locator(".alarm-cell").allInnerTexts();
    equal(cells.filter((text) => text !== "").map((text) => text.split("\n")), marks, "alarms in the table");
    return page;
  },

  async "gross figures are the API's, and what has none says so"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    await page.getByRole("button", { name: /^Traffic/ }).click();
    await page.getByRole("radio", { name: "Gross traffic" }).check();
    await page.keyboard.press("Escape");
    check(new URL(page.url()).searchParams.get("traffic") === "gross", page.url());
    await page.waitForFunction(() => document.querySelector('.tile[data-metric="reach"] .tag') !== null);
    await settle(page);
    const names = ["impressions", "clicks", "spend", "revenue", "ctr", "cpa", "roas"];
    const gross = await api.ask({ metrics: names.map((name) => `gross_${name}`), time: { range } });
    const tiles = await tileTexts(page);
    const { currency } = gross.meta;
    for (const [at, name] of names.entries()) {
      equal(tiles[name], exact(name, gross.rows[0][at], currency), `gross ${name}`);
    }
    const rows = await api.ask({ metrics: ["gross_spend"], dimensions: ["campaign_id"], time: { range },
      order: ["-gross_spend"], limit: 50 });
    const shown = await page.locator('.breakdown tbody td[data-metric="spend"]').allInnerTexts();
    equal(shown, rows.rows.map((row) => full("spend", row[1], currency)), "the breakdown");
    const note = await page.locator('[data-type="funnel"] .card-note').innerText();
    check(/no gross figure: .*Wins/.test(note), note);
    return page;
  },

  async "invalid traffic by reason is the API's"({ browser, base, api, key }) {
    const { range, query } = await closedRange(api);
    const page = await open(browser, base, { query, key });
    await settle(page);
    const { reasons } = await api.get(`v1/campaigns/all/invalid_traffic?from=${range[0]}&to=${range[1]}`);
    const widget = page.locator('[data-type="invalid_traffic"]');
    const names = [...new Set(reasons.map((one) => one.reason))];
    const rows = widget.locator("[data-reason]");
    equal((await rows.evaluateAll((all) => all.map((one) => one.dataset.reason))).sort(), names.sort(), "reasons");
    for (const name of names) {
      const events = (kind) => reasons.find((one) => one.reason === name && one.kind === kind)?.events ?? 0;
      const cells = await widget.locator(`[data-reason="${name}"] td`).allInnerTexts();
      const wanted = ["impression", "click", "conversion", "refund"].map((kind) => events(kind).toLocaleString("en-US"));
      equal(cells.slice(0, 4), wanted, name);
    }
    if (names.length > 0) {
      const sums = await widget.locator("tfoot td").allInnerTexts();
      const refunds = reasons.filter((one) => one.kind === "refund").reduce((sum, one) => sum + one.events, 0);
      equal(sums[3], refunds.toLocaleString("en-US"), "refunds have no share of gross");
      check(/of gross/.test(sums[0]), sums[0]);
    }
    return page;
  },

  async "the quality of the data is the API's"({ browser, base, api, key }) {
    const page = await open(browser, base, { key });
    await settle(page);
    const widget = page.locator('[data-type="quality"]');
    const { expectations } = await api.get("v1/quality");
    const shown = await widget.locator("[data-expectation]").evaluateAll((all) =>
      all.map((one) => `${one.dataset.expectation} ${one.dataset.status}`).sort());
    equal(shown, expectations.map((one) => `${one.expectation} ${one.status}`).sort(), "expectations");
    const bad = expectations.filter((one) => one.status !== "pass").length;
    if (expectations.length === 0) {
      check(/Nothing was checked/.test(await widget.innerText()), "nothing was checked");
    } else {
      const sum = bad === 0 ? `All ${expectations.length} expectations are met` :
        `${bad} of ${expectations.length} are not met`;
      equal(await widget.locator("[data-quality]").innerText(), sum, "the sum");
    }
    return page;
  },
};

export const mockTests = {
  async "an alarm is silenced and acknowledged, and what is refused is drawn"({ browser, signIn }) {
    const page = await open(browser, signIn.base, { key: "analyst-key" });
    await settle(page);
    await openFirst(page);
    const widget = alarmsOf(page);
    await widget.getByLabel("Why it is silenced").fill("refuse this");
    await widget.getByRole("button", { name: "Silence", exact: true }).click();
    await widget.getByRole("alert").getByText("It was not done: at most 1000 characters").waitFor();
    equal(await axe(page), [], "what axe finds beside an error");
    await widget.getByLabel("Why it is silenced").fill("the site is being moved");
    await widget.getByLabel("For how long").selectOption("1 day");
    await widget.getByRole("button", { name: "Silence", exact: true }).focus();
    await page.keyboard.press("Enter");
    await widget.getByText("Silenced until").waitFor();
    await widget.getByRole("button", { name: "Acknowledge" }).click();
    await widget.getByText("Ana Lyst looks after it").first().waitFor();
    check(await widget.getByRole("button", { name: "Acknowledged" }).isDisabled(), "it is acknowledged once");
    check(/You look after this alarm/.test(await page.locator(".announcer").innerText()), "it is said aloud");
    return page;
  },

  async "an advertiser sees its alarms, and has no buttons"({ browser, signIn }) {
    const page = await open(browser, signIn.base, { key: "advertiser-key" });
    await settle(page);
    equal(await alarmsOf(page).locator("[data-alarm]").count(), 1, "alarms of its campaigns");
    await openFirst(page);
    equal(await alarmsOf(page).locator(".alarm-actions").count(), 0, "buttons");
    check(/No permission/.test(await page.locator('[data-type="quality"]').innerText()), "quality is for others");
    return page;
  },

  async "the history lists what is over, and filters of campaigns apply to it"({ browser, base }) {
    const page = await open(browser, base);
    await settle(page);
    await alarmsOf(page).getByRole("button", { name: "History" }).click();
    const list = alarmsOf(page).getByRole("region", { name: "Past alarms" });
    await list.waitFor();
    equal(await list.locator("[data-trouble]").count(), 6, "alarms");
    check(/Ana Lyst looks after it/.test(await list.innerText()), "who looked after it");
    for (const theme of ["light", "dark"]) {
      const other = await open(browser, base, { theme, query: "?campaign_id=c-401" });
      await settle(other);
      await alarmsOf(other).getByRole("button", { name: "History" }).click();
      await alarmsOf(other).getByRole("region", { name: "Past alarms" }).waitFor();
      equal(await alarmsOf(other).locator("[data-trouble]").count(), 4, "those that concern no campaign");
      equal(await axe(other), [], `what axe finds in the history, ${theme}`);
      await other.context().close();
    }
    return page;
  },

  async "a filter of an advertiser concerns the alarms of its campaigns"({ browser, base, api }) {
    const { campaigns } = await api.get("v1/campaigns?limit=1000");
    const own = campaigns.find((one) => one.campaign_id === "c-101").advertiser_id;
    const other = campaigns.find((one) => one.advertiser_id !== own).advertiser_id;
    for (const [advertiser, count] of [[own, 6], [other, 4]]) {
      const page = await open(browser, base, { query: `?advertiser_id=${advertiser}` });
      await settle(page);
      await alarmsOf(page).getByRole("button", { name: "History" }).click();
      const list = alarmsOf(page).getByRole("region", { name: "Past alarms" });
      await list.waitFor();
      equal(await list.locator("[data-trouble]").count(), count, advertiser);
    }
  },

  async "the alarm of further groups says why, and cannot be acted on"({ browser, base }) {
    const page = await open(browser, base);
    await settle(page);
    const alarm = alarmsOf(page).locator("[data-alarm]").filter({ hasText: "further groups" });
    check(/35 further groups beside/.test(await alarm.locator(".alarm-title + small").innerText()), "why");
    await alarm.locator(".alarm-head").click();
    await alarm.getByText("There is no series of this alarm.").waitFor();
    equal(await alarm.locator(".alarm-actions").count(), 0, "buttons");
    equal(await axe(page), [], "what axe finds in it");
    return page;
  },

  async "an answer that takes longer than a refresh arrives"({ browser, base }) {
    const page = await open(browser, base);
    await settle(page);
    // The page asks for alarms every ten seconds.
    await page.route("**/v1/alarms/history?like=*", async (route) => {
      await new Promise((resolve) => setTimeout(resolve, 12_000));
      await route.continue().catch(() => {});
    });
    await alarmsOf(page).locator(".alarm-head").first().click();
    await alarmsOf(page).locator(".alarm-past").waitFor({ timeout: 20_000 });
    return page;
  },

  async "widgets by campaign do not answer for the unknown one, and pacing says that it is net"({ browser, base }) {
    const page = await open(browser, base, { query: "?campaign_id=~&traffic=gross" });
    await settle(page);
    for (const type of ["invalid_traffic", "time_to_conversion"]) {
      const widget = page.locator(`[data-type="${type}"]`);
      equal(await widget.locator(".state-title").innerText(), "Unknown campaign", type);
      equal(await widget.locator("table, .chart").count(), 0, `figures of ${type}`);
    }
    const note = await page.locator('[data-type="pacing"] .card-note').innerText();
    check(/Spend is net here/.test(note), note);
    return page;
  },

  async "a tip of a mark stays on a phone's screen"({ browser, base }) {
    const page = await open(browser, base, { size: "phone" });
    await settle(page);
    for (const mark of await page.locator(".alarm-mark").all()) {
      await mark.focus();
      const box = await page.locator(".alarm-tip").boundingBox();
      check(box.x >= 0 && box.x + box.width <= 390, JSON.stringify(box));
    }
    return page;
  },
};
