//! What ssh is told. Pure.

use std::path::Path;

use crate::config::TunnelConfig;

/// The control socket and our files, relative to the tunnel's folder: their whole paths may be too long for a
/// socket, or hold what a shell would read as something else.
pub(super) const CONTROL: &str = "./control";
/// What ssh says at its login and later.
pub(super) const SAID: &str = "./said";
pub(super) const CONFIG: &str = "./ssh_config";
pub(super) const CONFIG_ASKING: &str = "./ssh_config_asking";

/// A port or socket that ssh keeps open for us, and where it leads.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Forward {
    /// From here to a machine beyond.
    Local { from: String, to: String },
    /// From the machine at the other end to here.
    Remote { from: String, to: String },
}

impl Forward {
    /// The forward as a line of text, if it has a port.
    pub fn line(&self) -> Option<String> {
        match self {
            Self::Local { from, .. } if from.starts_with("./") => None,
            Self::Local { from, to } => Some(format!("L {from} {to}")),
            Self::Remote { from, to } => Some(format!("R {from} {to}")),
        }
    }

    /// Reads a forward from its line of text.
    pub fn parse(line: &str) -> Option<Self> {
        let mut words = line.split(' ');
        let (kind, from, to) = (words.next()?, words.next()?.to_owned(), words.next()?.to_owned());
        match kind {
            "L" => Some(Self::Local { from, to }),
            "R" => Some(Self::Remote { from, to }),
            _ => None,
        }
    }

    /// The port that it listens on.
    pub fn port(&self) -> Option<u16> {
        let (Self::Local { from, .. } | Self::Remote { from, .. }) = self;
        from.rsplit(':').next()?.parse().ok()
    }

    fn words(&self) -> [String; 2] {
        match self {
            Self::Local { from, to } => ["-L".into(), format!("{from}:{to}")],
            Self::Remote { from, to } => ["-R".into(), format!("{from}:{to}")],
        }
    }
}

/// A file of ours that includes the owner's own. What stands first counts, and it reaches the jump host too, which
/// options on the command line do not.
pub(super) fn config_file(person: &Path, asks: bool) -> String {
    let batch = if asks { "no" } else { "yes" };
    // The far leg waits while somebody types what the near one asks for.
    let patience = if asks { 180 } else { 15 };
    // Both of those are read by ssh as patterns with spaces between them.
    let quoted = |path: &Path| format!("\"{}\"", path.display());
    format!(
        "# Written by seaway at each login.\n\
         BatchMode {batch}\n\
         NumberOfPasswordPrompts 1\n\
         ConnectionAttempts 1\n\
         ConnectTimeout {patience}\n\
         ServerAliveInterval 15\n\
         ServerAliveCountMax 4\n\
         ExitOnForwardFailure yes\n\
         ForwardAgent no\n\
         ForwardX11 no\n\
         PermitLocalCommand no\n\
         RequestTTY no\n\
         Match all\n\
         Include {}\n\
         Match all\n\
         Include /etc/ssh/ssh_config\n",
        quoted(person)
    )
}

/// The login: a master connection that goes to the background once it is let in.
pub(super) fn login(tunnel: &TunnelConfig, asks: bool) -> Vec<String> {
    let config = if asks { CONFIG_ASKING } else { CONFIG };
    // In the background it has no stderr any more, but it goes on writing into the file.
    let mut words = texts(&["-F", config, "-E", SAID, "-S", CONTROL, "-M", "-N", "-f"]);
    let options = [
        "ControlPersist=no",
        "ClearAllForwardings=yes",
        "RemoteCommand=none",
        "StreamLocalBindUnlink=yes",
        "StreamLocalBindMask=0177",
    ];
    words.extend(options.iter().flat_map(|option| texts(&["-o", option])));
    if tunnel.verbose > 0 {
        words.push(format!("-{}", "v".repeat(usize::from(tunnel.verbose.min(3)))));
    }
    words.extend(destination(tunnel));
    words
}

/// Where to, as whom, by which way.
pub(super) fn destination(tunnel: &TunnelConfig) -> Vec<String> {
    let mut words = Vec::new();
    if let Some(user) = &tunnel.user {
        words.extend(["-l".to_owned(), user.clone()]);
    }
    if let Some(port) = tunnel.port {
        words.extend(["-p".to_owned(), port.to_string()]);
    }
    match tunnel.jump.as_deref() {
        // The owner's own file says.
        None => {}
        Some("") => words.extend(texts(&["-o", "ProxyJump=none"])),
        Some(jump) => words.extend(["-J".to_owned(), jumps(jump, tunnel.user.as_deref())]),
    }
    words.push(tunnel.host.clone());
    words
}

/// The account is the same on the way, unless the way says otherwise.
fn jumps(jump: &str, user: Option<&str>) -> String {
    let hop = |hop: &str| match user {
        Some(user) if !hop.contains('@') => format!("{user}@{hop}"),
        _ => hop.to_owned(),
    };
    jump.split(',').map(|text| hop(text.trim())).collect::<Vec<_>>().join(",")
}

/// A word to the master: `check`, `exit`, and with a forward `forward` or `cancel`. No configuration is
/// read, whose own forwards would be asked for too.
pub(super) fn control(tunnel: &TunnelConfig, word: &str, forward: Option<&Forward>) -> Vec<String> {
    let mut words = texts(&["-F", "/dev/null", "-S", CONTROL, "-O", word]);
    words.extend(forward.iter().flat_map(|forward| forward.words()));
    words.push(tunnel.host.clone());
    words
}

/// Asks the ssh server at the other end for its greeting, over the master: whatever comes of it, even a
/// refusal, came all the way. Without a master it fails and must not log in.
pub(super) fn knock(tunnel: &TunnelConfig) -> Vec<String> {
    let mut words = texts(&[
        "-F",
        "/dev/null",
        "-S",
        CONTROL,
        "-o",
        "ControlMaster=no",
        "-o",
        "BatchMode=yes",
        "-o",
        "ProxyCommand=false",
        "-W",
        "localhost:22",
    ]);
    words.push(tunnel.host.clone());
    words
}

/// What ssh makes of the owner's settings for this way.
pub(super) fn settings(tunnel: &TunnelConfig) -> Vec<String> {
    let mut words = texts(&["-F", CONFIG, "-G"]);
    words.extend(destination(tunnel));
    words
}

/// The same for a machine on the way: `[user@]host[:port]`.
pub(super) fn settings_of(jump: &str) -> Vec<String> {
    let mut words = texts(&["-F", CONFIG, "-G"]);
    match jump.rsplit_once(':').filter(|(_, port)| port.parse::<u16>().is_ok()) {
        Some((host, port)) => words.extend([host.to_owned(), "-p".into(), port.to_owned()]),
        None => words.push(jump.to_owned()),
    }
    words
}

/// The command that the owner would type to see what is wrong.
pub(super) fn by_hand(tunnel: &TunnelConfig) -> String {
    let own = tunnel.home.join(".ssh/config");
    let settings = if tunnel.ssh_config == own {
        Vec::new()
    } else {
        vec!["-F".to_owned(), tunnel.ssh_config.display().to_string()]
    };
    let words = settings
        .into_iter()
        .chain(destination(tunnel))
        .map(|word| if word.contains(' ') { format!("'{word}'") } else { word });
    format!("ssh {}", words.collect::<Vec<_>>().join(" "))
}

fn texts(words: &[&str]) -> Vec<String> {
    words.iter().map(|word| (*word).to_owned()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn tunnel(jump: Option<&str>, user: Option<&str>, port: Option<u16>) -> TunnelConfig {
        TunnelConfig {
            jump: jump.map(str::to_owned),
            user: user.map(str::to_owned),
            port,
            ..TunnelConfig::to("home")
        }
    }

    #[test]
    fn the_way_is_as_configured() {
        let table = [
            (tunnel(None, None, None), "home"),
            (tunnel(Some(""), Some("a"), Some(7)), "-l a -p 7 -o ProxyJump=none home"),
            (tunnel(Some("j"), None, None), "-J j home"),
            (tunnel(Some("j:2201, b@k"), Some("a"), None), "-l a -J a@j:2201,b@k home"),
        ];
        for (tunnel, expect) in table {
            assert_eq!(destination(&tunnel).join(" "), expect);
        }
    }

    #[test]
    fn a_word_to_the_master_never_logs_in() {
        let forward = Forward::Local { from: "./x".into(), to: "h:443".into() };
        assert_eq!(
            control(&TunnelConfig::to("home"), "forward", Some(&forward)).join(" "),
            "-F /dev/null -S ./control -O forward -L ./x:h:443 home"
        );
        assert!(knock(&TunnelConfig::to("home")).contains(&"ProxyCommand=false".to_owned()));
    }

    #[test]
    fn nothing_is_asked_unless_that_is_wanted() {
        let person = Path::new("/home/a b/.ssh/config");
        let (batch, asking) = (config_file(person, false), config_file(person, true));
        assert!(
            batch.starts_with("# Written by seaway at each login.\nBatchMode yes\n")
                && asking.contains("\nBatchMode no\n")
                && asking.contains("\nConnectTimeout 180\n")
        );
        assert!(batch.contains("Include \"/home/a b/.ssh/config\"\n"));
    }
}
