use std::time::Duration;

use super::*;

const ONE: Cost = Cost { requests: 1, input: 0, output: 0, uncapped: 0 };

fn ranked(rank: u8, flow: u64, deadline: u64) -> Ranked {
    Ranked { rank, flow, deadline: Duration::from_secs(deadline) }
}

/// The flows in the order in which they are served.
fn served(asked: &[Ranked]) -> Vec<u64> {
    let mut queue = Queue::default();
    for ranked in asked {
        queue.push(*ranked, ONE, Arc::default());
    }
    std::iter::from_fn(|| queue.serve().map(|waiter| waiter.flow)).collect()
}

#[test]
fn urgent_classes_come_first_then_those_who_came_first() {
    assert_eq!(served(&[ranked(2, 1, 9), ranked(0, 2, 9), ranked(1, 3, 9)]), [2, 3, 1]);
    assert_eq!(served(&[ranked(0, 1, 9), ranked(0, 2, 9)]), [1, 2]);
}

#[test]
fn a_flow_with_many_does_not_hold_up_others() {
    let asked = [1, 1, 1, 2, 3, 2].map(|flow| ranked(0, flow, 9));
    assert_eq!(served(&asked), [1, 2, 3, 1, 2, 1]);
}

#[test]
fn in_a_round_the_nearest_deadline_is_first() {
    assert_eq!(served(&[ranked(0, 1, 9), ranked(0, 2, 3), ranked(0, 3, 5)]), [2, 3, 1]);
}

#[test]
fn a_flows_own_turns_go_to_its_nearest_deadlines() {
    let mut queue = Queue::default();
    for (flow, deadline) in [(1, 9), (1, 5), (2, 9), (1, 1), (1, 7), (1, 7)] {
        queue.push(ranked(0, flow, deadline), ONE, Arc::default());
    }
    let order: Vec<(u64, u64, u64)> = std::iter::from_fn(|| {
        let place = *queue.waiting.first_key_value()?.0;
        let waiter = queue.serve()?;
        Some((waiter.flow, place.deadline.as_secs(), place.number))
    })
    .collect();
    // One of each flow after the other; who came first is first where deadlines are the same.
    let own = [(1, 1, 3), (2, 9, 2), (1, 5, 1), (1, 7, 4), (1, 7, 5), (1, 9, 0)];
    assert_eq!(order, own);
    assert!(queue.flows.is_empty() && queue.places.is_empty());
}

#[test]
fn near_deadlines_of_one_flow_do_not_hold_up_another() {
    let asked = [ranked(0, 1, 9), ranked(0, 2, 1), ranked(0, 2, 1), ranked(0, 2, 1)];
    assert_eq!(served(&asked), [2, 1, 2, 2]);
}

#[test]
fn who_moved_back_is_found_all_the_same() {
    let mut queue = Queue::default();
    let patient = queue.push(ranked(0, 1, 9), ONE, Arc::default());
    let hasty = queue.push(ranked(0, 1, 1), ONE, Arc::default());
    assert_eq!(queue.head().unwrap().0, hasty);
    assert_eq!(queue.cost_before(queue.places[&patient]).requests, 1);
    // A place for who comes now is the one that it gets.
    assert_eq!(queue.cost_before(queue.place(ranked(0, 1, 5))).requests, 1);
    queue.remove(patient);
    assert_eq!(queue.len(), 1);
    queue.remove(patient);
    assert_eq!(queue.head().unwrap().0, hasty);
    queue.remove(hasty);
    assert!(queue.flows.is_empty() && queue.places.is_empty());
}

#[test]
fn who_was_served_comes_back_behind_those_who_wait() {
    let mut queue = Queue::default();
    for flow in [1, 2] {
        queue.push(ranked(0, flow, 9), ONE, Arc::default());
    }
    let mut order = Vec::new();
    for _ in 0..6 {
        let flow = queue.serve().unwrap().flow;
        order.push(flow);
        queue.push(ranked(0, flow, 9), ONE, Arc::default());
    }
    assert_eq!(order, [1, 2, 1, 2, 1, 2]);
}

#[test]
fn what_is_before_a_place_is_counted_and_who_leaves_is_forgotten() {
    let mut queue = Queue::default();
    let first = queue.push(ranked(1, 1, 9), ONE, Arc::default());
    queue.push(ranked(1, 2, 9), ONE, Arc::default());
    assert_eq!(queue.cost_before(queue.place(ranked(1, 3, 9))).requests, 2);
    assert_eq!(queue.cost_before(queue.place(ranked(0, 3, 9))).requests, 0);
    queue.remove(first);
    assert_eq!((queue.len(), queue.flows.len()), (1, 1));
    queue.remove(first);
    assert_eq!(queue.len(), 1);
}

#[test]
fn it_does_not_grow_without_end() {
    let mut queue = Queue::default();
    for flow in 0..WAITING_MAX as u64 {
        assert!(!queue.is_full());
        queue.push(ranked(0, flow, 9), ONE, Arc::default());
    }
    assert!(queue.is_full());
    while queue.serve().is_some() {}
    assert!(queue.flows.is_empty() && queue.places.is_empty());
}
