//! What to do after an attempt has failed: values in, a decision out.
//!
//! It looks at what went wrong, how often the target was asked and whether there is another. What a
//! further attempt may cost, and how often a Call is tried in all, is for [`super::attempts`].

use std::time::Duration;

use types::call::{Growth, RoutePolicy};
use types::{ErrorCode, Failure};

/// Doublings of the backoff at most: beyond them a wait is as long as no client waits.
const DOUBLINGS_MAX: u32 = 10;

/// What comes next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Next {
    /// The failure is the answer.
    Stop,
    /// The same target is asked again.
    Again {
        /// After so long.
        after: Duration,
    },
    /// Another target is asked, at once.
    Elsewhere,
}

/// Decides after the `tries`-th failure in a row at one target, which may be tried `tries_max`
/// times, `others` being left or not.
///
/// `jitter` is random in `0.0..1.0`, so that Calls that failed together don't come back together.
pub(crate) fn decide(
    failure: &Failure,
    (tries, tries_max): (u32, u32),
    others: bool,
    policy: &RoutePolicy,
    jitter: f64,
) -> Next {
    let again = |wait: Option<Duration>| {
        let after = match wait {
            Some(wait) if wait > policy.wait_max => return None,
            Some(wait) => wait.saturating_add(spread(backoff(policy, 1), jitter)),
            None => spread(backoff(policy, tries), jitter),
        };
        (tries < tries_max).then_some(Next::Again { after })
    };
    let elsewhere = others.then_some(Next::Elsewhere);
    let next = match failure.code {
        // Our own queue for its limits is too long, and the next wait there would be as long.
        ErrorCode::RateLimited if failure.withheld => {
            elsewhere.or_else(|| again(failure.retry_after))
        }
        ErrorCode::RateLimited => again(failure.retry_after).or(elsewhere),
        ErrorCode::UpstreamFailed | ErrorCode::UpstreamUnreachable => {
            again(failure.retry_after).or(elsewhere)
        }
        ErrorCode::Overloaded | ErrorCode::Unavailable | ErrorCode::StreamCut => {
            elsewhere.or_else(|| again(failure.retry_after))
        }
        ErrorCode::UpstreamTimeout
        | ErrorCode::UpstreamCredentials
        | ErrorCode::UpstreamQuota
        | ErrorCode::ModelNotFound
        | ErrorCode::ContextLengthExceeded => elsewhere,
        // Ours, of a target that can't be told what is asked: another may. A provider's own words
        // are about the request.
        ErrorCode::Unsupported if failure.upstream.is_none() => elsewhere,
        ErrorCode::InvalidRequest
        | ErrorCode::Unsupported
        | ErrorCode::TooLarge
        | ErrorCode::RequestTimeout
        | ErrorCode::Unauthenticated
        | ErrorCode::PermissionDenied
        | ErrorCode::NotFound
        | ErrorCode::MethodNotAllowed
        | ErrorCode::PreviousResponseNotFound
        | ErrorCode::Conflict
        | ErrorCode::SessionInDoubt
        | ErrorCode::PriceUnknown
        | ErrorCode::BudgetExceeded
        | ErrorCode::ContentFiltered
        | ErrorCode::StorageUnavailable
        | ErrorCode::ToolFailed
        | ErrorCode::DeadlineExceeded
        | ErrorCode::Cancelled
        | ErrorCode::Internal => None,
    };
    next.unwrap_or(Next::Stop)
}

/// Whether a target says with it that the request is at fault. Another target's answer to the same
/// request can say otherwise.
pub(crate) const fn blames_the_request(code: ErrorCode) -> bool {
    matches!(
        code,
        ErrorCode::InvalidRequest
            | ErrorCode::Unsupported
            | ErrorCode::TooLarge
            | ErrorCode::ModelNotFound
            | ErrorCode::ContextLengthExceeded
            | ErrorCode::ContentFiltered
    )
}

/// The wait before the next try, as the policy lets it grow.
fn backoff(policy: &RoutePolicy, tries: u32) -> Duration {
    let times = match policy.growth {
        Growth::Constant => 1,
        Growth::Linear => tries.max(1),
        Growth::Exponential => 1 << tries.saturating_sub(1).min(DOUBLINGS_MAX),
    };
    policy.backoff.saturating_mul(times).min(policy.wait_max)
}

/// A part of `most`, never none of it.
fn spread(most: Duration, jitter: f64) -> Duration {
    most.mul_f64((1.0 - jitter).clamp(0.0, 1.0))
}

#[cfg(test)]
mod tests;
