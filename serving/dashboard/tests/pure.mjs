/** The parts that need no page: arrangements, ranges, addresses, pacing, CSV, the stream's text. */
import { fileURLToPath } from "node:url";
import { build } from "esbuild";
import { equal } from "./browser.mjs";

/** Bundles the modules under test, since they are TypeScript. */
async function load() {
  const modules = ["grid/layout", "state/range", "state/days", "state/url", "state/view", "data/pacing", "format/csv",
    "api/events"];
  const result = await build({
    stdin: {
      contents: modules.map((name) => `export * from "./src/${name}";`).join("\n"),
      resolveDir: fileURLToPath(new URL("..", import.meta.url)),
    },
    bundle: true,
    format: "esm",
    write: false,
  });
  return import(`data:text/javascript,${encodeURIComponent(result.outputFiles[0].text)}`);
}

const page = await load();

function campaign(budget, start, end) {
  return { campaign_id: "c", name: "C", budget, start_date: start, end_date: end };
}

export const tests = {
  "a range means days up to and with the last one"() {
    const today = "2026-03-08";
    const cases = [
      ["today", ["2026-03-08", "2026-03-09"]],
      ["yesterday", ["2026-03-07", "2026-03-08"]],
      ["last_7_days", ["2026-03-02", "2026-03-09"]],
      ["this_month", ["2026-03-01", "2026-03-09"]],
      ["last_month", ["2026-02-01", "2026-03-01"]],
      [{ from: "2026-01-30", to: "2026-01-31" }, ["2026-01-30", "2026-02-01"]],
    ];
    for (const [choice, expected] of cases) equal(page.resolveRange(choice, today), expected, JSON.stringify(choice));
    for (const text of ["2026-02-30x..", "2026-03-02..2026-03-01", "soon"]) equal(page.parseRange(text), null, text);
  },

  "a day begins when its zone says so, also when the clocks change"() {
    const cases = [
      ["2026-03-29", "Europe/Berlin", "2026-03-28T23:00:00.000Z"],
      ["2026-03-30", "Europe/Berlin", "2026-03-29T22:00:00.000Z"],
      ["2026-03-30", "UTC", "2026-03-30T00:00:00.000Z"],
    ];
    for (const [day, zone, expected] of cases) {
      equal(page.startOfDay(day, zone).toISOString(), expected, `${day} ${zone}`);
    }
  },

  "an address gives back the view that it was made of"() {
    const view = {
      ...page.DEFAULT_VIEW,
      range: { from: "2026-01-01", to: "2026-01-31" },
      compare: null,
      model: "linear",
      filters: { website: ["~odd, & site"], country: ["DE", null] },
      layout: page.parseLayout("tile.spend:2x2~breakdown.website.delivery:12x6"),
    };
    const query = new URLSearchParams(page.printView(view).toString());
    equal(page.parseView(query, page.DEFAULT_VIEW), view, "the view");
    equal(page.printView(page.DEFAULT_VIEW).toString(), "", "the usual view has a plain address");
    const broken = new URLSearchParams("range=never&compare=x&model=y&layout=%%%&theme=pink");
    equal(page.parseView(broken, page.DEFAULT_VIEW), page.DEFAULT_VIEW, "what means nothing is ignored");
  },

  "widgets keep their least size, and stay in the list"() {
    const layout = page.parseLayout("tile.spend:2x2~pacing:4x6~funnel:4x6");
    equal(page.printLayout(page.resize(layout, 1, 0, 99)), "tile.spend:2x2~pacing:3x16~funnel:4x6", "resized");
    equal(page.printLayout(page.move(layout, 0, 99)), "pacing:4x6~funnel:4x6~tile.spend:2x2", "moved to the end");
    equal(page.printLayout(page.move(layout, 2, -1)), "funnel:4x6~tile.spend:2x2~pacing:4x6", "moved to the beginning");
    equal(page.parseLayout(page.printLayout([])), [], "no widgets");
    equal(page.printLayout(page.parseLayout("unknown:2x2~funnel:4x6")), "funnel:4x6", "an unknown widget");
  },

  "pacing is good between 90% and 110%, and tells the end"() {
    // Ten days, five of them over: half of the budget should be spent.
    const now = new Date("2026-03-06T00:00:00Z");
    const pace = (spent) => page.paceOf(campaign("1000.000000", "2026-03-01", "2026-03-10"), spent, now, "UTC");
    for (const [spent, state] of [["449", "behind"], ["451", "on"], ["549", "on"], ["551", "ahead"]]) {
      equal(pace(spent).state, state, spent);
    }
    equal(pace("500").projected, 1000, "projected spend");
    equal(pace("500").runsOut, null, "the budget lasts");
    equal(pace("1000").runsOut.toISOString(), "2026-03-06T00:00:00.000Z", "the budget is used up now");
    equal(page.paceOf(campaign(null, "2026-03-01", "2026-03-10"), "1", now, "UTC"), null, "no budget");
    equal(page.paceOf(campaign("1", "2026-02-01", "2026-02-10"), "1", now, "UTC"), null, "ended");
    equal(page.paceOf(campaign("1", "2026-04-01", "2026-04-10"), "1", now, "UTC"), null, "not begun");
  },

  "cells of the CSV are no formulas"() {
    const cases = [["=1+1", "'=1+1"], ["+49", "'+49"], ["-x", "'-x"], ["@a", "'@a"], ["\tb", "'\tb"],
      ["\rc", "\"'\rc\""], ["a,b", '"a,b"'], ['say "x"', '"say ""x"""'], ["plain", "plain"], ["a=b", "a=b"]];
    for (const [text, expected] of cases) equal(page.csvCell(text), expected, JSON.stringify(text));
  },

  "events of a stream are read however the text is cut"() {
    const text =
      ": hello\n\nid: 1\ndata: {\"a\":\ndata: 1}\n\nevent: answer\r\nid: 2\r\ndata: x\r\n\r\nid: 3\ndata: not yet";
    const expected = [
      { id: "1", name: "message", data: '{"a":\n1}' },
      { id: "2", name: "answer", data: "x" },
    ];
    for (let size = 1; size <= text.length; size++) {
      const parser = new page.EventParser();
      const events = [];
      for (let at = 0; at < text.length; at += size) events.push(...parser.push(text.slice(at, at + size)));
      equal(events, expected, `by ${size} characters`);
    }
  },
};
