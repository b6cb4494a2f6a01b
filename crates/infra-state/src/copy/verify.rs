//! Whether both sides hold the same.

use std::fmt;
use std::time::Duration;

use tokio::time::sleep;

use super::report::{CopyError, EXAMPLES};
use super::run::each;
use super::selection::Role;
use super::transfer::same_life;
use super::{Copy, checkpoint};
use crate::error::Result as StateResult;
use crate::store::StateStore;

const PAGE: usize = 500;
/// A difference counts when it is still there after this, so often: the stores may be in use.
const LOOKS: u32 = 3;
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);

/// Which keys are compared.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Sample {
    /// All of them.
    All,
    /// One in so many, always the same ones. 0 and 1 are all.
    OneIn(u32),
}

/// What a comparison of two stores found.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
#[non_exhaustive]
pub struct VerifyReport {
    /// Keys that were compared.
    pub compared: u64,
    /// At the source and not at the target.
    pub missing: u64,
    /// At the target and not at the source.
    pub extra: u64,
    /// Other bytes.
    pub different: u64,
    /// The same bytes with lives that end more than 2 s apart.
    pub ttl_drift: u64,
    /// The first 100 findings: what and which key.
    pub findings: Vec<(Finding, String)>,
}

/// What is wrong with a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
#[non_exhaustive]
pub enum Finding {
    /// At the source and not at the target.
    Missing,
    /// At the target and not at the source.
    Extra,
    /// Other bytes.
    Different,
    /// The same bytes with lives that end more than 2 s apart.
    TtlDrift,
}

impl VerifyReport {
    /// Whether nothing was found.
    pub fn is_clean(&self) -> bool {
        self.missing + self.extra + self.different + self.ttl_drift == 0
    }

    /// For a command line: 0 when nothing was found, else 1.
    pub fn exit_code(&self) -> u8 {
        u8::from(!self.is_clean())
    }

    fn count(&mut self, finding: Option<Finding>, key: String) {
        match finding {
            None => return,
            Some(Finding::Missing) => self.missing += 1,
            Some(Finding::Extra) => self.extra += 1,
            Some(Finding::Different) => self.different += 1,
            Some(Finding::TtlDrift) => self.ttl_drift += 1,
        }
        if let Some(finding) = finding
            && self.findings.len() < EXAMPLES
        {
            self.findings.push((finding, key));
        }
    }
}

/// One line.
impl fmt::Display for VerifyReport {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let VerifyReport {
            compared,
            missing,
            extra,
            different,
            ttl_drift,
            ..
        } = self;
        write!(
            f,
            "{compared} compared: {missing} missing, {extra} extra, {different} different, \
             {ttl_drift} with another life"
        )
    }
}

impl Copy {
    /// Compares both sides, reading each in pages; writes nothing. A difference counts when it
    /// lasts, so stores in use can be compared.
    ///
    /// # Errors
    /// A store that does not answer.
    pub async fn verify(&self, sample: Sample) -> Result<VerifyReport, CopyError> {
        let mut report = VerifyReport::default();
        self.compare(&self.from, sample, &mut report, false).await?;
        self.compare(&self.to, sample, &mut report, true).await?;
        Ok(report)
    }

    /// One side's keys. In the second pass only what the source does not have is new.
    async fn compare(
        &self,
        side: &StateStore,
        sample: Sample,
        report: &mut VerifyReport,
        second: bool,
    ) -> Result<(), CopyError> {
        let mut keys = side.scan(&self.prefix);
        let mut page = Vec::new();
        loop {
            let key = keys.next().await.transpose()?;
            let ended = key.is_none();
            let wanted = |key: &String| self.selection.role(key) == Role::Data;
            page.extend(key.filter(wanted).filter(|key| sampled(key, sample)));
            if page.len() < PAGE && !ended {
                continue;
            }
            if !second {
                report.compared += page.len() as u64;
            }
            let (from, to) = (self.from.clone(), self.to.clone());
            let look = each(std::mem::take(&mut page), self.at_once, move |key| {
                let (from, to) = (from.clone(), to.clone());
                async move {
                    let found = lasting(&from, &to, &key).await;
                    (key, found)
                }
            });
            for (key, found) in look.await? {
                let found = found?.filter(|found| (*found == Finding::Extra) == second);
                report.count(found, key);
            }
            if ended {
                return Ok(());
            }
        }
    }
}

fn sampled(key: &str, sample: Sample) -> bool {
    match sample {
        Sample::OneIn(n) if n > 1 => checkpoint::digest(key, b"").is_multiple_of(u64::from(n)),
        _ => true,
    }
}

async fn lasting(from: &StateStore, to: &StateStore, key: &str) -> StateResult<Option<Finding>> {
    for _ in 1..LOOKS {
        if look(from, to, key).await?.is_none() {
            return Ok(None);
        }
        sleep(BETWEEN_LOOKS).await;
    }
    look(from, to, key).await
}

/// How the two differ in one key.
pub(super) async fn look(
    from: &StateStore,
    to: &StateStore,
    key: &str,
) -> StateResult<Option<Finding>> {
    let (here, there) = (from.get_entry(key).await?, to.get_entry(key).await?);
    Ok(match (here, there) {
        (None, None) => None,
        (Some(_), None) => Some(Finding::Missing),
        (None, Some(_)) => Some(Finding::Extra),
        (Some(here), Some(there)) if here.value != there.value => Some(Finding::Different),
        (Some(here), Some(there)) if !same_life(here.ttl, there.ttl) => Some(Finding::TtlDrift),
        (Some(_), Some(_)) => None,
    })
}
