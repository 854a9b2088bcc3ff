//! What the items and tools of the Responses API are, told without a tree.
//!
//! An item or a tool counts as the client's own, and its bytes as the bound of its tokens, only if
//! it is of a kind that is known to be. What a provider runs, looks up or keeps has no bound.
//! Invariant: what is not known has none.

use std::borrow::Cow;

use ::types::Failure;
use serde_json::Value;
use serde_json::value::RawValue;

use crate::fold::folded;
use crate::json::{at, join};
use crate::media::{Fields, Media, each, is_long_mark, refuse_imitation};

/// Items whose tokens their bytes bound. Others hold pictures where nobody looks for them, bring
/// tools, or stand for what a provider keeps.
const BOUNDED: [&str; 16] = [
    "message",
    "function_call",
    "function_call_output",
    "custom_tool_call",
    "custom_tool_call_output",
    "reasoning",
    "compaction",
    "local_shell_call",
    "local_shell_call_output",
    "apply_patch_call",
    "apply_patch_call_output",
    "web_search_call",
    "file_search_call",
    "mcp_call",
    "mcp_list_tools",
    "mcp_approval_response",
];
/// Tools that the client runs.
const CLIENTS: [&str; 4] = ["function", "custom", "local_shell", "apply_patch"];
/// Tools of the client under a common name.
const NAMESPACE: &str = "namespace";
/// Tools of a server: ours, or one that the provider asks.
const MCP: &str = "mcp";
/// The scheme of our own tool servers in `server_url`.
pub(crate) const OWN_SCHEME: &str = "holdfast:";
/// The extra field of items that only we give.
const OWN_FIELD: &str = "holdfast";
/// The name of what nobody can bound, in tools and in items.
const TOOLS: &str = "tools";
const INPUT: &str = "input";
/// The field of a mark of Anthropic's prompt cache.
pub(crate) const CACHE_CONTROL: &str = "cache_control";

/// The fields of items and tools that are read here.
const READ: [&str; 10] = [
    "type",
    "role",
    "content",
    "output",
    "server_url",
    TOOLS,
    "vector_store_ids",
    "container",
    "connector_id",
    CACHE_CONTROL,
];

/// What a list of items holds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Items {
    /// What is not text.
    pub(crate) media: Media,
    /// Something that nobody can bound.
    pub(crate) unbounded: Option<&'static str>,
    /// An item stands for another one, or was given by us.
    pub(crate) refers: bool,
    /// There are calls of a tool server.
    pub(crate) mcp: bool,
}

/// What a list of items holds.
pub(crate) fn items_in(list: &RawValue, path: &str) -> Result<Items, Failure> {
    let mut items = Items::default();
    let mut index = 0;
    each(list, "a string or an array of objects", path, |fields| {
        let path = at(path, index);
        index += 1;
        let kind = kind_of(&fields, &path)?;
        let has = |wanted: &str| fields.iter().any(|(name, _)| name == wanted);
        match kind.as_deref() {
            Some("item_reference") => items.refers = true,
            // An item reference may be sent as nothing but its id.
            None => items.refers |= !has("role"),
            Some(kind) if BOUNDED.contains(&kind) => items.mcp |= kind.starts_with(MCP),
            Some(_) => items.unbounded = Some(INPUT),
        }
        items.refers |= has(OWN_FIELD);
        items.media.marked |= fields.iter().any(|(name, raw)| is_long_mark(name, raw));
        items.media.add_message(fields, &path)
    })?;
    items.unbounded = items.unbounded.or(items.media.unbounded);
    // How long a mark of a cache holds, and so what it costs, nobody reads here.
    items.unbounded = items.unbounded.or_else(|| items.media.marked.then_some(INPUT));
    Ok(items)
}

/// What `tools` are.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Tools {
    /// There is one at least.
    pub(crate) any: bool,
    /// Some tool is run by the provider, which bills it apart and feeds its results to the model.
    pub(crate) unbounded: Option<&'static str>,
    /// Some tool server is ours.
    pub(crate) ours: bool,
    /// Some tool server is one that the provider asks.
    pub(crate) remote: bool,
}

/// What `tools` are.
pub(crate) fn tools_in(list: Option<&RawValue>, path: &str) -> Result<Tools, Failure> {
    tools_within(list, path, false)
}

/// What tools are. In a namespace there is no other.
fn tools_within(list: Option<&RawValue>, path: &str, in_namespace: bool) -> Result<Tools, Failure> {
    let mut tools = Tools::default();
    let Some(list) = list.filter(|list| list.get() != "null") else { return Ok(tools) };
    let mut index = 0;
    each(list, "an array of objects", path, |fields| {
        let path = at(path, index);
        index += 1;
        tools.any = true;
        let kind = kind_of(&fields, &path)?;
        refuse_kept(kind.as_deref(), &fields, &path)?;
        if fields.iter().any(|(name, raw)| is_long_mark(name, raw)) {
            tools.unbounded = tools.unbounded.or(Some(CACHE_CONTROL));
        }
        match kind.as_deref() {
            Some(kind) if CLIENTS.contains(&kind) => {}
            Some(NAMESPACE) if !in_namespace => {
                let inner = fields.iter().filter(|(name, _)| name == TOOLS);
                for (_, inner) in inner {
                    let inner = tools_within(Some(inner), &join(&path, TOOLS), true)?;
                    tools.unbounded = tools.unbounded.or(inner.unbounded);
                    tools.ours |= inner.ours;
                    tools.remote |= inner.remote;
                }
            }
            Some(MCP) if is_ours(&fields) => tools.ours = true,
            kind => {
                tools.remote |= kind == Some(MCP);
                tools.unbounded = Some(TOOLS);
            }
        }
        Ok(())
    })?;
    Ok(tools)
}

/// Refuses a tool that names what the operator's own account at a provider holds: any key could
/// read it by its id.
fn refuse_kept(kind: Option<&str>, fields: &Fields<'_>, path: &str) -> Result<(), Failure> {
    let kept: &[&str] = match kind {
        Some("file_search") => &["vector_store_ids"],
        Some("code_interpreter") => &["container"],
        Some("image_generation") => &["input_image_mask"],
        Some(MCP) => &["connector_id"],
        _ => return Ok(()),
    };
    for (name, raw) in fields.iter().filter(|(name, _)| kept.contains(&&**name)) {
        // A container that is made for the request is no one's yet; files put into it are.
        let brought = matches!(&**name, "container" | "input_image_mask") && holds_no_file(raw);
        if raw.get() != "null" && !brought {
            return Err(not_reachable(join(path, name)));
        }
    }
    Ok(())
}

/// Whether it is an object without ids of files in it.
fn holds_no_file(raw: &RawValue) -> bool {
    let object = serde_json::from_str::<Value>(raw.get());
    let is_kept = |name: &&str| matches!(folded(name).as_ref(), "file_id" | "file_ids");
    object.is_ok_and(|object| {
        let fields = object.as_object();
        fields.is_some_and(|fields| {
            !fields.iter().any(|(name, value)| is_kept(&name.as_str()) && !value.is_null())
        })
    })
}

/// The refusal of what the operator's account at a provider holds.
pub(crate) fn not_reachable(path: String) -> Failure {
    let text = format!(
        "'{path}' names what the operator's account at a provider holds, which no request can \
         reach: send the content itself"
    );
    Failure::unsupported(path, text)
}

/// Whether a tool server is ours: no address is given, or one of ours.
fn is_ours(fields: &Fields<'_>) -> bool {
    let given = |wanted: &str| {
        let field = fields.iter().find(|(name, _)| name == wanted);
        field.map(|(_, raw)| raw.get()).filter(|text| *text != "null")
    };
    if given("connector_id").is_some() {
        return false;
    }
    let own = |url: &str| {
        serde_json::from_str::<Cow<'_, str>>(url).is_ok_and(|url| url.starts_with(OWN_SCHEME))
    };
    given("server_url").is_none_or(own)
}

/// The `type` of an object, if it has one. Readers would disagree about which of two counts.
fn kind_of<'a>(fields: &Fields<'a>, path: &str) -> Result<Option<Cow<'a, str>>, Failure> {
    let mut kind = None;
    for (name, raw) in fields {
        refuse_imitation(name, path, &READ)?;
        if name != "type" {
            continue;
        }
        let path = || join(path, "type");
        if kind.is_some() {
            return Err(Failure::invalid(path(), format!("'{}' is given twice", path())));
        }
        let wrong = |_| {
            Failure::invalid(path(), format!("invalid type for '{}': expected a string", path()))
        };
        kind = Some(serde_json::from_str::<Option<Cow<'a, str>>>(raw.get()).map_err(wrong)?);
    }
    Ok(kind.flatten())
}

#[cfg(test)]
mod tests;
