//! Where telemetry may go, and what an objective may be: windows within each other, and a burn rate
//! that can be reached.

use std::time::Duration;

use pipeline::slo::{
    LONG_IN_SHORT_MAX, MILLION, Metric, OBJECTIVES_MAX, SHORT_WINDOW_MIN, WINDOW_MAX,
};

use super::super::telemetry::{Exports, NotExported, SloEntry};
use super::super::{Config, Problems};
use super::{is_none_at_all, names};
use crate::wire::telemetry::{address, signing_key};

/// More often, a collector would be sent the same figures again.
const METRICS_INTERVAL_MIN: Duration = Duration::from_secs(1);

/// Adds every problem.
pub(super) fn all(
    config: &Config,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    exports(&config.telemetry, environment, problems);
    names("slos", config.slos.iter().map(|slo| slo.name.as_str()), problems);
    if config.slos.len() > OBJECTIVES_MAX {
        problems.add("slos", format!("are more than {OBJECTIVES_MAX}"));
    }
    for (index, slo) in config.slos.iter().enumerate() {
        let at = |field: &str| format!("slos[{index}].{field}");
        threshold(slo, &at, problems);
        windows(slo, &at, problems);
        burn_rate(slo, &at, problems);
        if let Some(Err(why)) = slo.webhook.as_deref().map(address) {
            problems.add(at("webhook"), why);
        }
        if let Some(Err(why)) = slo.webhook_secret.as_ref().map(signing_key) {
            problems.add(at("webhook_secret"), why);
        }
        let signs_nothing = slo.webhook_secret.is_some() && slo.webhook.is_none();
        if signs_nothing {
            problems.add(at("webhook_secret"), "there is no webhook that it could sign");
        }
    }
}

fn exports(
    exports: &Exports,
    environment: &dyn Fn(&str) -> Option<String>,
    problems: &mut Problems,
) {
    // What the environment says may be meant for another program: that is a warning.
    if let Err(NotExported::Setting(field, why)) = exports.otlp(environment) {
        problems.add(format!("telemetry.{field}"), why);
    }
    if exports.sampling.is_some_and(|part| !(0.0..=1.0).contains(&part)) {
        problems.add("telemetry.sampling", "must be a number from 0 to 1");
    }
    if exports.metrics_interval.is_some_and(|every| every < METRICS_INTERVAL_MIN) {
        let message = format!("must be at least {METRICS_INTERVAL_MIN:?}");
        problems.add("telemetry.metrics_interval", message);
    }
}

fn threshold(slo: &SloEntry, at: &dyn Fn(&str) -> String, problems: &mut Problems) {
    match (slo.metric, slo.threshold) {
        (Metric::Errors, Some(_)) => {
            problems.add(at("threshold"), "means nothing for errors: leave it out");
        }
        (Metric::TimeToFirstToken | Metric::TaskTime | Metric::PolicyTime, None) => {
            problems.add(at("threshold"), "is missing: what takes longer is bad, as in \"800ms\"");
        }
        _ if is_none_at_all(slo.threshold) => {
            problems.add(at("threshold"), "must be longer than 0");
        }
        _ => {}
    }
    if slo.task_idle.is_some() && slo.metric != Metric::TaskTime {
        problems.add(at("task_idle"), "means nothing but for task_time: leave it out");
    }
}

fn windows(slo: &SloEntry, at: &dyn Fn(&str) -> String, problems: &mut Problems) {
    let set = slo.settings();
    if set.short_window < SHORT_WINDOW_MIN {
        problems.add(at("short_window"), format!("must be at least {SHORT_WINDOW_MIN:?}"));
    } else if set.long_window < set.short_window {
        problems.add(at("long_window"), "must not be shorter than short_window");
    } else if set.long_window > set.short_window * LONG_IN_SHORT_MAX {
        let message = format!("must be at most {LONG_IN_SHORT_MAX} times short_window");
        problems.add(at("long_window"), message);
    }
    if set.window < set.long_window {
        problems.add(at("window"), "must not be shorter than long_window");
    } else if set.window > WINDOW_MAX {
        problems.add(at("window"), "must be at most a year, \"366d\"");
    }
}

fn burn_rate(slo: &SloEntry, at: &dyn Fn(&str) -> String, problems: &mut Problems) {
    let (set, most) = (slo.settings(), f64::from(MILLION) / f64::from(slo.objective.max(1)));
    if !(set.burn_rate.is_finite() && set.burn_rate > 0.0) {
        problems.add(at("burn_rate"), "must be a number above 0");
    } else if set.burn_rate > most {
        let rate = set.burn_rate;
        let message = format!(
            "{rate} can't be reached: if all is bad, this objective burns {most:.1} times faster than allowed"
        );
        problems.add(at("burn_rate"), message);
    }
}
