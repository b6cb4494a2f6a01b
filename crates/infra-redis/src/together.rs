//! Several futures in one task.

use std::future::poll_fn;
use std::pin::Pin;
use std::task::Poll;
use std::time::Duration;

use tokio::time::timeout;

/// How long one of several servers is waited for before the next one is asked as well.
pub(crate) const STAGGER: Duration = Duration::from_millis(200);

/// Asks one candidate after the other, the next one when one has failed or has not answered for
/// `stagger`, and returns the first success; else the last failure. The others are dropped.
/// `None` without candidates.
pub(crate) async fn first<C, T, E, F>(
    candidates: impl IntoIterator<Item = C>,
    stagger: Duration,
    ask: impl Fn(C) -> F,
) -> Option<Result<T, E>>
where
    F: Future<Output = Result<T, E>>,
{
    let mut candidates = candidates.into_iter();
    let mut asked: Vec<Pin<Box<F>>> = Vec::new();
    let mut last = None;
    loop {
        let another = candidates.next().map(&ask);
        let more = another.is_some();
        asked.extend(another.map(Box::pin));
        if asked.is_empty() {
            return last;
        }
        let settled = settled(&mut asked);
        let settled = match more {
            true => timeout(stagger, settled).await.ok(),
            false => Some(settled.await),
        };
        match settled {
            Some(Ok(success)) => return Some(Ok(success)),
            Some(failure) => last = Some(failure),
            None => {}
        }
    }
}

/// The output of the first future that has one; it is taken out.
async fn settled<F: Future>(futures: &mut Vec<Pin<Box<F>>>) -> F::Output {
    poll_fn(|cx| {
        for at in 0..futures.len() {
            if let Some(future) = futures.get_mut(at)
                && let Poll::Ready(output) = future.as_mut().poll(cx)
            {
                drop(futures.swap_remove(at));
                return Poll::Ready(output);
            }
        }
        Poll::Pending
    })
    .await
}

/// All outputs, in the order of the futures.
#[cfg(feature = "redis")]
pub(crate) async fn all<F: Future>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<_> = futures
        .into_iter()
        .map(|one| (Box::pin(one), None))
        .collect();
    poll_fn(|cx| {
        let mut pending = false;
        for (future, output) in &mut running {
            if output.is_none() {
                match future.as_mut().poll(cx) {
                    Poll::Ready(done) => *output = Some(done),
                    Poll::Pending => pending = true,
                }
            }
        }
        match pending {
            true => Poll::Pending,
            false => Poll::Ready(()),
        }
    })
    .await;
    running
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}

#[cfg(test)]
mod tests {
    use tokio::time::{Instant, sleep};

    use super::*;

    const SECOND: Duration = Duration::from_secs(1);

    async fn after(wait: Duration, success: bool) -> Result<Duration, Duration> {
        sleep(wait).await;
        if success { Ok(wait) } else { Err(wait) }
    }

    #[tokio::test(start_paused = true)]
    async fn a_silent_candidate_holds_nobody_up() {
        let begun = Instant::now();
        let candidates = [(60 * SECOND, true), (SECOND / 2, false), (SECOND, true)];
        let answer = first(candidates, SECOND, |(wait, success)| after(wait, success)).await;
        assert_eq!(answer, Some(Ok(SECOND)));
        // The second was asked after a second, the third when that had failed.
        assert_eq!(begun.elapsed(), SECOND * 5 / 2);
        let none = first(Vec::<u8>::new(), SECOND, |_| after(SECOND, true)).await;
        assert_eq!(none, None);
        let failed = first([1, 2], SECOND, |n| after(n * SECOND * 2, false)).await;
        assert_eq!(failed, Some(Err(4 * SECOND)));
    }

    #[cfg(feature = "redis")]
    #[tokio::test(start_paused = true)]
    async fn all_run_at_the_same_time_and_keep_their_order() {
        let begun = Instant::now();
        let answers = all([3, 1, 2].map(|n| after(n * SECOND, true))).await;
        assert_eq!(answers, [3, 1, 2].map(|n| Ok(n * SECOND)));
        assert_eq!(begun.elapsed(), 3 * SECOND);
        assert!(all(Vec::<std::future::Ready<()>>::new()).await.is_empty());
    }
}
