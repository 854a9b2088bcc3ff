//! `holdfast demo`: the main job on real input, with evidence that others write.
//!
//! It starts the platform as a child of its own (so that it can be killed), and is from then on
//! nothing but a client of its public API. What it shows is read from outside: the tool server's
//! log, the provider's log, the ledger.
#![expect(
    clippy::disallowed_methods,
    reason = "the demo is a client with processes of its own, not the platform"
)]

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::Context;
use serde::Serialize;

mod agent;
mod budget;
mod client;
mod crash;
mod held;
mod narrator;
mod platform;

use narrator::Narrator;
use platform::Stage;

/// Show the whole of it in under a minute.
#[derive(Clone, Debug, clap::Args)]
pub(crate) struct DemoArgs {
    /// Keep the evidence in this folder; else a temporary one is used.
    #[arg(long)]
    data: Option<PathBuf>,
    /// Leave the platform running at the end.
    #[arg(long)]
    keep: bool,
    /// Send these words through the same tools, instead of the whole show.
    #[arg(long)]
    task: Option<String>,
    /// End with one JSON object of what was shown.
    #[arg(long)]
    json: bool,
}

/// What the demo showed.
#[derive(Debug, Default, Serialize)]
pub(crate) struct Shown {
    steps: usize,
    platform_ms: f64,
    model_ms: f64,
    tool_ms: f64,
    ttft_ms: held::FirstToken,
    budget: budget::Amounts,
}

/// Runs the demo.
pub(crate) fn run(arguments: &DemoArgs) -> anyhow::Result<ExitCode> {
    let temporary = if arguments.data.is_none() { Some(tempfile::tempdir()?) } else { None };
    let data = match (&arguments.data, &temporary) {
        (Some(data), _) => data.clone(),
        (None, Some(temporary)) => temporary.path().join("data"),
        (None, None) => anyhow::bail!("no data folder"),
    };
    let data = super::serve::prepare(&data)?;
    let runtime =
        tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build()?;
    let narrator = Narrator::new(arguments.json);
    let stage = Stage::set(&data)?;
    let shown = runtime.block_on(async {
        match &arguments.task {
            Some(task) => one_task(&stage, &narrator, task, arguments.keep).await,
            None => whole_show(&stage, &narrator, arguments.keep).await,
        }
    });
    if arguments.keep
        && let Some(temporary) = temporary
    {
        narrator.say(&format!("The data folder stays: {}", temporary.keep().display()))?;
    }
    if let Some(shown) = shown? {
        narrator.finish(&shown)?;
    }
    Ok(ExitCode::SUCCESS)
}

async fn whole_show(
    stage: &Stage,
    narrator: &Narrator,
    keep: bool,
) -> anyhow::Result<Option<Shown>> {
    narrator.part(1, "The platform")?;
    let mut platform = stage.start(None)?;
    let provider = stage.start_provider()?;
    narrator.say(&format!("up at {}, data in {}", stage.url(), stage.data.display()))?;
    narrator.say(&format!("the admin key is in {}", stage.data.join("admin.key").display()))?;

    narrator.part(2, "An agent task on the local model")?;
    let loop_times = agent::show(stage, narrator).await?;

    narrator.part(3, "The same task on a priced provider, and kill -9 in the middle")?;
    platform = crash::after_outcome(stage, narrator, platform).await?;
    platform = crash::while_running(stage, narrator, platform).await?;

    narrator.part(4, "Time to the first token, with held state and without")?;
    let (platform, ttft_ms) = held::show(stage, narrator, platform).await?;

    narrator.part(5, "A hard budget under 64 concurrent calls")?;
    let budget = budget::show(stage, narrator).await?;

    narrator.part(6, "The bill of the task")?;
    agent::bill(stage, narrator).await?;
    try_next(stage, narrator)?;
    if keep {
        narrator.say(&format!(
            "Left running: process {} (and the provider, {}).",
            platform.leave(),
            provider.leave()
        ))?;
    } else {
        drop(provider);
        platform.stop()?;
    }
    let agent::LoopTimes { steps, platform_ms, model_ms, tool_ms } = loop_times;
    Ok(Some(Shown { steps, platform_ms, model_ms, tool_ms, ttft_ms, budget }))
}

/// The reader's own words through the same tools.
async fn one_task(
    stage: &Stage,
    narrator: &Narrator,
    task: &str,
    keep: bool,
) -> anyhow::Result<Option<Shown>> {
    let platform = stage.start(None)?;
    let turn = stage
        .client()
        .turn("local/demo", task, None, "your-task")
        .await
        .context("running your task")?;
    narrator.exchange(task, &turn)?;
    if keep {
        try_next(stage, narrator)?;
        narrator.say(&format!("Left running: process {}.", platform.leave()))?;
    } else {
        platform.stop()?;
    }
    Ok(None)
}

fn try_next(stage: &Stage, narrator: &Narrator) -> anyhow::Result<()> {
    narrator.say(
        "\nTry it yourself (`holdfast demo --keep`, or `holdfast serve` with your own folder):\n",
    )?;
    let url = stage.url();
    narrator.say(&format!(
        "  curl {url}/v1/chat/completions -H \"authorization: Bearer $HOLDFAST_KEY\" \\\n    -d '{{\"model\":\"local/demo\",\"messages\":[{{\"role\":\"user\",\"content\":\"My name is Nora.\"}}]}}'\n"
    ))?;
    narrator.say(&format!(
        "  from openai import OpenAI\n  client = OpenAI(base_url=\"{url}/v1\", api_key=os.environ[\"HOLDFAST_KEY\"])\n  first = client.responses.create(model=\"local/demo\", input=\"My name is Nora.\")\n  print(client.responses.create(model=\"local/demo\", previous_response_id=first.id, input=\"What is my name?\").output_text)\n"
    ))?;
    narrator.say(&format!(
        "  HOLDFAST_KEY is {}; `--task \"…\"` sends your words through the tools.",
        "the admin key, or one from `holdfast keys create`"
    ))
}
