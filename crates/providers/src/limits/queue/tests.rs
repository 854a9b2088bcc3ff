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
    assert!(queue.flows.is_empty());
}
