//! Conditions of routes, in CEL (the Common Expression Language).
//!
//! An expression is compiled when it is configured: what does not parse, names something that is
//! not there or can't be true or false is a mistake of the configuration. It is evaluated for a
//! Call over that Call's [`Facts`], of which only those are looked up that it names. Invariant: one
//! evaluation is short, whatever a client sends: expressions are short, loops are not nested, and
//! there are no regular expressions. Whatever goes wrong at run time means "no".

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, LazyLock};

use cel::common::ast::{EntryExpr, Expr, IdedExpr};
use cel::parser::{Expression, PrattParser};
use cel::{Context, Env, ExecutionError, Value};
use serde::de::Error as _;
use serde::{Deserialize, Deserializer, Serialize, Serializer};

use super::facts::Facts;

/// Characters of an expression at most.
pub const EXPRESSION_CHARS_MAX: usize = 1_024;
/// How deep an expression may be: it is read and evaluated by recursion.
const DEPTH_MAX: u16 = 24;
/// Parts of an expression at most.
const NODES_MAX: usize = 256;
/// Loops (`all`, `exists`, `filter`, `map`) in one expression at most.
const LOOPS_MAX: usize = 4;
/// Prefix of names that the parser makes for its own use.
const INTERNAL_PREFIX: char = '@';
/// Functions that may be called by name; operators have names that begin otherwise.
const FUNCTIONS: &[&str] =
    &["size", "contains", "startsWith", "endsWith", "int", "uint", "double", "string", "bool"];

static ENV: LazyLock<Arc<Env>> = LazyLock::new(|| Arc::new(Env::stdlib()));

/// What an expression can name.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Variable {
    Admin,
    BodyBytes,
    BudgetLeftMicrousd,
    BudgetLeftPercent,
    Burning,
    Class,
    Cooling,
    Door,
    Effort,
    FailurePercent,
    HasTools,
    Hour,
    InputTokens,
    Key,
    LatencyMs,
    Media,
    MediaKinds,
    Metadata,
    Operation,
    OutputCap,
    Score,
    Session,
    Stream,
    Tier,
    ToolNames,
    User,
    WantsSchema,
    Weekday,
}

impl Variable {
    const ALL: [(&'static str, Self); 28] = [
        ("admin", Self::Admin),
        ("body_bytes", Self::BodyBytes),
        ("budget_left_microusd", Self::BudgetLeftMicrousd),
        ("budget_left_percent", Self::BudgetLeftPercent),
        ("burning", Self::Burning),
        ("class", Self::Class),
        ("cooling", Self::Cooling),
        ("door", Self::Door),
        ("effort", Self::Effort),
        ("failure_percent", Self::FailurePercent),
        ("has_tools", Self::HasTools),
        ("hour", Self::Hour),
        ("input_tokens", Self::InputTokens),
        ("key", Self::Key),
        ("latency_ms", Self::LatencyMs),
        ("media", Self::Media),
        ("media_kinds", Self::MediaKinds),
        ("metadata", Self::Metadata),
        ("operation", Self::Operation),
        ("output_cap", Self::OutputCap),
        ("score", Self::Score),
        ("session", Self::Session),
        ("stream", Self::Stream),
        ("tier", Self::Tier),
        ("tool_names", Self::ToolNames),
        ("user", Self::User),
        ("wants_schema", Self::WantsSchema),
        ("weekday", Self::Weekday),
    ];

    fn named(name: &str) -> Option<Self> {
        Self::ALL.iter().find(|(known, _)| *known == name).map(|(_, variable)| *variable)
    }

    const fn name(self) -> &'static str {
        Self::ALL[self as usize].0
    }
}

/// A condition: a compiled expression.
#[derive(Clone)]
pub struct Condition(Arc<Compiled>);

struct Compiled {
    text: String,
    expression: Expression,
    variables: BTreeSet<Variable>,
}

/// What is wrong with an expression, and where.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct WrongCondition(String);

/// What is so at present, whatever the Call is.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Now<'a> {
    /// The targets that are left alone.
    pub(crate) cooling: &'a [&'a str],
    /// The objectives that burn.
    pub(crate) burning: &'a [&'a str],
    /// How the route's targets did lately.
    pub(crate) lately: &'a [Lately<'a>],
}

/// How one target did lately.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Lately<'a> {
    pub(crate) target: &'a str,
    /// Of a hundred attempts so many failed.
    pub(crate) failure_percent: u8,
    /// Milliseconds to the first content, 0 while nobody knows.
    pub(crate) latency_ms: u64,
}

/// What came of a condition that could not be evaluated.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Unknown {
    /// It reads an entry of the metadata that was not sent, or of a target that the route has not:
    /// as expected as a "no".
    Absent,
    /// It does not fit its values.
    Failed,
}

impl Condition {
    /// Compiles an expression.
    ///
    /// # Errors
    /// What is wrong with it, with line and column where they are known.
    pub fn compile(text: &str) -> Result<Self, WrongCondition> {
        let wrong = |text: String| Err(WrongCondition(text));
        if text.chars().count() > EXPRESSION_CHARS_MAX {
            return wrong(format!("must have at most {EXPRESSION_CHARS_MAX} characters"));
        }
        let parser = PrattParser::new().max_recursion_depth(DEPTH_MAX);
        let parser = parser.max_expression_node_count(NODES_MAX);
        let expression = parser.parse(text).map_err(|errors| {
            let first = errors.errors.first();
            let said = first.map(|error| {
                let (line, column) = error.pos;
                format!("line {line}, column {column}: {}", error.msg)
            });
            WrongCondition(said.unwrap_or_else(|| errors.to_string()))
        })?;
        let mut named = Named { text, ..Named::default() };
        named.walk(&expression);
        if let Some(problem) = named.problem {
            return wrong(problem);
        }
        let condition = Self(Arc::new(Compiled {
            text: text.to_owned(),
            variables: named.variables,
            expression,
        }));
        condition.check_type()?;
        Ok(condition)
    }

    /// Tries it on values of the right types: an expression over facts that are always there must
    /// come to true or false. What depends on metadata, or on targets, can't be known before.
    fn check_type(&self) -> Result<(), WrongCondition> {
        if self.names(Variable::Metadata) || self.needs_lately() {
            return Ok(());
        }
        let value = |variable: &Variable| (variable.name(), sample(*variable));
        let context = context(self.0.variables.iter().map(value));
        match Value::resolve(&self.0.expression, &context) {
            Ok(Value::Bool(_)) => Ok(()),
            Ok(_) => Err(WrongCondition("must come to true or false".to_owned())),
            // Of an example: a list may be empty there.
            Err(
                ExecutionError::IndexOutOfBounds(_)
                | ExecutionError::DivisionByZero(_)
                | ExecutionError::RemainderByZero(_)
                | ExecutionError::Overflow(..)
                | ExecutionError::FunctionError { .. },
            ) => Ok(()),
            Err(error) => Err(WrongCondition(error.to_string())),
        }
    }

    /// The expression as it was written.
    pub fn text(&self) -> &str {
        &self.0.text
    }

    /// Whether it looks something up.
    pub(crate) fn names(&self, variable: Variable) -> bool {
        self.0.variables.contains(&variable)
    }

    /// Whether it looks up what budgets have left.
    pub(crate) fn needs_budget(&self) -> bool {
        self.names(Variable::BudgetLeftMicrousd) || self.names(Variable::BudgetLeftPercent)
    }

    /// Whether it looks up how targets did lately.
    pub(crate) fn needs_lately(&self) -> bool {
        self.names(Variable::FailurePercent) || self.names(Variable::LatencyMs)
    }

    /// Whether it looks up what is decided about tiers.
    pub fn needs_tier(&self) -> bool {
        self.names(Variable::Tier) || self.names(Variable::Score)
    }

    /// Whether it holds for a Call.
    pub(crate) fn holds(&self, facts: &Facts<'_>, now: Now<'_>) -> Result<bool, Unknown> {
        let look = |variable: &Variable| (variable.name(), value(*variable, facts, now));
        let context = context(self.0.variables.iter().map(look));
        match Value::resolve(&self.0.expression, &context) {
            Ok(Value::Bool(holds)) => Ok(holds),
            Err(ExecutionError::NoSuchKey(_)) => Err(Unknown::Absent),
            Ok(_) | Err(_) => Err(Unknown::Failed),
        }
    }
}

fn context<'a>(values: impl Iterator<Item = (&'static str, Value)>) -> Context<'a, 'a> {
    let mut context = Context::with_env(Arc::clone(&ENV));
    for (name, value) in values {
        context.add_variable_from_value(name, value);
    }
    context
}

fn whole(number: u64) -> Value {
    Value::Int(i64::try_from(number).unwrap_or(i64::MAX))
}

fn list<T: Into<String>>(texts: impl IntoIterator<Item = T>) -> Value {
    let values: Vec<Value> = texts.into_iter().map(|text| Value::from(text.into())).collect();
    Value::from(values)
}

/// What a variable stands for.
fn value(variable: Variable, facts: &Facts<'_>, now: Now<'_>) -> Value {
    match variable {
        Variable::Admin => Value::Bool(facts.principal().is_admin()),
        Variable::BodyBytes => whole(facts.body_bytes()),
        Variable::BudgetLeftMicrousd => {
            let left = facts.budget_left().map(|left| left.amount.nanodollars() / 1_000);
            Value::Int(left.unwrap_or(i64::MAX))
        }
        Variable::BudgetLeftPercent => {
            Value::Int(facts.budget_left().map_or(100, |left| i64::from(left.percent)))
        }
        Variable::Class => Value::from(facts.class()),
        Variable::Burning => list(now.burning.iter().copied()),
        Variable::Cooling => list(now.cooling.iter().copied()),
        Variable::Door => Value::from(facts.door()),
        Variable::Effort => Value::from(facts.effort()),
        Variable::FailurePercent => of_targets(now, |lately| u64::from(lately.failure_percent)),
        Variable::HasTools => Value::Bool(facts.has_tools()),
        Variable::Hour => Value::Int(facts.hour()),
        Variable::InputTokens => whole(facts.input_tokens()),
        Variable::Key => Value::from(&*facts.principal().key_name),
        Variable::LatencyMs => of_targets(now, |lately| lately.latency_ms),
        Variable::Media => whole(facts.media()),
        Variable::MediaKinds => list(facts.media_kinds()),
        Variable::Metadata => metadata(facts),
        Variable::Operation => Value::from(facts.operation()),
        Variable::OutputCap => whole(facts.output_cap()),
        Variable::Score => whole(facts.score()),
        Variable::Session => Value::Bool(facts.in_session()),
        Variable::Stream => Value::Bool(facts.stream()),
        Variable::Tier => Value::from(facts.tier()),
        Variable::ToolNames => list(facts.tool_names()),
        Variable::User => Value::from(&*facts.principal().user),
        Variable::WantsSchema => Value::Bool(facts.wants_schema()),
        Variable::Weekday => Value::Int(facts.weekday()),
    }
}

fn of_targets(now: Now<'_>, number: impl Fn(&Lately<'_>) -> u64) -> Value {
    let entry = |lately: &Lately<'_>| (lately.target.to_owned(), whole(number(lately)));
    let map: std::collections::HashMap<String, Value> = now.lately.iter().map(entry).collect();
    Value::from(map)
}

fn metadata(facts: &Facts<'_>) -> Value {
    let entry = |(name, value): (&str, &serde_json::Value)| {
        let value = match value {
            serde_json::Value::Bool(value) => Value::Bool(*value),
            serde_json::Value::String(text) => Value::from(text.as_str()),
            serde_json::Value::Number(number) => match number.as_i64() {
                Some(number) => Value::Int(number),
                None => Value::Float(number.as_f64().unwrap_or_default()),
            },
            serde_json::Value::Null
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => Value::Null,
        };
        (name.to_owned(), value)
    };
    let map: std::collections::HashMap<String, Value> =
        facts.metadata().iter().map(entry).collect();
    Value::from(map)
}

/// A value of a variable's type.
fn sample(variable: Variable) -> Value {
    match variable {
        Variable::BodyBytes
        | Variable::BudgetLeftMicrousd
        | Variable::BudgetLeftPercent
        | Variable::Hour
        | Variable::InputTokens
        | Variable::Media
        | Variable::OutputCap
        | Variable::Score
        | Variable::Weekday => Value::Int(1),
        Variable::Class
        | Variable::Door
        | Variable::Effort
        | Variable::Key
        | Variable::Operation
        | Variable::Tier
        | Variable::User => Value::from("a"),
        Variable::Burning | Variable::Cooling | Variable::MediaKinds | Variable::ToolNames => {
            list(["a"])
        }
        Variable::Admin
        | Variable::HasTools
        | Variable::Session
        | Variable::Stream
        | Variable::WantsSchema => Value::Bool(true),
        Variable::FailurePercent | Variable::LatencyMs | Variable::Metadata => {
            Value::from(std::collections::HashMap::<String, Value>::new())
        }
    }
}

/// What an expression names, and the first thing that is wrong with it.
#[derive(Default)]
struct Named<'a> {
    text: &'a str,
    variables: BTreeSet<Variable>,
    /// Names that loops around the present place give.
    bound: Vec<&'a str>,
    depth: u16,
    loops: usize,
    in_loop: bool,
    problem: Option<String>,
}

impl<'a> Named<'a> {
    fn walk(&mut self, node: &'a IdedExpr) {
        if self.depth >= DEPTH_MAX {
            let text = format!("is more than {DEPTH_MAX} operators deep");
            return self.wrong(None, &text);
        }
        self.depth += 1;
        self.look_at(node);
        self.depth -= 1;
    }

    fn look_at(&mut self, node: &'a IdedExpr) {
        match &node.expr {
            Expr::Unspecified | Expr::Literal(_) => {}
            Expr::Ident(name) => self.ident(name),
            Expr::Select(select) => self.walk(&select.operand),
            Expr::List(list) => list.elements.iter().for_each(|element| self.walk(element)),
            Expr::Call(call) => {
                let is_named = call.func_name.starts_with(|c: char| c.is_ascii_alphabetic());
                if is_named && !FUNCTIONS.contains(&call.func_name.as_str()) {
                    let text = format!("there is no function \"{}\"", call.func_name);
                    self.wrong(Some(&call.func_name), &text);
                }
                call.target.iter().for_each(|target| self.walk(target));
                call.args.iter().for_each(|argument| self.walk(argument));
            }
            Expr::Comprehension(comprehension) => {
                self.loops += 1;
                if self.in_loop || self.loops > LOOPS_MAX {
                    let text = format!("at most {LOOPS_MAX} loops, none in another");
                    return self.wrong(None, &text);
                }
                self.walk(&comprehension.iter_range);
                self.walk(&comprehension.accu_init);
                let before = self.bound.len();
                self.bound.push(&comprehension.iter_var);
                self.bound.extend(comprehension.iter_var2.as_deref());
                self.bound.push(&comprehension.accu_var);
                self.in_loop = true;
                self.walk(&comprehension.loop_cond);
                self.walk(&comprehension.loop_step);
                self.walk(&comprehension.result);
                self.in_loop = false;
                self.bound.truncate(before);
            }
            Expr::Map(map) => self.entries(map.entries.iter().map(|entry| &entry.expr)),
            Expr::Struct(made) => self.entries(made.entries.iter().map(|entry| &entry.expr)),
        }
    }

    fn entries(&mut self, entries: impl Iterator<Item = &'a EntryExpr>) {
        for entry in entries {
            match entry {
                EntryExpr::StructField(field) => self.walk(&field.value),
                EntryExpr::MapEntry(entry) => {
                    self.walk(&entry.key);
                    self.walk(&entry.value);
                }
            }
        }
    }

    fn ident(&mut self, name: &'a str) {
        if name.starts_with(INTERNAL_PREFIX) || self.bound.contains(&name) {
            return;
        }
        match Variable::named(name) {
            Some(variable) => drop(self.variables.insert(variable)),
            None => {
                let known: Vec<&str> = Variable::ALL.iter().map(|(name, _)| *name).collect();
                let text = format!("there is no \"{name}\"; there are: {}", known.join(", "));
                self.wrong(Some(name), &text);
            }
        }
    }

    /// Notes a problem, with the place of the name that it is about.
    fn wrong(&mut self, name: Option<&str>, text: &str) {
        let place = name.and_then(|name| place_of(self.text, name));
        let text = match place {
            Some((line, column)) => format!("line {line}, column {column}: {text}"),
            None => text.to_owned(),
        };
        self.problem.get_or_insert(text);
    }
}

/// Where a name stands in an expression, as line and column. The parser keeps no places.
fn place_of(text: &str, name: &str) -> Option<(usize, usize)> {
    let is_part = |c: char| c.is_alphanumeric() || c == '_';
    let (at, _) = text.match_indices(name).find(|(at, _)| {
        let before = text[..*at].chars().next_back();
        let after = text[at + name.len()..].chars().next();
        !before.is_some_and(is_part) && !after.is_some_and(is_part)
    })?;
    let lines = text[..at].split('\n');
    let column = lines.clone().next_back().unwrap_or_default().chars().count() + 1;
    Some((lines.count(), column))
}

impl PartialEq for Condition {
    fn eq(&self, other: &Self) -> bool {
        self.0.text == other.0.text
    }
}

impl Eq for Condition {}

impl fmt::Debug for Condition {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Condition({:?})", self.0.text)
    }
}

impl Serialize for Condition {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_str(&self.0.text)
    }
}

impl<'de> Deserialize<'de> for Condition {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let text = String::deserialize(deserializer)?;
        Self::compile(&text).map_err(D::Error::custom)
    }
}

#[cfg(test)]
mod tests;
