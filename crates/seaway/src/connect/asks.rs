//! How a client that was set up will ask: read back from its files, by its own grammar.

use std::path::PathBuf;

use seaway_wire::Dialect;
use secrecy::SecretString;
use serde_json::{Value, json};

use super::{Change, Facts, FileChange, Members, Setup, json as jsonc, toml};

/// One small request, as a client's settings have it.
#[derive(Debug)]
pub struct Asks {
    /// The whole address of a request.
    pub url: String,
    pub dialect: Dialect,
    pub key: Holder,
    pub model: String,
}

/// What a client has its key from.
#[derive(Debug)]
pub enum Holder {
    Text(SecretString),
    /// A line for a shell, which prints it.
    Shell(String),
    /// A program and its arguments, which print it.
    Command(Vec<String>),
    File(PathBuf),
}

impl Asks {
    /// The request's body: as little as there can be.
    pub fn body(&self) -> Value {
        let (model, text) = (self.model.as_str(), "Say `ok`, and nothing else.");
        match self.dialect {
            Dialect::Responses => {
                json!({"model": model, "input": text, "max_output_tokens": 16, "store": false})
            }
            Dialect::Chat | Dialect::Messages => {
                json!({"model": model, "max_tokens": 16, "messages": [{"role": "user", "content": text}]})
            }
        }
    }
}

/// What a file says now, if its client can read it.
fn value_of(file: &FileChange) -> Option<Value> {
    let text = std::fs::read_to_string(&file.path).ok()?;
    match &file.change {
        Change::StrictJson(_) => serde_json::from_str(&text).ok(),
        Change::Json(_) => Some(jsonc::JsonDocument::parse(&text).ok()?.all()),
        Change::Toml(_) => Some(toml::TomlDocument::parse(&text).ok()?.all()),
        Change::Yaml(..) => serde_saphyr::from_str(&text).ok(),
        Change::Whole(_) => None,
    }
}

/// How a client asks, by the files of its setup in their order.
pub(super) type SetupReader = fn(&[Value], &Facts) -> Option<Asks>;

/// Reads a setup back.
pub(super) fn read(setup: &Setup, reader: SetupReader, facts: &Facts) -> Option<Asks> {
    let values: Vec<Value> = setup.files.iter().map(value_of).collect::<Option<_>>()?;
    reader(&values, facts)
}

fn text(value: &Value) -> Option<String> {
    value.as_str().map(str::to_owned)
}

fn secret(value: &Value) -> Option<Holder> {
    Some(Holder::Text(text(value)?.into()))
}

pub(super) fn claude(files: &[Value], facts: &Facts) -> Option<Asks> {
    let url = format!("{}/v1/messages", text(&files[0]["env"]["ANTHROPIC_BASE_URL"])?);
    Some(Asks {
        url,
        dialect: Dialect::Messages,
        key: match secret(&files[0]["env"]["ANTHROPIC_AUTH_TOKEN"]) {
            Some(token) => token,
            None => Holder::Shell(text(&files[0]["apiKeyHelper"])?),
        },
        model: facts.model.clone(),
    })
}

pub(super) fn codex(files: &[Value], _: &Facts) -> Option<Asks> {
    let provider = &files[0]["model_providers"][files[0]["model_provider"].as_str()?];
    let words = std::iter::once(text(&provider["auth"]["command"])?)
        .chain(provider["auth"]["args"].as_array()?.iter().filter_map(text));
    let url = format!("{}/responses", text(&provider["base_url"])?);
    Some(Asks {
        url,
        dialect: Dialect::Responses,
        key: Holder::Command(words.collect()),
        model: text(&files[0]["model"])?,
    })
}

pub(super) fn opencode(files: &[Value], _: &Facts) -> Option<Asks> {
    let (provider, model) = files[0]["model"].as_str()?.split_once('/')?;
    let options = &files[0]["provider"][provider]["options"];
    let file =
        options["apiKey"].as_str()?.strip_prefix("{file:").and_then(|rest| rest.strip_suffix('}'));
    let key =
        file.map_or_else(|| secret(&options["apiKey"]), |file| Some(Holder::File(file.into())))?;
    Some(Asks {
        url: format!("{}/messages", text(&options["baseURL"])?),
        dialect: Dialect::Messages,
        key,
        model: model.to_owned(),
    })
}

pub(super) fn pi(files: &[Value], _: &Facts) -> Option<Asks> {
    let provider = &files[0]["providers"][files[1]["defaultProvider"].as_str()?];
    let key = Holder::Shell(provider["apiKey"].as_str()?.strip_prefix('!')?.to_owned());
    Some(Asks {
        url: format!("{}/v1/messages", text(&provider["baseUrl"])?),
        dialect: Dialect::Messages,
        key,
        model: text(&files[1]["defaultModel"])?,
    })
}

pub(super) fn aider(files: &[Value], _: &Facts) -> Option<Asks> {
    let base = files[0]["set-env"]
        .as_array()?
        .iter()
        .find_map(|line| line.as_str()?.strip_prefix("ANTHROPIC_API_BASE="))?;
    let model = files[0]["model"].as_str()?.strip_prefix("anthropic/")?.to_owned();
    Some(Asks {
        url: format!("{base}/v1/messages"),
        dialect: Dialect::Messages,
        key: secret(&files[0]["anthropic-api-key"])?,
        model,
    })
}

pub(super) fn continue_dev(files: &[Value], facts: &Facts) -> Option<Asks> {
    let base = format!("{}/v1", facts.url);
    let entry = files[0]["models"].as_array()?.iter().find(|entry| {
        entry["apiBase"] == base.as_str() && entry["model"] == facts.model.as_str()
    })?;
    Some(Asks {
        url: format!("{}/messages", text(&entry["apiBase"])?),
        dialect: Dialect::Messages,
        key: secret(&entry["apiKey"])?,
        model: text(&entry["model"])?,
    })
}

pub(super) fn llm(files: &[Value], facts: &Facts) -> Option<Asks> {
    let entry = files[0].as_array()?.iter().find(|entry| {
        entry["api_key_name"] == "seaway" && entry["model_name"] == facts.model.as_str()
    })?;
    let url = format!("{}/chat/completions", text(&entry["api_base"])?);
    Some(Asks {
        url,
        dialect: Dialect::Chat,
        key: secret(&files[1]["seaway"])?,
        model: text(&entry["model_name"])?,
    })
}

pub(super) fn qwen(files: &[Value], _: &Facts) -> Option<Asks> {
    let chosen = files[0]["security"]["auth"]["selectedType"].as_str()?;
    let model = text(&files[0]["model"]["name"])?;
    let listed = files[0]["modelProviders"][chosen].as_array()?;
    let entry = listed.iter().find(|entry| entry["id"] == model.as_str())?;
    Some(Asks {
        url: format!("{}/v1/messages", text(&entry["baseUrl"])?),
        dialect: Dialect::Messages,
        key: secret(&files[0]["env"][entry["envKey"].as_str()?])?,
        model,
    })
}

pub(super) fn crush(files: &[Value], _: &Facts) -> Option<Asks> {
    let chosen = &files[0]["models"]["large"];
    let provider = &files[0]["providers"][chosen["provider"].as_str()?];
    let key = provider["api_key"].as_str()?.strip_prefix("$(")?.strip_suffix(')')?;
    Some(Asks {
        url: format!("{}/messages", text(&provider["base_url"])?),
        dialect: Dialect::Messages,
        key: Holder::Shell(key.to_owned()),
        model: text(&chosen["model"])?,
    })
}

pub(super) fn cline(files: &[Value], _: &Facts) -> Option<Asks> {
    let settings = &files[0]["providers"][files[0]["lastUsedProvider"].as_str()?]["settings"];
    Some(Asks {
        url: format!("{}/v1/messages", text(&settings["baseUrl"])?),
        dialect: Dialect::Messages,
        key: secret(&settings["apiKey"])?,
        model: text(&settings["model"])?,
    })
}

pub(super) fn goose(files: &[Value], facts: &Facts) -> Option<Asks> {
    let models = files[0]["models"].as_array()?;
    let chosen = models.iter().find(|model| model["name"] == facts.model.as_str())?;
    Some(Asks {
        url: format!("{}/v1/messages", text(&files[0]["base_url"])?),
        dialect: Dialect::Messages,
        key: secret(&files[0]["headers"]["x-api-key"])?,
        model: text(&chosen["name"])?,
    })
}

/// With the key that is to be pasted.
pub(super) fn zed(files: &[Value], facts: &Facts) -> Option<Asks> {
    let chosen = &files[0]["agent"]["default_model"];
    let provider = &files[0]["language_models"][chosen["provider"].as_str()?];
    Some(Asks {
        url: format!("{}/v1/messages", text(&provider["api_url"])?),
        dialect: Dialect::Messages,
        key: Holder::Command(facts.key_command.clone()),
        model: text(&chosen["model"])?,
    })
}

pub(super) fn sillytavern(files: &[Value], _: &Facts) -> Option<Asks> {
    let settings = files.first()?["oai_settings"].as_object()?;
    let keys = files[1]["api_key_custom"].as_array()?;
    let active = keys.iter().find(|key| key["active"] == true)?;
    Some(Asks {
        url: format!("{}/chat/completions", text(settings.get("custom_url")?)?),
        dialect: Dialect::Chat,
        key: secret(&active["value"])?,
        model: text(settings.get("custom_model")?)?,
    })
}

pub(super) fn librechat(files: &[Value], facts: &Facts) -> Option<Asks> {
    let endpoints = files.first()?["endpoints"]["custom"].as_array()?;
    let ours = endpoints.iter().find(|endpoint| endpoint["name"] == "Seaway")?;
    Some(Asks {
        url: format!("{}/chat/completions", text(&ours["baseURL"])?),
        dialect: Dialect::Chat,
        key: secret(&ours["apiKey"])?,
        model: facts.model.clone(),
    })
}

#[cfg(test)]
mod tests {
    use super::super::clients::CLIENTS;
    use super::*;

    #[test]
    fn every_client_is_read_back_as_it_was_set_up() {
        let home = tempfile::tempdir().unwrap();
        let folder = home.path().join("work");
        // Two have a folder of their own, and are known by what they put there.
        for (name, text) in
            [("data/default-user/settings.json", "{}"), ("librechat.example.yaml", "")]
        {
            std::fs::create_dir_all(folder.join(name).parent().unwrap()).unwrap();
            std::fs::write(folder.join(name), text).unwrap();
        }
        let facts = Facts {
            url: "http://127.0.0.1:7329".into(),
            key: Some("k".to_owned().into()),
            key_command: vec!["/bin/seaway".into(), "key".into(), "show".into()],
            models: vec!["opus".into(), "sonnet".into()],
            model: "sonnet".into(),
            home: home.path().into(),
            folder,
            ..Facts::default()
        };
        for client in CLIENTS {
            let setup = client.setup(&facts);
            assert!(client.asks(&setup, &facts).is_none(), "{}: nothing is written", client.name);
            for file in &setup.files {
                std::fs::create_dir_all(file.path.parent().unwrap()).unwrap();
                let before = std::fs::read_to_string(&file.path).unwrap_or_default();
                std::fs::write(&file.path, file.change.apply(&before, false).unwrap()).unwrap();
            }
            let asks = client
                .asks(&setup, &facts)
                .unwrap_or_else(|| panic!("{} is not read back", client.name));
            let path = match asks.dialect {
                Dialect::Chat => "/v1/chat/completions",
                Dialect::Responses => "/v1/responses",
                Dialect::Messages => "/v1/messages",
            };
            assert_eq!(
                (asks.url, asks.model.as_str()),
                (format!("{}{path}", facts.url), "sonnet"),
                "{}",
                client.name
            );
            match asks.key {
                Holder::Text(key) => assert_eq!(secrecy::ExposeSecret::expose_secret(&key), "k"),
                Holder::Shell(line) => assert_eq!(line, "/bin/seaway key show"),
                Holder::Command(words) => assert_eq!(words, facts.key_command),
                Holder::File(_) => panic!("the key is not in a file here"),
            }
        }
    }
}
