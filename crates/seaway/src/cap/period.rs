//! How long a budget lasts: by the calendar.

use jiff::civil::{Date, Weekday};
use jiff::{Span, ToSpan};

/// By the calendar of whoever owns the gateway.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Period {
    Day,
    /// From Monday on.
    Week,
    Month,
    /// For good.
    Total,
}

impl Period {
    pub const ALL: [Self; 4] = [Self::Day, Self::Week, Self::Month, Self::Total];

    pub const fn name(self) -> &'static str {
        match self {
            Self::Day => "day",
            Self::Week => "week",
            Self::Month => "month",
            Self::Total => "total",
        }
    }

    pub(super) fn parse(text: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|period| period.name().eq_ignore_ascii_case(text))
    }

    /// True for two days that lie in the same one.
    pub fn is_same(self, one: Date, other: Date) -> bool {
        one == other
            || match self {
                Self::Day => false,
                Self::Week => self.first(one) == self.first(other),
                Self::Month => (one.year(), one.month()) == (other.year(), other.month()),
                Self::Total => true,
            }
    }

    /// The first day of the one that a day lies in.
    pub fn first(self, day: Date) -> Date {
        match self {
            Self::Day => day,
            Self::Week => {
                let since = day.weekday().since(Weekday::Monday);
                day.saturating_sub(i64::from(since).days())
            }
            Self::Month => day.first_of_month(),
            Self::Total => Date::MIN,
        }
    }

    /// The first day of the next one; none where there is no next one.
    pub fn next(self, day: Date) -> Option<Date> {
        let length: Span = match self {
            Self::Day => 1.day(),
            Self::Week => 1.week(),
            Self::Month => 1.month(),
            Self::Total => return None,
        };
        Some(self.first(day).saturating_add(length))
    }
}
