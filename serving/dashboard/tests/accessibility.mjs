/** axe over the page at three sizes, in both themes, with its panels open and while it is edited. */
import { axe } from "./axe.mjs";
import { check, open, settle, SIZES } from "./browser.mjs";

async function expectNothing(page, what) {
  const violations = await axe(page);
  check(violations.length === 0, `${what}:\n${violations.join("\n")}`);
}

export const tests = {
  async "axe finds nothing"({ browser, base, key }) {
    for (const size of Object.keys(SIZES)) {
      for (const theme of ["light", "dark"]) {
        const page = await open(browser, base, { size, theme, key });
        await settle(page);
        await expectNothing(page, `${size}, ${theme}`);
        check(page.problems.length === 0, page.problems.join("\n"));
        await page.context().close();
      }
    }
  },

  async "axe finds nothing in panels, tables, and while the page is edited"({ browser, base, key }) {
    for (const theme of ["light", "dark"]) {
      const page = await open(browser, base, { theme, key });
      await settle(page);
      for (const name of [/^Date range/, /^Campaigns/, "Saved views", "Account"]) {
        await page.getByRole("button", { name, exact: true }).click();
        await expectNothing(page, `${name}, ${theme}`);
        await page.keyboard.press("Escape");
      }
      const toTable = page.getByRole("button", { name: "Show as table" });
      while ((await toTable.count()) > 0) await toTable.first().click();
      await page.locator(".breakdown tbody tr").first().locator(".row-filter").click();
      await page.waitForSelector(".chip");
      await settle(page);
      await page.locator(".tile").first().hover();
      await expectNothing(page, `tables and chips, ${theme}`);
      await page.getByRole("button", { name: "Customize" }).click();
      await expectNothing(page, `edited, ${theme}`);
      await page.context().close();
    }
  },

  async "nothing is wider than the screen"({ browser, base, key }) {
    for (const size of Object.keys(SIZES)) {
      const page = await open(browser, base, { size, key });
      await settle(page);
      const [scroll, client] = await page.evaluate(() => [
        document.documentElement.scrollWidth,
        document.documentElement.clientWidth,
      ]);
      check(scroll <= client, `${size}: ${scroll} > ${client}`);
      await page.context().close();
    }
  },

  async "the skip link leads to the figures"({ browser, base, key }) {
    const page = await open(browser, base, { key });
    await settle(page);
    await page.keyboard.press("Tab");
    check(/Skip/.test(await page.evaluate(() => document.activeElement.textContent)), "the skip link is first");
    await page.keyboard.press("Enter");
    check(await page.evaluate(() => document.activeElement.id === "main"), "the focus is in the figures");
    return page;
  },
};
