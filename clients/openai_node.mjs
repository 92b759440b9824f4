// End-to-end checks with the `openai` Node SDK and Vercel's AI SDK against Seaway's Chat and Responses surfaces. Started by openai_node.py, which says where everything is.
import { createRequire } from "node:module";
import { randomUUID } from "node:crypto";
import { check, equal, raises, run, true_ } from "./checks.mjs";

const { SDK, SANDBOX, SCRIPTED, UPSTREAM, LOCAL_KEY } = process.env;
const load = createRequire(`${SDK}/package.json`);
const OpenAI = load("openai").default;
const { zodResponseFormat, zodTextFormat } = load("openai/helpers/zod");
const { z } = load("zod");
const MODEL = "claude-opus-5-5";
const TOOLS = [["get_weather", "city"], ["get_time", "zone"]].map(([name, key]) => ({
  type: "function", function: { name, description: name, parameters: { type: "object", properties: { [key]: { type: "string" } }, required: [key] } },
}));
const client = (options = {}) => new OpenAI({ baseURL: `${SANDBOX}/v1`, apiKey: LOCAL_KEY, maxRetries: 0, timeout: 20_000, ...options });
const ask = (content, more = {}) => ({ model: MODEL, messages: [{ role: "user", content }], ...more });
const say = (content, more) => client().chat.completions.create(ask(content, more));

// ---------------------------------------------------------------- the openai SDK
check("a completion comes back whole, with usage and request id", async () => {
  const completion = await say("hello there, wörld 🐙");
  equal("text", completion.choices[0].message.content, "hello there, wörld 🐙");
  true_("usage", completion.usage.total_tokens > 1, completion.usage);
  true_("request id", completion._request_id, completion._request_id);
});
check("twenty at once get each their own answer", async () => {
  const answers = await Promise.all([...Array(20).keys()].map((n) => say(`number ${n} [[slow 50ms]]`)));
  equal("answers", answers.map((completion) => completion.choices[0].message.content), [...Array(20).keys()].map((n) => `number ${n}`));
});
check("the stream helper gives text in pieces, the final completion and its usage", async () => {
  const pieces = [];
  const stream = client().chat.completions.stream(ask("[[say one two three four five six seven]]", { stream_options: { include_usage: true } }));
  stream.on("content", (delta) => pieces.push(delta));
  const completion = await stream.finalChatCompletion();
  true_("several pieces", pieces.length > 2, pieces);
  equal("joined", pieces.join(""), "one two three four five six seven");
  equal("final", completion.choices[0].message.content, "one two three four five six seven");
  true_("usage", (await stream.totalUsage()).completion_tokens > 0);
});
check("the first words arrive before the upstream has written the last", async () => {
  const texts = [];
  for await (const chunk of await client({ baseURL: `${SCRIPTED}/v1` }).chat.completions.create(ask("GATE", { stream: true }))) {
    const text = chunk.choices[0]?.delta?.content;
    if (!text) continue;
    texts.push(text);
    if (texts.length === 1) await fetch(`${UPSTREAM}/release`, { method: "POST" });
  }
  equal("texts", texts, ["first ", "last"]);
});
check("the SDK's tool runner gets through its loop, streamed and not", async () => {
  for (const stream of [false, true]) {
    const asked = [];
    const tool = { type: "function", function: { name: "get_weather", description: "w", parse: JSON.parse, parameters: TOOLS[0].function.parameters, function: ({ city }) => { asked.push(city); return `rain in ${city}`; } } };
    const runner = client().chat.completions.runTools(ask('[[tool get_weather {"city":"Oslo"}]]', { stream, tools: [tool] }));
    equal("answer", await runner.finalContent(), "The tool answered: rain in Oslo");
    equal("the tool was run for", asked, ["Oslo"]);
  }
});
check("two parallel calls stream with their own ids and arguments", async () => {
  const given = { city: 'a"]]\\ é漢🐙', deep: [[1, 2.5], { x: null }] };
  const completion = await client().chat.completions.stream(ask(`[[tool get_weather ${JSON.stringify(given)}]] [[tool get_time {"zone":"CET"}]]`, { tools: TOOLS })).finalChatCompletion();
  const calls = completion.choices[0].message.tool_calls;
  equal("arguments", calls.map((call) => JSON.parse(call.function.arguments)), [given, { zone: "CET" }]);
  equal("ids differ", new Set(calls.map((call) => call.id)).size, 2);
  equal("finish", completion.choices[0].finish_reason, "tool_calls");
});
check("`.parse` gives an instance of a Zod schema", async () => {
  const schema = z.object({ name: z.string(), age: z.number().int(), tags: z.array(z.string()) });
  const completion = await client().chat.completions.parse(ask("who?", { response_format: zodResponseFormat(schema, "person") }));
  const { name, tags } = completion.choices[0].message.parsed;
  equal("types", [typeof name, Array.isArray(tags)], ["string", true]);
});
check("errors are the SDK's own, in the upstream's words", async () => {
  for (const [status, kind, name, seen] of [[400, "invalid_request_error", "BadRequestError", 400], [404, "not_found_error", "NotFoundError", 404], [429, "rate_limit_error", "RateLimitError", 429], [529, "overloaded_error", "InternalServerError", 503]]) {
    for (const stream of [false, true]) {
      const error = await raises(OpenAI[name], say(`[[error ${status} ${kind} word for word]]`, { stream }));
      equal(name, [error.status, error.error.message], [seen, "word for word"]);
    }
  }
  equal("a wrong key", (await raises(OpenAI.AuthenticationError, client({ apiKey: "wrong" }).chat.completions.create(ask("x")))).code, "invalid_api_key");
  equal("a member", (await raises(OpenAI.BadRequestError, say("x", { n: 2 }))).param, "n");
});
check("what may be repeated is", async () => {
  const text = `${randomUUID()} [[error 529 overloaded_error x]] [[header retry-after: 0]] [[times 2]] [[say well]]`;
  equal("answer", (await client({ maxRetries: 2 }).chat.completions.create(ask(text))).choices[0].message.content, "well");
});
check("a stream that breaks off or fails raises", async () => {
  for (const script of ["[[say first words]] [[error-event overloaded_error Overloaded]]", "[[say one two three four]] [[cut 700]]", "[[say one two three four]] [[end 700]]"]) {
    let finished = false;
    await raises(undefined, (async () => {
      for await (const chunk of await say(script, { stream: true })) finished ||= Boolean(chunk.choices[0]?.finish_reason);
      return "an end";
    })());
    equal(script, finished, false);
  }
});
check("the models are listed", async () => {
  const ids = [];
  for await (const model of client().models.list()) ids.push(model.id);
  true_("the sandbox's", ids.includes("sandbox-opus-1"), ids);
  equal("one", (await client().models.retrieve("sandbox-opus-1")).object, "model");
});

// ---------------------------------------------------------------- the openai SDK, Responses
const WEATHER = { type: "function", name: "get_weather", description: "w", strict: false, parameters: TOOLS[0].function.parameters };
const respond = (input, more = {}) => client().responses.create({ model: MODEL, input, ...more });

check("a response comes back whole and is kept, and its stream is the same", async () => {
  const whole = await respond("[[think hm]] [[say hello wörld 🐙]]", { reasoning: { effort: "low", summary: "auto" } });
  equal("items", [whole.output.map((item) => item.type), whole.output_text, whole.status], [["reasoning", "message"], "hello wörld 🐙", "completed"]);
  true_("usage", whole.usage.total_tokens > 1, whole.usage);
  equal("kept", (await client().responses.retrieve(whole.id)).output, whole.output);
  const kinds = [];
  const stream = client().responses.stream({ model: MODEL, input: "[[think hm]] [[say hello wörld 🐙]]", reasoning: { effort: "low", summary: "auto" } });
  stream.on("event", (event) => kinds.push(event.type));
  const final = await stream.finalResponse();
  equal("streamed", final.output_text, whole.output_text);
  equal("first and last", [kinds[0], kinds.at(-1)], ["response.created", "response.completed"]);
});
check("a tool loop goes on by previous_response_id, and by items", async () => {
  const words = '[[tool get_weather {"city":"Oslo"}]]';
  const first = await respond(words, { tools: [WEATHER] });
  const call = first.output.find((item) => item.type === "function_call");
  equal("arguments", JSON.parse(call.arguments), { city: "Oslo" });
  const result = { type: "function_call_output", call_id: call.call_id, output: "rain" };
  const second = await respond([result], { tools: [WEATHER], previous_response_id: first.id });
  equal("by id", second.output_text, "The tool answered: rain");
  equal("by items", (await respond([{ role: "user", content: words }, ...first.output, result], { tools: [WEATHER], store: false })).output_text, "The tool answered: rain");
  await client().responses.delete(second.id);
  await raises(OpenAI.NotFoundError, respond("x", { previous_response_id: second.id }));
});
check("`.parse` of a response gives an instance of a Zod schema", async () => {
  const schema = z.object({ name: z.string(), age: z.number().int() });
  const { output_parsed } = await client().responses.parse({ model: MODEL, input: "who?", text: { format: zodTextFormat(schema, "person") } });
  equal("types", [typeof output_parsed.name, typeof output_parsed.age], ["string", "number"]);
});
check("a response that fails says so, before it began and in its midst", async () => {
  equal("before", (await raises(OpenAI.RateLimitError, respond("[[error 429 rate_limit_error slow down]]"))).error.message, "slow down");
  equal("named", (await raises(OpenAI.BadRequestError, respond("x", { background: true }))).param, "background");
  for (const script of ["[[say first words]] [[error-event overloaded_error Overloaded]]", "[[say one two three four]] [[cut 700]]", "[[say one two three four]] [[end 700]]"]) {
    const kinds = [];
    for await (const event of await respond(script, { stream: true })) kinds.push(event.type);
    equal(script, kinds.at(-1), "response.failed");
  }
});

// ---------------------------------------------------------------- Vercel's AI SDK
globalThis.AI_SDK_LOG_WARNINGS = false;
const { generateText, streamText, Output, tool, stepCountIs } = load("ai");
const { createOpenAICompatible } = load("@ai-sdk/openai-compatible");
const { createOpenAI } = load("@ai-sdk/openai");
const provider = createOpenAICompatible({ name: "seaway", baseURL: `${SANDBOX}/v1`, apiKey: LOCAL_KEY, includeUsage: true, supportsStructuredOutputs: true });

check("AI SDK: text, reasoning and usage", async () => {
  const { text, reasoningText, usage, finishReason } = await generateText({ model: provider(MODEL), prompt: "[[think hm]] [[say so]]" });
  equal("answer", [text, reasoningText, finishReason], ["so", "hm", "stop"]);
  true_("usage", usage.outputTokens > 0 && usage.inputTokens > 0, usage);
});
check("AI SDK: a stream", async () => {
  const result = streamText({ model: provider(MODEL), prompt: "[[say one two three four five]]" });
  const pieces = [];
  for await (const piece of result.textStream) pieces.push(piece);
  equal("joined", pieces.join(""), "one two three four five");
  true_("usage", (await result.usage).outputTokens > 0);
});
check("AI SDK: a whole tool loop, streamed and not", async () => {
  const tools = { get_weather: tool({ description: "w", inputSchema: z.object({ city: z.string() }), execute: async ({ city }) => `rain in ${city}` }) };
  const prompt = '[[tool get_weather {"city":"Oslo"}]]';
  const { text, steps } = await generateText({ model: provider(MODEL), tools, prompt, stopWhen: stepCountIs(3) });
  equal("answer", [text, steps.length], ["The tool answered: rain in Oslo", 2]);
  const streamed = streamText({ model: provider(MODEL), tools, prompt, stopWhen: stepCountIs(3) });
  equal("streamed", await streamed.text, "The tool answered: rain in Oslo");
});
check("AI SDK: a whole tool loop with thinking on Responses, by items and by what is kept", async () => {
  const model = createOpenAI({ baseURL: `${SANDBOX}/v1`, apiKey: LOCAL_KEY }).responses(MODEL);
  const tools = { get_weather: tool({ description: "w", inputSchema: z.object({ city: z.string() }), execute: async ({ city }) => `rain in ${city}` }) };
  const prompt = '[[think I look]] [[tool get_weather {"city":"Oslo"}]]';
  for (const store of [true, false]) {
    const providerOptions = { openai: { store, reasoningSummary: "auto", reasoningEffort: "low", forceReasoning: true } };
    const { text, steps } = await generateText({ model, tools, prompt, providerOptions, stopWhen: stepCountIs(3) });
    equal(`store ${store}`, [text, steps.length, steps[0].reasoningText], ["The tool answered: rain in Oslo", 2, "I look"]);
  }
  const streamed = streamText({ model, tools, prompt, stopWhen: stepCountIs(3) });
  equal("streamed", await streamed.text, "The tool answered: rain in Oslo");
});
check("AI SDK: an object by its schema", async () => {
  const { output } = await generateText({ model: provider(MODEL), output: Output.object({ schema: z.object({ name: z.string(), n: z.number() }) }), prompt: "who?" });
  equal("types", [typeof output.name, typeof output.n], ["string", "number"]);
});
check("AI SDK: a failure in the midst of a stream is an error", async () => {
  const errors = [];
  const result = streamText({ model: provider(MODEL), prompt: "[[say first]] [[error-event overloaded_error Overloaded]]", maxRetries: 0, onError: ({ error }) => errors.push(error) });
  for await (const _ of result.textStream);
  true_("an error", errors.length > 0, errors);
});

await run();
