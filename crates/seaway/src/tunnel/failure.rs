//! What ssh's last words mean. Pure.

use std::fmt;

/// Why ssh failed, as its words tell.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum SshFailure {
    HostKey,
    Authentication,
    Network,
    Port,
    /// Nobody was asked: ssh could not be run, or was stopped.
    Local,
    Unknown,
}

/// The words of each cause, in lower case; the first match wins.
const WORDS: [(SshFailure, &[&str]); 5] = [
    // ssh did not understand what it was told, by us or by its owner.
    (
        SshFailure::Local,
        &[
            "bad configuration option",
            "bad configuration options",
            "invalid environment variable expansion",
            "unsupported option",
        ],
    ),
    (
        SshFailure::HostKey,
        &[
            "host key verification failed",
            "remote host identification has changed",
            "no matching host key",
            "host key is known for",
        ],
    ),
    (
        SshFailure::Authentication,
        &[
            "permission denied",
            "publickey",
            "too many authentication failures",
            "no mutual signature",
            "unable to negotiate",
            "no more authentication methods",
            "authentication failed",
        ],
    ),
    (
        SshFailure::Network,
        &[
            "timed out",
            "connection refused",
            "could not resolve",
            "name or service not known",
            "unreachable",
            "no route to host",
        ],
    ),
    (
        SshFailure::Port,
        &[
            "address already in use",
            "cannot listen",
            "remote port forwarding failed",
            "could not request local forwarding",
            "port forwarding failed",
        ],
    ),
];

impl SshFailure {
    /// Tells the cause from what ssh wrote to stderr.
    pub fn of(stderr: &str) -> Self {
        let said = telling_lines(stderr).collect::<Vec<_>>().join("\n").to_lowercase();
        let found = WORDS.iter().find(|(_, words)| words.iter().any(|word| said.contains(word)));
        found.map_or(Self::Unknown, |(cause, _)| *cause)
    }

    /// True if the machine at the other end may hold it against us: too many of these get an address blocked.
    pub const fn counts(self) -> bool {
        match self {
            Self::HostKey | Self::Authentication | Self::Unknown => true,
            Self::Network | Self::Port | Self::Local => false,
        }
    }

    /// The remedy, in words.
    pub fn remedy(self, command: &str) -> String {
        match self {
            Self::HostKey => format!(
                "its host key is not the known one, or is not known: run `{command}` once by hand and compare the key with what the institution publishes"
            ),
            Self::Authentication => {
                format!(
                    "check that `{command}` gets in without a question (key in the agent, public key on file there); `seaway tunnel --interactive` lets ssh ask for a second factor"
                )
            }
            Self::Network => {
                "check the network and the names of host and jump host; it is tried again by itself"
                    .into()
            }
            Self::Port => "the port is taken: choose another with `--tunnel-port`".into(),
            Self::Local => {
                "nothing was sent; correct what the message says, and it is tried again".into()
            }
            Self::Unknown => format!("run `{command}` by hand and see; `-v` logs what ssh says"),
        }
    }
}

impl fmt::Display for SshFailure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::HostKey => "host key",
            Self::Authentication => "authentication",
            Self::Network => "network",
            Self::Port => "port",
            Self::Local => "this machine",
            Self::Unknown => "unknown",
        })
    }
}

/// ssh's words without its chatter. Where the way leads over a jump host, whatever goes wrong there ends
/// with the same two lines, which say nothing: they count only if there is nothing else.
fn telling_lines(stderr: &str) -> impl Iterator<Item = &str> {
    let chatter = |line: &str| {
        line.is_empty()
            || ["debug", "Warning: Permanently added", "Authenticated to ", "OpenSSH_"]
                .iter()
                .any(|start| line.starts_with(start))
    };
    let echo = |line: &str| {
        line.starts_with("kex_exchange_identification:") || line.contains("UNKNOWN port 65535")
    };
    let lines = move || stderr.lines().map(str::trim).filter(move |line| !chatter(line));
    let said = lines().any(|line| !echo(line));
    lines().filter(move |line| !said || !echo(line))
}

/// The line of ssh's words that says most: the first that has a cause, else the last.
pub(super) fn telling(stderr: &str) -> String {
    let cause = SshFailure::of(stderr);
    let telling = telling_lines(stderr).find(|line| {
        (cause != SshFailure::Unknown && SshFailure::of(line) == cause)
            || line.contains("open failed")
    });
    telling.or_else(|| telling_lines(stderr).last()).unwrap_or("ssh said nothing").to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_match_wins() {
        let table = [
            (
                "@@@ WARNING: REMOTE HOST IDENTIFICATION HAS CHANGED! @@@\nHost key verification failed.\n",
                SshFailure::HostKey,
            ),
            (
                "Unable to negotiate with 1.2.3.4 port 22: no matching host key type found. Their offer: ssh-rsa",
                SshFailure::HostKey,
            ),
            (
                "alice@logins: Permission denied (publickey,keyboard-interactive).\nConnection closed by UNKNOWN port 65535",
                SshFailure::Authentication,
            ),
            (
                "Received disconnect from 1.2.3.4 port 22:2: Too many authentication failures",
                SshFailure::Authentication,
            ),
            ("sign_and_send_pubkey: no mutual signature supported", SshFailure::Authentication),
            (
                "Unable to negotiate with 1.2.3.4 port 22: no matching key exchange method found",
                SshFailure::Authentication,
            ),
            ("ssh: connect to host h port 22: Connection timed out", SshFailure::Network),
            ("ssh: connect to host h port 22: Connection refused", SshFailure::Network),
            ("ssh: Could not resolve hostname h: Name or service not known", SshFailure::Network),
            ("ssh: connect to host h port 22: Network is unreachable", SshFailure::Network),
            ("ssh: connect to host h port 22: No route to host", SshFailure::Network),
            (
                "bind [127.0.0.1]:9: Address already in use\nchannel_setup_fwd_listener_tcpip: cannot listen to port: 9",
                SshFailure::Port,
            ),
            ("Error: remote port forwarding failed for listen port 9", SshFailure::Port),
            ("something new", SshFailure::Unknown),
            (
                "/home/a/.ssh/config: line 3: Bad configuration option: x\nterminating, 1 bad configuration options",
                SshFailure::Local,
            ),
            ("Connection closed by 1.2.3.4 port 22", SshFailure::Unknown),
            (
                "Your account has expired\nkex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535",
                SshFailure::Unknown,
            ),
            (
                "kex_exchange_identification: Connection closed by remote host\nConnection closed by UNKNOWN port 65535",
                SshFailure::Unknown,
            ),
            (
                "debug1: Offering public key\nAuthenticated to j using \"publickey\".\nchannel 0: open failed: connect failed: Connection refused",
                SshFailure::Network,
            ),
            ("", SshFailure::Unknown),
        ];
        for (said, cause) in table {
            assert_eq!(SshFailure::of(said), cause, "{said}");
        }
    }

    #[test]
    fn what_the_other_end_may_hold_against_us_counts() {
        let counted = [
            SshFailure::HostKey,
            SshFailure::Authentication,
            SshFailure::Network,
            SshFailure::Port,
            SshFailure::Local,
            SshFailure::Unknown,
        ]
        .map(SshFailure::counts);
        assert_eq!(counted, [true, true, false, false, false, true]);
    }

    #[test]
    fn the_telling_line_is_found() {
        let said = "Warning: Permanently added 'h'\ndebug1: Connection refused earlier\na@h: Permission denied (publickey).\nConnection closed by UNKNOWN port 65535\n";
        assert_eq!(telling(said), "a@h: Permission denied (publickey).");
        assert_eq!(telling("one\ntwo\n"), "two");
        assert_eq!(
            telling(
                "Account expired\nkex_exchange_identification: x\nConnection closed by UNKNOWN port 65535"
            ),
            "Account expired"
        );
        let prohibited = "channel 0: open failed: administratively prohibited: open failed\nstdio forwarding failed\nkex_exchange_identification: x";
        assert_eq!(
            telling(prohibited),
            "channel 0: open failed: administratively prohibited: open failed"
        );
        assert_eq!(telling("debug1: x\n"), "ssh said nothing");
    }
}
