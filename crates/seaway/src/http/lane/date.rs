//! The time as heads say it.

use std::cell::RefCell;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use http::HeaderValue;

/// The time of now, made once a second on each thread.
pub(super) fn with_date(with: impl FnOnce(&HeaderValue)) {
    thread_local! {
        static DATE: RefCell<(u64, HeaderValue)> = const { RefCell::new((0, HeaderValue::from_static(""))) };
    }
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or(Duration::ZERO).as_secs();
    DATE.with_borrow_mut(|(second, date)| {
        if *second != now {
            let text = httpdate::fmt_http_date(UNIX_EPOCH + Duration::from_secs(now));
            (*second, *date) = (now, HeaderValue::try_from(text).unwrap_or_else(|_| date.clone()));
        }
        with(date);
    });
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_date_is_that_of_now() {
        let before = SystemTime::now() - Duration::from_secs(1);
        with_date(|date| {
            let said = httpdate::parse_http_date(date.to_str().unwrap()).unwrap();
            assert!(said >= before && said <= SystemTime::now());
        });
    }
}
