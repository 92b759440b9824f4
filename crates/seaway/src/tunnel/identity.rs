//! Is there anything to log in with? Looked at before the network is touched.

use std::path::{Path, PathBuf};
use std::time::Duration;

use super::failure::telling;
use super::ssh_args;
use crate::config::TunnelConfig;
use crate::confine::outside;
use crate::process::{self, Launch};

const PATIENCE: Duration = Duration::from_secs(10);
/// How much of a file is looked at.
const HEAD: usize = 256;

/// Something to log in with, as far as can be told.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Identity {
    /// Keys in the agent.
    Agent(usize),
    File(PathBuf),
    /// A ticket or token that only ssh can try.
    Other(&'static str),
}

impl std::fmt::Display for Identity {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Agent(1) => f.write_str("one key in the agent"),
            Self::Agent(keys) => write!(f, "{keys} keys in the agent"),
            Self::File(path) => write!(f, "{}", path.display()),
            Self::Other(what) => f.write_str(what),
        }
    }
}

/// Looks for an identity: the agent, what ssh's settings name, any private key in `~/.ssh`.
///
/// # Errors
///
/// What ssh says of its settings, if it cannot read them or cannot be run.
pub(super) async fn find(
    tunnel: &TunnelConfig,
    launch: impl Fn(Vec<String>) -> Launch,
) -> Result<Option<Identity>, String> {
    let settings = match process::tool(&launch(ssh_args::settings(tunnel)), PATIENCE).await {
        Ok(ended) if ended.status.success() => ended.stdout,
        Ok(ended) => {
            return Err(format!("ssh cannot read its settings: {}", telling(&ended.stderr)));
        }
        Err(error @ process::ProcessError::Spawn(_)) => {
            return Err(format!(
                "ssh ({}) cannot be run: {}",
                tunnel.program.display(),
                crate::causes::chain(&error)
            ));
        }
        // Slow is not broken.
        Err(_) => String::new(),
    };
    if let Some(keys) = agent(tunnel, &launch, named_agent(&settings)).await {
        return Ok(Some(Identity::Agent(keys)));
    }
    let named =
        identity_files(&settings, &tunnel.home).into_iter().find(|path| is_private_key(path));
    let any = || private_keys(&tunnel.home.join(".ssh")).into_iter().next();
    Ok(named.or_else(any).map(Identity::File).or_else(|| other(&settings, tunnel)))
}

/// How many keys the agent has, if there is one with any.
async fn agent(
    tunnel: &TunnelConfig,
    launch: &impl Fn(Vec<String>) -> Launch,
    named: Option<String>,
) -> Option<usize> {
    let mut launch = launch(vec!["-l".into()]);
    if let Some(socket) = named {
        launch.environment.retain(|(name, _)| name != "SSH_AUTH_SOCK");
        launch.environment.push(("SSH_AUTH_SOCK".into(), socket.into()));
    }
    if !launch.environment.iter().any(|(name, _)| name == "SSH_AUTH_SOCK") {
        return None;
    }
    launch.program = beside(tunnel, "ssh-add");
    let listed =
        process::tool(&launch, PATIENCE).await.ok().filter(|ended| ended.status.success())?;
    Some(listed.stdout.lines().count()).filter(|keys| *keys > 0)
}

fn values<'s>(settings: &'s str, name: &'static str) -> impl Iterator<Item = &'s str> {
    settings.lines().filter_map(move |line| {
        line.split_once(' ').filter(|(key, _)| *key == name).map(|(_, value)| value.trim())
    })
}

fn named_agent(settings: &str) -> Option<String> {
    values(settings, "identityagent")
        .next()
        .filter(|agent| agent.starts_with('/'))
        .map(str::to_owned)
}

fn identity_files(settings: &str, home: &Path) -> Vec<PathBuf> {
    let files =
        ["identityfile", "certificatefile"].into_iter().flat_map(|name| values(settings, name));
    files
        .map(|file| {
            file.strip_prefix("~/").map_or_else(|| PathBuf::from(file), |rest| home.join(rest))
        })
        .collect()
}

fn other(settings: &str, tunnel: &TunnelConfig) -> Option<Identity> {
    let is_set =
        |name: &'static str| values(settings, name).any(|value| !matches!(value, "no" | "none"));
    let cache = format!("/tmp/krb5cc_{}", rustix::process::geteuid().as_raw());
    let ticket = tunnel.environment.iter().any(|(name, _)| name == "KRB5CCNAME")
        || Path::new(&cache).exists();
    if is_set("pkcs11provider") {
        return Some(Identity::Other("a PKCS#11 token"));
    }
    let spoken =
        |name: &'static str| values(settings, name).any(|value| value.contains(['%', '$']));
    if ["identityfile", "identityagent", "certificatefile"].into_iter().any(spoken) {
        return Some(Identity::Other("what ssh's settings name"));
    }
    if is_set("hostbasedauthentication") {
        return Some(Identity::Other("this machine's own key"));
    }
    (is_set("gssapiauthentication") && ticket).then_some(Identity::Other("a Kerberos ticket"))
}

fn is_private_key(path: &Path) -> bool {
    use std::io::Read;
    let path = path.to_owned();
    let head = outside(move || {
        let mut head = Vec::new();
        let read = std::fs::File::open(path)?.take(HEAD as u64).read_to_end(&mut head);
        read.map(|_| head)
    });
    let head = head.unwrap_or_default();
    head.starts_with(b"-----BEGIN") && String::from_utf8_lossy(&head).contains("PRIVATE KEY")
}

fn private_keys(folder: &Path) -> Vec<PathBuf> {
    let folder = folder.to_owned();
    let all = outside(move || {
        let entries = std::fs::read_dir(folder).into_iter().flatten().flatten();
        entries.map(|entry| entry.path()).collect::<Vec<_>>()
    });
    let mut found: Vec<PathBuf> = all.into_iter().filter(|path| is_private_key(path)).collect();
    found.sort();
    found
}

/// A machine on the way.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct HostKey {
    pub host: String,
    /// ssh knows its key.
    pub known: bool,
    /// What to type to get to know it.
    pub by_hand: String,
}

/// The machines on the way, and whether ssh knows their keys. Those behind options that make keys of no
/// account are left out.
pub(super) async fn host_keys(
    tunnel: &TunnelConfig,
    launch: impl Fn(Vec<String>) -> Launch,
) -> Vec<HostKey> {
    let mut found = Vec::new();
    let jumps = tunnel
        .jump
        .iter()
        .flat_map(|jump| jump.split(','))
        .map(str::trim)
        .filter(|jump| !jump.is_empty());
    let hops = jumps.map(ssh_args::settings_of).chain([ssh_args::settings(tunnel)]);
    for words in hops {
        let Ok(said) = process::tool(&launch(words), PATIENCE).await else { continue };
        let first = |name| values(&said.stdout, name).next().unwrap_or_default();
        if !matches!(first("stricthostkeychecking"), "true" | "yes" | "ask") {
            continue;
        }
        let name = values(&said.stdout, "hostkeyalias").next().unwrap_or(first("hostname"));
        let name = if first("port") == "22" {
            name.to_owned()
        } else {
            format!("[{name}]:{}", first("port"))
        };
        let files = ["userknownhostsfile", "globalknownhostsfile"]
            .into_iter()
            .flat_map(|name| values(&said.stdout, name))
            .flat_map(str::split_whitespace);
        let mut known = false;
        for file in files {
            let file = file
                .strip_prefix("~/")
                .map_or_else(|| PathBuf::from(file), |rest| tunnel.home.join(rest));
            let mut look =
                launch(vec!["-F".into(), name.clone(), "-f".into(), file.display().to_string()]);
            look.program = beside(tunnel, "ssh-keygen");
            known |= process::tool(&look, PATIENCE).await.is_ok_and(|ended| ended.status.success());
        }
        let port =
            if first("port") == "22" { String::new() } else { format!("-p {} ", first("port")) };
        found.push(HostKey {
            by_hand: format!("ssh {port}{}", first("hostname")),
            host: name,
            known,
        });
    }
    found
}

/// A tool that comes with ssh lies beside it.
fn beside(tunnel: &TunnelConfig, name: &str) -> PathBuf {
    let beside = tunnel.program.with_file_name(name);
    if beside.is_file() { beside } else { name.into() }
}

/// The remedy for a missing identity.
pub(super) fn remedy(tunnel: &TunnelConfig) -> String {
    format!(
        "there is no key to log in to {} with: make one with `ssh-keygen -t ed25519`, put its public half on file with the institution, \
         or start an agent and add one with `ssh-add`",
        tunnel.door()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_private_key_is_known_by_how_it_begins() {
        let folder = tempfile::tempdir().unwrap();
        let write =
            |name: &str, text: &str| std::fs::write(folder.path().join(name), text).unwrap();
        write("odd_name", "-----BEGIN OPENSSH PRIVATE KEY-----\nx");
        write("odd_name.pub", "ssh-ed25519 AAAA");
        write("certificate", "-----BEGIN CERTIFICATE-----\n");
        assert_eq!(private_keys(folder.path()), [folder.path().join("odd_name")]);
        assert!(private_keys(&folder.path().join("nothing")).is_empty());
    }

    #[test]
    fn what_ssh_makes_of_its_settings_is_read() {
        let settings = "host h\nidentityfile ~/.ssh/id_x\nidentityfile /k\nidentityagent /run/agent\ngssapiauthentication yes\n";
        assert_eq!(
            identity_files(settings, Path::new("/home/a")),
            [PathBuf::from("/home/a/.ssh/id_x"), "/k".into()]
        );
        assert_eq!(named_agent(settings).as_deref(), Some("/run/agent"));
        assert_eq!(
            other("hostbasedauthentication yes\n", &TunnelConfig::to("h")),
            Some(Identity::Other("this machine's own key"))
        );
        let ticket = TunnelConfig {
            environment: vec![("KRB5CCNAME".into(), "x".to_owned().into())],
            ..TunnelConfig::to("h")
        };
        assert_eq!(other(settings, &ticket), Some(Identity::Other("a Kerberos ticket")));
    }
}
