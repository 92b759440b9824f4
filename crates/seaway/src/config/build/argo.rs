//! Argonne's gateway: what `kind = "argo"` expands to, and who its two users are.

use std::sync::Arc;

use super::{ConfigReader, below, key};
use crate::config::layers::ValueOrigin;
use crate::config::value::Value;
use crate::config::{
    Carrier, CredentialConfig, Source, UpstreamConfig, UpstreamKind, UpstreamPlace,
};

/// The tunnel that the preset brings along.
pub(super) const TUNNEL: &str = "cels";
const HOST: &str = "homes.cels.anl.gov";
const JUMP: &str = "logins.cels.anl.gov";

impl ConfigReader<'_> {
    /// True if requests go to Argonne's gateway unless something says otherwise.
    pub(super) fn means_argo(&self) -> bool {
        let kind = |name: &str| self.text_at(&below("upstream", name, "kind"));
        match self.text("default_upstream") {
            Some(name) => {
                UpstreamKind::parse(&kind(&name).unwrap_or(name)) == Some(UpstreamKind::ARGO)
            }
            None => {
                self.layers
                    .names("upstream")
                    .first()
                    .and_then(|name| UpstreamKind::parse(&kind(name)?))
                    == Some(UpstreamKind::ARGO)
            }
        }
    }

    /// Who runs us: files, ports and processes are this user's.
    pub(super) fn local_user(&self) -> String {
        let named = ["LOGNAME", "USER"].iter().find_map(|name| self.environment.get(name));
        let known = named.map(str::to_owned).or_else(account);
        known.unwrap_or_else(|| rustix::process::geteuid().as_raw().to_string())
    }

    /// Who we are at the institution, as the first of these variables says; the login name otherwise.
    pub(super) fn remote_user(&mut self, variables: &[&str]) -> String {
        let set = variables
            .iter()
            .find_map(|name| Some((*name, self.environment.set(name)?.trim().to_owned())));
        match set {
            Some((name, user)) if user.is_empty() => {
                self.layers.mistake(
                    ValueOrigin::Variable(name.to_owned()),
                    "it is empty: give your user name at the institution, or unset it",
                );
                user
            }
            Some((_, user)) => user,
            None => {
                let user = self.local_user();
                if user.bytes().all(|byte| byte.is_ascii_digit()) {
                    self.layers.mistake(ValueOrigin::Default, "who you are at the institution cannot be told: set CELS_USERNAME to your user name there");
                }
                user
            }
        }
    }

    /// What the preset says of a setting of the upstream that is not given.
    pub(super) fn expand_argo(&mut self, name: &str) {
        let user = self.remote_user(&["ARGO_USER", "CELS_USERNAME"]);
        let base_url = match self.text("argo.env").as_deref() {
            Some("test") => "https://apps-test.inside.anl.gov/argoapi",
            Some("dev") => "https://apps-dev.inside.anl.gov/argoapi",
            _ => "https://apps.inside.anl.gov/argoapi",
        };
        let text = |text: &str| Value::Text(text.to_owned());
        let mut preset = vec![
            ("base_url", text(base_url)),
            ("speaks", Value::List(vec![text("messages"), text("chat"), text("responses")])),
            ("stream", text("always")),
            ("strict_tools", text("drop")),
            ("translate", Value::List(vec![text("claude*")])),
            ("match_models", Value::Flag(true)),
            // A request that got no answer is sent once more, by a way that was mended.
            ("retries", Value::Count(0)),
            ("set_chat", Value::Map(vec![("user".to_owned(), text(&user))])),
        ];
        if !self.flag("argo.direct") {
            preset.push(("via", text(TUNNEL)));
        }
        for (setting, value) in preset {
            self.layers.add(below("upstream", name, setting), value, ValueOrigin::Default);
        }
    }

    /// `--env` and its like are said of one upstream: where there is none of the kind, nobody would hear them.
    pub(super) fn flags_of_tunnels(&mut self, upstreams: &[Arc<UpstreamConfig>]) {
        let argo = self.layers.names("upstream").iter().any(|name| {
            self.text_at(&below("upstream", name, "kind"))
                .and_then(|kind| UpstreamKind::parse(&kind))
                == Some(UpstreamKind::ARGO)
        });
        let tunnel = upstreams.iter().any(
            |upstream| matches!(&upstream.place, UpstreamPlace::Api(api) if api.via.is_some()),
        );
        let settings = [
            ("env", false),
            ("direct", false),
            ("host", true),
            ("jump", true),
            ("tunnel_host", true),
            ("tunnel_port", true),
        ];
        for (setting, any) in settings.into_iter().filter(|_| !argo) {
            let at = key(&format!("argo.{setting}"));
            if matches!(self.origin(&at), ValueOrigin::Flag(_)) && !(any && tunnel) {
                let of = if any {
                    "a tunnel, and no upstream here is reached by one"
                } else {
                    "Argonne's gateway, and no upstream here is of that kind"
                };
                self.mistake_at(
                    &at,
                    &format!("this is for {of}; add `--upstream argo` if that is meant"),
                );
            }
        }
    }

    /// The gateway's key is the user's name.
    pub(super) fn argo_credential(&mut self) -> CredentialConfig {
        CredentialConfig {
            carrier: Carrier::ApiKey,
            source: Source::Value(self.remote_user(&["ARGO_USER", "CELS_USERNAME"]).into()),
        }
    }

    /// What `--host` and its like say of a tunnel, and the preset of its own where that is silent. A flag is meant for
    /// the upstream that requests go to.
    pub(super) fn shorthand(&mut self, tunnel: &str, preset: bool, meant: bool) {
        for (setting, default) in [
            ("host", Some(HOST)),
            ("jump", Some(JUMP)),
            ("tunnel_host", None),
            ("tunnel_port", None),
        ] {
            let (own, short) = (below("tunnel", tunnel, setting), key(&format!("argo.{setting}")));
            let known = self.layers.get(&own).map(|(_, origin)| origin.rank());
            let said = self
                .layers
                .get(&short)
                .filter(|(_, origin)| preset || (meant && matches!(origin, ValueOrigin::Flag(_))))
                .cloned();
            match said {
                // A flag beats a file, whichever of the two names it sets.
                Some((value, origin)) if known.is_none_or(|known| origin.rank() < known) => {
                    self.layers.put(own, value, origin);
                }
                _ => {
                    if let Some(default) = default.filter(|_| preset) {
                        self.layers.add(own, Value::Text(default.to_owned()), ValueOrigin::Default);
                    }
                }
            }
        }
    }
}

/// The name that the system has for who runs us.
fn account() -> Option<String> {
    let own = rustix::process::geteuid().as_raw().to_string();
    let all = std::fs::read_to_string("/etc/passwd").ok()?;
    all.lines()
        .map(|line| line.split(':').collect::<Vec<_>>())
        .find(|fields| fields.get(2) == Some(&own.as_str()))
        .map(|fields| fields[0].to_owned())
}
