// The dashboard in a browser. Started by dashboard.py, which says where everything is.
import { createRequire } from "node:module";
import { check, equal, run, true_ } from "./checks.mjs";

const { SDK, GATEWAY, CHROMIUM, PICTURES, LOCAL_KEY, LINK } = process.env;
const { chromium } = createRequire(`${SDK}/package.json`)("playwright-core");
const browser = await chromium.launch({
  executablePath: CHROMIUM,
  args: ["--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking", "--disable-component-update", "--disable-sync"],
});
const headers = { "x-api-key": LOCAL_KEY, "content-type": "application/json" };
const message = (model, content, more = {}) => fetch(`${GATEWAY}/v1/messages`, { method: "POST", headers, body: JSON.stringify({ model, max_tokens: 500, messages: [{ role: "user", content }], ...more }) });
const complaints = [];

/** A page whose every complaint counts. */
async function open(options = {}, signedIn = true) {
  const context = await browser.newContext({ viewport: { width: 1280, height: 1100 }, permissions: ["clipboard-read", "clipboard-write"], ...options });
  const page = await context.newPage();
  page.on("console", (said) => ["error", "warning"].includes(said.type()) && complaints.push(said.text()));
  page.on("pageerror", (error) => complaints.push(String(error)));
  page.on("request", (request) => new URL(request.url()).origin === GATEWAY || complaints.push(`asked elsewhere: ${request.url()}`));
  page.on("dialog", (dialog) => dialog.accept());
  await page.goto(GATEWAY);
  if (signedIn) {
    await page.fill("#key", LOCAL_KEY);
    await page.click("#sign-in button");
    await page.waitForSelector("#gateway:not([hidden])");
    await page.waitForSelector("#upstreams li");
  }
  return page;
}
const text = (page, selector) => page.locator(selector).innerText();

check("signing in: a wrong key is refused, the right one is remembered, and signing out ends it", async () => {
  const page = await open({}, false);
  await page.waitForSelector("#door:not([hidden])");
  equal("complaints of a page that is not signed in", complaints, []);
  await page.fill("#key", "wrong");
  await page.click("#sign-in button");
  await page.waitForFunction(() => document.getElementById("refused").textContent.includes("seaway key show"));
  equal("a browser logs the refusal", complaints.splice(0).length, 1);
  await page.fill("#key", LOCAL_KEY);
  await page.click("#sign-in button");
  await page.waitForSelector("#gateway:not([hidden])");
  const [cookie] = await page.context().cookies();
  equal("cookie", [cookie.name, cookie.httpOnly, cookie.sameSite, cookie.path], [`seaway-${new URL(GATEWAY).port}`, true, "Strict", "/dashboard"]);
  await page.reload();
  await page.waitForSelector("#gateway:not([hidden])");
  await page.click("#sign-out");
  await page.waitForSelector("#door:not([hidden])");
  await page.reload();
  await page.waitForSelector("#door:not([hidden])");
  await page.context().close();
});
check("the link that the program prints signs in once, and its ticket stays in no address", async () => {
  const context = await browser.newContext();
  const page = await context.newPage();
  await page.goto(LINK);
  await page.waitForSelector("#gateway:not([hidden])");
  equal("address", page.url(), `${GATEWAY}/`);
  await page.reload();
  await page.waitForSelector("#gateway:not([hidden])");
  await context.close();
  const stranger = await (await browser.newContext()).newPage();
  await stranger.goto(LINK);
  await stranger.waitForFunction(() => document.getElementById("refused").textContent.includes("this link was used"));
  equal("its address too", stranger.url(), `${GATEWAY}/`);
  await stranger.context().close();
});
check("the cookie opens nothing but the dashboard, and changes nothing from elsewhere", async () => {
  const signed = await fetch(`${GATEWAY}/dashboard/sign-in`, { method: "POST", headers: { origin: GATEWAY }, body: JSON.stringify({ key: LOCAL_KEY }) });
  const cookie = signed.headers.get("set-cookie").split(";")[0];
  const status = async (path, options) => (await fetch(GATEWAY + path, { ...options, headers: { cookie, ...options?.headers } })).status;
  equal("usage", await status("/dashboard/usage"), 200);
  equal("an API", await status("/v1/models"), 401);
  equal("another door", await status("/v1/messages", { method: "POST", body: "{}", headers: { origin: GATEWAY } }), 401);
  const close = { method: "POST", body: JSON.stringify({ owner: "default", id: "x" }) };
  equal("without an origin", await status("/dashboard/sessions/close", close), 401);
  equal("from elsewhere", await status("/dashboard/sessions/close", { ...close, headers: { origin: "http://evil.example" } }), 403);
  equal("from the page", await status("/dashboard/sessions/close", { ...close, headers: { origin: GATEWAY } }), 404);
  equal("without a cookie", (await fetch(`${GATEWAY}/dashboard/live`)).status, 401);
  const page = await fetch(GATEWAY, { headers: { accept: "text/html" } });
  const policy = page.headers.get("content-security-policy");
  true_("policy", policy.includes("default-src 'none'") && policy.includes("frame-ancestors 'none'") && !policy.includes("unsafe"), policy);
  equal("for programs", (await (await fetch(GATEWAY, { headers })).json()).name, "seaway");
});
check("a request is seen while it is under way, and after it", async () => {
  const page = await open();
  const asked = message("claude-opus-4-8", "[[pace 150ms]] [[say one two three four five six seven eight nine ten eleven twelve thirteen fourteen fifteen]]", { stream: true }).then((answer) => answer.text());
  const running = page.locator("#live tr.running");
  await running.waitFor();
  true_("its model", (await running.innerText()).includes("claude-opus-4-8"), await running.innerText());
  await page.waitForFunction(() => /≈ \d/.test(document.querySelector("#live tr.running")?.innerText ?? ""));
  await page.screenshot({ path: `${PICTURES}/live.png`, fullPage: true });
  await asked;
  await running.waitFor({ state: "detached" });
  const first = await page.locator("#live tbody tr").first().innerText();
  true_("completed", first.includes("completed") && first.includes("claude-opus-4-8"), first);
  await message("claude-opus-4-8", "[[error 529 overloaded_error Overloaded]]");
  await page.waitForFunction(() => document.querySelector("#live tbody tr").innerText.includes("faulted 529"));
  await page.context().close();
});
check("what comes from outside is text and nothing else", async () => {
  const page = await open();
  await message("<img src=x onerror=alert(1)>", "hi");
  await page.waitForFunction(() => document.querySelector("#live tbody").innerText.includes("<img src=x"));
  equal("pictures in the table", await page.locator("#live img").count(), 0);
  await page.selectOption("#days", "7");
  await page.click("summary");
  await page.waitForFunction(() => document.querySelector("#figures tbody").innerText.includes("<img src=x"));
  equal("pictures", await page.locator("main img").count(), 0);
  await page.context().close();
});
check("keys: the owner gives one out, copies it once, sees its budget used, and takes it back", async () => {
  const page = await open();
  await page.waitForSelector("#keys-card:not([hidden])");
  await page.fill("#key-name", "anna");
  await page.fill("#key-amount", "0.20");
  await page.selectOption("#key-period", "day");
  await page.click("#key-form button");
  await page.waitForSelector("#new-key:not([hidden])");
  const key = await text(page, "#new-secret");
  true_("a key", /^sk-seaway-[\w-]{43}$/.test(key), key);
  await page.click('[data-copy="new"]');
  equal("what was copied", await page.evaluate(() => navigator.clipboard.readText()), key);
  await page.click("#new-done");
  equal("shown once", [await page.locator("#new-key").isVisible(), (await page.content()).includes(key)], [false, false]);
  const row = page.locator("#keys li", { hasText: "anna" });
  true_("its budget", (await row.innerText()).includes("$0.00 of $0.20 today"), await row.innerText());
  const asked = await fetch(`${GATEWAY}/v1/messages`, { method: "POST", headers: { ...headers, "x-api-key": key }, body: JSON.stringify({ model: "claude-opus-4-8", max_tokens: 2500, messages: [{ role: "user", content: `[[say ${"word ".repeat(900)}]]` }] }) });
  equal("its bearer is answered", [asked.status, (await asked.text()).includes("word")], [200, true]);
  await page.reload();
  await page.waitForFunction(() => /\$0\.0[1-9] of \$0\.20 today/.test(document.getElementById("keys").innerText));
  true_("a bar that is used", (await row.locator("meter").evaluate((bar) => bar.value / bar.max)) > 0.05, "");
  await page.screenshot({ path: `${PICTURES}/keys.png`, fullPage: true });
  await page.fill("#key-name", "anna");
  await page.click("#key-form button");
  await page.waitForFunction(() => document.getElementById("trouble").textContent.includes("is there already"));
  equal("a browser logs the refusal", complaints.splice(0).length, 1);
  await row.locator("button").click();
  await row.waitFor({ state: "detached" });
  const late = await fetch(`${GATEWAY}/v1/models`, { headers: { "x-api-key": key } });
  equal("revoked", late.status, 401);
  await page.context().close();
});
check("a program's sign-in: the owner approves it with the dashboard's cookie, a stranger with a key", async () => {
  const begin = async () => (await fetch(`${GATEWAY}/oauth/device_authorization`, { method: "POST", headers: { "user-agent": "claude-code/<b>9" }, body: new URLSearchParams({ surface: "claude_code" }) })).json();
  const token = async (device_code) => (await fetch(`${GATEWAY}/oauth/token`, { method: "POST", body: new URLSearchParams({ grant_type: "urn:ietf:params:oauth:grant-type:device_code", device_code }) })).json();
  const page = await open();
  let begun = await begin();
  await page.goto(begun.verification_uri_complete);
  equal("the code", await page.inputValue("#code"), begun.user_code);
  true_("the program as text", (await text(page, "main")).includes("claude-code/<b>9"), await text(page, "main"));
  await page.screenshot({ path: `${PICTURES}/device.png` });
  await page.click('button[value="approve"]');
  await page.waitForFunction(() => document.body.innerText.includes("signed in as `default`"));
  true_("its token", /^sk-seaway-in-/.test((await token(begun.device_code)).access_token), "");
  await page.context().close();
  const stranger = await open({}, false);
  begun = await begin();
  await stranger.goto(begun.verification_uri);
  await stranger.fill("#code", begun.user_code.toLowerCase());
  await stranger.fill("#key", LOCAL_KEY);
  await stranger.click('button[value="deny"]');
  await stranger.waitForFunction(() => document.body.innerText.includes("Denied"));
  equal("denied", (await token(begun.device_code)).error, "access_denied");
  await stranger.context().close();
});
check("usage is a plot with the figures behind it", async () => {
  const page = await open();
  for (const measure of ["requests", "tokens", "cost"]) {
    await page.selectOption("#measure", measure);
    await page.waitForSelector(`#plot svg[aria-label="${measure} by day and model"] rect`);
  }
  true_("legend", (await text(page, "#legend")).includes("claude-opus-4-8"), await text(page, "#legend"));
  await page.click("summary");
  true_("figures", await page.locator("#figures tbody tr").count() > 0);
  await page.context().close();
});
check("usage by session is there for the owner", async () => {
  const page = await open();
  await fetch(`${GATEWAY}/v1/messages`, { method: "POST", headers: { ...headers, "x-claude-code-session-id": "session-of-the-check" }, body: JSON.stringify({ model: "claude-opus-4-8", max_tokens: 50, messages: [{ role: "user", content: "[[say hi]]" }] }) });
  await page.click("#sums-card summary");
  await page.waitForFunction(() => document.querySelector("#sums tbody").innerText.includes("default") === false && document.querySelectorAll("#sums tbody tr").length > 0);
  await page.selectOption("#by", "key");
  await page.waitForFunction(() => document.querySelector("#sums tbody").innerText.includes("default"));
  await page.selectOption("#by", "session");
  await page.waitForFunction(() => document.querySelector("#sums tbody").innerText.includes("session-of-the-check"));
  await page.context().close();
});
check("lines to paste are copied with the key that is not shown", async () => {
  const page = await open();
  equal("address", await text(page, "#address"), GATEWAY);
  true_("hidden", !(await text(page, "#lines")).includes(LOCAL_KEY));
  await page.click('button[data-copy="lines"]');
  equal("copied", await page.evaluate(() => navigator.clipboard.readText()), `export ANTHROPIC_BASE_URL=${GATEWAY} ANTHROPIC_API_KEY=${LOCAL_KEY}`);
  await page.selectOption("#client", "sillytavern");
  true_("SillyTavern", (await text(page, "#lines")).includes(`${GATEWAY}/v1`), await text(page, "#lines"));
  await page.click("#show-key");
  equal("key", await text(page, "#shown-key"), LOCAL_KEY);
  await page.context().close();
});
check("a plan is signed in to, its session is closed, and it is signed out of", async () => {
  const page = await open();
  await page.waitForFunction(() => document.getElementById("login-state").textContent.includes("not signed in"));
  await page.click("#login-begin");
  await page.waitForSelector("#login-code:not([hidden])");
  equal("the program's address", await page.getAttribute("#login-url", "href"), "https://claude.example/oauth?code=true&state=s");
  await page.screenshot({ path: `${PICTURES}/login.png`, fullPage: true });
  await page.fill("#code", "wrong-code");
  await page.click("#login-code button");
  await page.waitForFunction(() => !document.getElementById("trouble").hidden);
  true_("why", (await text(page, "#trouble")).includes("the code is wrong"), await text(page, "#trouble"));
  equal("a browser logs the refusal", complaints.splice(0).length, 1);
  await page.click("#login-begin");
  await page.waitForSelector("#login-code:not([hidden])");
  await page.fill("#code", "good-code");
  await page.click("#login-code button");
  await page.waitForFunction(() => document.getElementById("login-state").textContent.startsWith("Signed in"));
  equal("an answer", (await message("claude-sonnet-5-5", "hi")).status, 200);
  const session = page.locator("#sessions li", { hasText: "claude-sonnet-5-5" });
  await session.waitFor();
  await session.getByRole("button", { name: "Close" }).click();
  await page.waitForFunction(() => document.getElementById("sessions").innerText.includes("No conversation"));
  await page.click("#login-leave");
  await page.waitForFunction(() => document.getElementById("login-state").textContent.includes("not signed in"));
  await page.context().close();
});
check("it is readable in the light, in the dark, and on a phone", async () => {
  for (const [name, options] of [["light", { colorScheme: "light" }], ["dark", { colorScheme: "dark" }], ["phone", { viewport: { width: 400, height: 800 }, colorScheme: "light" }], ["phone-dark", { viewport: { width: 400, height: 800 }, colorScheme: "dark" }]]) {
    const page = await open(options);
    await page.waitForSelector("#plot svg");
    const wide = await page.evaluate(() => document.documentElement.scrollWidth - document.documentElement.clientWidth);
    equal(`${name}: nothing sticks out`, wide, 0);
    const contrast = await page.evaluate(() => {
      const light = (color) => { const [r, g, b] = color.match(/[\d.]+/g).map((part) => { const value = part / 255; return value <= 0.04 ? value / 12.92 : ((value + 0.055) / 1.055) ** 2.4; }); return 0.2126 * r + 0.7152 * g + 0.0722 * b; };
      const ratio = (one, two) => { const [high, low] = [light(one), light(two)].sort((a, b) => b - a); return (high + 0.05) / (low + 0.05); };
      const ground = (node) => { for (; node; node = node.parentElement) { const color = getComputedStyle(node).backgroundColor; if (!/, 0\)$|transparent/.test(color) && color.startsWith("rgb(")) return color; } return "rgb(255, 255, 255)"; };
      return Math.min(...[...document.querySelectorAll("h2, p, label, td, th, dt, .badge, summary, a, button")].filter((node) => node.offsetParent && node.textContent.trim()).map((node) => ratio(getComputedStyle(node).color, ground(node))));
    });
    true_(`${name}: text stands out`, contrast >= 4.5, contrast);
    await page.screenshot({ path: `${PICTURES}/${name}.png`, fullPage: true });
    await page.context().close();
  }
});
check("no page complained, and none asked anybody else", async () => {
  equal("complaints", complaints, []);
});

await run();
