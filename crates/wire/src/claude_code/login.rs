//! The program's own login, as far as it tells of it.

use std::borrow::Cow;
use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

/// What `auth status --json` says. It holds no secret.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase")]
pub struct LoginStatus {
    pub logged_in: bool,
    /// `none`, `api_key`, `api_key_helper`, `oauth_token` or `claude.ai`.
    #[serde(default)]
    pub auth_method: String,
    #[serde(default)]
    pub email: Option<String>,
    #[serde(default)]
    pub org_name: Option<String>,
    #[serde(default)]
    pub subscription_type: Option<String>,
    /// Milliseconds since the epoch, where the program knows.
    #[serde(default)]
    pub login_expires_at: Option<i64>,
}

impl LoginStatus {
    /// Reads what the program printed.
    pub fn parse(printed: &str) -> Option<Self> {
        serde_json::from_str(printed.trim()).ok()
    }
}

/// Finds the address to sign in at in what `auth login` prints.
pub fn address(printed: &str) -> Option<&str> {
    let start = printed.find("https://")?;
    let rest = &printed[start..];
    // The address is whole only once something follows it.
    let end = rest.find(|c: char| c.is_whitespace() || c == '\u{1b}' || c == '\u{7}')?;
    Some(&rest[..end])
}

/// How full a plan's window is, as the program tells it.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Limit {
    /// `allowed`, `allowed_warning` or `rejected`.
    pub status: String,
    /// Seconds since the epoch.
    pub resets_at: Option<i64>,
    /// `five_hour`, `seven_day`, `seven_day_opus`, …
    pub rate_limit_type: Option<String>,
    pub utilization: Option<f64>,
    /// Every window that was told of, by its type.
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    pub unified_windows: BTreeMap<String, Window>,
}

/// One of a plan's windows.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub struct Window {
    /// From 0 to 1.
    pub utilization: Option<f64>,
    /// Seconds since the epoch.
    pub resets_at: Option<i64>,
}

#[derive(Deserialize)]
struct LimitLine<'a> {
    #[serde(borrow, rename = "type")]
    _kind: Cow<'a, str>,
    rate_limit_info: Limit,
}

impl Limit {
    /// The family of models that it is of, such as `opus`; `None` for the whole plan.
    ///
    /// The types are those of the header `anthropic-ratelimit-unified-representative-claim`.
    pub fn family(&self) -> Option<&str> {
        family_of(self.rate_limit_type.as_deref()?)
    }

    /// The largest share that is used of it and of the windows that were told with it, as far as a model counts against
    /// them, from 0 to 1; `None` where nothing was told, or all of that has begun anew, at a time in seconds since the epoch.
    pub fn share_of(&self, model: &str, now: i64) -> Option<f64> {
        let own = [(self.rate_limit_type.as_deref(), self.utilization, self.resets_at)];
        let windows = self.unified_windows.iter();
        let windows = windows
            .map(|(kind, window)| (Some(kind.as_str()), window.utilization, window.resets_at));
        let mut shares: Vec<f64> = own
            .into_iter()
            .chain(windows)
            // What says not when it begins anew would weigh for ever.
            .filter(|(kind, _, resets_at)| {
                counts_for(kind.unwrap_or_default(), model) && resets_at.is_some_and(|at| at > now)
            })
            .filter_map(|(_, share, _)| share)
            .collect();
        let own = self.rate_limit_type.as_deref().unwrap_or_default();
        if counts_for(own, model) && self.is_reached(now) {
            shares.push(1.0);
        }
        shares.into_iter().reduce(f64::max)
    }

    /// True while it keeps requests from being served, at a time in seconds since the epoch.
    pub fn is_reached(&self, now: i64) -> bool {
        self.status == "rejected" && self.resets_at.is_some_and(|at| at > now)
    }

    /// Reads a `rate_limit_event`.
    pub fn parse(line: &[u8]) -> Option<Self> {
        serde_json::from_slice::<LimitLine<'_>>(line).ok().map(|line| line.rate_limit_info)
    }
}

/// True where requests for a model use up a window of this type. What is paid beside the plan is none of it.
fn counts_for(kind: &str, model: &str) -> bool {
    let beside = kind.ends_with("overage") || kind.ends_with("oauth_apps");
    !beside && family_of(kind).is_none_or(|family| model.contains(family))
}

fn family_of(kind: &str) -> Option<&str> {
    kind.strip_prefix("seven_day_")
        .or_else(|| kind.strip_prefix("five_hour_"))
        .filter(|rest| *rest != "overage" && *rest != "oauth_apps")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_share_of_a_plan_is_that_of_the_windows_that_a_model_counts_against() {
        let of = |info: &str, model: &str| {
            let line = format!(r#"{{"type":"rate_limit_event","rate_limit_info":{info}}}"#);
            Limit::parse(line.as_bytes()).unwrap().share_of(model, 1_000)
        };
        let windows = r#"{"status":"allowed","unifiedWindows":{"five_hour":{"utilization":0.4,"resetsAt":2000},"seven_day_opus":{"utilization":0.9,"resetsAt":2000}}}"#;
        for (info, model, share) in [
            (windows, "claude-sonnet-5", Some(0.4)),
            (windows, "claude-opus-5", Some(0.9)),
            (r#"{"status":"allowed_warning","utilization":0.91,"resetsAt":2000}"#, "m", Some(0.91)),
            (r#"{"status":"allowed_warning","utilization":0.91,"resetsAt":1000}"#, "m", None),
            (
                r#"{"status":"rejected","resetsAt":2000,"rateLimitType":"five_hour"}"#,
                "m",
                Some(1.0),
            ),
            (
                r#"{"status":"rejected","resetsAt":2000,"rateLimitType":"seven_day_opus"}"#,
                "m",
                None,
            ),
            (r#"{"status":"allowed","resetsAt":2000}"#, "m", None),
            (r#"{"status":"allowed_warning","utilization":0.91}"#, "m", None),
            (
                r#"{"status":"allowed","utilization":0.97,"resetsAt":2000,"rateLimitType":"seven_day_overage"}"#,
                "m",
                None,
            ),
            // Its own window began anew, and the week's did not.
            (
                r#"{"status":"allowed","utilization":0.5,"resetsAt":900,"unifiedWindows":{"seven_day":{"utilization":0.97,"resetsAt":2000}}}"#,
                "m",
                Some(0.97),
            ),
        ] {
            assert_eq!(of(info, model), share, "{info} {model}");
        }
    }

    #[test]
    fn the_status_is_read_as_it_is_printed() {
        let printed = r#"{"loggedIn":true,"authMethod":"claude.ai","apiProvider":"firstParty","loginExpiresAt":null,"email":null,"subscriptionType":"max","planTier":"max_20x"}"#;
        let status = LoginStatus::parse(printed).unwrap();
        assert_eq!(
            (status.logged_in, status.auth_method.as_str(), status.subscription_type.as_deref()),
            (true, "claude.ai", Some("max"))
        );
        assert!(
            !LoginStatus::parse("{\"loggedIn\":false,\"authMethod\":\"none\"}\n")
                .unwrap()
                .logged_in
        );
        assert_eq!(LoginStatus::parse("Not logged in"), None);
    }

    #[test]
    fn the_address_is_found_once_it_is_whole() {
        assert_eq!(
            address(
                "Opening browser to sign in…\nIf not: https://claude.com/cai/oauth?code=true&x=%3A"
            ),
            None
        );
        assert_eq!(
            address("visit: https://claude.com/cai/oauth?code=true&x=%3A\n\nPaste"),
            Some("https://claude.com/cai/oauth?code=true&x=%3A")
        );
        assert_eq!(address("nothing"), None);
    }

    #[test]
    fn a_limit_is_read() {
        let line = br#"{"type":"rate_limit_event","rate_limit_info":{"status":"allowed_warning","resetsAt":1795300000,"rateLimitType":"five_hour","utilization":0.91},"uuid":"u"}"#;
        assert_eq!(Limit::parse(line).unwrap().resets_at, Some(1_795_300_000));
        let line = br#"{"type":"rate_limit_event","rate_limit_info":{"status":"rejected","resetsAt":1795991689,"rateLimitType":"five_hour","isUsingOverage":false,"unifiedWindows":{"five_hour":{"utilization":1,"resetsAt":1795991689}}}}"#;
        assert_eq!(
            Limit::parse(line).unwrap().unified_windows["five_hour"],
            Window { utilization: Some(1.0), resets_at: Some(1_795_991_689) }
        );
    }

    #[test]
    fn a_limit_is_of_the_plan_or_of_a_family_of_models() {
        let of = |kind: &str| Limit {
            rate_limit_type: Some(kind.to_owned()),
            status: "rejected".into(),
            resets_at: Some(10),
            ..Limit::default()
        };
        for (kind, family) in [
            ("five_hour", None),
            ("seven_day", None),
            ("seven_day_opus", Some("opus")),
            ("seven_day_sonnet", Some("sonnet")),
            ("seven_day_overage", None),
            ("overage", None),
        ] {
            assert_eq!(of(kind).family(), family, "{kind}");
        }
        assert!(
            of("five_hour").is_reached(9)
                && !of("five_hour").is_reached(10)
                && !Limit { status: "allowed".into(), ..of("five_hour") }.is_reached(9)
        );
    }
}
