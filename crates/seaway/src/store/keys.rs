//! How numbers, times and ids lie in the database.

/// In milliseconds.
pub(super) const HOUR: i64 = 3_600_000;

/// SQLite knows no unsigned numbers.
pub(super) fn signed(count: u64) -> i64 {
    i64::try_from(count).unwrap_or(i64::MAX)
}

/// The 16 bytes of an id of ours, in whose order records lie: it begins with the time.
pub(super) fn key(id: &str) -> [u8; 16] {
    let own = id.rsplit('_').next().and_then(|hex| uuid::Uuid::try_parse(hex).ok());
    own.map_or_else(
        || {
            blake3::hash(id.as_bytes()).as_bytes()[..16]
                .try_into()
                .expect("a hash has more than 16 bytes")
        },
        uuid::Uuid::into_bytes,
    )
}

/// What comes before every key of this time, in milliseconds since the epoch, and after.
pub(super) fn bound(at: i64) -> [u8; 16] {
    let at = u64::try_from(at).unwrap_or(0).min((1 << 48) - 1);
    (u128::from(at) << 80).to_be_bytes()
}
