// End-to-end checks with the `@anthropic-ai/sdk` Node SDK against Seaway. Started by node_sdk.py, which says where everything is.
import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";
import { check, equal, raises, run, true_ } from "./checks.mjs";

const { SDK, SANDBOX, SCRIPTED, UPSTREAM, LOCAL_KEY, UPSTREAM_KEY } = process.env;
const Anthropic = createRequire(`${SDK}/package.json`)("@anthropic-ai/sdk").default;
const MODEL = "claude-opus-5-5";
const TOOLS = [["get_weather", "city"], ["get_time", "zone"]].map(([name, key]) => ({
  name, description: name, input_schema: { type: "object", properties: { [key]: { type: "string" } }, required: [key] },
}));

const client = (options = {}) => new Anthropic({ baseURL: SANDBOX, apiKey: LOCAL_KEY, authToken: null, maxRetries: 0, timeout: 20_000, ...options });
const ask = (text, more = {}) => ({ model: MODEL, max_tokens: 500, messages: [{ role: "user", content: text }], ...more });
const say = (text, more) => client().messages.create(ask(text, more));
const streamed = (text, more) => client().messages.stream(ask(text, more)).finalMessage();

async function collect(stream) {
  const events = [];
  for await (const event of stream) events.push(event);
  return events;
}
/** A message without what differs from request to request. */
function plain({ role, model, content, stop_reason, stop_sequence }) {
  const blocks = content.map(({ id, parsed_output, ...rest }) => rest);
  return JSON.parse(JSON.stringify({ role, model, content: blocks, stop_reason, stop_sequence }));
}

// ---------------------------------------------------------------- answers
check("a message comes back whole, with usage and request id", async () => {
  const message = await say("hello there, wörld 🐙");
  equal("text", message.content[0].text, "hello there, wörld 🐙");
  equal("shape", [message.type, message.role, message.model, message.stop_reason], ["message", "assistant", MODEL, "end_turn"]);
  true_("usage", message.usage.input_tokens > 0 && message.usage.output_tokens > 0, message.usage);
  true_("request id", message._request_id, message._request_id);
});
check("twenty at once get each their own answer", async () => {
  const answers = await Promise.all([...Array(20).keys()].map((n) => say(`number ${n} [[slow 50ms]]`)));
  equal("answers", answers.map((message) => message.content[0].text), [...Array(20).keys()].map((n) => `number ${n}`));
});
check("the stream helper gives text in pieces and the final message", async () => {
  const pieces = [];
  const stream = client().messages.stream(ask("[[say one two three four five six seven]]")).on("text", (text) => pieces.push(text));
  const message = await stream.finalMessage();
  equal("pieces", pieces, ["one two thre", "e four five ", "six seven"]);
  equal("final", [message.content[0].text, message.stop_reason], ["one two three four five six seven", "end_turn"]);
  true_("request id", stream.request_id, stream.request_id);
});
check("a raw stream has every event in order", async () => {
  const events = await collect(await say("[[say 123456789012345678901234567890]]", { stream: true }));
  equal("events", events.map((event) => event.type), ["message_start", "content_block_start", ...Array(3).fill("content_block_delta"), "content_block_stop", "message_delta", "message_stop"]);
  equal("pieces", events.filter((event) => event.delta?.text).map((event) => event.delta.text), ["123456789012", "345678901234", "567890"]);
});
check("a stream of a million characters arrives uncorrupted", async () => {
  const message = await streamed("[[repeat 100000 0123456789]]", { model: "sandbox-opus-1", max_tokens: 900000 });
  equal("equal", message.content[0].text === "0123456789".repeat(100000), true);
});
check("the first words arrive before the upstream has written the last", async () => {
  const texts = [];
  for await (const event of await client({ baseURL: SCRIPTED }).messages.create(ask("GATE", { stream: true }))) {
    if (event.type !== "content_block_delta") continue;
    texts.push(event.delta.text);
    if (texts.length === 1) await fetch(`${UPSTREAM}/release`, { method: "POST" });
  }
  equal("texts", texts, ["first ", "last"]);
});
check("a stream and a whole answer say the same: text, thinking, redacted thinking, tools, citations, unknown blocks", async () => {
  const scripts = ["plain words", "[[think hm, let me see]] [[say so]]", "[[redacted]] [[say so]]", "[[cite the sky is blue]]", '[[tool get_time {"zone":"CET"}]]',
    "[[say one]] [[say two]]", "[[refuse]]", "[[stop pause_turn]] wait", '[[block {"type":"brand_new","x":{"y":[1,2.5]}}]] [[say so]]'];
  for (const script of scripts) equal(script, plain(await streamed(script, { tools: TOOLS })), plain(await say(script, { tools: TOOLS })));
});

// ---------------------------------------------------------------- tools
check("two parallel tools are called, answered, and the answers used, in a whole loop", async () => {
  const messages = [{ role: "user", content: '[[tool get_weather {"city":"Paris"}]] [[tool get_time {"zone":"CET"}]]' }];
  const first = await client().messages.stream({ model: MODEL, max_tokens: 500, tools: TOOLS, messages }).finalMessage();
  const calls = first.content.filter((block) => block.type === "tool_use");
  equal("stop reason", first.stop_reason, "tool_use");
  equal("calls", calls.map(({ name, input }) => [name, input]), [["get_weather", { city: "Paris" }], ["get_time", { zone: "CET" }]]);
  equal("ids differ", new Set(calls.map((call) => call.id)).size, 2);
  messages.push({ role: "assistant", content: first.content });
  messages.push({ role: "user", content: calls.map((call) => ({ type: "tool_result", tool_use_id: call.id, content: `${call.name} done` })) });
  const last = await client().messages.create({ model: MODEL, max_tokens: 500, tools: TOOLS, messages });
  equal("answer", [last.stop_reason, last.content[0].text], ["end_turn", "The tool answered: get_weather done; get_time done"]);
});
check("tool arguments with brackets, quotes, numbers and other scripts survive", async () => {
  const given = { city: 'a"]]\\ é漢🐙', deep: [[1, 2.5], { x: null }] };
  for (const message of [await streamed(`[[tool get_weather ${JSON.stringify(given)}]]`, { tools: TOOLS }), await say(`[[tool get_weather ${JSON.stringify(given)}]]`, { tools: TOOLS })])
    equal("input", message.content.at(-1).input, given);
});
check("the SDK's tool runner gets through its loop by the beta route", async () => {
  const asked = [];
  const tool = { ...TOOLS[0], run: ({ city }) => (asked.push(city), `rain in ${city}`), parse: (input) => input };
  const message = await client().beta.messages.toolRunner(ask('[[tool get_weather {"city":"Oslo"}]]', { tools: [tool] }));
  equal("answer", message.content[0].text, "The tool answered: rain in Oslo");
  equal("the tool was run for", asked, ["Oslo"]);
});

// ---------------------------------------------------------------- kinds of answers
check("a thinking block has its signature and can be sent back", async () => {
  const thinking = { type: "adaptive" };
  const message = await streamed("[[think first this, then that]] [[say done]]", { max_tokens: 2000, thinking });
  equal("blocks", message.content.map((block) => block.type), ["thinking", "text"]);
  equal("thought", message.content[0].thinking, "first this, then that");
  true_("signature", message.content[0].signature.length > 10, message.content[0]);
  const messages = [{ role: "user", content: "x" }, { role: "assistant", content: message.content }, { role: "user", content: "next" }];
  equal("next turn", (await client().messages.create({ model: MODEL, max_tokens: 2000, thinking, messages })).content[0].text, "next");
});
check("a citation arrives with its place, streamed too", async () => {
  for (const message of [await say("[[cite the sky is blue]]"), await streamed("[[cite the sky is blue]]")]) {
    const [cited] = message.content[0].citations;
    equal("citation", [cited.type, cited.cited_text, cited.start_char_index, cited.end_char_index], ["char_location", "the sky is blue", 0, 15]);
  }
});
check("an answer stops by refusal, max_tokens or stop sequence, and says so", async () => {
  for (const get of [say, streamed]) {
    equal("refusal", (await get("[[refuse]]")).stop_reason, "refusal");
    const cut = await get("[[repeat 100 word]]", { max_tokens: 5 });
    equal("max_tokens", [cut.stop_reason, cut.usage.output_tokens, cut.content[0].text], ["max_tokens", 5, "word".repeat(5)]);
    const stopped = await get("one END two", { stop_sequences: ["END"] });
    equal("stop sequence", [stopped.stop_reason, stopped.stop_sequence, stopped.content[0].text], ["stop_sequence", "END", "one "]);
  }
});
check("tokens are counted, more for more", async () => {
  const count = async (text) => (await client().messages.countTokens({ model: MODEL, messages: [{ role: "user", content: text }] })).input_tokens;
  const [few, many] = [await count("hi"), await count("hi ".repeat(1000))];
  true_("0 < few < many - 500", 0 < few && few < many - 500, [few, many]);
});

// ---------------------------------------------------------------- models
check("models are listed, page by page the same as at once, and found by id", async () => {
  const listed = await client().models.list();
  const ids = listed.data.map((model) => model.id);
  true_("sandbox models", ids.length >= 3 && ids.includes("sandbox-opus-1"), ids);
  const page = await client().models.list({ limit: 1 });
  equal("first page", [page.data.length, page.hasNextPage()], [1, true]);
  equal("paged", (await collect(page)).map((model) => model.id), ids);
  equal("one", (await client().models.retrieve("sandbox-haiku-1")).id, "sandbox-haiku-1");
  const error = await raises(Anthropic.NotFoundError, client().models.retrieve("no-such-model"));
  true_("request id", error.requestID, error.requestID);
});

// ---------------------------------------------------------------- errors
const ERRORS = [[400, "BadRequestError", "invalid_request_error"], [401, "AuthenticationError", "authentication_error"], [402, "PaymentRequiredError", "billing_error"],
  [403, "PermissionDeniedError", "permission_error"], [404, "NotFoundError", "not_found_error"], [409, "ConflictError", "invalid_request_error"],
  [413, "ContentTooLargeError", "request_too_large"], [422, "UnprocessableEntityError", "invalid_request_error"], [429, "RateLimitError", "rate_limit_error"],
  [500, "InternalServerError", "api_error"], [503, "ServiceUnavailableError", "api_error"], [504, "GatewayTimeoutError", "timeout_error"], [529, "OverloadedError", "overloaded_error"]];
for (const [status, kind, type] of ERRORS)
  check(`an upstream's ${status} is ${kind}, streamed or not`, async () => {
    for (const stream of [false, true]) {
      const error = await raises(undefined, say(`[[error ${status} ${type} words of the upstream]]`, { stream }));
      equal("class", error.constructor.name, kind);
      equal("status, type, words", [error.status, error.error.error.type, error.error.error.message], [status, type, "words of the upstream"]);
      true_("request id", error.requestID, error.requestID);
    }
  });
check("a wrong local key is AuthenticationError, in either header", async () => {
  for (const options of [{ apiKey: "sk-wrong" }, { apiKey: null, authToken: "sk-wrong" }]) {
    const error = await raises(Anthropic.AuthenticationError, client(options).messages.create(ask("x")));
    equal("type and x-should-retry", [error.error.error.type, error.headers.get("x-should-retry")], ["authentication_error", "false"]);
    true_("request id", error.requestID, error.requestID);
  }
});
check("the key is taken as x-api-key and as a bearer, under / and under /anthropic", async () => {
  for (const baseURL of [SANDBOX, `${SANDBOX}/`, `${SANDBOX}/anthropic`])
    for (const options of [{}, { apiKey: null, authToken: LOCAL_KEY }, { apiKey: "sk-other", defaultHeaders: { "x-api-key": LOCAL_KEY } }])
      equal(baseURL, (await client({ baseURL, ...options }).messages.create(ask("in"))).content[0].text, "in");
});
check("a body past the limit is 413, and the client serves on", async () => {
  const its = client();
  const error = await raises(undefined, its.messages.create(ask("x".repeat(2_000_000))));
  equal("status and type", [error.status, error.error?.error?.type], [413, "request_too_large"]);
  equal("afterwards", (await its.messages.create(ask("still there"))).content[0].text, "still there");
});

// ---------------------------------------------------------------- retries and broken answers
check("two 529 are overcome by two retries and not by one, a 429 by one", async () => {
  const script = (rest) => ask(`fine ${randomUUID()} ${rest}`);
  true_("529", (await client({ maxRetries: 2 }).messages.create(script("[[error 529]] [[times 2]]"))).content[0].text.startsWith("fine"));
  equal("one retry", (await raises(undefined, client({ maxRetries: 1 }).messages.create(script("[[error 529]] [[times 2]]")))).status, 529);
  true_("429", (await client({ maxRetries: 1 }).messages.create(script("[[error 429]] [[header retry-after: 1]] [[times 1]]"))).content[0].text.startsWith("fine"));
  equal("retry-after", (await raises(Anthropic.RateLimitError, say("[[error 429]] [[header retry-after: 1]]"))).headers.get("retry-after"), "1");
});
check("a stream that is cut raises and never looks complete, wherever it is cut", async () => {
  for (const place of [1, 200, 400, 600, 800, 1000, 1200])
    for (const pace of ["", "[[pace 2ms]]"]) {
      const events = [];
      const error = await raises(undefined, (async () => {
        for await (const event of await say(`[[say one two three four five six seven]] [[cut ${place}]] ${pace}`, { stream: true })) events.push(event.type);
        return events;
      })());
      // Before the first event is whole nothing has begun: that is told with a status.
      equal(`status of a cut at ${place} ${pace}`, error.status, place <= 400 ? 502 : undefined);
      true_("no end was seen", !events.includes("message_stop"), events);
      await raises(undefined, streamed(`[[say one two three four five six seven]] [[cut ${place}]] ${pace}`));
    }
});
check("a whole answer that is cut raises", async () => {
  // The SDK lets its fetch's own error through once the head has come.
  await raises(undefined, say("[[cut 100]] [[say some words]]"));
});
check("what an upstream sends right before it breaks off reaches the client", async () => {
  for (const [name, baseURL] of [["without the gateway", UPSTREAM], ["through the gateway", SCRIPTED]])
    for (let turn = 0; turn < 10; turn++) {
      let came = "";
      await raises(undefined, (async () => {
        for await (const event of await client({ baseURL }).messages.create(ask("BREAK", { stream: true }))) came += event.delta?.text ?? "";
        return came;
      })());
      equal(`words before the break ${name}`, came, "first ");
    }
});
check("an error event in a stream raises with its type", async () => {
  for (const script of ["[[error-event overloaded_error Overloaded]]", "[[error-first overloaded_error Overloaded]]"]) {
    const error = await raises(undefined, streamed(`words ${script}`));
    true_("type and words", /overloaded_error/.test(error.message) && /Overloaded/.test(error.message), error.message);
  }
  equal("whole", (await raises(undefined, say("words [[error-event overloaded_error Overloaded]]"))).status, 529);
});
check("no credential of the client's goes upstream", async () => {
  const requests = async () => (await fetch(`${UPSTREAM}/requests`, { method: "POST" })).json();
  const before = (await requests()).length;
  for (const options of [{}, { apiKey: null, authToken: LOCAL_KEY }]) await client({ baseURL: SCRIPTED, ...options }).messages.create(ask("x"));
  const seen = (await requests()).slice(before);
  equal("number of requests", seen.length, 2);
  equal("keys", [...new Set(seen.map(({ headers }) => headers["x-api-key"]))], [UPSTREAM_KEY]);
  true_("no local key", !JSON.stringify(seen).includes(LOCAL_KEY), seen.at(-1).headers);
  true_("user-agent", seen.every(({ headers }) => /^Anthropic\/JS .* seaway\//.test(headers["user-agent"])), seen.at(-1).headers);
});

await run();
