//! The model's own chat template, rendered as Hugging Face Transformers does, so that prompts are
//! what it was trained on: Jinja with Python's methods, `tojson` with Python's separators,
//! `raise_exception` and `strftime_now`.
//!
//! A template comes with a model file and is hostile: it gets no files, its work and its output are
//! bounded, and what it raises fails one request. It must not know tokens or sessions.

mod python;
#[cfg(test)]
mod tests;

use std::fmt;
use std::io;

use engine::protocol::{ChatMessage, EngineFailure, FailureCode, Tool};
use minijinja::syntax::SyntaxConfig;
use minijinja::value::{Kwargs, Serde, Value};
use minijinja::{Environment, ErrorKind, context};
use serde_json::json;
use types::clock::SharedClock;

/// For a model without a template: ChatML with Hermes tool calls, the most common one.
const CHATML: &str = include_str!("template/chatml.jinja");

/// Instructions that one rendering may take: about a second's work.
const FUEL_MAX: u64 = 50_000_000;
/// Bytes of a rendered prompt, whatever the model's context holds.
const PROMPT_BYTES_MAX: usize = 64 * 1024 * 1024;
/// Nesting of macros and includes.
const RECURSION_MAX: usize = 100;

const NAME: &str = "chat";

/// A compiled chat template.
pub(crate) struct Template {
    environment: Environment<'static>,
    source: String,
    bos: String,
    eos: String,
}

impl fmt::Debug for Template {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Template").field("bytes", &self.source.len()).finish_non_exhaustive()
    }
}

impl Template {
    /// Compiles the model's template, or ChatML if it has none.
    ///
    /// # Errors
    /// The template is no valid Jinja; the message names the line.
    pub(crate) fn new(
        source: Option<String>,
        bos: String,
        eos: String,
        clock: SharedClock,
    ) -> Result<Self, minijinja::Error> {
        let source = source.unwrap_or_else(|| CHATML.trim_end().to_owned());
        let mut environment = Environment::new();
        let mut syntax = SyntaxConfig::builder();
        syntax.trim_blocks(true).lstrip_blocks(true).keep_trailing_newline(false);
        environment.set_syntax(syntax.build()?);
        environment.set_fuel(Some(FUEL_MAX));
        environment.set_recursion_limit(RECURSION_MAX);
        environment
            .set_unknown_method_callback(minijinja_contrib::pycompat::unknown_method_callback);
        environment.add_filter("tojson", to_json);
        environment.add_function("raise_exception", raise_exception);
        environment.add_function("strftime_now", move |format: String| {
            python::strftime(&format, clock.now())
        });
        environment.add_template_owned(NAME, source.clone())?;
        Ok(Self { environment, source, bos, eos })
    }

    /// The template's text.
    pub(crate) fn source(&self) -> &str {
        &self.source
    }

    /// The prompt that asks for the assistant's next message; `None` if it has more than so many
    /// bytes.
    ///
    /// # Errors
    /// The template refuses this conversation, or works too long.
    pub(crate) fn render(
        &self,
        messages: &[ChatMessage],
        tools: &[Tool],
        bytes_max: usize,
    ) -> Result<Option<String>, EngineFailure> {
        let messages: Vec<_> = messages.iter().map(message_value).collect();
        let tools = match tools {
            [] => Value::from(()),
            tools => Value::from(Serde(tools.iter().map(tool_value).collect::<Vec<_>>())),
        };
        let variables = context! {
            messages => Value::from(Serde(messages)),
            tools => tools,
            add_generation_prompt => true,
            bos_token => self.bos.as_str(),
            eos_token => self.eos.as_str(),
        };
        let bytes_max = bytes_max.min(PROMPT_BYTES_MAX);
        let mut prompt = Bounded { bytes: Vec::new(), bytes_max, is_full: false };
        let template = self.environment.get_template(NAME).map_err(|error| failure(&error))?;
        let rendered = template.render_captured_to(variables, &mut prompt);
        if prompt.is_full {
            return Ok(None);
        }
        rendered.map_err(|error| failure(&error))?;
        String::from_utf8(prompt.bytes).map(Some).map_err(|_not_utf8| {
            EngineFailure::new(FailureCode::TemplateFailed, "the chat template wrote no UTF-8")
        })
    }
}

/// A message as templates expect it: OpenAI's form, arguments as an object.
fn message_value(message: &ChatMessage) -> serde_json::Value {
    let mut value = json!({"role": message.role, "content": message.content});
    if !message.reasoning.is_empty() {
        value["reasoning_content"] = message.reasoning.as_str().into();
    }
    if !message.tool_calls.is_empty() {
        value["tool_calls"] = message.tool_calls.iter().map(call_value).collect();
    }
    if let Some(id) = &message.tool_call_id {
        value["tool_call_id"] = id.as_str().into();
    }
    value
}

fn call_value(call: &engine::protocol::ToolCall) -> serde_json::Value {
    // Most templates write an object with `tojson`; text that is no JSON is shown as it is.
    let arguments = serde_json::from_str(&call.arguments)
        .unwrap_or_else(|_not_json| serde_json::Value::from(call.arguments.as_str()));
    let function = json!({"name": call.name, "arguments": arguments});
    json!({"id": call.id, "type": "function", "function": function})
}

fn tool_value(tool: &Tool) -> serde_json::Value {
    let parameters = tool.parameters.clone();
    let parameters = parameters.unwrap_or_else(|| json!({"type": "object", "properties": {}}));
    let function = json!({
        "name": tool.name,
        "description": tool.description.as_deref().unwrap_or_default(),
        "parameters": parameters,
    });
    json!({"type": "function", "function": function})
}

fn failure(error: &minijinja::Error) -> EngineFailure {
    let message = format!("the model's chat template can't render this: {error}");
    EngineFailure::new(FailureCode::TemplateFailed, message).param("messages")
}

fn raise_exception(message: String) -> Result<Value, minijinja::Error> {
    Err(minijinja::Error::new(ErrorKind::InvalidOperation, message))
}

/// `tojson` of Transformers: `json.dumps(x, ensure_ascii=False, indent=indent)`.
#[expect(clippy::needless_pass_by_value, reason = "the signature that filters have")]
fn to_json(value: &Value, options: Kwargs) -> Result<Value, minijinja::Error> {
    let value = serde_json::to_value(value)
        .map_err(|error| minijinja::Error::new(ErrorKind::BadSerialization, error.to_string()))?;
    let indent: Option<usize> = options.get("indent")?;
    // Accepted as Transformers does; both are what is done anyway, or never asked for by templates
    // in use.
    let _: Option<bool> = options.get("ensure_ascii")?;
    let _: Option<bool> = options.get("sort_keys")?;
    options.assert_all_used()?;
    Ok(Value::from_safe_string(python::json_dumps(&value, indent)))
}

/// Takes at most so many bytes.
struct Bounded {
    bytes: Vec<u8>,
    bytes_max: usize,
    /// Whether more came.
    is_full: bool,
}

impl io::Write for Bounded {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        if self.bytes.len() + bytes.len() > self.bytes_max {
            self.is_full = true;
            return Err(io::Error::other("the prompt is too long"));
        }
        self.bytes.extend_from_slice(bytes);
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}
