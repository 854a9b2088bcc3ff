//! Grammars: what the model may say where a tool call or a JSON schema binds it, compiled by
//! `llguidance`.
//!
//! A tool call has the Hermes form, arguments follow the tool's schema, keys stand in the schema's
//! order, and nothing but `", "` and `": "` stands between (as in `json.dumps`), so that the
//! template renders the same text again. What the compiler does not take is refused with the path
//! in the schema; nothing is ever ignored silently. Schemas come from clients and are hostile:
//! what they ask for is counted before it is compiled (`grammar/limits.rs`), the compiler's work
//! and the matcher's work per token are bounded, and between two compilations it is asked whether
//! the answer is still wanted.

mod limits;
mod schema;

use std::fmt;
use std::sync::Arc;

use engine::protocol::{EngineFailure, FailureCode, Generate, Tool, ToolChoice};
use llguidance::api::TopLevelGrammar;
use llguidance::{Matcher, ParserFactory};
use serde_json::Value;
use toktrie::{InferenceCapabilities, TokEnv};

use crate::job::Wanted;
use crate::output::{ARGUMENTS_HEAD, NAME_HEAD};
use crate::vocab::{CALL_CLOSE, CALL_OPEN};
use limits::Counts;

/// Tools of one request.
const TOOLS_MAX: usize = 512;
/// Bytes of a tool's name.
const TOOL_NAME_BYTES_MAX: usize = 256;
/// Tool calls of one answer.
pub(crate) const CALLS_MAX: u32 = 32;
/// What the compiler may spend on a grammar's expressions: half as much as it takes by itself,
/// which is more than the largest schemas in use need.
const INITIAL_FUEL_MAX: u64 = 600_000;
/// Symbols of a grammar.
const GRAMMAR_SYMBOLS_MAX: usize = 200_000;
/// States of a matcher, of one to two kilobytes each.
const MATCHER_STATES_MAX: usize = 50_000;

/// Compiles grammars for one vocabulary.
pub(crate) struct Grammars {
    factory: ParserFactory,
}

impl fmt::Debug for Grammars {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Grammars").finish_non_exhaustive()
    }
}

/// What binds an answer.
pub(crate) enum Bound {
    /// Nothing; `<tool_call>` must not be said if tools may not be called.
    Free {
        /// Whether the marker is banned.
        ban_calls: bool,
    },
    /// Free text, and from each opening marker on this grammar.
    Calls {
        /// From behind the opening marker to the closing marker.
        call: Matcher,
        /// Whether more calls may follow the first.
        parallel: bool,
    },
    /// The whole answer.
    Whole {
        /// From the first byte to the last.
        all: Matcher,
        /// Whether tool calls are among what it allows.
        calls: bool,
    },
}

impl fmt::Debug for Bound {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Free { .. } => "Free",
            Self::Calls { .. } => "Calls",
            Self::Whole { .. } => "Whole",
        })
    }
}

impl Grammars {
    /// A compiler for the vocabulary.
    ///
    /// # Errors
    /// `llguidance` can't use the vocabulary.
    pub(crate) fn new(environment: &TokEnv) -> anyhow::Result<Self> {
        let capabilities = InferenceCapabilities::default();
        let slices = llguidance::earley::SlicedBiasComputer::general_slices();
        let mut factory = ParserFactory::new(environment, capabilities, &slices)?;
        factory.quiet();
        let limits = factory.limits_mut();
        limits.verbose_errors = false;
        limits.initial_lexer_fuel = INITIAL_FUEL_MAX;
        limits.max_grammar_size = GRAMMAR_SYMBOLS_MAX;
        limits.max_lexer_states = MATCHER_STATES_MAX;
        Ok(Self { factory })
    }

    /// What binds the answer to `request`.
    ///
    /// # Errors
    /// A schema is too large or not supported, or a tool's name is no name; the field is named. Or
    /// the answer is not wanted any more.
    pub(crate) fn bind(&self, request: &Generate, wanted: &Wanted) -> Result<Bound, EngineFailure> {
        let tools = callable(request)?;
        count(request, &tools)?;
        let schema = request.schema.as_ref().map(|schema| self.checked(schema, "schema", wanted));
        let schema = schema.transpose()?;
        if tools.is_empty() {
            return Ok(match schema {
                Some(schema) => Bound::Whole { all: self.json(&schema)?, calls: false },
                None => Bound::Free { ban_calls: !request.tools.is_empty() },
            });
        }
        let calls = self.call_rules(&tools, wanted)?;
        wanted.check()?;
        let parallel = request.parallel_tool_calls;
        let forced = !matches!(request.tool_choice, ToolChoice::Auto);
        if !forced && schema.is_none() {
            let call = self.lark(&format!("start: call_rest\n{calls}"))?;
            return Ok(Bound::Calls { call, parallel });
        }
        let open = quoted(CALL_OPEN);
        let named = matches!(request.tool_choice, ToolChoice::Named { .. });
        let more = if parallel && !named {
            format!(" (\"\\n\" {open} call_rest){{0,{}}}", CALLS_MAX - 1)
        } else {
            String::new()
        };
        let answer = match &schema {
            Some(schema) if !forced => format!("start: calls | answer\nanswer: %json {schema}\n"),
            Some(_) | None => "start: calls\n".to_owned(),
        };
        let all = self.lark(&format!("{answer}calls: {open} call_rest{more}\n{calls}"))?;
        Ok(Bound::Whole { all, calls: true })
    }

    /// The rules of what stands behind an opening marker.
    fn call_rules(
        &self,
        tools: &[(usize, &Tool)],
        wanted: &Wanted,
    ) -> Result<String, EngineFailure> {
        let alternatives: Vec<_> = tools.iter().map(|(index, _)| format!("call_{index}")).collect();
        let (begin, end) = (quoted("\n"), quoted(&format!("\n{CALL_CLOSE}")));
        let mut rules = format!("call_rest: {begin} call {end}\n");
        rules.push_str(&format!("call: {}\n", alternatives.join(" | ")));
        for (index, tool) in tools {
            let path = format!("tools[{index}].parameters");
            let parameters = tool.parameters.as_ref();
            let parameters = parameters.filter(|value| !value.is_null());
            let parameters = match parameters {
                Some(schema) => self.checked(&schema::as_object(schema, &path)?, &path, wanted)?,
                None => schema::any_object(),
            };
            let head = format!("{NAME_HEAD}{}{ARGUMENTS_HEAD}", Value::from(tool.name.as_str()));
            rules.push_str(&format!("call_{index}: {} arguments_{index} \"}}\"\n", quoted(&head)));
            rules.push_str(&format!("arguments_{index}: %json {parameters}\n"));
        }
        Ok(rules)
    }

    /// The schema as it is compiled, once it is known to compile.
    fn checked(&self, schema: &Value, path: &str, wanted: &Wanted) -> Result<Value, EngineFailure> {
        wanted.check()?;
        let normal = schema::normalise(schema);
        let Err(reason) = self.try_json(&normal) else { return Ok(normal) };
        let (inner, reason) = schema::find_fault(&normal, reason, &|part| {
            // What nobody waits for any more is not looked for.
            wanted.check().ok()?;
            self.try_json(part).err()
        });
        let message = format!("this JSON schema can't be held: {reason}");
        let param = format!("{path}{inner}");
        Err(EngineFailure::new(FailureCode::UnsupportedSchema, message).param(param))
    }

    fn try_json(&self, schema: &Value) -> Result<Matcher, String> {
        self.compile(TopLevelGrammar::from_json_schema(schema.clone()))
    }

    fn json(&self, schema: &Value) -> Result<Matcher, EngineFailure> {
        self.try_json(schema).map_err(|reason| unsupported(&reason))
    }

    fn lark(&self, grammar: &str) -> Result<Matcher, EngineFailure> {
        self.compile(TopLevelGrammar::from_lark(grammar.to_owned()))
            .map_err(|reason| unsupported(&reason))
    }

    fn compile(&self, grammar: TopLevelGrammar) -> Result<Matcher, String> {
        // The compiler is fed with clients' schemas; a bug in it must fail this request and no
        // other.
        let compiled = std::panic::catch_unwind(std::panic::AssertUnwindSafe(|| {
            self.factory.create_parser(grammar).map_err(|error| format!("{error:#}"))
        }));
        let parser =
            compiled.unwrap_or_else(|_panic| Err("the grammar compiler failed".to_owned()))?;
        let matcher = Matcher::new(Ok(parser));
        match matcher.get_error() {
            Some(error) => Err(error),
            None => Ok(matcher),
        }
    }
}

fn unsupported(reason: &str) -> EngineFailure {
    let message = format!("the tools' and the answer's schemas can't be held together: {reason}");
    EngineFailure::new(FailureCode::UnsupportedSchema, message)
}

/// Counts what the schemas of a request come to, before any of them is compiled.
fn count(request: &Generate, tools: &[(usize, &Tool)]) -> Result<(), EngineFailure> {
    let mut counts = Counts::default();
    if let Some(schema) = &request.schema {
        counts.add(schema, "schema")?;
    }
    for (index, tool) in tools {
        if let Some(parameters) = &tool.parameters {
            counts.add(parameters, &format!("tools[{index}].parameters"))?;
        }
    }
    Ok(())
}

/// The tools that may be called, with their places in the request.
fn callable(request: &Generate) -> Result<Vec<(usize, &Tool)>, EngineFailure> {
    let invalid = |message: String, param: String| {
        Err(EngineFailure::new(FailureCode::InvalidRequest, message).param(param))
    };
    if request.tools.len() > TOOLS_MAX {
        return invalid(format!("at most {TOOLS_MAX} tools"), "tools".to_owned());
    }
    for (index, tool) in request.tools.iter().enumerate() {
        if tool.name.is_empty() || tool.name.len() > TOOL_NAME_BYTES_MAX {
            let message = format!("a tool's name has 1 to {TOOL_NAME_BYTES_MAX} bytes");
            return invalid(message, format!("tools[{index}].name"));
        }
    }
    let tools = request.tools.iter().enumerate();
    let tools: Vec<_> = match &request.tool_choice {
        ToolChoice::None => return Ok(Vec::new()),
        ToolChoice::Auto => return Ok(tools.collect()),
        ToolChoice::Required => tools.collect(),
        ToolChoice::Named { name } => tools.filter(|(_, tool)| tool.name == *name).collect(),
    };
    if tools.is_empty() {
        let message = "there is no tool that could be called".to_owned();
        return invalid(message, "tool_choice".to_owned());
    }
    Ok(tools)
}

/// A literal of the grammar language, which quotes as JSON does.
fn quoted(text: &str) -> String {
    Value::from(text).to_string()
}

/// Shared by the threads that prepare requests.
pub(crate) type SharedGrammars = Arc<Grammars>;
