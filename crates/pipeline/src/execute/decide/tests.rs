use types::call::RoutePolicy;
use types::error::UpstreamError;

use super::*;

const POLICY: RoutePolicy = RoutePolicy::OF_ROUTE;
const HALF: f64 = 0.5;

fn failure(code: ErrorCode) -> Failure {
    Failure::new(code, "told to")
}

fn again(millis: u64) -> Next {
    Next::Again { after: Duration::from_millis(millis) }
}

/// What follows the first failure with and without another target, and the second with one.
fn row(failure: &Failure) -> [Next; 3] {
    [(1, true), (1, false), (2, true)].map(|(tries, others)| {
        decide(failure, (tries, POLICY.same_target_max), others, &POLICY, HALF)
    })
}

#[test]
fn each_code_has_its_row() {
    use ErrorCode::*;
    use Next::{Elsewhere, Stop};
    for &code in ErrorCode::ALL {
        let expected = match code {
            RateLimited | UpstreamFailed | UpstreamUnreachable => {
                [again(250), again(250), Elsewhere]
            }
            Overloaded | Unavailable | StreamCut => [Elsewhere, again(250), Elsewhere],
            UpstreamTimeout
            | UpstreamCredentials
            | UpstreamQuota
            | ModelNotFound
            | ContextLengthExceeded
            | Unsupported => [Elsewhere, Stop, Elsewhere],
            InvalidRequest
            | TooLarge
            | RequestTimeout
            | Unauthenticated
            | PermissionDenied
            | NotFound
            | MethodNotAllowed
            | PreviousResponseNotFound
            | Conflict
            | SessionInDoubt
            | PriceUnknown
            | BudgetExceeded
            | ContentFiltered
            | StorageUnavailable
            | ToolFailed
            | DeadlineExceeded
            | Cancelled
            | Internal => [Stop; 3],
        };
        assert_eq!(row(&failure(code)), expected, "{code}");
    }
}

#[test]
fn what_was_not_sent_goes_elsewhere_and_waits_only_where_there_is_no_other() {
    let late = failure(ErrorCode::RateLimited).retry_after(Duration::from_secs(2));
    let withheld = Failure { withheld: true, ..late };
    assert_eq!(row(&withheld), [Next::Elsewhere, again(2_250), Next::Elsewhere]);
}

#[test]
fn a_time_to_wait_is_kept_and_spread_and_a_long_one_is_not_waited_for() {
    let limited = |wait| failure(ErrorCode::RateLimited).retry_after(wait);
    let wait = Duration::from_secs(2);
    assert_eq!(row(&limited(wait)), [again(2_250), again(2_250), Next::Elsewhere]);
    let long = POLICY.wait_max + Duration::from_millis(1);
    assert_eq!(row(&limited(long)), [Next::Elsewhere, Next::Stop, Next::Elsewhere]);
}

#[test]
fn the_backoff_doubles_is_spread_and_ends() {
    let policy = RoutePolicy { same_target_max: u32::MAX, ..POLICY };
    let failure = failure(ErrorCode::UpstreamFailed);
    let after = |tries, jitter| match decide(&failure, (tries, u32::MAX), true, &policy, jitter) {
        Next::Again { after } => after.as_millis(),
        other => panic!("{other:?}"),
    };
    assert_eq!([1, 2, 3, 4].map(|tries| after(tries, 0.0)), [500, 1_000, 2_000, 4_000]);
    assert_eq!(after(1_000_000, 0.0), POLICY.wait_max.as_millis());
    assert_eq!(after(1, 0.9), 50);
    assert!(after(1, 1.0 - f64::EPSILON) < 1);
}

#[test]
fn what_a_provider_calls_unsupported_is_the_requests_fault() {
    let upstream = UpstreamError {
        status: 400,
        body: bytes::Bytes::new(),
        content_type: String::new(),
        format: "none",
    };
    let said = Failure { upstream: Some(Box::new(upstream)), ..failure(ErrorCode::Unsupported) };
    assert_eq!(row(&said), [Next::Stop; 3]);
}

#[test]
fn one_try_per_target_is_never_repeated() {
    let policy = RoutePolicy { same_target_max: 1, ..POLICY };
    for &code in ErrorCode::ALL {
        let next = decide(&failure(code), (1, 1), true, &policy, HALF);
        assert!(!matches!(next, Next::Again { .. }), "{code}");
    }
}

#[test]
fn a_wait_grows_as_the_policy_says() {
    let waits = |growth| {
        let policy = RoutePolicy { same_target_max: u32::MAX, growth, ..POLICY };
        [1, 2, 3, 4].map(|tries| {
            match decide(
                &failure(ErrorCode::UpstreamFailed),
                (tries, u32::MAX),
                false,
                &policy,
                0.0,
            ) {
                Next::Again { after } => after.as_millis(),
                other => panic!("{other:?}"),
            }
        })
    };
    assert_eq!(waits(Growth::Constant), [500, 500, 500, 500]);
    assert_eq!(waits(Growth::Linear), [500, 1_000, 1_500, 2_000]);
    assert_eq!(waits(Growth::Exponential), [500, 1_000, 2_000, 4_000]);
}
