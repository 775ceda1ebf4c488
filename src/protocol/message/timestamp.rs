//! The time for people and clients, as RFC 3339 in UTC with milliseconds.

use serde::{Serialize, Serializer};

/// A time between 1970 and the year 9999, kept as text: a flush writes the same one into many frames.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Timestamp([u8; TIMESTAMP_BYTES]);

impl Timestamp {
    /// A time after the year 9999 becomes its last millisecond: RFC 3339 has four digits for the year.
    pub fn from_unix_millis(millis: u64) -> Self {
        let millis = millis.min(LAST_MILLI);
        let (year, month, day) = civil_from_days(millis / MILLIS_PER_DAY);
        let millis = millis % MILLIS_PER_DAY;
        let mut text = [0; TIMESTAMP_BYTES];
        let mut places = text.iter_mut();
        for (number, digits, end) in [
            (year, 4, b'-'),
            (month, 2, b'-'),
            (day, 2, b'T'),
            (millis / 3_600_000, 2, b':'),
            (millis / 60_000 % 60, 2, b':'),
            (millis / 1000 % 60, 2, b'.'),
            (millis % 1000, 3, b'Z'),
        ] {
            let digits = (0..digits).rev().map(|place| b'0' + (number / 10_u64.pow(place) % 10) as u8);
            digits.chain([end]).zip(&mut places).for_each(|(byte, place)| *place = byte);
        }
        Self(text)
    }

    /// Appends it without quotes: `2026-11-23T07:15:45.042Z`.
    pub fn push(self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.0);
    }
}

impl Serialize for Timestamp {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(str::from_utf8(&self.0).expect("digits and punctuation"))
    }
}

/// The Gregorian date of a day, which is counted from 1970-01-01.
///
/// Years begin on 1 March here, so that the leap day is the last day of its year. A cycle is 400 years, which always have
/// 146,097 days. `(5 × day + 2) / 153` is the month, because five months in a row, from March on, have 153 days.
const fn civil_from_days(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468;
    let (cycle, day_of_cycle) = (shifted / 146_097, shifted % 146_097);
    let year_of_cycle =
        (day_of_cycle - day_of_cycle / 1_460 + day_of_cycle / 36_524 - day_of_cycle / 146_096) / 365;
    let day_of_year = day_of_cycle - (365 * year_of_cycle + year_of_cycle / 4 - year_of_cycle / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    (cycle * 400 + year_of_cycle + (month <= 2) as u64, month, day)
}

/// `2026-11-23T07:15:45.042Z`.
const TIMESTAMP_BYTES: usize = 24;

const MILLIS_PER_DAY: u64 = 86_400_000;

/// 9999-12-31T23:59:59.999Z.
const LAST_MILLI: u64 = 253_402_300_799_999;

#[cfg(test)]
mod tests {
    use super::*;

    fn written(millis: u64) -> String {
        let mut out = Vec::new();
        Timestamp::from_unix_millis(millis).push(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn timestamps_are_dates() {
        for (millis, expected) in [
            (0, "1970-01-01T00:00:00.000Z"),
            (951_782_400_000, "2000-02-29T00:00:00.000Z"),
            (951_868_799_999, "2000-02-29T23:59:59.999Z"),
            (4_107_542_400_000, "2100-03-01T00:00:00.000Z"),
            (1_795_418_145_042, "2026-11-23T07:15:45.042Z"),
            (u64::MAX, "9999-12-31T23:59:59.999Z"),
        ] {
            assert_eq!(written(millis), expected);
        }
    }
}
