//! Which upstreams a request may go to. Pure.

use crate::config::{Config, Glob, Route, RouteWhen, UpstreamName};

/// Model names that stand for the newest of their family, unless an alias says otherwise.
pub const FAMILIES: [&str; 3] = ["opus", "sonnet", "haiku"];

/// Returns what a model name stands for, if it is an alias.
pub fn alias<'a>(aliases: &'a [(Glob, String)], model: &str) -> Option<&'a str> {
    aliases
        .iter()
        .find(|(glob, _)| glob.matches(model))
        .map(|(_, target)| target.as_str())
        .filter(|target| *target != model)
}

/// Returns the upstreams for a model, in the order in which they are to be tried.
///
/// `asked` is the client's name for it, `model` what that stands for; a route may
/// speak of either. Without a fitting route it is the default upstream.
pub fn route(config: &Config, asked: &str, model: &str) -> Vec<UpstreamName> {
    if let Some(route) = fitting(config, RouteWhen::Always, asked, model) {
        return route.upstreams.clone();
    }
    let first = config.upstreams.first().map(|upstream| upstream.name.clone());
    config.default_upstream.clone().or(first).into_iter().collect()
}

/// Returns the first route for a model of those that are taken so.
pub fn fitting<'a>(
    config: &'a Config,
    when: RouteWhen,
    asked: &str,
    model: &str,
) -> Option<&'a Route> {
    let fits = |glob: &Glob| glob.matches(model) || glob.matches(asked);
    config.routes.iter().find(|route| route.when == when && fits(&route.model))
}

/// Puts upstreams that rest, or are to be spared, behind those that do not. Nobody is left out, and a lone
/// upstream is always asked.
pub fn healthy_first<T>(targets: Vec<T>, rests: impl Fn(&T) -> bool) -> Vec<T> {
    if targets.len() < 2 {
        return targets;
    }
    let (resting, well): (Vec<T>, Vec<T>) = targets.into_iter().partition(rests);
    well.into_iter().chain(resting).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alias_never_stands_for_itself() {
        let aliases = [
            (Glob("gpt-4o".into()), "claude-x".to_owned()),
            (Glob("*".into()), "claude-y".to_owned()),
        ];
        assert_eq!(alias(&aliases, "gpt-4o"), Some("claude-x"));
        assert_eq!(alias(&aliases, "other"), Some("claude-y"));
        assert_eq!(alias(&aliases, "claude-y"), None);
    }

    #[test]
    fn who_rests_is_asked_last() {
        assert_eq!(healthy_first(vec![1, 2, 3], |n| *n == 1), [2, 3, 1]);
        assert_eq!(healthy_first(vec![1], |_| true), [1]);
    }
}
