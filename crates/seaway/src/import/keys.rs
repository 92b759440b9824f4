//! Keys, teams and budgets of LiteLLM, by its export.
//!
//! Source: LiteLLM 1.90.0, `GET /key/list?return_full_object=true`, `GET /team/list`, and the rows of `LiteLLM_VerificationToken` and
//! `LiteLLM_TeamTable`: a key is kept as the hexadecimal SHA-256 of its text.

use serde::de::Error as _;
use serde::{Deserialize, Deserializer};
use serde_json::{Map, Value, json};

/// What is to be made here, and what has no counterpart.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ForeignKeys {
    /// Names of teams, with what is set for each.
    pub teams: Vec<(String, Value)>,
    /// Bodies of `POST /v1/admin/keys`.
    pub keys: Vec<Value>,
    pub notes: Vec<String>,
}

/// It is no such export.
#[derive(Debug, thiserror::Error)]
#[error(
    "this is no export of LiteLLM's keys; expected the JSON of `/key/list?return_full_object=true`, or a list of rows with `token`"
)]
pub struct NoExport(#[source] Option<serde_json::Error>);

#[derive(Debug, Deserialize)]
#[serde(untagged)]
enum Export {
    Whole {
        keys: Vec<Value>,
        #[serde(default)]
        teams: Vec<Value>,
    },
    Rows(Vec<Value>),
}

/// A key or a team: they have their limits in common.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ForeignKey {
    token: Option<String>,
    key_alias: Option<String>,
    key_name: Option<String>,
    team_id: Option<String>,
    team_alias: Option<String>,
    #[serde(deserialize_with = "number")]
    spend: Option<f64>,
    #[serde(deserialize_with = "number")]
    max_budget: Option<f64>,
    budget_duration: Option<String>,
    #[serde(deserialize_with = "number")]
    rpm_limit: Option<u32>,
    #[serde(deserialize_with = "number")]
    tpm_limit: Option<u32>,
    #[serde(deserialize_with = "number")]
    max_parallel_requests: Option<u32>,
    #[serde(deserialize_with = "names")]
    models: Option<Vec<String>>,
    expires: Option<String>,
    blocked: Option<bool>,
    /// Set within a member's budget, a model's and the like, which have no counterpart.
    model_max_budget: Option<Map<String, Value>>,
}

/// A number, also as a database writes it into text; what is larger than any limit is none.
fn number<'de, T, D>(from: D) -> Result<Option<T>, D::Error>
where
    T: std::str::FromStr + Deserialize<'de>,
    D: Deserializer<'de>,
{
    let value = Option::<Value>::deserialize(from)?.unwrap_or_default();
    match &value {
        Value::Null => Ok(None),
        Value::String(text) => text
            .trim()
            .parse()
            .map(Some)
            .map_err(|_| D::Error::custom(format!("`{text}` is no number"))),
        Value::Number(number) => number
            .to_string()
            .parse()
            .map(Some)
            .map_err(|_| D::Error::custom(format!("{number} is no limit"))),
        _ => Err(D::Error::custom(format!("{value} is no number"))),
    }
}

/// A list, also as PostgreSQL writes it into text: `{a,b}`.
fn names<'de, D: Deserializer<'de>>(from: D) -> Result<Option<Vec<String>>, D::Error> {
    let value = Option::<Value>::deserialize(from)?.unwrap_or_default();
    match value {
        Value::Null => Ok(None),
        Value::String(text) => {
            let text = text.trim().trim_start_matches('{').trim_end_matches('}');
            let names = text.split(',').map(|name| name.trim().trim_matches('"').to_owned());
            Ok(Some(names.filter(|name| !name.is_empty()).collect()))
        }
        value => serde_json::from_value(value).map(Some).map_err(D::Error::custom),
    }
}

/// Reads an export.
///
/// # Errors
///
/// If it is none.
pub fn litellm_keys(text: &str, now: jiff::Timestamp) -> Result<ForeignKeys, NoExport> {
    let export: Export = serde_json::from_str(text).map_err(|error| NoExport(Some(error)))?;
    let mut notes = Vec::new();
    let mut read = |rows: Vec<Value>| {
        let rows = rows.into_iter().enumerate().filter_map(|(number, row)| {
            serde_json::from_value::<ForeignKey>(row)
                .inspect_err(|error| notes.push(format!("row {} is left out: {error}", number + 1)))
                .ok()
        });
        rows.collect::<Vec<_>>()
    };
    let (keys, teams) = match export {
        Export::Whole { keys, teams } => (read(keys), read(teams)),
        Export::Rows(rows) => read(rows).into_iter().partition(|row| row.token.is_some()),
    };
    if keys.is_empty() && teams.is_empty() {
        return Err(NoExport(None));
    }
    let mut found = ForeignKeys { notes, ..ForeignKeys::default() };
    let mut names: Vec<(String, String)> = Vec::new();
    for team in &teams {
        let Some(id) = &team.team_id else { continue };
        let name = plain(team.team_alias.as_deref().unwrap_or(id));
        let name = if name.is_empty() { format!("team-{}", found.teams.len() + 1) } else { name };
        let mut limits = team.limits(&name, &mut found.notes);
        team.add_spent(&mut limits);
        found.teams.push((name.clone(), Value::Object(limits)));
        names.push((id.clone(), name));
    }
    for (number, key) in keys.iter().enumerate() {
        let name = key.key_alias.as_deref().or(key.key_name.as_deref());
        let name = name.map(plain).filter(|name| !name.is_empty());
        let name = name.unwrap_or_else(|| format!("litellm-{}", number + 1));
        match key.order(&name, &names, now, &mut found.notes) {
            Ok(order) => found.keys.push(order),
            Err(why) => found.notes.push(format!("`{name}` is left out: {why}")),
        }
    }
    // A team that is only named has no limits, and is made all the same.
    for order in &found.keys {
        let team = order["team"]
            .as_str()
            .filter(|team| !found.teams.iter().any(|(known, _)| known == team));
        if let Some(team) = team {
            found.teams.push((team.to_owned(), json!({})));
        }
    }
    Ok(found)
}

/// A name as they are here.
fn plain(name: &str) -> String {
    let fit = |c: char| if c.is_ascii_alphanumeric() || "._@-".contains(c) { c } else { '-' };
    let name: String = name.chars().take(64).map(fit).collect();
    name.trim_start_matches(['.', '-']).to_owned()
}

impl ForeignKey {
    fn limits(&self, name: &str, notes: &mut Vec<String>) -> Map<String, Value> {
        let mut limits = Map::new();
        if let Some(budget) = self.max_budget {
            let (period, exact) = period(self.budget_duration.as_deref());
            if !exact {
                notes.push(format!(
                    "`{name}`: its budget is for `{}`, which there is not here; it is taken over for `{period}`",
                    self.budget_duration.as_deref().unwrap_or_default()
                ));
            }
            limits.insert("budgets".into(), json!([format!("{budget:.6}/{period}")]));
        }
        for (here, limit) in [
            ("rpm", self.rpm_limit),
            ("tpm", self.tpm_limit),
            ("concurrent", self.max_parallel_requests),
        ] {
            match limit {
                Some(0) => notes.push(format!("`{name}`: its `{here}` of 0 lets nothing through there; here it has none, so see to it")),
                Some(limit) => {
                    limits.insert(here.into(), json!(limit));
                }
                None => {}
            }
        }
        if self.model_max_budget.as_ref().is_some_and(|budgets| !budgets.is_empty()) {
            notes.push(format!("`{name}`: budgets of single models are not taken over"));
        }
        limits
    }

    /// What was spent of a budget, which counts here as of today.
    fn add_spent(&self, to: &mut Map<String, Value>) {
        #[expect(
            clippy::cast_possible_truncation,
            clippy::cast_sign_loss,
            reason = "dollars, and not below zero"
        )]
        let spent = (self.spend.unwrap_or_default().max(0.0) * 1e6).round() as u64;
        if spent > 0 && self.max_budget.is_some() {
            to.insert("spent_micros".into(), spent.into());
        }
    }

    fn order(
        &self,
        name: &str,
        teams: &[(String, String)],
        now: jiff::Timestamp,
        notes: &mut Vec<String>,
    ) -> Result<Value, String> {
        if self.blocked == Some(true) {
            return Err("it is blocked".into());
        }
        if [self.rpm_limit, self.tpm_limit, self.max_parallel_requests].contains(&Some(0)) {
            return Err("one of its limits is 0, so that it lets nothing through".into());
        }
        let token = self.token.as_deref().unwrap_or_default();
        if token.len() != 64 || !token.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Err("its `token` is no SHA-256".into());
        }
        let mut order = self.limits(name, notes);
        order.insert("name".into(), name.into());
        order.insert("hash".into(), format!("sha256:{token}").into());
        if let Some(id) = &self.team_id {
            let known = teams.iter().find(|(known, _)| known == id);
            let team = known.map_or_else(|| plain(id), |(_, name)| name.clone());
            order.insert("team".into(), team.into());
        }
        // Theirs for "whatever there is".
        let all = ["all-proxy-models", "all-team-models"];
        let models: Vec<&String> =
            self.models.iter().flatten().filter(|model| !all.contains(&model.as_str())).collect();
        if !models.is_empty() {
            order.insert("models".into(), json!(models));
        }
        if let Some(expires) = &self.expires {
            let at = expires.parse::<jiff::Timestamp>().ok().or_else(|| {
                let utc: jiff::civil::DateTime = expires.parse().ok()?;
                Some(utc.to_zoned(jiff::tz::TimeZone::UTC).ok()?.timestamp())
            });
            match at {
                Some(at) if at <= now => return Err(format!("it has expired at {at}")),
                Some(at) => order.insert("expires".into(), json!(at)),
                None => return Err(format!("`{expires}` is no time")),
            };
        }
        self.add_spent(&mut order);
        Ok(order.into())
    }
}

/// The shortest of our times that is no shorter, and whether it is as long.
fn period(duration: Option<&str>) -> (&'static str, bool) {
    let Some(duration) = duration else { return ("total", true) };
    let (count, unit) =
        duration.split_at(duration.find(|c: char| !c.is_ascii_digit()).unwrap_or(duration.len()));
    let count: u64 = count.parse().unwrap_or(1);
    let minutes = match unit {
        "s" => count.div_ceil(60),
        "m" => count,
        "h" => count * 60,
        "d" => count * 1440,
        "w" => count * 10_080,
        "mo" => count * 43_200,
        _ => u64::MAX,
    };
    match minutes {
        0..1440 => ("day", false),
        1440 => ("day", true),
        1441..10_080 => ("week", false),
        10_080 => ("week", true),
        10_081..40_320 => ("month", false),
        // Of 28 to 31 days.
        40_320..=44_640 => ("month", true),
        _ => ("total", false),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const NOW: &str = "2026-11-30T00:00:00Z";

    #[test]
    fn keys_and_budgets_are_taken_over_and_what_is_not_is_said() {
        let token = "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad";
        let export = json!({
            "keys": [
                {"token": token, "key_alias": "ann's laptop", "spend": "1.5", "max_budget": "20", "budget_duration": "1d", "team_id": "t1", "models": "{claude-haiku*}", "rpm_limit": "7", "expires": "2027-01-01T00:00:00"},
                {"token": token, "key_alias": "old", "blocked": true},
                {"token": token, "key_alias": "past", "expires": "2026-01-01T00:00:00Z"},
                {"token": "sk-1234", "key_alias": "bare"},
                {"token": token, "key_alias": "shut", "rpm_limit": 0},
                {"token": token, "key_alias": "odd", "spend": true},
                {"token": token, "key_name": "sk-...abcd", "models": ["all-team-models"], "max_budget": 5, "budget_duration": "12h", "team_id": "t2"},
            ],
            "teams": [{"team_id": "t1", "team_alias": "Eng & Co", "max_budget": 100.5, "budget_duration": "30d", "spend": 7}],
        });
        let found = litellm_keys(&export.to_string(), NOW.parse().unwrap()).unwrap();
        assert_eq!(
            found.teams,
            [
                (
                    "Eng---Co".to_owned(),
                    json!({"budgets": ["100.500000/month"], "spent_micros": 7_000_000})
                ),
                ("t2".to_owned(), json!({}))
            ]
        );
        assert_eq!(
            found.keys,
            [
                json!({"name": "ann-s-laptop", "hash": format!("sha256:{token}"), "budgets": ["20.000000/day"], "rpm": 7, "team": "Eng---Co", "models": ["claude-haiku*"], "expires": "2027-01-01T00:00:00Z", "spent_micros": 1_500_000}),
                json!({"name": "sk-...abcd", "hash": format!("sha256:{token}"), "budgets": ["5.000000/day"], "team": "t2"}),
            ]
        );
        let said = found.notes.join("\n");
        for word in [
            "`old` is left out: it is blocked",
            "`past` is left out",
            "`bare` is left out",
            "`shut` is left out",
            "row 6 is left out",
            "`12h`",
        ] {
            assert!(said.contains(word), "{word}: {said}");
        }
        for wrong in ["", "{}", "[]", "{\"keys\": []}", "[1]"] {
            assert!(litellm_keys(wrong, NOW.parse().unwrap()).is_err(), "{wrong}");
        }
    }

    #[test]
    fn a_time_of_theirs_is_one_of_ours_that_is_no_shorter() {
        for (duration, expect) in [
            (None, ("total", true)),
            (Some("24h"), ("day", true)),
            (Some("30s"), ("day", false)),
            (Some("7d"), ("week", true)),
            (Some("30d"), ("month", true)),
            (Some("1mo"), ("month", true)),
            (Some("90d"), ("total", false)),
            (Some("?"), ("total", false)),
        ] {
            assert_eq!(period(duration), expect, "{duration:?}");
        }
    }
}
