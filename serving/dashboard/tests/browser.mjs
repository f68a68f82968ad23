/** Starts Chromium, opens the page, and notes everything that goes wrong in it. */
import { chromium } from "playwright-core";

export const SIZES = { desktop: [1440, 900], tablet: [820, 1180], phone: [390, 844] };

/** What the browser says about each request that is refused. Tests of such states expect it. */
const REFUSED = /Failed to load resource/;

export async function launch() {
  return chromium.launch({
    executablePath: process.env.CHROMIUM ?? "/usr/bin/chromium",
    args: ["--no-sandbox", "--disable-gpu", "--force-color-profile=srgb"],
  });
}

/**
 * A page whose problems are collected in `page.problems`: violations of the CSP, errors of
 * scripts, messages on the console.
 */
export async function open(browser, base, { query = "", size = "desktop", theme = "light", key, isCalm = true } = {}) {
  const [width, height] = SIZES[size];
  const context = await browser.newContext({
    viewport: { width, height },
    colorScheme: theme,
    locale: "en-US",
    timezoneId: "America/New_York",
    reducedMotion: isCalm ? "reduce" : "no-preference",
    acceptDownloads: true,
    ignoreHTTPSErrors: true,
    permissions: ["clipboard-read", "clipboard-write"],
  });
  const page = await context.newPage();
  page.setDefaultTimeout(60_000);
  page.problems = [];
  page.refusals = [];
  page.on("pageerror", (error) => page.problems.push(`error: ${error.stack}`));
  page.on("console", (message) => {
    if (message.type() !== "error" && message.type() !== "warning") return;
    (REFUSED.test(message.text()) ? page.refusals : page.problems).push(`console: ${message.text()}`);
  });
  await page.exposeFunction("noteViolation", (text) => page.problems.push(`CSP: ${text}`));
  await page.addInitScript(() => {
    addEventListener("securitypolicyviolation", (event) => {
      const { violatedDirective, blockedURI, sourceFile, lineNumber } = event;
      globalThis.noteViolation(`${violatedDirective} ${blockedURI} ${sourceFile}:${lineNumber}`);
    });
  });
  if (key) await context.request.post(new URL("v1/session", base).href, { data: { key } });
  await page.goto(new URL(query, base).href);
  return page;
}

/** Waits until every widget shows figures or a state. */
export async function settle(page) {
  await page.waitForSelector(".grid .card");
  await page.waitForFunction(() => document.querySelector(".skeleton, .tile-wait, [aria-busy=true]") === null);
  await page.waitForFunction(() =>
    [...document.querySelectorAll(".chart")].every((chart) => chart.querySelector("svg")),
  );
}

/** Fails with the two values if they are not the same. */
export function equal(actual, expected, what) {
  const [a, b] = [JSON.stringify(actual), JSON.stringify(expected)];
  if (a !== b) throw new Error(`${what}: ${a}, expected ${b}`);
}

export function check(isTrue, what) {
  if (!isTrue) throw new Error(what);
}
