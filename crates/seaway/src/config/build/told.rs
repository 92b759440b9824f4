//! Which credential an upstream uses, and which others are there and are not used: for people, never the value.

use super::upstreams::CREDENTIALS;
use super::{ConfigReader, below};
use crate::config::layers::{ValueOrigin, dotted};
use crate::config::{CredentialNote, UpstreamKind, Vendor};

/// Where a credential can be said, strongest first.
const SOURCES: [&str; 4] = ["value", "env", "file", "command"];
/// The official program's own, as `claude setup-token` makes it.
const TOKEN: &str = "CLAUDE_CODE_OAUTH_TOKEN";

impl ConfigReader<'_> {
    /// Says where an upstream's credential comes from, and what lost to it.
    pub(super) fn told(&self, name: &str, kind: UpstreamKind) -> CredentialNote {
        let mut all: Vec<String> = ["api_key", "bearer"]
            .iter()
            .flat_map(|group| SOURCES.iter().filter_map(|source| self.said(name, group, source)))
            .collect();
        let set = |variable: &str| self.environment.get(variable).is_some();
        let variables = || {
            CREDENTIALS
                .iter()
                .map(|(variable, _)| *variable)
                .filter(|variable| set(variable))
                .map(|variable| format!("${variable}"))
        };
        match kind {
            UpstreamKind::Http(Vendor::Anthropic) => all.extend(variables()),
            UpstreamKind::ClaudeCode => {
                all.push(if set(TOKEN) {
                    format!("the program's own login, by ${TOKEN}")
                } else {
                    "the program's own login".to_owned()
                });
                all.extend(variables());
            }
            UpstreamKind::Http(Vendor::Argo) => all.push(
                match ["ARGO_USER", "CELS_USERNAME"].iter().find(|variable| set(variable)) {
                    Some(variable) => format!("your user name, of ${variable}"),
                    None => "your user name here".to_owned(),
                },
            ),
            UpstreamKind::Http(Vendor::Messages) | UpstreamKind::Sandbox => {}
        }
        // What is named twice is one: `api_key.env` may name one of the usual variables.
        let mut lost = all.into_iter();
        let used = lost.next();
        let lost = lost.filter(|other| used.as_ref() != Some(other)).collect();
        CredentialNote { used, lost }
    }

    fn said(&self, name: &str, group: &str, source: &str) -> Option<String> {
        let at = below("upstream", name, &format!("{group}.{source}"));
        let text = self.text_at(&at)?;
        Some(match source {
            "env" => format!("${text}"),
            "file" => format!("the file {}", self.path(&text).display()),
            "command" => format!("what `{}` prints", dotted(&at)),
            _ => match self.origin(&at) {
                ValueOrigin::Variable(variable) => format!("${variable}"),
                origin => format!("`{}` of {origin}", dotted(&at[..at.len() - 1])),
            },
        })
    }

    /// Where the local keys come from; nothing where the key is the made one.
    pub(super) fn key_from(&self) -> Option<String> {
        let said = |setting: &str| {
            Some(self.origin(&super::key(setting)))
                .filter(|origin| *origin != ValueOrigin::Default)
                .map(|origin| origin.to_string())
        };
        let own =
            || self.environment.get(super::FOREIGN_KEY).map(|_| format!("${}", super::FOREIGN_KEY));
        said("api_key").or_else(own).or_else(|| said("keys"))
    }
}
