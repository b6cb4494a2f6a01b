//! How much may pass in how much time.

use std::time::Duration;

use crate::config_error::{self as check, ConfigError};

const MAX_LIMIT: u32 = 1_000_000;

/// How much weight may pass in a period. A plain call weighs 1.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Quota {
    pub(super) kind: QuotaKind,
    pub(super) limit: u32,
    pub(super) period: Duration,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum QuotaKind {
    Smooth { burst: u32 },
    Strict,
}

impl Quota {
    /// `limit` per `period`, evenly spread: one every `period / limit` (GCRA). With a
    /// [`burst`](Quota::burst), so many more may pass at once; a period can then see up to
    /// `limit + burst`, so where that would get you banned use [`strict`](Quota::strict).
    pub const fn smooth(limit: u32, period: Duration) -> Self {
        Quota {
            kind: QuotaKind::Smooth { burst: 1 },
            limit,
            period,
        }
    }

    /// Never more than `limit` in *any* interval of `period`, wherever it begins. Remembers the
    /// time of each unit of the last period, so it needs up to 16 bytes per unit.
    pub const fn strict(limit: u32, period: Duration) -> Self {
        Quota {
            kind: QuotaKind::Strict,
            limit,
            period,
        }
    }

    /// How much may pass at once after a pause, 1 or more; 1 unless set. Only for
    /// [`smooth`](Quota::smooth) quotas.
    #[must_use]
    pub const fn burst(mut self, burst: u32) -> Self {
        if let QuotaKind::Smooth { .. } = self.kind {
            self.kind = QuotaKind::Smooth { burst };
        }
        self
    }

    pub(super) fn check(&self) -> Result<(), ConfigError> {
        check::count("limit", self.limit, MAX_LIMIT)?;
        check::positive("period", self.period)?;
        if let QuotaKind::Smooth { burst } = self.kind {
            check::count("burst", burst, MAX_LIMIT)?;
        }
        Ok(())
    }
}
