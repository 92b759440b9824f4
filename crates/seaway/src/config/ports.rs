//! A port for each user of a machine that many share.

use aws_lc_rs::digest::{SHA256, digest};

/// The port of a user's gateway: the same on every start, and another for everybody else. The one below it is
/// for a tunnel that others are to reach.
pub fn derived(user: &str) -> u16 {
    let hash = digest(&SHA256, user.as_bytes());
    let first =
        hash.as_ref().iter().take(4).fold(0_u32, |number, byte| (number << 8) | u32::from(*byte));
    u16::try_from(first % 22_768 + 10_000).unwrap_or(10_000)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_name_has_its_port() {
        for (user, port) in
            [("alice", 22_025), ("bob", 24_504), ("root", 25_021), ("testuser", 31_474)]
        {
            assert_eq!(derived(user), port, "{user}");
        }
    }
}
