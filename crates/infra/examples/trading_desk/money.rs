//! Money and prices as whole micro-dollars: sums that are exactly the same everywhere.

use std::fmt;

use serde::{Deserialize, Serialize};

/// Micro-dollars; 9.2 million million dollars fit.
#[derive(
    Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Default, Hash, Serialize, Deserialize,
)]
#[serde(transparent)]
pub struct Money(pub i64);

impl Money {
    pub const ZERO: Money = Money(0);

    pub const fn dollars(dollars: i64) -> Self {
        Money(dollars * 1_000_000)
    }

    /// Reads a decimal number of dollars, rounded half up to the micro-dollar.
    pub fn parse(text: &str) -> Option<Self> {
        let (whole, fraction) = text.split_once('.').unwrap_or((text, ""));
        if !fraction.bytes().all(|b| b.is_ascii_digit()) {
            return None;
        }
        let digit =
            |place: usize| i64::from(fraction.as_bytes().get(place).map_or(0, |b| b - b'0'));
        let micros = (0..6).fold(0, |sum, place| sum * 10 + digit(place));
        let rounded = micros + i64::from(digit(6) >= 5);
        whole
            .parse::<u32>()
            .ok()
            .map(|w| Money(i64::from(w) * 1_000_000 + rounded))
    }

    /// This price for `quantity` shares.
    pub const fn times(self, quantity: i64) -> Money {
        Money(self.0.saturating_mul(quantity))
    }

    pub const fn plus(self, other: Money) -> Money {
        Money(self.0.saturating_add(other.0))
    }

    pub const fn minus(self, other: Money) -> Money {
        Money(self.0.saturating_sub(other.0))
    }

    /// `basis_points` ten-thousandths of this amount.
    pub const fn basis_points(self, basis_points: i64) -> Money {
        Money((self.0 as i128 * basis_points as i128 / 10_000) as i64)
    }

    pub fn as_dollars(self) -> f64 {
        self.0 as f64 / 1e6
    }
}

/// Dollars and cents with thousands separators: `1,234.50`.
impl fmt::Display for Money {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let cents = (self.0.unsigned_abs() + 5_000) / 10_000;
        let whole = (cents / 100).to_string();
        let mut text = String::new();
        for (i, digit) in whole.chars().enumerate() {
            if i > 0 && (whole.len() - i).is_multiple_of(3) {
                text.push(',');
            }
            text.push(digit);
        }
        let sign = if self.0 < 0 && cents > 0 { "-" } else { "" };
        f.pad(&format!("{sign}{text}.{:02}", cents % 100))
    }
}
