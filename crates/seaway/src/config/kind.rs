//! The kinds of upstreams.

/// What an upstream is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum UpstreamKind {
    Http(Vendor),
    /// The official Claude Code program.
    ClaudeCode,
    /// Simulated.
    Sandbox,
}

/// How one kind of HTTP upstream is addressed, signed and read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Vendor {
    /// Anthropic's own API.
    Anthropic,
    /// Any other that speaks it.
    Messages,
    /// Argonne's gateway.
    Argo,
}

impl UpstreamKind {
    /// How the configuration calls them.
    pub const NAMES: &[&str] = &["anthropic", "messages", "claude-code", "argo", "sandbox"];
    /// Those that need no more than their name: an upstream of that name is of that kind.
    pub const BUILT_IN: [&str; 4] = ["anthropic", "claude-code", "argo", "sandbox"];
    pub const ARGO: Self = Self::Http(Vendor::Argo);

    pub fn parse(name: &str) -> Option<Self> {
        Some(match name {
            "anthropic" => Self::Http(Vendor::Anthropic),
            "messages" => Self::Http(Vendor::Messages),
            "claude-code" => Self::ClaudeCode,
            "argo" => Self::ARGO,
            "sandbox" => Self::Sandbox,
            _ => return None,
        })
    }

    pub const fn name(self) -> &'static str {
        match self {
            Self::Http(Vendor::Anthropic) => "anthropic",
            Self::Http(Vendor::Messages) => "messages",
            Self::Http(Vendor::Argo) => "argo",
            Self::ClaudeCode => "claude-code",
            Self::Sandbox => "sandbox",
        }
    }

    /// The kind that an upstream's name stands for, if it does for one.
    pub fn of_name(name: &str) -> Option<Self> {
        Self::parse(name).filter(|_| Self::BUILT_IN.contains(&name))
    }
}

impl Vendor {
    /// The vendor's own address, for a configuration without one.
    pub const fn home(self) -> Option<&'static str> {
        match self {
            Self::Anthropic => Some("https://api.anthropic.com"),
            Self::Messages | Self::Argo => None,
        }
    }

    /// True if the variables of Anthropic's own tools speak of it.
    pub const fn takes_variables(self) -> bool {
        matches!(self, Self::Anthropic)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_one_name() {
        for name in UpstreamKind::NAMES {
            assert_eq!(UpstreamKind::parse(name).map(UpstreamKind::name), Some(*name));
        }
        assert_eq!(UpstreamKind::parse("openai"), None);
        assert_eq!(
            (UpstreamKind::of_name("messages"), UpstreamKind::of_name("argo")),
            (None, Some(UpstreamKind::ARGO))
        );
    }
}
