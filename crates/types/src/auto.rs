//! Choosing a tier of a route's targets by how hard a task seems: the settings, as data.
//!
//! How a task is judged is the pipeline's business; nothing here decides.

/// A tier of targets.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
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
