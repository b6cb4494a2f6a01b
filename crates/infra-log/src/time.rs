//! RFC 3339 time in UTC without a calendar library.

use std::cell::Cell;
use std::time::{SystemTime, UNIX_EPOCH};

/// Microseconds since 1970-01-01T00:00:00Z; times before that read as zero.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Timestamp(pub(crate) u64);

/// `2026-11-23T19:48:11` without fraction and zone.
type SecondText = [u8; 19];

thread_local! {
    /// The second last written by this thread: lines of one second share all but the fraction.
    static LAST: Cell<(u64, SecondText)> = const { Cell::new((u64::MAX, [0; 19])) };
}

impl Timestamp {
    pub(crate) fn now() -> Self {
        let since = SystemTime::now().duration_since(UNIX_EPOCH);
        Timestamp(since.map_or(0, |d| d.as_micros() as u64))
    }

    /// Appends `2026-11-23T19:48:11.123456Z`.
    pub(crate) fn write(self, out: &mut Vec<u8>) {
        let (seconds, micros) = (self.0 / 1_000_000, self.0 % 1_000_000);
        let text = LAST.try_with(|last| {
            let (second, text) = last.get();
            if second == seconds {
                return text;
            }
            let text = second_text(seconds);
            last.set((seconds, text));
            text
        });
        out.extend_from_slice(&text.unwrap_or_else(|_| second_text(seconds)));
        let mut fraction = *b".000000Z";
        let mut rest = micros;
        for digit in fraction.iter_mut().skip(1).take(6).rev() {
            *digit = b'0' + (rest % 10) as u8;
            rest /= 10;
        }
        out.extend_from_slice(&fraction);
    }
}

fn second_text(seconds: u64) -> SecondText {
    let (days, time) = (seconds / 86_400, seconds % 86_400);
    let (year, month, day) = civil(days);
    let [y1, y2] = [digits(year / 100), digits(year % 100)];
    let [mo, d, h, mi, s] = [month, day, time / 3600, time / 60 % 60, time % 60].map(digits);
    [
        y1[0], y1[1], y2[0], y2[1], b'-', mo[0], mo[1], b'-', d[0], d[1], b'T', h[0], h[1], b':',
        mi[0], mi[1], b':', s[0], s[1],
    ]
}

fn digits(number: u64) -> [u8; 2] {
    [b'0' + (number / 10 % 10) as u8, b'0' + (number % 10) as u8]
}

/// Year, month and day of a day number since 1970-01-01, by Howard Hinnant's `civil_from_days`
/// (<https://howardhinnant.github.io/date_algorithms.html>). Years count from March, so that the
/// leap day is the last one.
fn civil(days: u64) -> (u64, u64, u64) {
    let shifted = days + 719_468; // days since 0000-03-01
    let era = shifted / 146_097;
    let day_of_era = shifted % 146_097;
    let year_of_era =
        (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 {
        month_from_march + 3
    } else {
        month_from_march - 9
    };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    (year, month, day)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn text(micros: u64) -> String {
        let mut out = Vec::new();
        Timestamp(micros).write(&mut out);
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn known_moments_are_written_in_rfc_3339() {
        for (seconds, expected) in [
            (0, "1970-01-01T00:00:00"),
            (951_782_400, "2000-02-29T00:00:00"),
            (951_868_800, "2000-03-01T00:00:00"),
            (1_709_164_799, "2024-02-28T23:59:59"),
            (1_709_164_800, "2024-02-29T00:00:00"),
            (4_107_542_400, "2100-03-01T00:00:00"),
            (253_402_300_799, "9999-12-31T23:59:59"),
        ] {
            assert_eq!(
                text(seconds * 1_000_000 + 42),
                format!("{expected}.000042Z")
            );
        }
    }

    #[test]
    fn every_day_of_400_years_follows_the_one_before() {
        let lengths = |y: u64| {
            let leap = (y.is_multiple_of(4) && !y.is_multiple_of(100)) || y.is_multiple_of(400);
            [
                31,
                if leap { 29 } else { 28 },
                31,
                30,
                31,
                30,
                31,
                31,
                30,
                31,
                30,
                31,
            ]
        };
        let mut expected = (1970, 1, 1);
        for day in 0..146_097 {
            assert_eq!(civil(day), expected);
            let (y, m, d) = expected;
            expected = match (m, d) {
                (12, 31) => (y + 1, 1, 1),
                (m, d) if d == lengths(y)[m as usize - 1] => (y, m + 1, 1),
                (m, d) => (y, m, d + 1),
            };
        }
    }
}
