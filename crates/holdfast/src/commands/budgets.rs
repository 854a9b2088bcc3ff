//! `holdfast budgets`.

use clap::Subcommand;
use serde_json::{Value, json};

use super::api::{ApiArgs, encoded};
use super::table;

/// Limits on money.
#[derive(Debug, clap::Args)]
pub(crate) struct BudgetsArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(subcommand)]
    command: BudgetsCommand,
}

#[derive(Debug, Subcommand)]
enum BudgetsCommand {
    /// All budgets with their amounts, in dollars.
    List {
        /// Those that this rule has made.
        #[arg(long)]
        rule: Option<String>,
    },
    /// Make a budget, or change the limit of the one of this scope and window.
    Set {
        /// The limit in dollars, such as 5.00.
        limit: String,
        #[command(flatten)]
        scope: Box<ScopeArgs>,
        /// total, hour, day, week, month, or a rolling one such as rolling:24h.
        #[arg(long, default_value = "total")]
        window: String,
        /// Where an hour, a day, a week or a month is told, such as Europe/Berlin; else UTC.
        #[arg(long)]
        time_zone: Option<String>,
    },
    /// Put money to what a budget in total allows.
    TopUp {
        /// Its id.
        id: String,
        /// Dollars, such as 5.00.
        amount: String,
        /// Tells it from others: the same again is the same top-up. Else it is one of its own.
        #[arg(long)]
        idempotency_key: Option<String>,
    },
    /// Remove a budget.
    Delete {
        /// Its id.
        id: String,
    },
    /// Tell what the provider really charged for what is presumed and unreconciled.
    Reconcile {
        /// The budget's id.
        id: String,
        /// Dollars charged of what is presumed.
        #[arg(long)]
        presumed: Option<String>,
        /// Dollars charged of what is unreconciled.
        #[arg(long)]
        unreconciled: Option<String>,
        /// Dollars that were presumed when you looked: refused if it is less by now, and what came
        /// since is left.
        #[arg(long, requires = "presumed")]
        presumed_seen: Option<String>,
        /// Dollars that were unreconciled when you looked.
        #[arg(long, requires = "unreconciled")]
        unreconciled_seen: Option<String>,
        /// The second at which the window began; else the current one.
        #[arg(long)]
        window_start: Option<i64>,
    },
}

/// What a budget is on; none of them: the whole account.
#[derive(Debug, clap::Args)]
struct ScopeArgs {
    /// Of the key of this name.
    #[arg(long, conflicts_with_all = ALONE)]
    key_name: Option<String>,
    /// Of this session (id or name); a name is the one that --key-name's user gives.
    #[arg(long, conflicts_with_all = ALONE)]
    session: Option<String>,
    /// Of all keys of this user.
    #[arg(long)]
    user: Option<String>,
    /// Of the task of this name.
    #[arg(long)]
    task: Option<String>,
    /// Of this request class.
    #[arg(long)]
    class: Option<String>,
    /// Of the Calls whose metadata say this, as NAME=VALUE.
    #[arg(long)]
    metadata: Option<String>,
    /// Of this route, by its own name.
    #[arg(long)]
    route: Option<String>,
    /// Of this gateway.
    #[arg(long)]
    gateway: Option<String>,
    /// Of this model.
    #[arg(long)]
    model: Option<String>,
    /// Of this provider.
    #[arg(long)]
    provider: Option<String>,
    /// One for each user, key, session, task, model or metadata:NAME.
    #[arg(long)]
    each: Option<String>,
}

/// Scopes that stand alone.
const ALONE: [&str; 9] =
    ["user", "task", "class", "metadata", "route", "gateway", "model", "provider", "each"];

impl ScopeArgs {
    /// As the API takes it, which checks it.
    fn to_json(&self) -> Value {
        let metadata = self.metadata.as_deref().map(|text| {
            let (name, value) = text.split_once('=').unwrap_or((text, ""));
            json!({ "name": name, "value": value })
        });
        let each = self.each.as_deref().map(|what| match what.strip_prefix("metadata:") {
            Some(name) => json!({ "metadata": name }),
            None => json!(what),
        });
        let of = [
            ("each", json!(each)),
            ("session", json!(self.session)),
            ("key", json!(self.key_name)),
            ("user", json!(self.user)),
            ("task", json!(self.task)),
            ("class", json!(self.class)),
            ("metadata", json!(metadata)),
            ("route", json!(self.route)),
            ("gateway", json!(self.gateway)),
            ("model", json!(self.model)),
            ("provider", json!(self.provider)),
        ];
        let given = of.into_iter().filter(|(_, value)| !value.is_null());
        let given: serde_json::Map<_, _> =
            given.map(|(name, value)| (name.to_owned(), value)).collect();
        if given.is_empty() { json!("account") } else { Value::Object(given) }
    }
}

/// Runs the command.
pub(crate) async fn run(arguments: BudgetsArgs) -> anyhow::Result<()> {
    let api = &arguments.api;
    match arguments.command {
        BudgetsCommand::List { rule } => {
            let of_rule = rule.map(|rule| format!("budgets?rule={}", encoded(&rule)));
            let answer = api.get(of_rule.as_deref().unwrap_or("budgets")).await?;
            api.print(&answer, |answer| show(&answer["data"]))
        }
        BudgetsCommand::Set { limit, scope, window, time_zone } => {
            let window = match window.strip_prefix("rolling:") {
                Some(length) => json!({ "rolling": length }),
                None => json!(window),
            };
            let mut body =
                json!({ "scope": scope.to_json(), "limit_usd": limit, "window": window });
            if let Some(zone) = time_zone {
                body["time_zone"] = zone.into();
            }
            let answer = api.post("budgets", &body).await?;
            api.print(&answer, |answer| show(&json!([answer])))
        }
        BudgetsCommand::TopUp { id, amount, idempotency_key } => {
            let path = format!("budgets/{}/top-up", encoded(&id));
            let body = json!({ "amount_usd": amount });
            let answer = api.post_once(&path, &body, idempotency_key.as_deref()).await?;
            api.print(&answer, |answer| show(&json!([answer])))
        }
        BudgetsCommand::Delete { id } => {
            let answer = api.delete(&format!("budgets/{}", encoded(&id))).await?;
            api.print(&answer, |_| format!("deleted {id}"))
        }
        BudgetsCommand::Reconcile {
            id,
            presumed,
            unreconciled,
            presumed_seen,
            unreconciled_seen,
            window_start,
        } => {
            let body = json!({
                "presumed_charged_usd": presumed,
                "unreconciled_charged_usd": unreconciled,
                "presumed_seen_usd": presumed_seen,
                "unreconciled_seen_usd": unreconciled_seen,
                "window": window_start,
            });
            let answer = api.post(&format!("budgets/{}/reconcile", encoded(&id)), &body).await?;
            api.print(&answer, |answer| show(&json!([answer])))
        }
    }
}

fn show(budgets: &Value) -> String {
    const AMOUNTS: [&str; 6] = [
        "limit_usd",
        "settled_usd",
        "unreconciled_usd",
        "presumed_usd",
        "reserved_usd",
        "free_usd",
    ];
    let data = budgets.as_array().map(Vec::as_slice).unwrap_or_default();
    let row = |budget: &Value| {
        let what = [table::cell(&budget["id"]), table::scope(&budget["scope"])];
        let window = [table::window(&budget["window"], &budget["time_zone"])];
        let amounts = AMOUNTS.into_iter().map(|field| table::cell(&budget[field]));
        what.into_iter().chain(window).chain(amounts).collect()
    };
    let rows: Vec<Vec<String>> = data.iter().map(row).collect();
    let headings: Vec<&str> = ["id", "scope", "window"].into_iter().chain(AMOUNTS).collect();
    table::render(&headings, &rows)
}
