//! Clients that are set up by hand: what to type where.

use super::Facts;

/// A client whose settings are not in a file that we would touch.
#[derive(Debug)]
pub struct Other {
    pub name: &'static str,
    pub text: &'static str,
}

/// `<url>`, `<port>`, `<model>` and `<key>` stand for what they say.
pub const OTHERS: &[Other] = &[
    Other {
        name: "cursor",
        text: "Cursor: Settings → Models → API Keys\n  OpenAI API Key            <key>\n  Override OpenAI Base URL  <url>/v1\n  Add model                 <model>\nCursor's own servers call that address, so it has to be reachable from there: they cannot reach loopback.\n",
    },
    Other {
        name: "sillytavern",
        text: "SillyTavern: API Connections → API: Chat Completion\n  Chat Completion Source  Custom (OpenAI-compatible)\n  Custom Endpoint         <url>/v1\n  Custom API Key          <key>\n  Enter a Model ID        <model>\nor, with all that Claude has (thinking, caching, prefilled answers):\n  Chat Completion Source  Claude\n  Reverse Proxy           Proxy Server URL <url>/v1, Proxy Password <key>\n  Claude Model            any; an [alias] makes an old name a new model\nA preset of Seaway's own is reached with <url>/v1/NAME in place of <url>/v1.\n",
    },
    Other {
        name: "openclaw",
        text: "OpenClaw: in ~/.openclaw/openclaw.json\n  { \"models\": { \"providers\": { \"seaway\": {\n      \"baseUrl\": \"<url>\",\n      \"apiKey\": \"<key>\",\n      \"api\": \"anthropic-messages\",\n      \"models\": [ { \"id\": \"<model>\", \"name\": \"<model>\" } ]\n  } } } }\nthen choose the model seaway/<model>.\n",
    },
    Other {
        name: "litellm",
        text: "LiteLLM: in the proxy's config.yaml\n  model_list:\n    - model_name: <model>\n      litellm_params:\n        model: anthropic/<model>\n        api_base: <url>\n        api_key: os.environ/SEAWAY_KEY\nand start it with SEAWAY_KEY set to <key>.\n",
    },
    Other {
        name: "librechat",
        text: "LibreChat: in librechat.yaml\n  endpoints:\n    custom:\n      - name: Seaway\n        apiKey: ${SEAWAY_KEY}\n        baseURL: <url>/v1\n        models: { default: [<model>], fetch: true }\nwith SEAWAY_KEY=… in its .env, set to <key>. In a container use http://host.docker.internal:<port>/v1, and let Seaway listen beyond loopback.\n",
    },
    Other {
        name: "gemini",
        text: "Gemini CLI: it speaks Google's own API and no other, also where it takes another address (GOOGLE_GEMINI_BASE_URL): it cannot be pointed here. Qwen Code, which comes from it, can: `seaway connect qwen`.\n",
    },
    Other {
        name: "mem0",
        text: "mem0: in Python\n  config = {\"llm\": {\"provider\": \"openai\", \"config\": {\n      \"model\": \"<model>\",\n      \"openai_base_url\": \"<url>/v1\",\n      \"api_key\": os.environ[\"SEAWAY_KEY\"],\n  }}}\n  memory = Memory.from_config(config)\nwith SEAWAY_KEY set to <key>. Embeddings are not Claude's: leave `embedder` with another provider.\n",
    },
    Other {
        name: "open-webui",
        text: "Open WebUI: Admin Panel → Settings → Connections → OpenAI API → +\n  URL  <url>/v1\n  Key  <key>\nIn a container loopback is the container's own: use http://host.docker.internal:<port>/v1 there, and let Seaway listen beyond loopback.\n",
    },
];

/// For a client that nobody here knows.
const ANY: &str = "any client that speaks to OpenAI\n  base URL  <url>/v1\n  API key   <key>\n  model     <model>\n  in a shell: export OPENAI_BASE_URL=<url>/v1 OPENAI_API_KEY=…\nany client that speaks to Anthropic\n  base URL  <url>\n  API key   <key>\n  model     <model>\n  in a shell: export ANTHROPIC_BASE_URL=<url> ANTHROPIC_API_KEY=…\n";

/// What to type into a client of any other name.
pub fn any(facts: &Facts) -> String {
    filled(ANY, facts)
}

/// What to type into a client.
pub fn other(name: &str, facts: &Facts) -> Option<String> {
    let other = OTHERS.iter().find(|other| other.name == name)?;
    Some(filled(other.text, facts))
}

fn filled(text: &str, facts: &Facts) -> String {
    let key = if facts.key.is_some() {
        format!("what `{}` prints", super::clients::line(&facts.key_command))
    } else {
        "anything".to_owned()
    };
    let port = facts.url.rsplit(':').next().unwrap_or_default();
    text.replace("<url>", &facts.url)
        .replace("<port>", port)
        .replace("<model>", &facts.model)
        .replace("<key>", &key)
}
