//! A store that is away for good.

use super::*;

/// A backend that cannot be reached.
pub(crate) struct Away;

fn away<'a, T: Send + 'a>() -> DriverResult<'a, T> {
    let error = DriverError::new(ErrorKind::Unavailable, "it is not there");
    Box::pin(std::future::ready(Err(error)))
}

impl StateDriver for Away {
    fn backend(&self) -> &'static str {
        "away"
    }
    fn capabilities(&self) -> Capabilities {
        Capabilities::new()
    }
    fn get<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, Option<Bytes>> {
        away()
    }
    fn get_many<'a>(
        &'a self,
        _: &'a [&'a str],
        _: Duration,
    ) -> DriverResult<'a, Vec<Option<Bytes>>> {
        away()
    }
    fn set<'a>(&'a self, _: &'a str, _: Bytes, _: Expiry, _: Duration) -> DriverResult<'a, ()> {
        away()
    }
    fn set_many<'a>(
        &'a self,
        _: &'a [(&'a str, Bytes)],
        _: Expiry,
        _: Duration,
    ) -> DriverResult<'a, ()> {
        away()
    }
    fn set_if_absent<'a>(
        &'a self,
        _: &'a str,
        _: Bytes,
        _: Expiry,
        _: Duration,
    ) -> DriverResult<'a, bool> {
        away()
    }
    fn delete<'a>(&'a self, _: &'a [&'a str], _: Duration) -> DriverResult<'a, u64> {
        away()
    }
    fn exists<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, bool> {
        away()
    }
    fn increment<'a>(&'a self, _: &'a str, _: i64, _: Duration) -> DriverResult<'a, i64> {
        away()
    }
    fn expire<'a>(&'a self, _: &'a str, _: TtlMillis, _: Duration) -> DriverResult<'a, bool> {
        away()
    }
    fn persist<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, bool> {
        away()
    }
    fn ttl<'a>(&'a self, _: &'a str, _: Duration) -> DriverResult<'a, TtlState> {
        away()
    }
    fn scan<'a>(
        &'a self,
        _: &'a str,
        _: Option<ScanCursor>,
        _: Duration,
    ) -> DriverResult<'a, ScanPage> {
        away()
    }
    fn ping(&self, _: Duration) -> DriverResult<'_, ()> {
        away()
    }
    fn close(&self) -> BoxFuture<'_, ()> {
        Box::pin(std::future::ready(()))
    }
}

/// A store that is away ends a copy instead of failing each of its keys.
#[tokio::test(start_paused = true)]
async fn m09_a_store_that_stays_away_ends_the_copy_after_several_attempts() {
    let from = memory();
    from.set("k", &1).await.unwrap();
    let to = StateStore::from_driver(Arc::new(Away), StoreOptions::new());
    let started = tokio::time::Instant::now();
    let error = Copy::new(&from, &to).run().await.unwrap_err();
    assert!(matches!(error, CopyError::State(_)), "{error}");
    assert!(
        started.elapsed() > Duration::from_secs(2),
        "it was asked again"
    );
}
