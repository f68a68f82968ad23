/** Pictures of the page: `node tests/screenshots.mjs BASE FOLDER [KEY]`, at three sizes in both themes. */
import { mkdirSync } from "node:fs";
import { join } from "node:path";
import { launch, open, settle, SIZES } from "./browser.mjs";

const [base = "http://127.0.0.1:8090/", folder = "screenshots", key, only = ""] = process.argv.slice(2);
mkdirSync(folder, { recursive: true });
const browser = await launch();
try {
  for (const size of Object.keys(SIZES)) {
    for (const theme of ["light", "dark"]) {
      if (!`${size}-${theme}`.includes(only)) continue;
      const page = await open(browser, base, { size, theme, key });
      await settle(page);
      await page.waitForTimeout(500);
      await page.screenshot({ path: join(folder, `${size}-${theme}.png`) });
      await page.screenshot({ path: join(folder, `${size}-${theme}-whole.png`), fullPage: true });
      if (page.problems.length > 0) console.log(size, theme, page.problems);
      await page.context().close();
    }
  }
} finally {
  await browser.close();
}
