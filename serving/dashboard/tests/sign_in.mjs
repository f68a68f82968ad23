/**
 * Signing in, against a server that asks for it: with a key of an advertiser, and with the name and the password of an
 * analyst.
 */
import { axe } from "./axe.mjs";
import { check, equal, open, settle } from "./browser.mjs";

/** Opens the form for one way of signing in. */
async function form(page, label) {
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
  const other = page.getByRole("button", { name: label === "API key" ? "Use an API key" : "Use a name" });
  await page.getByRole("button", { name: /instead/ }).waitFor();
  if (await other.count()) await other.click();
  await page.getByLabel(label).waitFor();
}

async function signOut(page) {
  await page.getByRole("button", { name: "Account", exact: true }).click();
  await page.getByRole("button", { name: "Sign out" }).click();
  await page.getByRole("heading", { name: "Sign in" }).waitFor();
}

export const tests = {
  async "a key signs in, and the page keeps nothing of it"({ browser, signIn }) {
    const page = await open(browser, signIn.base);
    await form(page, "API key");
    await page.getByLabel("API key").fill("wrong-key");
    await page.getByRole("button", { name: "Sign in" }).click();
    await page.getByText("The server does not know this key").waitFor();
    await page.getByLabel("API key").fill(signIn.key);
    await page.getByRole("button", { name: "Sign in" }).click();
    await settle(page);
    check(!page.url().includes("key"), page.url());
    check(/Only administrators/.test(await page.locator('[data-type="dead_letters"]').innerText()), "no dead letters");
    const stored = await page.evaluate(() =>
      JSON.stringify([{ ...localStorage }, { ...sessionStorage }, document.cookie]),
    );
    check(!stored.includes(signIn.key) && !stored.includes("adlake_session"), `scripts can read ${stored}`);
    const [cookie] = (await page.context().cookies()).filter((one) => one.name.includes("adlake"));
    check(cookie.httpOnly && cookie.sameSite === "Strict", JSON.stringify(cookie));
    check(cookie.secure === signIn.base.startsWith("https:"), JSON.stringify(cookie));
    await page.reload();
    await settle(page);
    await signOut(page);
    await page.reload();
    await page.getByRole("heading", { name: "Sign in" }).waitFor();
    // What was signed out is out, also for somebody who has kept the cookie.
    await page.context().addCookies([cookie]);
    const again = await page.context().request.get(new URL("v1/whoami", signIn.base).href);
    check(signIn.isMock || again.status() === 401, `the session goes on: ${again.status()}`);
    return page;
  },

  async "a name and a password sign in, with the keyboard only"({ browser, signIn }) {
    const page = await open(browser, signIn.base);
    await form(page, "Name");
    equal(await axe(page), [], "what axe finds in the form");
    await page.getByLabel("Name").fill(signIn.name);
    await page.getByLabel("Password").fill("not the password");
    await page.keyboard.press("Enter");
    await page.getByText("The name or the password is wrong").waitFor();
    await page.getByLabel("Password").fill(signIn.password);
    await page.keyboard.press("Enter");
    await settle(page);
    await page.getByRole("button", { name: "Account", exact: true }).click();
    await page.getByText("analyst ·").waitFor();
    return page;
  },

  async "another site cannot use a session"({ browser, signIn }) {
    const page = await open(browser, signIn.base, { key: signIn.key });
    await settle(page);
    const url = new URL("v1/query", signIn.base).href;
    const ask = (origin) =>
      page.context().request.post(url, { data: { metrics: ["clicks"] }, headers: { origin } });
    const own = await ask(new URL(signIn.base).origin);
    check(own.status() === 200, `own page: ${own.status()}`);
    const foreign = await ask("https://evil.example.com");
    check(signIn.isMock || foreign.status() === 403, `another site: ${foreign.status()}`);
    return page;
  },
};
