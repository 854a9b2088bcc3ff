use proptest::prelude::*;

use super::*;

const PER: Duration = Duration::from_secs(10);

fn at(millis: u64) -> Monotonic {
    Duration::from_millis(millis)
}

fn room(window: &mut Window, amount: u64, limit: u64, now: Monotonic) -> Room {
    window.pass(now, PER);
    window.room(amount, limit, now, PER)
}

/// Room that comes with time alone, while all that was taken may come back.
fn after(wait: Monotonic) -> Room {
    Room::After { wait, earliest: Duration::ZERO }
}

#[test]
fn a_sliding_window_gives_back_what_has_left_and_not_before() {
    let mut window = Window::new(Technique::Sliding);
    assert_eq!(room(&mut window, 3, 3, at(0)), Room::Now);
    window.take(2, at(0), PER);
    window.take(1, at(4_000), PER);
    assert_eq!(room(&mut window, 1, 3, at(9_999)), after(at(1)));
    assert_eq!(room(&mut window, 3, 3, at(9_999)), after(at(4_001)));
    assert_eq!(room(&mut window, 1, 3, at(10_000)), Room::Now);
    assert_eq!(room(&mut window, 3, 3, at(13_999)), after(at(1)));
    assert_eq!(room(&mut window, 3, 3, at(14_000)), Room::Now);
    assert_eq!(room(&mut window, 4, 3, at(20_000)), Room::Never);
}

#[test]
fn a_fixed_window_begins_with_its_first_call() {
    let mut window = Window::new(Technique::Fixed);
    window.take(2, at(5_000), PER);
    assert_eq!(room(&mut window, 2, 3, at(14_000)), after(at(1_000)));
    window.take(1, at(14_999), PER);
    assert_eq!(room(&mut window, 3, 3, at(15_000)), Room::Now);
    window.take(3, at(16_000), PER);
    assert_eq!(room(&mut window, 1, 3, at(25_999)), after(at(1)));
}

#[test]
fn what_is_settled_comes_back_with_time_alone() {
    for technique in [Technique::Sliding, Technique::Fixed] {
        let mut window = Window::new(technique);
        let first = window.take(4, at(0), PER);
        window.settle(first, 4, 4);
        let second = window.take(4, at(5_000), PER);
        let room = |amount| window.room(amount, 10, at(6_000), PER);
        // Beside what is settled there is room for six, if the second gives all back.
        assert_eq!(room(2), Room::Now, "{technique:?}");
        assert!(matches!(room(6), Room::After { earliest: Duration::ZERO, .. }), "{technique:?}");
        assert!(matches!(room(7), Room::After { earliest, .. } if earliest == at(4_000)));
        window.settle(second, 4, 3);
        let room = |amount| window.room(amount, 10, at(6_000), PER);
        assert!(matches!(room(4), Room::After { earliest, .. } if earliest == at(4_000)));
    }
}

#[test]
fn what_was_not_used_comes_back_to_its_moment_and_to_no_other() {
    for technique in [Technique::Sliding, Technique::Fixed] {
        let mut window = Window::new(technique);
        let first = window.take(10, at(0), PER);
        let second = window.take(10, at(5_000), PER);
        window.settle(second, 10, 4);
        assert_eq!(window.used(), 14, "{technique:?}");
        // More than was reserved counts too.
        window.settle(first, 10, 13);
        assert_eq!(window.used(), 17, "{technique:?}");
    }
    let mut window = Window::new(Technique::Sliding);
    let early = window.take(10, at(0), PER);
    window.take(10, at(5_000), PER);
    window.pass(at(10_000), PER);
    window.settle(early, 10, 0);
    assert_eq!(window.used(), 10, "it came back into another's moment");
    let mut window = Window::new(Technique::Fixed);
    let early = window.take(10, at(0), PER);
    window.pass(at(10_000), PER);
    window.take(10, at(10_000), PER);
    window.settle(early, 10, 0);
    assert_eq!(window.used(), 10, "it came back into another window");
}

#[test]
fn an_empty_window_says_so() {
    for technique in [Technique::Sliding, Technique::Fixed] {
        let mut window = Window::new(technique);
        assert_eq!(window.empty_in(at(0), PER), Duration::ZERO);
        let number = window.take(2, at(0), PER);
        assert_eq!(window.empty_in(at(4_000), PER), at(6_000));
        window.settle(number, 2, 0);
        assert_eq!(window.empty_in(at(4_000), PER), Duration::ZERO);
    }
}

#[test]
fn a_busy_window_remembers_few_moments() {
    let mut window = Window::new(Technique::Sliding);
    for millis in 0..40_000 {
        window.pass(at(millis), PER);
        window.take(1, at(millis), PER);
    }
    let Window::Sliding(sliding) = &window else { panic!() };
    assert!(sliding.moments.len() <= GRAINS as usize + 1, "{}", sliding.moments.len());
}

/// What happens to a window: a Call that asks for so much after so long, and uses a part of it.
fn calls() -> impl Strategy<Value = Vec<(u64, u64, u64)>> {
    prop::collection::vec((0..3_000_u64, 0..6_u64, 0..=6_u64), 1..120)
}

/// What was admitted: when, and how much of it was used.
fn run(technique: Technique, limit: u64, calls: &[(u64, u64, u64)]) -> Vec<(Monotonic, u64)> {
    let (mut window, mut now) = (Window::new(technique), Duration::ZERO);
    let mut admitted: Vec<(Monotonic, u64)> = Vec::new();
    let mut open: Vec<(usize, u64, u64, u64)> = Vec::new();
    for &(gap, amount, used) in calls {
        now += at(gap);
        window.pass(now, PER);
        // What was asked for two Calls ago ends now.
        if open.len() > 2 {
            let (place, number, taken, used) = open.remove(0);
            window.settle(number, taken, used);
            admitted[place].1 = used;
        }
        if window.room(amount, limit, now, PER) == Room::Now {
            let number = window.take(amount, now, PER);
            open.push((admitted.len(), number, amount, used.min(amount)));
            admitted.push((now, amount));
        }
    }
    admitted
}

proptest! {
    #[test]
    fn no_stretch_of_a_sliding_window_has_more_than_the_limit(
        limit in 1..20_u64, calls in calls(),
    ) {
        let admitted = run(Technique::Sliding, limit, &calls);
        for (from, _) in &admitted {
            let within = admitted.iter().filter(|(at, _)| at >= from && *at < *from + PER);
            let sum: u64 = within.map(|(_, used)| used).sum();
            prop_assert!(sum <= limit, "{sum} from {from:?} on");
        }
    }

    #[test]
    fn a_refusal_says_when_there_is_room(limit in 1..20_u64, calls in calls()) {
        let (mut window, mut now) = (Window::new(Technique::Sliding), Duration::ZERO);
        for (gap, amount, _) in calls {
            now += at(gap);
            let amount = amount.min(limit);
            if let Room::After { wait, .. } = room(&mut window, amount, limit, now) {
                prop_assert!(wait > Duration::ZERO && wait <= PER);
                now += wait;
            }
            prop_assert_eq!(room(&mut window, amount, limit, now), Room::Now);
            window.take(amount, now, PER);
        }
    }

    #[test]
    fn a_refusal_is_late_by_a_grain_at_most(limit in 1..20_u64, calls in calls()) {
        let (mut window, mut now) = (Window::new(Technique::Sliding), Duration::ZERO);
        let mut taken: Vec<(Monotonic, u64)> = Vec::new();
        for (gap, amount, _) in calls {
            now += at(gap);
            let amount = amount.min(limit);
            let counts = taken.iter().filter(|(at, _)| *at + PER + PER / GRAINS > now);
            let could: u64 = counts.map(|(_, amount)| amount).sum();
            match room(&mut window, amount, limit, now) {
                Room::Now => {
                    window.take(amount, now, PER);
                    taken.push((now, amount));
                }
                Room::After { .. } | Room::Never => prop_assert!(could + amount > limit),
            }
        }
    }
}
