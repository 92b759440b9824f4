// What comes from the gateway becomes text in nodes, never markup.

import { plot, short } from "/dashboard/plot.js";

const $ = (id) => document.getElementById(id);
const state = { key: null, model: "sonnet", texts: new Map(), source: null, usage: null, sign: null, made: null };

function make(name, { text, className, ...more } = {}, ...children) {
  const node = document.createElement(name);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  Object.assign(node, more);
  node.append(...children);
  return node;
}

async function ask(path, options = {}) {
  const body = options.body === undefined ? {} : { method: "POST", body: JSON.stringify(options.body), headers: { "content-type": "application/json" } };
  const response = await fetch(path, { cache: "no-store", ...body });
  const answer = await response.json().catch(() => ({}));
  if (response.status === 401 && !path.endsWith("sign-in")) locked();
  if (!response.ok) throw new Error(answer.error?.message ?? `the gateway answers ${response.status}`);
  return answer;
}

function say(text) {
  $("trouble").hidden = !text;
  $("trouble").textContent = text;
}

async function attempt(work) {
  try {
    say("");
    return await work();
  } catch (error) {
    say(error.message);
  }
}

// ---------------------------------------------------------------- the door
function locked() {
  state.source?.close();
  state.source = null;
  $("gateway").hidden = true;
  $("sign-out").hidden = true;
  $("door").hidden = false;
  $("state").textContent = "not signed in";
  $("key").focus();
}

async function enter() {
  const door = await ask("/dashboard/door").catch(() => null);
  if (!door) return void setTimeout(enter, 3000);
  if (!door.open) return locked();
  const told = await ask("/dashboard/connect").catch(() => null);
  if (!told) return locked();
  $("door").hidden = true;
  $("gateway").hidden = false;
  $("sign-out").hidden = told.keyless;
  connectLines(told);
  watch();
  await attempt(showUsage);
  await showKeys().catch(() => { $("keys-card").hidden = true; });
}

/** A link that signs in once has its ticket behind the `#`; it stays out of the address and of the history. */
async function arrive() {
  const ticket = new URLSearchParams(location.hash.slice(1)).get("in");
  if (ticket) {
    history.replaceState(null, "", location.pathname + location.search);
    const door = await ask("/dashboard/door").catch(() => null);
    if (door && !door.open) await ask("/dashboard/sign-in", { body: { ticket } }).catch((error) => ($("refused").textContent = error.message));
  }
  await enter();
}

$("sign-in").addEventListener("submit", async (event) => {
  event.preventDefault();
  $("refused").textContent = "";
  try {
    await ask("/dashboard/sign-in", { body: { key: $("key").value } });
    // For this tab alone: the cookie does not know it.
    sessionStorage.setItem("key", $("key").value.trim());
    $("key").value = "";
    await enter();
  } catch (error) {
    $("refused").textContent = error.message;
  }
});

$("sign-out").addEventListener("click", async () => {
  await attempt(() => ask("/dashboard/sign-out", { body: {} }));
  sessionStorage.removeItem("key");
  $("new-done").click();
  locked();
});

// ---------------------------------------------------------------- what to paste
function connectLines(told) {
  Object.assign(state, { key: told.keyless ? "any" : sessionStorage.getItem("key"), model: told.model });
  $("address").textContent = location.origin;
  $("key-row").hidden = told.keyless;
  $("show-key").hidden = document.querySelector('[data-copy="key"]').hidden = state.key === null;
  $("shown-key").textContent = state.key === null ? "`seaway key show` prints it" : "••••••••";
  const fill = (text, key) => text.replaceAll("<url>", location.origin).replaceAll("<port>", location.port || (location.protocol === "https:" ? "443" : "80")).replaceAll("<model>", told.model).replaceAll("<key>", key);
  const secret = state.key ?? "$(seaway key show)";
  state.texts = new Map([
    ["anthropic SDKs, Claude Code", `export ANTHROPIC_BASE_URL=<url> ANTHROPIC_API_KEY=<key>`],
    ["openai SDKs", `export OPENAI_BASE_URL=<url>/v1 OPENAI_API_KEY=<key>`],
    ...told.clients.map(({ name, text }) => [name, text]),
    ...told.others.map(({ name, text }) => [name, text]),
  ].map(([name, text]) => [name, { shown: fill(text, told.keyless ? "any" : state.key === null ? secret : "••••••••"), whole: fill(text, secret) }]));
  $("client").replaceChildren(...[...state.texts.keys()].map((name) => make("option", { text: name, value: name })));
  showLines();
}

function showLines() {
  $("lines").textContent = state.texts.get($("client").value)?.shown ?? "";
}
$("client").addEventListener("change", showLines);

$("show-key").addEventListener("click", () => {
  const shown = $("show-key").textContent === "Hide";
  $("shown-key").textContent = shown ? "••••••••" : state.key;
  $("show-key").textContent = shown ? "Show" : "Hide";
});

for (const button of document.querySelectorAll(".copy")) {
  button.addEventListener("click", async () => {
    const text = { address: location.origin, key: state.key, lines: state.texts.get($("client").value)?.whole, new: state.made }[button.dataset.copy] ?? "";
    const before = button.textContent;
    try {
      await navigator.clipboard.writeText(text);
      button.textContent = "Copied";
    } catch {
      // Without TLS a browser has no clipboard for other machines' pages.
      button.textContent = "Not allowed here";
    }
    setTimeout(() => { button.textContent = before; }, 1500);
  });
}

// ---------------------------------------------------------------- what goes on
function watch() {
  state.source?.close();
  state.source = new EventSource("/dashboard/live");
  state.source.addEventListener("live", (event) => showLive(JSON.parse(event.data)));
  state.source.addEventListener("gateway", (event) => showGateway(JSON.parse(event.data)));
  state.source.addEventListener("error", async () => {
    $("state").textContent = "the gateway does not answer; trying again …";
    // A browser gives up by itself where the answer is no stream.
    if (state.source?.readyState === EventSource.CLOSED) setTimeout(enter, 3000);
  });
}

const time = (milliseconds) => (milliseconds === null || milliseconds === undefined ? "–" : milliseconds < 10_000 ? (milliseconds / 1000).toFixed(2) + " s" : Math.round(milliseconds / 1000) + " s");

function row(one) {
  const running = one.outcome === undefined;
  const bad = !running && one.outcome !== "completed";
  const cells = [
    ["", one.model || "…"], [running ? "" : bad ? "bad" : "good", running ? "under way" : bad ? `${one.outcome} ${one.status || ""}` : "completed"],
    ["n", (running && one.tokens ? "≈ " : "") + short(one.tokens)], ["n", time(one.firstByte)], ["n", time(one.elapsed)], ["", one.caller], ["", one.upstream ?? "–"],
  ];
  return make("tr", { className: running ? "running" : "", title: `${one.dialect} ${one.endpoint}, ${one.id}` }, ...cells.map(([className, text]) => make("td", { className, text })));
}

function showLive({ running, ended }) {
  $("live-count").textContent = running.length ? `${running.length} under way` : "";
  $("live").tBodies[0].replaceChildren(...running.map(row), ...ended.map(row));
  $("live").hidden = $("live-none").hidden = false;
  $("live").hidden = running.length + ended.length === 0;
  $("live-none").hidden = !$("live").hidden;
}

function item(title, badge, kind, ...lines) {
  const head = make("div", { className: "split" }, make("strong", { text: title }), make("span", { className: `badge ${kind}`, text: badge }));
  return make("li", {}, head, ...lines.filter(Boolean).map((line) => (typeof line === "string" ? make("p", { text: line }) : line)));
}

const clock = (seconds) => new Date(seconds * 1000).toLocaleTimeString();

function tunnelLine(tunnel) {
  if (!tunnel) return null;
  const parts = [`tunnel ${tunnel.name}: ${tunnel.up ? "up" : "not up"}`];
  if (tunnel.host) parts.push(`to ${tunnel.host}`);
  if (tunnel.master) parts.push(`held by ssh ${tunnel.master}`);
  if (tunnel.lockout) parts.push(tunnel.lockout === "locked" ? "ssh is locked out until `seaway unlock`" : `ssh rests until ${tunnel.lockedUntil ? clock(tunnel.lockedUntil) : "later"}`);
  if (tunnel.why) parts.push(tunnel.why);
  return parts.join(", ");
}

function showGateway({ health, sessions, workers, program }) {
  const hours = Math.floor(health.uptime / 3600);
  $("state").textContent = `${health.status}, version ${health.version}, up ${hours ? hours + " h " : ""}${Math.floor((health.uptime % 3600) / 60)} min`;
  $("state").className = health.status === "ok" ? "good" : "bad";
  $("upstreams").replaceChildren(...health.upstreams.map((one) => {
    const kind = one.ready ? (one.trouble ? "warn" : "good") : "bad";
    const trouble = one.trouble ? `last trouble: ${one.trouble.message ?? one.trouble.why ?? JSON.stringify(one.trouble)}` : null;
    return item(one.name, one.ready ? (one.trouble ? "ready, with trouble" : "ready") : "not ready", kind, one.simulated ? "simulated: it answers by a script" : null, one.why, trouble, tunnelLine(one.tunnel));
  }));
  if (!health.upstreams.length) $("upstreams").replaceChildren(item("none", "not ready", "bad", "Set ANTHROPIC_API_KEY, install Claude Code, or configure an [upstream.NAME]; then start Seaway again."));
  $("workers").replaceChildren(
    item("All", `${health.inFlight} under way`, health.queue ? "warn" : "good", health.queue ? `${health.queue} wait for a place` : "nobody waits"),
    ...workers.map((one) => item(one.upstream, `${one.inside} of ${one.most}`, one.waiting ? "warn" : "good", one.waiting ? `${one.waiting} wait` : null,
      one.children ? `${one.children.kept} processes keep a conversation, ${one.children.spare} spare` : null)));
  $("sessions-card").hidden = !program;
  $("sessions").replaceChildren(...sessions.map((one) => {
    const close = make("button", { type: "button", text: "Close" });
    close.addEventListener("click", () => attempt(() => ask("/dashboard/sessions/close", { body: { owner: one.owner, id: one.id } })).then(() => close.closest("li")?.remove()));
    const holds = one.holds ? `holds ${one.holds} tool calls open, ` : "";
    return item(one.id, `${one.turns} turns`, "good", `${one.model}, ${one.owner}, ${holds}idle for ${one.idle} s`, close);
  }));
  if (!sessions.length) $("sessions").replaceChildren(make("li", { className: "quiet", text: "No conversation is kept warm." }));
  $("login").hidden = !program;
  if (program && state.sign === null) {
    state.sign = {};
    attempt(showLogin);
  }
}

// ---------------------------------------------------------------- the plan's login
async function showLogin() {
  const told = await ask("/dashboard/auth/status");
  state.sign = told;
  const who = [told.email, told.organization, told.subscription].filter(Boolean).join(", ");
  $("login-state").textContent = told.loggedIn ? `Signed in${who ? ` as ${who}` : ""}, Claude Code ${told.version}.` : (told.why ?? "Not signed in.");
  $("login-state").className = told.loggedIn ? "good" : "bad";
  $("login-begin").hidden = told.loggedIn || !told.installed;
  $("login-leave").hidden = !told.loggedIn;
}

$("login-begin").addEventListener("click", () => attempt(async () => {
  $("login-said").textContent = "starting the program …";
  const begun = await ask("/dashboard/auth/login", { body: {} }).finally(() => { $("login-said").textContent = ""; });
  // Only addresses: the program's words become a link.
  if (!/^https?:/.test(begun.url)) throw new Error(`the program gave no address: ${begun.url}`);
  $("login-url").href = begun.url;
  $("login-code").dataset.id = begun.id;
  $("login-code").hidden = false;
  $("code").focus();
}));

$("login-code").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const done = ask(`/dashboard/auth/login/${encodeURIComponent($("login-code").dataset.id)}`, { body: { code: $("code").value } });
    $("login-code").hidden = true;
    $("code").value = "";
    await done;
    $("login-said").textContent = "Signed in.";
    await showLogin();
  });
});

$("login-leave").addEventListener("click", () => attempt(async () => {
  if (!confirm("Sign the Claude Code program out of its plan on this machine?")) return;
  await ask("/dashboard/auth/logout", { body: {} });
  $("login-said").textContent = "Signed out.";
  await showLogin();
}));

// ---------------------------------------------------------------- keys that are given out; the owner alone is told of them
const dollars = (micros) => "$" + (micros / 1e6).toFixed(2);
const periods = { day: "today", week: "this week", month: "this month", total: "altogether" };

function bar({ period, spent_micros: spent, amount_micros: amount }) {
  const text = `${dollars(spent)} of ${dollars(amount)} ${periods[period]}`;
  const meter = make("meter", { min: 0, max: Math.max(amount, 1), low: amount * 0.75, high: amount * 0.95, optimum: 0, value: spent, title: text });
  meter.setAttribute("aria-label", text);
  return [text, meter];
}

async function showKeys() {
  const { keys } = await ask("/dashboard/keys");
  $("keys-card").hidden = $("sums-card").hidden = false;
  const shown = keys.filter((one) => one.state !== "revoked").slice(0, 200);
  $("keys").replaceChildren(...shown.map((one) => {
    const revoke = make("button", { type: "button", text: "Revoke" });
    revoke.addEventListener("click", () => attempt(async () => {
      if (!confirm(`Take the key of ${one.name} back, for good? Whoever uses it is refused at once.`)) return;
      await ask(`/dashboard/keys/${encodeURIComponent(one.name)}/revoke`, { body: {} });
      await showKeys();
    }));
    const used = one.last_used ? `last used ${new Date(one.last_used).toLocaleString()}` : "not used yet";
    const about = [one.team && `team ${one.team}`, one.models?.length && one.models.join(", "), used].filter(Boolean).join(", ");
    return item(one.name, one.state, one.state === "active" ? "good" : "bad", about, ...one.budgets.flatMap(bar), one.state === "active" && !one.configured ? revoke : null);
  }));
  if (!shown.length) $("keys").append(make("li", { className: "quiet", text: "None is out." }));
  if (keys.length > shown.length) $("keys").append(make("li", { className: "quiet", text: "`seaway key list --all` shows those that were revoked, and all beyond the first 200." }));
}

$("key-form").addEventListener("submit", (event) => {
  event.preventDefault();
  attempt(async () => {
    const [name, amount] = [$("key-name").value.trim(), $("key-amount").value.trim()];
    const budgets = amount ? [`${amount}/${$("key-period").value}`] : undefined;
    const made = await ask("/dashboard/keys", { body: { name, budgets } });
    state.made = made.key;
    $("new-name").textContent = name;
    $("new-secret").textContent = made.key;
    $("new-key").hidden = false;
    $("key-name").value = $("key-amount").value = "";
    await showKeys();
  });
});

$("new-done").addEventListener("click", () => {
  state.made = null;
  $("new-secret").textContent = "";
  $("new-key").hidden = true;
});

// ---------------------------------------------------------------- usage
function draw() {
  if (state.usage) plot($("plot"), $("legend"), state.usage.rows, state.usage.days, $("measure").value);
}
addEventListener("resize", draw);

async function showUsage() {
  const days = Number($("days").value);
  const { rows } = await ask(`/dashboard/usage?days=${days}`);
  state.usage = { rows, days };
  draw();
  const money = (cost) => (cost === null ? "–" : "$" + cost.toFixed(4));
  $("figures").tBodies[0].replaceChildren(...rows.toReversed().map(({ row: one, cost }) => make("tr", {}, ...[
    ["", one.day], ["", one.model], ["", one.caller], ["n", one.requests], ["n", one.failed], ["n", one.input], ["n", one.output], ["n", one.cache_read + one.cache_write], ["n", money(cost) + (cost !== null && one.unpriced ? " +" : "")],
  ].map(([className, text]) => make("td", { className, text })))));
}
/** What the client's program told of a session. */
function told(telemetry) {
  const round = (value) => Math.round(value * 1000) / 1000;
  return Object.entries(telemetry ?? {}).map(([name, value]) => `${name.replace(/^claude_code\./, "")} ${round(value)}`).join(", ");
}
/** The dearest first; who told no name is one row. */
async function showSums() {
  const { usage } = await ask(`/dashboard/usage-by?by=${$("by").value}&since=${$("days").value}d`);
  const rows = usage.toSorted((one, other) => other.cost_micros - one.cost_micros).slice(0, 200);
  $("sums").tBodies[0].replaceChildren(...rows.map((one) => make("tr", {}, ...[
    ["", one.name || "–", told(one.telemetry)], ["n", one.requests], ["n", one.failed], ["n", one.input], ["n", one.output], ["n", one.cache_read + one.cache_write], ["n", "$" + (one.cost_micros / 1e6).toFixed(4) + (one.unpriced ? " +" : "")],
  ].map(([className, text, more]) => make("td", { className, text }, ...(more ? [make("small", { text: more })] : []))))));
}
$("by").addEventListener("change", () => attempt(showSums));
$("sums-card").addEventListener("toggle", () => { if ($("sums-card").open) attempt(showSums); });

$("measure").addEventListener("change", draw);
$("days").addEventListener("change", () => attempt(showUsage).then(() => $("sums-card").open && attempt(showSums)));
// Quietly: what a person was told before stays to be read.
setInterval(() => { if (state.source && !document.hidden) showUsage().then(() => $("keys-card").hidden || showKeys()).catch(() => {}); }, 60_000);
// A tab that nobody looks at asks nothing.
document.addEventListener("visibilitychange", () => {
  if (document.hidden) {
    state.source?.close();
  } else if (state.source) {
    watch();
  }
});

arrive();
