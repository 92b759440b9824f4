//! Tunnels: by which machines, as whom, and where their files are.

use std::path::{Path, PathBuf};
use std::sync::Arc;

use secrecy::SecretString;

use super::{ConfigReader, argo, below, key};
use crate::config::{TunnelConfig, UpstreamConfig, UpstreamPlace, Vendor, paths, ports};

/// What ssh is given of our environment: what it needs to find keys, agents, tickets and tokens.
const GIVEN: [&str; 20] = [
    "PATH",
    "HOME",
    "USER",
    "LOGNAME",
    "SHELL",
    "LANG",
    "LC_ALL",
    "TERM",
    "TZ",
    "XDG_RUNTIME_DIR",
    "SSH_AUTH_SOCK",
    "SSH_AGENT_PID",
    "SSH_SK_PROVIDER",
    "SSH_SK_HELPER",
    "SSH_PKCS11_HELPER",
    "KRB5CCNAME",
    "KRB5_CONFIG",
    "DISPLAY",
    "SSH_ASKPASS",
    "SSH_ASKPASS_REQUIRE",
];

impl ConfigReader<'_> {
    /// How ssh is run: as one of the tunnels says, or as it is found.
    pub(super) fn ssh(&self, upstreams: &[Arc<UpstreamConfig>]) -> TunnelConfig {
        let tunnels = upstreams.iter().filter_map(|upstream| match &upstream.place {
            UpstreamPlace::Api(api) => api.via.as_deref().cloned(),
            UpstreamPlace::Program(_) | UpstreamPlace::Sandbox => None,
        });
        let found = || TunnelConfig {
            program: self.absolute("ssh"),
            environment: self.ssh_environment(Path::new("")),
            ..TunnelConfig::to("ssh")
        };
        tunnels.into_iter().next().unwrap_or_else(found)
    }

    /// The tunnel that an upstream names, if it does.
    pub(super) fn via(&mut self, upstream: &str, vendor: Vendor) -> Option<Arc<TunnelConfig>> {
        let at = below("upstream", upstream, "via");
        let name = self.text_at(&at).filter(|name| !name.is_empty())?;
        let preset = vendor == Vendor::Argo && name == argo::TUNNEL;
        let first = self
            .text("default_upstream")
            .or_else(|| self.layers.names("upstream").into_iter().next());
        self.shorthand(&name, preset, first.is_none_or(|first| first == upstream));
        let known = self.layers.names("tunnel");
        if !known.contains(&name) {
            let names: Vec<String> = known.iter().map(|name| format!("`{name}`")).collect();
            let names = if names.is_empty() {
                "none is configured".to_owned()
            } else {
                format!("there are {}", names.join(", "))
            };
            self.mistake_at(&at, &format!("no tunnel is called `{name}`; {names}"));
            return None;
        }
        self.tunnel(&name, vendor == Vendor::Argo).map(Arc::new)
    }

    fn tunnel(&mut self, name: &str, argo: bool) -> Option<TunnelConfig> {
        let at = |rest: &str| below("tunnel", name, rest);
        let open_at = self.text_at(&at("tunnel_host")).filter(|host| !host.is_empty());
        let Some(host) =
            open_at.clone().or_else(|| self.text_at(&at("host"))).filter(|host| !host.is_empty())
        else {
            let origin = self.group_origin(&at("")[..2]);
            self.layers.mistake(
                origin,
                format!("tunnel.{name}: `host` is missing: the machine to log in to"),
            );
            return None;
        };
        let tunnel_port = self
            .port_at(&at("tunnel_port"))
            .unwrap_or_else(|| ports::derived(&self.local_user()) - 1);
        // The machine that holds it open is another than the one at its end: nothing said of that one is true here.
        let (jump, user, port) = match open_at {
            Some(_) => (None, None, None),
            None => {
                (self.text_at(&at("jump")), self.tunnel_user(name, argo), self.port_at(&at("port")))
            }
        };
        let ssh_config = absolute(self.path(&self.text_at(&at("ssh_config")).unwrap_or_default()));
        let mut tunnel = TunnelConfig {
            jump,
            user,
            port,
            open_at: open_at.is_some().then_some(tunnel_port),
            tunnel_port,
            program: self.program_at(&at("ssh")),
            home: paths::home(self.environment).unwrap_or_default(),
            verbose: self
                .count_at(&key("ssh_verbose"))
                .map_or(0, |count| u8::try_from(count.min(3)).unwrap_or(3)),
            environment: self.ssh_environment(&ssh_config),
            ssh_config,
            probe: self.span_at(&at("probe")),
            name: name.to_owned(),
            ..TunnelConfig::to(&host)
        };
        self.no_options(name, &tunnel);
        tunnel.settle(&self.run_folder());
        tunnel.lockout = self.lockouts();
        Some(tunnel)
    }

    fn tunnel_user(&mut self, name: &str, argo: bool) -> Option<String> {
        let at = below("tunnel", name, "user");
        match self.text_at(&at) {
            Some(user) if user.trim().is_empty() => {
                self.mistake_at(&at, "it is empty: give your user name there, or leave it out");
                None
            }
            Some(user) => Some(user),
            None => argo.then(|| self.remote_user(&["CELS_USERNAME", "ARGO_USER"])),
        }
    }

    fn port_at(&mut self, at: &[String]) -> Option<u16> {
        let port = self.count_at(at)?;
        let fits = u16::try_from(port).ok().filter(|port| *port > 0);
        if fits.is_none() {
            self.mistake_at(at, "expected a port from 1 to 65535");
        }
        fits
    }

    fn program_at(&self, at: &[String]) -> PathBuf {
        self.absolute(&self.text_at(at).unwrap_or_default())
    }

    /// ssh finds itself again for the jump host only by its whole path.
    fn absolute(&self, program: &str) -> PathBuf {
        let given = self.path(program);
        let found =
            super::find_program(Some(&given), self.environment.get("PATH").unwrap_or_default());
        found.map_or(given, absolute)
    }

    /// What ssh needs, and what its owner's settings speak of.
    fn ssh_environment(&self, ssh_config: &Path) -> Vec<(String, SecretString)> {
        let settings = std::fs::read_to_string(ssh_config).unwrap_or_default();
        let spoken = settings
            .split("${")
            .skip(1)
            .filter_map(|rest| rest.split_once('}').map(|(name, _)| name.to_owned()));
        let names = GIVEN.iter().map(|name| (*name).to_owned()).chain(spoken);
        names
            .filter_map(|name| {
                Some((name.clone(), SecretString::from(self.environment.get(&name)?.to_owned())))
            })
            .collect()
    }

    /// Where this machine's part of the state is.
    /// Beside the state of who says nothing about it.
    pub(super) fn lockouts(&self) -> PathBuf {
        let usual = paths::state_dir(self.environment).or_else(|| self.state_dir());
        paths::run_folder(&absolute(usual.unwrap_or_default())).join("ssh.json")
    }

    fn run_folder(&self) -> PathBuf {
        paths::run_folder(&absolute(self.state_dir().unwrap_or_default()))
    }

    /// What stands where a name should must not be read as an option.
    fn no_options(&mut self, name: &str, tunnel: &TunnelConfig) {
        let odd = |text: &str| {
            text.starts_with('-')
                || text
                    .chars()
                    .any(|c| c.is_whitespace() || c.is_control() || "'\"\\`$;&|<>(){}".contains(c))
        };
        let hops: Vec<&str> =
            tunnel.jump.iter().flat_map(|jump| jump.split(',').map(str::trim)).collect();
        for (setting, texts) in [
            ("host", vec![tunnel.host.as_str()]),
            ("jump", hops),
            ("user", tunnel.user.as_deref().into_iter().collect()),
        ] {
            if let Some(text) = texts.iter().find(|text| odd(text)) {
                self.mistake_at(
                    &below("tunnel", name, setting),
                    &format!("`{text}` is no name of a machine or an account"),
                );
            }
        }
    }
}

/// ssh runs in a folder of its own.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}
