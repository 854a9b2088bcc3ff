use super::*;

fn flow(name: &str) -> Subject {
    Subject::Task(Arc::from(name))
}

/// Serves everybody; answers whose turn it was, by the flow of each place.
fn served(mut queue: Queue) -> String {
    let mut order = String::new();
    while let Some((place, waiter)) = queue.waiting.first_key_value() {
        let (place, Subject::Task(name)) = (*place, &waiter.flow) else { panic!() };
        order.push_str(name);
        assert!(queue.is_next(place));
        queue.remove(place, true);
    }
    assert!(queue.flows.is_empty(), "a flow without Calls is remembered");
    order
}

fn queued(calls: &[(&str, u32)]) -> Queue {
    let mut queue = Queue::default();
    for (name, weight) in calls {
        queue.push(&flow(name), *weight, Arc::default());
    }
    queue
}

#[test]
fn one_of_each_flow_after_the_other() {
    let calls = [("a", 1), ("a", 1), ("a", 1), ("a", 1), ("b", 1), ("c", 1), ("b", 1)];
    assert_eq!(served(queued(&calls)), "abcabaa");
}

#[test]
fn a_flow_that_comes_later_does_not_wait_for_one_with_many() {
    let mut queue = queued(&[("a", 1); 5]);
    let first = *queue.waiting.keys().next().unwrap();
    queue.remove(first, true);
    queue.push(&flow("b"), 1, Arc::default());
    assert_eq!(served(queue), "abaaa");
}

#[test]
fn a_flow_that_was_away_has_saved_nothing_up() {
    let mut queue = queued(&[("a", 1); 3]);
    for _ in 0..3 {
        let first = *queue.waiting.keys().next().unwrap();
        queue.remove(first, true);
    }
    for name in ["b", "a", "b", "a"] {
        queue.push(&flow(name), 1, Arc::default());
    }
    assert_eq!(served(queue), "baba");
}

#[test]
fn a_heavier_class_comes_round_more_often() {
    let mut calls = vec![("a", 1); 4];
    calls.extend([("b", 3); 6]);
    let order = served(queued(&calls));
    let of_a = |part: &str| part.matches('a').count();
    assert_eq!((of_a(&order[..4]), of_a(&order[..8])), (1, 2), "{order}");
}

#[test]
fn who_leaves_keeps_nobody_waiting() {
    let mut queue = queued(&[("a", 1), ("b", 1)]);
    let places: Vec<Place> = queue.waiting.keys().copied().collect();
    assert!(queue.is_next(places[0]) && !queue.is_next(places[1]));
    queue.remove(places[0], false);
    assert!(queue.is_next(places[1]) && !queue.is_empty());
    queue.remove(places[0], false);
    queue.remove(places[1], false);
    assert!(queue.is_empty() && queue.flows.is_empty());
}

#[test]
fn who_comes_back_to_a_queue_that_was_empty_is_not_behind_who_comes_only_now() {
    let mut before = queued(&[("a", 1); 5]);
    let fifth = *before.waiting.keys().next_back().unwrap();
    before.remove(fifth, false);
    // It comes back to the place that it had.
    assert_eq!(before.rejoin(fifth, (&flow("a"), 1), Arc::default()), fifth);
    let mut anew = Queue::default();
    let back = anew.rejoin(fifth, (&flow("a"), 1), Arc::default());
    let others = ["b", "c"].map(|name| anew.push(&flow(name), 1, Arc::default()));
    assert!(others.iter().all(|other| back < *other), "{back:?} {others:?}");
    assert_eq!(served(anew), "abc");
}

#[test]
fn who_goes_first_takes_nobodys_turn() {
    let mut queue = queued(&[("a", 1), ("b", 1)]);
    queue.push_first(&flow("b"), Arc::default());
    queue.push(&flow("c"), 1, Arc::default());
    assert_eq!(served(queue), "babc");
}
