use std::task::Waker;

use ::http::header::{HeaderMap, HeaderName, HeaderValue};
use types::clock::{Clock, FakeClock, Timestamp};

use super::*;

const ONE: Cost = Cost { requests: 1, input: 10, output: 10, uncapped: 0 };

struct Bench {
    clock: Arc<FakeClock>,
    gate: Arc<Gate>,
}

impl Bench {
    fn new() -> Self {
        let clock = Arc::new(FakeClock::new(Timestamp(0)));
        let gate = Arc::new(Gate::new(Arc::clone(&clock) as SharedClock));
        Self { clock, gate }
    }

    fn entrant(&self, rank: u8, flow: u64, wait_ms: u64) -> Entrant {
        let until = self.clock.monotonic() + Duration::from_millis(wait_ms);
        let ranked = Ranked { rank, flow, deadline: until };
        Entrant { ranked, cost: ONE, until }
    }

    fn enters(&self) -> Pass {
        match self.gate.enter(self.entrant(0, 1, 5_000)).unwrap() {
            Entry::Pass(pass) => pass,
            Entry::Wait(_) => panic!("it has to wait"),
        }
    }

    fn waits(&self, rank: u8, flow: u64) -> Waiting {
        match self.gate.enter(self.entrant(rank, flow, 5_000)).unwrap() {
            Entry::Wait(waiting) => waiting,
            Entry::Pass(_) => panic!("it need not wait"),
        }
    }

    fn advance(&self, millis: u64) {
        self.clock.advance(Duration::from_millis(millis));
    }
}

fn poll(waiting: &mut Waiting) -> Poll<Result<Pass, Late>> {
    Pin::new(waiting).poll(&mut Context::from_waker(Waker::noop()))
}

/// What is read of headers of requests.
fn told(remaining: u64, reset: &str) -> Told {
    let header =
        |name, value: &str| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
    let headers: HeaderMap = [
        header("x-ratelimit-limit-requests", "10"),
        header("x-ratelimit-remaining-requests", &remaining.to_string()),
        header("x-ratelimit-reset-requests", reset),
    ]
    .into_iter()
    .collect();
    Told::read(&headers, Timestamp(0))
}

fn retry_after(millis: u64) -> Told {
    Told { readings: Vec::new(), retry_after: Some(Duration::from_millis(millis)) }
}

#[tokio::test]
async fn what_is_known_to_be_left_is_not_passed() {
    let bench = Bench::new();
    bench.enters().answered(&told(2, "4s"));
    let (_one, _two) = (bench.enters(), bench.enters());
    let mut third = bench.waits(0, 1);
    assert!(poll(&mut third).is_pending());
    bench.advance(3_999);
    assert!(poll(&mut third).is_pending());
    bench.advance(1);
    assert!(matches!(poll(&mut third), Poll::Ready(Ok(_))));
}

#[tokio::test]
async fn a_wait_that_is_too_long_fails_at_once_and_says_when() {
    let bench = Bench::new();
    bench.enters().answered(&told(0, "20s"));
    let late = bench.gate.enter(bench.entrant(0, 1, 5_000)).unwrap_err();
    assert_eq!(late.retry_after, Duration::from_secs(20));
}

#[tokio::test]
async fn those_who_wait_already_count() {
    let bench = Bench::new();
    bench.enters().answered(&told(0, "4s"));
    let waiting: Vec<Waiting> = (0..10).map(|flow| bench.waits(0, flow)).collect();
    let late = bench.gate.enter(bench.entrant(0, 11, 5_000)).unwrap_err();
    assert_eq!(late.retry_after, Duration::from_secs(8), "the window after the next");
    let urgent = bench.gate.wait(&Entrant { ..bench.entrant(0, 12, 5_000) });
    assert_eq!(urgent, Duration::from_secs(8));
    drop(waiting);
    assert_eq!(bench.gate.wait(&bench.entrant(0, 12, 5_000)), Duration::from_secs(4));
}

#[tokio::test]
async fn urgent_calls_go_first_and_every_loop_gets_its_turn() {
    let bench = Bench::new();
    bench.enters().answered(&told(0, "1s"));
    let asked = [(2, 1), (1, 2), (1, 2), (1, 3), (0, 4)];
    let mut waiting: Vec<_> = asked.iter().map(|(rank, flow)| bench.waits(*rank, *flow)).collect();
    // So many as fit are let in at the end of the window: three.
    let reading = told(3, "4s").readings[0];
    bench.gate.lock().windows[0].told(&reading, Unseen { earlier: 0, later: 0 }, Duration::ZERO);
    let passes: Vec<bool> = waiting.iter_mut().map(|call| poll(call).is_ready()).collect();
    assert_eq!(passes, [false, true, false, true, true]);
}

#[tokio::test]
async fn whoever_waits_and_goes_leaves_no_trace() {
    let bench = Bench::new();
    bench.enters().answered(&told(1, "4s"));
    let last = bench.enters();
    let (first, mut second) = (bench.waits(0, 1), bench.waits(0, 2));
    bench.advance(4_000);
    // Let in without having noticed yet.
    assert!(matches!(poll(&mut second), Poll::Ready(Ok(_))));
    drop(first);
    drop(last);
    let mut state = bench.gate.lock();
    assert_eq!((state.in_flight, state.unheard.len(), state.queue.len()), (0, 0, 0));
    let now = bench.clock.monotonic();
    assert_eq!(state.windows[0].left(now), 9, "of ten, one was sent");
}

#[tokio::test]
async fn a_late_answer_does_not_undo_what_was_learned_since() {
    let bench = Bench::new();
    bench.enters().answered(&told(9, "9s"));
    let (early, late) = (bench.enters(), bench.enters());
    late.answered(&told(3, "8s"));
    early.answered(&told(8, "9s"));
    assert_eq!(bench.gate.seen().windows[0].2, 3);
}

#[tokio::test]
async fn calls_that_pass_each_other_on_their_way_are_counted_once() {
    let bench = Bench::new();
    bench.enters().answered(&told(9, "9s"));
    let mut sent: Vec<Pass> = (0..9).map(|_| bench.enters()).collect();
    // The last one arrived first: eight have room after it, and those are on their way.
    sent.pop().unwrap().answered(&told(8, "9s"));
    assert_eq!(bench.gate.seen().windows[0].2, 0);
    for (left, pass) in (0..8).rev().zip(sent) {
        pass.answered(&told(left, "9s"));
        assert_eq!(bench.gate.seen().windows[0].2, 0);
    }
}

#[tokio::test]
async fn what_was_counted_too_high_comes_back_with_the_answers() {
    let bench = Bench::new();
    bench.enters().answered(&told(9, "9s"));
    let sent: Vec<Pass> = (0..9).map(|_| bench.enters()).collect();
    let mut sent = sent.into_iter().rev();
    // The provider counted none of those before it, now or later, but one.
    sent.next().unwrap().answered(&told(8, "9s"));
    assert_eq!(bench.gate.seen().windows[0].2, 0, "it may count them later");
    sent.next().unwrap().answered(&told(7, "9s"));
    assert_eq!(bench.gate.seen().windows[0].2, 0, "seven are open");
    drop(sent);
    assert_eq!(bench.gate.seen().windows[0].2, 7);
}

#[tokio::test]
async fn a_late_answer_gives_back_nothing_that_cancelled_calls_have_taken() {
    let bench = Bench::new();
    let slow = bench.enters();
    bench.enters().answered(&told(8, "9s"));
    // The clients of some are gone, others are answered without a word about limits.
    for number in 3..=10 {
        let pass = bench.enters();
        if number % 2 == 0 {
            pass.answered(&Told::default());
        }
    }
    assert_eq!(bench.gate.seen().windows[0].2, 0);
    slow.answered(&told(9, "9s"));
    assert_eq!(bench.gate.seen().windows[0].2, 0, "the provider has counted them");
}

#[tokio::test]
async fn what_is_lost_comes_back_once_a_newer_answer_tells() {
    let bench = Bench::new();
    bench.enters().answered(&told(9, "9s"));
    let (second, third) = (bench.enters(), bench.enters());
    drop([bench.enters(), bench.enters()]);
    assert_eq!(bench.gate.seen().windows[0].2, 5);
    // Whether these tell of those after them is not known.
    third.answered(&told(7, "9s"));
    second.answered(&told(8, "9s"));
    assert_eq!(bench.gate.seen().windows[0].2, 5);
    // The provider never saw the two.
    bench.enters().answered(&told(6, "9s"));
    assert_eq!(bench.gate.seen().windows[0].2, 6);
}

#[tokio::test]
async fn what_is_lost_takes_bounded_memory() {
    let bench = Bench::new();
    bench.enters().answered(&told(9, "9s"));
    let mut state = bench.gate.lock();
    for number in 2..5_000 {
        state.windows[0].lose(number, 1);
    }
    assert_eq!(state.windows[0].lost_calls(), 1_024);
    // An answer that is older than the newest of them gives nothing of what was merged back.
    state.windows[0].hears(4_998);
    let reading = told(9, "9s").readings[0];
    state.windows[0].told(&reading, Unseen::default(), Duration::ZERO);
    state.windows[0].spend(9);
    state.windows[0].recount(0);
    assert_eq!(state.windows[0].left(Duration::ZERO), 0);
}

#[tokio::test]
async fn what_is_on_its_way_is_not_in_what_an_answer_tells() {
    let bench = Bench::new();
    bench.enters().answered(&told(9, "9s"));
    let (first, _second, _third) = (bench.enters(), bench.enters(), bench.enters());
    first.answered(&told(8, "9s"));
    assert_eq!(bench.gate.seen().windows[0].2, 6);
}

#[tokio::test]
async fn a_429_closes_until_the_time_that_it_names() {
    let bench = Bench::new();
    bench.enters().limited(&retry_after(2_000));
    let mut waiting = bench.waits(0, 1);
    bench.advance(1_999);
    assert!(poll(&mut waiting).is_pending());
    bench.advance(1);
    assert!(poll(&mut waiting).is_ready());
}

#[tokio::test]
async fn after_a_429_half_as_many_go_at_once() {
    let bench = Bench::new();
    let mut passes: Vec<Pass> = (0..8).map(|_| bench.enters()).collect();
    for pass in passes.drain(..4) {
        pass.limited(&Told::default());
    }
    assert_eq!(bench.gate.seen().at_once, Some(4), "all four are one sign");
    bench.advance(500);
    let mut next = bench.waits(0, 1);
    assert!(poll(&mut next).is_pending(), "four are under way");
    drop(passes.pop());
    assert!(poll(&mut next).is_ready());
}

#[tokio::test]
async fn a_long_time_is_told_to_clients_and_looked_into_before() {
    let bench = Bench::new();
    bench.enters().limited(&retry_after(3_600_000));
    let late = bench.gate.enter(bench.entrant(0, 1, 5_000)).unwrap_err();
    assert_eq!(late.retry_after, Duration::from_secs(3_600));
    bench.advance(60_000);
    bench.enters().answered(&Told::default());
    bench.advance(1_000);
    bench.enters();
}

#[tokio::test]
async fn one_call_asks_where_a_limit_was_said_to_be_used_up_for_long() {
    let bench = Bench::new();
    bench.enters().answered(&told(0, "1h"));
    assert!(bench.gate.enter(bench.entrant(0, 1, 5_000)).is_err());
    bench.advance(60_000);
    let asking = bench.enters();
    assert!(bench.gate.enter(bench.entrant(0, 1, 5_000)).is_err(), "one asks already");
    asking.answered(&told(10, "1s"));
    bench.enters();
}

#[tokio::test]
async fn who_cannot_be_let_in_in_time_hears_when() {
    let bench = Bench::new();
    bench.enters().limited(&Told::default());
    let held = {
        bench.advance(500);
        bench.enters()
    };
    let mut waiting = bench.waits(0, 1);
    assert!(poll(&mut waiting).is_pending(), "one goes at once");
    bench.advance(5_000);
    let Poll::Ready(Err(late)) = poll(&mut waiting) else { panic!("it still waits") };
    assert_eq!(late.retry_after, Duration::from_secs(1));
    drop(held);
    assert_eq!(bench.gate.lock().queue.len(), 0);
}

#[tokio::test]
async fn a_call_that_is_larger_than_a_limit_slows_nobody_else() {
    let tokens = |remaining: &str| {
        let headers = [
            ("x-ratelimit-limit-tokens", "30000"),
            ("x-ratelimit-remaining-tokens", remaining),
            ("x-ratelimit-reset-tokens", "6ms"),
        ];
        let header =
            |(name, value)| (HeaderName::from_static(name), HeaderValue::from_str(value).unwrap());
        Told::read(&headers.map(header).into_iter().collect(), Timestamp(0))
    };
    let large = Cost { requests: 1, input: 40_000, output: 10, uncapped: 0 };
    let ask = |bench: &Bench, cost| match bench
        .gate
        .enter(Entrant { cost, ..bench.entrant(0, 1, 5_000) })
        .unwrap()
    {
        Entry::Pass(pass) => pass,
        Entry::Wait(_) => panic!("it has to wait"),
    };
    let bench = Bench::new();
    let others = [bench.enters(), bench.enters()];
    bench.enters().answered(&tokens("29990"));
    bench.advance(1_000);
    ask(&bench, large).limited(&tokens("29980"));
    let seen = bench.gate.seen();
    assert_eq!((seen.at_once, seen.closed_for), (None, Duration::ZERO));
    // Neither does one that the gate was made for.
    bench.gate.adopt(3, large).limited(&tokens("29980"));
    assert_eq!(bench.gate.seen().at_once, None);
    // Who fits and is refused does.
    bench.advance(1_000);
    bench.enters().limited(&tokens("29980"));
    assert_eq!(bench.gate.seen().at_once, Some(1));
    drop(others);
}

#[tokio::test]
async fn a_reported_usage_that_cannot_be_true_is_not_counted() {
    let bench = Bench::new();
    let pass = bench.enters();
    pass.used(u64::MAX);
    pass.used(1_000_000_000_000);
    assert_eq!(bench.gate.lock().output_tokens, OUTPUT_TOKENS_GUESS);
    pass.used(OUTPUT_TOKENS_GUESS + 8);
    assert_eq!(bench.gate.lock().output_tokens, OUTPUT_TOKENS_GUESS + 1);
}
