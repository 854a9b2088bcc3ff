//! What stays on a bill that nobody knows, and what a request is bounded at.

use std::sync::Arc;

use futures_util::{FutureExt, StreamExt};
use storage::{Commit, Scope, Store, WindowKind};
use types::call::{CallKind, ModelCall, ModelHead, StepRef};
use types::conversation::ToolDefinition;
use types::ids::{SessionId, StepId};
use types::principal::DEFAULT_ACCOUNT;
use types::{Conversation, Incoming, Money};

use pipeline::StepIntent;

use super::world::{BODY_BYTES, MORNING, NoFormat, Node, as_step, dollars, node, request, rows};

/// What chat templates may add for tools, in tokens.
const TOOL_TEMPLATE: u64 = 1_024;

#[tokio::test]
async fn a_call_that_is_cut_off_stays_on_the_bill_without_a_budget_too() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    for (cap, bound) in [(Some(100), "0.003"), (None, "0.32968")] {
        let mut answer = node.pipeline.run(request("ci", "paid/m", cap)).await.unwrap();
        let call = answer.call.id.clone();
        Node::begin(&mut answer);
        drop(answer);
        node.pipeline.flush().await.unwrap();
        let row = rows(&node, &call).await.remove(0);
        assert_eq!((row.cost, row.unreconciled), (Money::ZERO, dollars(bound)), "{cap:?}");
        assert_eq!((row.reserved, row.output_cap), (Money::ZERO, None), "nothing was held or set");
        assert!(row.charges.is_empty() && !row.over_bound);
    }
    // What costs nothing, and what never was sent, is not on the bill.
    let mut free = node.pipeline.run(request("ci", "local/demo", Some(100))).await.unwrap();
    let unsent = node.pipeline.run(request("ci", "paid/m", Some(100))).await.unwrap();
    let calls = [free.call.id.clone(), unsent.call.id.clone()];
    Node::begin(&mut free);
    drop((free, unsent));
    node.pipeline.flush().await.unwrap();
    for call in calls {
        assert_eq!(rows(&node, &call).await.remove(0).unreconciled, Money::ZERO);
    }
    node.stop().await;
}

#[tokio::test]
async fn a_step_stays_on_the_bill_without_a_budget_after_a_crash_too() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    let step = || {
        let session = SessionId::new(&node.ids);
        StepRef { begun: false, root: session.clone(), session, step: StepId::new(&node.ids) }
    };
    let admit = async || {
        let asked = as_step(request("ci", "paid/m", Some(100)), step());
        node.pipeline.admit_step(asked).await.unwrap()
    };
    let admission = admit().await;
    assert_eq!(admission.reservation, None, "no budget has to hold anything");
    let journaled = serde_json::to_string(&admission.intent()).unwrap();
    let intent: StepIntent = serde_json::from_str(&journaled).unwrap();
    let row = node.pipeline.lost_row(&intent, MORNING);
    assert_eq!((row.unreconciled, row.reserved), (dollars("0.003"), Money::ZERO));
    node.store.commit(Commit { ledger: vec![row], ..Commit::default() }).await.unwrap();
    // An intent of before the bound was kept has what was reserved.
    let old = journaled.replace(r#""bound":"0.003","#, "");
    assert_ne!(old, journaled);
    let old: StepIntent = serde_json::from_str(&old).unwrap();
    assert_eq!(node.pipeline.lost_row(&old, MORNING).unreconciled, Money::ZERO);

    let mut cancelled = node.pipeline.run_step(admit().await);
    assert!(cancelled.next().now_or_never().is_none());
    let row = cancelled.into_row();
    assert_eq!((row.unreconciled, row.charges), (dollars("0.003"), Vec::new()));
    node.stop().await;
}

fn with_tools(raw: bool) -> Incoming {
    let mut incoming = request("ci", "paid/m", Some(100));
    if let CallKind::Model(model) = &mut incoming.kind {
        if raw {
            model.head.tools = true;
            return incoming;
        }
        let tool = ToolDefinition {
            name: "t".to_owned(),
            description: None,
            parameters: None,
            strict: None,
        };
        let conversation = Conversation { tools: vec![tool], ..Conversation::default() };
        let head = ModelHead { tools: false, ..model.head.clone() };
        *model = ModelCall::from_neutral(&NoFormat, head, Arc::new(conversation));
    }
    incoming
}

#[tokio::test]
async fn a_small_request_is_bounded_with_what_a_chat_template_adds() {
    let folder = tempfile::tempdir().unwrap();
    let node = node(&folder).await;
    node.budget(Scope::Account, dollars("1.00"), WindowKind::Total).await;
    let reserved = async |incoming: Incoming| {
        let answer = node.pipeline.run(incoming).await.unwrap();
        node.quiet().await;
        let status = node.pipeline.budget_status(DEFAULT_ACCOUNT).await.unwrap().remove(0);
        drop(answer);
        status.reserved
    };
    // At $2 a million in at the dearest, and $10 out.
    let plain = reserved(request("ci", "paid/m", Some(100))).await;
    let bytes = Money::from_nanodollars(2_000 * i64::try_from(BODY_BYTES).unwrap());
    assert!(plain > bytes + dollars("0.001"), "{plain}");
    let tools = Money::from_nanodollars(2_000 * i64::try_from(TOOL_TEMPLATE).unwrap());
    for raw in [true, false] {
        assert_eq!(reserved(with_tools(raw)).await, plain + tools, "raw: {raw}");
    }
    node.stop().await;
}
