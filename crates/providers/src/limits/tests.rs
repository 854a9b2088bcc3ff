use types::clock::{Clock, FakeClock, Timestamp};

use super::*;

mod fuzz;

#[test]
fn an_outage_doubles_and_lets_one_ask() {
    let at = Duration::from_secs;
    let mut outage = Outage::default();
    assert_eq!(outage.health(at(0)), Health::Well);
    outage.begin(at(0));
    outage.begin(at(1));
    assert_eq!(outage.health(at(29)), Health::Out);
    assert_eq!(outage.health(at(30)), Health::Due);
    outage.probe();
    assert_eq!(outage.health(at(30)), Health::Out, "somebody asks");
    outage.probed();
    outage.begin(at(31));
    assert_eq!((outage.health(at(90)), outage.health(at(91))), (Health::Out, Health::Due));
    outage.end();
    assert_eq!(outage.health(at(92)), Health::Well);
    outage.begin(at(93));
    assert_eq!(outage.health(at(123)), Health::Due, "and begins anew");
}

#[test]
fn only_so_many_models_are_remembered() {
    let clock = Arc::new(FakeClock::new(Timestamp(0)));
    let shared = Arc::clone(&clock) as SharedClock;
    let gates = Gates::default();
    assert!(gates.find("m").is_none());
    let busy = gates.find_or_make(&"busy".into(), &shared).unwrap();
    let pass = busy.adopt(0, Cost::default());
    for number in 0..MODELS_MAX {
        clock.advance(Duration::from_secs(1));
        gates.find_or_make(&format!("model-{number}").into(), &shared).unwrap();
    }
    assert_eq!(gates.seen().len(), MODELS_MAX);
    assert!(gates.find("busy").is_some(), "it is in use");
    assert!(gates.find("model-0").is_none(), "the oldest goes");
    assert!(clock.monotonic() > Duration::ZERO);
    drop(pass);
}
