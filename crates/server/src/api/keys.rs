//! API keys: `GET|POST /api/keys`, `DELETE /api/keys/{id}`.

use axum::extract::{Path, State};
use pipeline::NewKey;
use serde::{Deserialize, Deserializer, Serialize};
use storage::budgets::Origin;
use storage::{Key, WindowKind};
use types::ids::KeyId;
use types::principal::Role;
use types::{Failure, Money};
use utoipa::ToSchema;

use super::{ApiError, ApiFailure, Json, Operator, Shared, not_found};

/// Characters of a key's name at most.
const NAME_CHARS_MAX: usize = 64;

/// A key without its secret.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyView {
    /// Its id.
    id: String,
    /// Its name.
    name: String,
    /// Whose it is.
    user: String,
    /// `admin` or `member`.
    role: String,
    /// The first characters of the secret.
    hint: String,
    /// `file` or `api`.
    origin: String,
    /// Seconds since the epoch.
    created_at: i64,
    /// The secret: shown once, by the request that made the key.
    #[serde(skip_serializing_if = "Option::is_none")]
    secret: Option<String>,
}

impl KeyView {
    fn of(key: &Key, secret: Option<String>) -> Self {
        Self {
            id: key.id.to_string(),
            name: key.name.clone(),
            user: key.user.clone(),
            role: match key.role {
                Role::Admin => "admin".to_owned(),
                Role::Member => "member".to_owned(),
            },
            hint: key.hint.clone(),
            origin: super::config::origin(key.origin).to_owned(),
            created_at: key.created_at.seconds(),
            secret,
        }
    }
}

/// Keys.
#[derive(Serialize, ToSchema)]
pub(crate) struct KeyList {
    /// All of the account.
    data: Vec<KeyView>,
}

/// All keys, without their secrets.
#[utoipa::path(get, path = "/api/keys", responses((status = 200, body = KeyList)))]
pub(crate) async fn list(State(app): Shared, operator: Operator) -> axum::Json<KeyList> {
    let data =
        app.directory.keys(&operator.0.account).iter().map(|key| KeyView::of(key, None)).collect();
    axum::Json(KeyList { data })
}

/// A key to make.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyCreate {
    /// Its name, unique within the account.
    name: String,
    /// Whose it is; absent = its own.
    user: Option<String>,
    /// `member` (default) or `admin`.
    #[schema(value_type = Option<String>)]
    role: Option<Role>,
    /// Its budget. Must be there: a key without a limit is asked for by an explicit `null`.
    #[serde(default, deserialize_with = "present")]
    #[schema(value_type = Option<KeyBudget>)]
    budget: Option<Option<KeyBudget>>,
    /// The output cap in tokens for Calls under a hard budget that name none.
    output_cap_default: Option<u64>,
}

/// The budget of a new key.
#[derive(Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub(crate) struct KeyBudget {
    /// Dollars, as a decimal string.
    #[schema(value_type = String)]
    limit_usd: Money,
    /// `total` (default), `hour`, `day`, `week`, `month` (all UTC) or `{"rolling": "24h"}`.
    #[schema(value_type = Option<Object>)]
    window: Option<WindowKind>,
}

/// Tells `null` from absent.
fn present<'de, D: Deserializer<'de>>(
    deserializer: D,
) -> Result<Option<Option<KeyBudget>>, D::Error> {
    Option::deserialize(deserializer).map(Some)
}

/// Makes a key; the answer shows its secret, once.
#[utoipa::path(post, path = "/api/keys", request_body = KeyCreate, responses((status = 200, body = KeyView), (status = 400, body = ApiError)))]
pub(crate) async fn create(
    State(app): Shared,
    operator: Operator,
    Json(create): Json<KeyCreate>,
) -> Result<axum::Json<KeyView>, ApiFailure> {
    check_name("name", &create.name)?;
    create.user.as_deref().map_or(Ok(()), |user| check_name("user", user))?;
    let Some(budget) = create.budget else {
        let message = "a key needs a budget such as {\"limit_usd\": \"5.00\", \"window\": \"day\"}, or an explicit null";
        return Err(ApiFailure(Failure::invalid("budget", message)));
    };
    let limit = budget.map(|budget| (budget.limit_usd, budget.window.unwrap_or(WindowKind::Total)));
    let new = NewKey {
        account: operator.0.account.to_string(),
        name: create.name,
        user: create.user,
        role: create.role.unwrap_or(Role::Member),
        output_cap_default: create.output_cap_default,
        origin: Origin::Api,
    };
    let (key, secret) = app.directory.create_key(new, limit).await?;
    Ok(axum::Json(KeyView::of(&key, Some(secret.expose().to_owned()))))
}

/// Names go into lists, logs and folders' names: no characters that mean something there.
fn check_name(field: &'static str, name: &str) -> Result<(), Failure> {
    let allowed = |c: char| c.is_ascii_alphanumeric() || "-_.".contains(c);
    if !name.is_empty() && name.len() <= NAME_CHARS_MAX && name.chars().all(allowed) {
        return Ok(());
    }
    let message = format!("{field} must be 1 to {NAME_CHARS_MAX} letters, digits, '-', '_' or '.'");
    Err(Failure::invalid(field, message))
}

/// What a deletion answers.
#[derive(Serialize, ToSchema)]
pub(crate) struct Deleted {
    /// What was deleted.
    pub(crate) id: String,
    /// True.
    pub(crate) deleted: bool,
}

/// Removes a key: it stops working at once.
#[utoipa::path(delete, path = "/api/keys/{id}", responses((status = 200, body = Deleted), (status = 404, body = ApiError)))]
pub(crate) async fn delete(
    State(app): Shared,
    operator: Operator,
    Path(text): Path<String>,
) -> Result<axum::Json<Deleted>, ApiFailure> {
    let id = KeyId::parse(&text).ok_or_else(|| not_found("key", &text))?;
    if id == operator.0.key {
        let message = "a key can't delete itself: use another admin key";
        return Err(ApiFailure(Failure::invalid("id", message)));
    }
    let deleted = app.directory.delete_key(&operator.0.account, &id).await?;
    if deleted {
        Ok(axum::Json(Deleted { id: text, deleted }))
    } else {
        Err(not_found("key", &text))
    }
}

#[cfg(test)]
mod tests {
    use super::check_name;

    #[test]
    fn names_and_users_hold_nothing_that_lists_and_folders_would_read() {
        for good in ["ci", "key_06gz4", "a.b-c_9", &"x".repeat(64)] {
            assert!(check_name("user", good).is_ok(), "{good}");
        }
        for bad in ["", "../../etc\n", "a b", "ü", "a/b", &"x".repeat(65)] {
            let failure = check_name("user", bad).unwrap_err();
            assert_eq!(failure.param.as_deref(), Some("user"), "{bad}");
        }
    }
}
