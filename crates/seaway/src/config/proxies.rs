//! Clients that would come to loopback by a proxy, which cannot reach it.

use super::Environment;

/// The names under which we are reached.
const OURS: [&str; 2] = ["localhost", "127.0.0.1"];
/// Variables by which a program is told of a proxy.
pub const PROXIES: [&str; 6] =
    ["http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "all_proxy", "ALL_PROXY"];

/// Adds our names to a `no_proxy` list that lacks them. What is there stays, in its order.
pub fn merged(list: &str) -> String {
    let mut names: Vec<&str> =
        list.split(',').map(str::trim).filter(|name| !name.is_empty()).collect();
    for own in OURS {
        if !names.iter().any(|name| name.eq_ignore_ascii_case(own)) {
            names.push(own);
        }
    }
    names.join(",")
}

/// What `no_proxy` should say, if a proxy is set and it does not yet.
pub(super) fn needed(environment: &Environment) -> Option<String> {
    if !PROXIES.iter().any(|name| environment.get(name).is_some()) {
        return None;
    }
    let list =
        ["no_proxy", "NO_PROXY"].iter().find_map(|name| environment.get(name)).unwrap_or_default();
    let covers = |own: &str| {
        list.split(',').map(str::trim).any(|name| name == "*" || name.eq_ignore_ascii_case(own))
    };
    (!OURS.iter().all(|own| covers(own))).then(|| merged(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_names_are_added_once_and_the_order_stays() {
        for (list, expect) in [
            ("", "localhost,127.0.0.1"),
            ("a,b", "a,b,localhost,127.0.0.1"),
            ("localhost", "localhost,127.0.0.1"),
            ("127.0.0.1, LOCALHOST ,x", "127.0.0.1,LOCALHOST,x"),
        ] {
            assert_eq!(merged(list), expect, "{list}");
        }
    }

    #[test]
    fn it_is_needed_where_a_proxy_is_set_and_not_gone_round() {
        let check = |variables: &[(&str, &str)], expect: Option<&str>| {
            let environment = Environment::of(
                variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())),
            );
            assert_eq!(needed(&environment).as_deref(), expect, "{variables:?}");
        };
        check(&[], None);
        check(&[("HTTP_PROXY", "http://p")], Some("localhost,127.0.0.1"));
        check(
            &[("https_proxy", "http://p"), ("no_proxy", ".gov")],
            Some(".gov,localhost,127.0.0.1"),
        );
        check(&[("https_proxy", "http://p"), ("NO_PROXY", "*")], None);
        check(&[("https_proxy", "http://p"), ("NO_PROXY", "127.0.0.1,localhost")], None);
    }
}
