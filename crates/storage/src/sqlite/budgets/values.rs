//! The budgets that rules have made: one for each value of what a rule is about.
//!
//! Only the value is kept; everything else is the rule's, so that a change of the rule is a change
//! of one row. Invariant: nothing is forgotten of which something is open, and never an amount.

use rusqlite::{Connection, params};
use types::ids::BudgetId;

use crate::budgets::{Budget, ForgetValues};
use crate::error::Error;
use crate::sqlite::columns;

/// Makes one; one that is there stays as it is.
pub(super) fn put(conn: &Connection, budget: &Budget, rule: &BudgetId) -> Result<(), Error> {
    let sql =
        "INSERT OR IGNORE INTO budget_values (id, rule, scope, created_at) VALUES (?1, ?2, ?3, ?4)";
    conn.prepare_cached(sql)?.execute(params![
        budget.id.as_str(),
        rule.as_str(),
        columns::to_json(&budget.scope)?,
        budget.created_at.0,
    ])?;
    Ok(())
}

/// Forgets those that nobody uses any more. What an operator may still reconcile keeps its value,
/// but for a task that nobody named: no other Call will ever have that budget.
pub(super) fn forget(conn: &Connection, asked: &[ForgetValues]) -> Result<Vec<BudgetId>, Error> {
    let sql = r#"DELETE FROM budget_values WHERE rule = ?1 AND created_at < ?2
                 AND (substr(scope, 1, 13) = '{"task":"hfc_'
                      OR NOT EXISTS (SELECT 1 FROM budget_windows AS used
                                     WHERE used.budget = budget_values.id
                                     AND (used."window" >= ?3 OR used.presumed + used.unreconciled > 0)))
                 AND id NOT IN (SELECT budget FROM slices)
                 AND id NOT IN (SELECT budget FROM reservations)
                 RETURNING id"#;
    let mut statement = conn.prepare_cached(sql)?;
    let mut forgotten = Vec::new();
    for ForgetValues { rule, made_before, since } in asked {
        let arguments = params![rule.as_str(), made_before.0, since.0];
        let rows = statement.query_map(arguments, |row| columns::id(row, 0, BudgetId::parse))?;
        for id in rows {
            forgotten.push(id?);
        }
    }
    Ok(forgotten)
}
