//! Choosing a tier of a route's targets by how hard a task seems: the settings, as data.
//!
//! How a task is judged is the pipeline's business; nothing here decides.

use serde::{Deserialize, Serialize};

use crate::cascade::JudgePolicy;
use crate::money::Money;

/// A tier of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Tier {
    /// For easy tasks.
    Cheap,
    /// For hard ones.
    Strong,
}

impl Tier {
    /// Both.
    pub const ALL: [Self; 2] = [Self::Cheap, Self::Strong];

    /// As it is written and shown.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Cheap => "cheap",
            Self::Strong => "strong",
        }
    }

    /// The tier of this name.
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|tier| tier.name() == name)
    }
}

/// Which targets are for which tasks.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoPolicy {
    /// Names of targets for easy tasks.
    pub cheap: Vec<String>,
    /// Names of targets for hard ones.
    pub strong: Vec<String>,
    /// The score, 1 to 100, from which on a task is hard.
    pub threshold: u8,
    /// The strong tier is asked whatever is decided, and what the other one would have saved is
    /// noted.
    pub shadow: bool,
    /// Whether a caller may say which tier it wants.
    pub by_header: bool,
    /// The tier that the caller of this Call wants.
    pub asked: Option<Tier>,
    /// Who says of a share of the decisions whether they were right.
    pub judge: Option<AutoJudge>,
}

/// A model that is asked, when an answer is over, whether the cheap tier's was good enough.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct AutoJudge {
    /// How it is asked. A cheap answer with less than its threshold was not good enough.
    pub judge: JudgePolicy,
    /// Of so many in a million decisions.
    pub share_millionths: u32,
    /// What that may cost in a day of UTC, per process; `None` = what the caller's budgets have.
    pub day_max: Option<Money>,
}

impl AutoJudge {
    /// The request class of what it asks: nobody waits for it.
    pub const CLASS: &str = "auto-judge";
    /// All of a share: millionths in one.
    pub const WHOLE: u32 = 1_000_000;
}

impl AutoPolicy {
    /// The score from which on a task is hard, where a route does not say.
    pub const THRESHOLD: u8 = 50;

    /// The tier of a target, if it has one.
    pub fn tier_of(&self, target: &str) -> Option<Tier> {
        let is_in = |tier: &[String]| tier.iter().any(|name| name == target);
        let strong = is_in(&self.strong).then_some(Tier::Strong);
        is_in(&self.cheap).then_some(Tier::Cheap).or(strong)
    }
}
