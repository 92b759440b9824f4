//! How the program is started. Nothing of a prompt is in it: everybody can read a command line.

use std::path::Path;

use http::HeaderMap;
use seaway_wire::claude_code::input::SERVER;
use secrecy::SecretString;

use crate::config::{Carrier, ProgramConfig};
use crate::credential::{Credential, CredentialError};

/// The program's transcript of a run.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(super) enum Transcript {
    /// The transcript is not kept.
    No,
    /// Under this id, from now on.
    As(String),
    /// Under this id, and taken up from there.
    Resumed(String),
}

/// Variables that make a process do what it is told and nothing besides.
pub(super) const ANSWERING: &[(&str, &str)] = &[
    ("CLAUDE_CODE_DISABLE_ATTACHMENTS", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    // The gateway makes the retries.
    ("CLAUDE_CODE_MAX_RETRIES", "0"),
    ("CLAUDE_CODE_DISABLE_NONSTREAMING_FALLBACK", "1"),
    ("CLAUDE_CODE_DISABLE_REFUSAL_RETRY", "1"),
    ("CLAUDE_CODE_DISABLE_REFUSAL_FALLBACK", "1"),
    ("DISABLE_COMPACT", "1"),
    // A client's tools keep their names, and are all there from the start.
    ("CLAUDE_AGENT_SDK_MCP_NO_PREFIX", "1"),
    ("ENABLE_TOOL_SEARCH", "false"),
    ("MAX_MCP_OUTPUT_TOKENS", "100000"),
    // Who asks for an old model gets that one, or is told that there is none.
    ("CLAUDE_CODE_DISABLE_LEGACY_MODEL_REMAP", "1"),
    // Nothing of one request is remembered for another, or written down.
    ("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1"),
    ("CLAUDE_CODE_SKIP_MCP_DEBUG_LOG_FILES", "1"),
    ("NO_COLOR", "1"),
];

/// The same for a process that works with tools of its own: what it does about failures is its own affair.
pub(super) const WORKING: &[(&str, &str)] = &[
    ("CLAUDE_CODE_DISABLE_ATTACHMENTS", "1"),
    ("CLAUDE_CODE_DISABLE_NONESSENTIAL_TRAFFIC", "1"),
    ("DISABLE_AUTOUPDATER", "1"),
    ("CLAUDE_CODE_MAX_RETRIES", "3"),
    ("CLAUDE_CODE_DISABLE_LEGACY_MODEL_REMAP", "1"),
    ("CLAUDE_CODE_DISABLE_AUTO_MEMORY", "1"),
    ("CLAUDE_CODE_SKIP_MCP_DEBUG_LOG_FILES", "1"),
    ("NO_COLOR", "1"),
];

/// The flags with which it is spoken to over its pipes, and by nothing else.
pub(super) const PIPES: [&str; 11] = [
    "-p",
    "--input-format",
    "stream-json",
    "--output-format",
    "stream-json",
    "--verbose",
    "--include-partial-messages",
    "--strict-mcp-config",
    "--setting-sources",
    "",
    "--disable-slash-commands",
];

/// What a process that answers API requests has at its beginning.
#[derive(Debug, Clone, Copy)]
pub(super) enum Beginning<'a> {
    Empty,
    /// A transcript of ours that holds what the program says of its surroundings.
    Seed(&'a Path),
    /// It says that for the first time, and writes down how.
    Written,
}

/// True where the credential is an API key: the program then brings nothing along.
pub(super) fn has_key(setting: &ProgramConfig) -> bool {
    setting.credential.as_ref().is_some_and(|credential| credential.carrier == Carrier::ApiKey)
}

/// The flags of a process that answers API requests: no tools, settings, commands or memory of its own.
pub(super) fn arguments(model: &str, beginning: Beginning<'_>, has_key: bool) -> Vec<String> {
    let mut words = PIPES.to_vec();
    words.extend(["--tools", "", "--thinking-display", "summarized"]);
    // It spares a login all that it brings along, but does not know one.
    if has_key {
        words.push("--bare");
    }
    let allowed = format!("mcp__{SERVER}");
    words.extend(["--allowedTools", &allowed, "--model", model]);
    let mut words: Vec<String> = words.into_iter().map(str::to_owned).collect();
    if let Beginning::Seed(path) = beginning {
        words.extend([
            "--resume".to_owned(),
            path.display().to_string(),
            "--fork-session".to_owned(),
        ]);
    }
    if !matches!(beginning, Beginning::Written) {
        words.extend(persistence(&Transcript::No));
    }
    words
}

/// The flags that say what the program keeps.
pub(super) fn persistence(transcript: &Transcript) -> Vec<String> {
    match transcript {
        Transcript::No => vec!["--no-session-persistence".to_owned()],
        Transcript::As(id) => vec!["--session-id".to_owned(), id.clone()],
        Transcript::Resumed(id) => vec!["--resume".to_owned(), id.clone()],
    }
}

/// True for a name that may stand on the program's command line.
pub(crate) fn is_model_name(name: &str) -> bool {
    let fits = |c: char| c.is_ascii_alphanumeric() || "-_.:/@[]".contains(c);
    !name.is_empty() && name.len() <= 200 && !name.starts_with('-') && name.chars().all(fits)
}

/// The environment of a process: what is allowed of ours, and what the configuration adds.
///
/// # Errors
///
/// If there is a credential that cannot be had.
pub(super) async fn environment(
    setting: &ProgramConfig,
    credential: Option<&Credential>,
    manners: &[(&str, &str)],
    folders: Vec<(&'static str, SecretString)>,
) -> Result<Vec<(String, SecretString)>, CredentialError> {
    let mut variables = setting.environment.clone();
    let mut set = |name: &str, value: SecretString| {
        variables.retain(|(known, _)| known != name);
        variables.push((name.to_owned(), value));
    };
    for (name, value) in manners {
        set(name, (*value).to_owned().into());
    }
    for (name, value) in folders {
        set(name, value);
    }
    if let Some(base_url) = &setting.base_url {
        set("ANTHROPIC_BASE_URL", base_url.to_string().trim_end_matches('/').to_owned().into());
    }
    if let (Some(credential), Some(configured)) = (credential, &setting.credential) {
        let mut headers = HeaderMap::new();
        credential.write(&mut headers).await?;
        let value =
            headers.values().next().and_then(|value| value.to_str().ok()).unwrap_or_default();
        let (name, value) = match configured.carrier {
            Carrier::ApiKey => ("ANTHROPIC_API_KEY", value),
            Carrier::Bearer => {
                ("ANTHROPIC_AUTH_TOKEN", value.strip_prefix("Bearer ").unwrap_or(value))
            }
        };
        set(name, value.to_owned().into());
        // One way in, and that is the configured one.
        variables.retain(|(name, _)| name != "CLAUDE_CODE_OAUTH_TOKEN");
    }
    Ok(variables)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_name_of_a_model_is_an_option() {
        for name in
            ["claude-opus-5-5", "us.anthropic.claude-v1:0", "opus[1m]", "vertex_ai/claude@latest"]
        {
            assert!(is_model_name(name), "{name}");
        }
        for name in ["", "--version", "a b", "a\nb", "ü", &"x".repeat(201)] {
            assert!(!is_model_name(name), "{name}");
        }
    }

    #[test]
    fn a_process_for_requests_has_no_tools_of_its_own() {
        let words = arguments("m", Beginning::Empty, false);
        let at = words.iter().position(|word| word == "--tools").unwrap();
        assert_eq!(words[at + 1], "");
        assert!(
            words.contains(&"--no-session-persistence".to_owned())
                && !words.contains(&"--bare".to_owned())
        );
        let seeded = arguments("m", Beginning::Seed(Path::new("/s.jsonl")), true).join(" ");
        assert!(
            seeded.ends_with("--resume /s.jsonl --fork-session --no-session-persistence")
                && seeded.contains("--bare"),
            "{seeded}"
        );
    }
}
